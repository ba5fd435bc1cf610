"""Image files: choosing the format by the name, reading and writing, with errors that name the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from ..._errors import CommandError, one_line
from . import nifti, npy, png, tiff, values, zarr
from .image import DTYPES, Format, Image, Samples
from .staging import staged

__all__ = [
    "Format",
    "Image",
    "check_array",
    "check_read",
    "check_target",
    "converted",
    "format_of",
    "png",
    "read",
    "reading",
    "staged",
    "values",
    "write",
    "zarr",
]

FORMATS: dict[str, Format] = {
    ".npy": npy,
    ".png": png,
    ".tif": tiff,
    ".tiff": tiff,
    ".nii": nifti,
    ".nii.gz": nifti,
    ".zarr": zarr,
}
_ACCEPTED = f"a name that ends in {', '.join(FORMATS)}"


def format_of(argument: str, path: Path) -> Format:
    """Return the format for a file name; inputs can be arrays within a Zarr group."""
    for suffix, format_ in FORMATS.items():
        if path.name.lower().endswith(suffix):
            return format_
    if argument == "IN" and any(folder.suffix.lower() == ".zarr" for folder in path.parents):
        return zarr
    raise CommandError(f"{argument}: got {path}, expected {_ACCEPTED}")


def check_target(path: Path, format_: Format) -> None:
    """Reject an output path that cannot be replaced."""
    if not os.path.lexists(path):
        return
    if format_ is zarr:
        zarr.check_replaceable(path)
    elif not os.path.isfile(path):
        raise CommandError(f"OUT: {path} is {_kind_of(path)}, expected the name of a file")


def _kind_of(path: Path) -> str:
    """Describe an existing path that is not a file."""
    kinds = {"a folder": Path.is_dir, "a pipe": Path.is_fifo, "a socket": Path.is_socket, "a link": Path.is_symlink}
    return next((kind for kind, holds in kinds.items() if holds(path)), "a device")


def check_array(path: Path, format_: Format, image: Image) -> None:
    """Reject an array that a format cannot store."""
    shape, axis = image.array.shape, image.samples.axis
    samples_last = shape if axis is None else (*shape[:axis], *shape[axis + 1 :], shape[axis])
    if not format_.holds(image.array.dtype.name, samples_last):
        raise CommandError(f"OUT: got {image.array.dtype.name} of shape {shape} for {path}, expected {format_.HOLDS}")


def converted(image: Image, source: Path, target: Path, writer: Format) -> Image:
    """Convert the image of one format to another, and list what is lost."""
    lost = (*image.lost, *image.own, *(name for name in image.common if name not in writer.COMMON))
    image = replace(image, lost=lost)
    if writer is png:
        image = png.as_picture(image, source, target)
    elif writer is not tiff:
        image = replace(image, lost=(*lost, *_lost_of(image.samples)))
    return replace(image, limits=None)


def _lost_of(samples: Samples) -> Iterator[str]:
    """List which meanings of the samples are lost; grey, RGB and alpha are understood without metadata."""
    if samples.palette is not None:
        yield "the palette"
    elif samples.inverted:
        yield "that 0 is white"
    elif samples.colour not in (None, "grey", "RGB"):
        yield f"that it is {samples.colour}"


def read(path: Path, format_: Format, order: int, keep: bool) -> Image:
    """Read a file that will be deformed with a spline of this order; `keep` says whether the format stays the same."""
    with reading(path, format_):
        image = format_.read(path, order, keep)
    check_read(path, image)
    return image


def check_read(path: Path, image: Image) -> None:
    """Reject an image that cannot be deformed."""
    if image.array.dtype.name not in DTYPES:
        raise CommandError(f"IN: {path} holds {image.array.dtype.name}, expected one of {', '.join(DTYPES)}")


@contextmanager
def reading(path: Path, format_: Format) -> Iterator[None]:
    """Turn errors while reading a file into one-line errors."""
    if not os.path.exists(path):
        raise CommandError(f"IN: {path} does not exist, expected {format_.NAME}")
    if format_ is not zarr and not os.path.isfile(path):
        raise CommandError(f"IN: {path} is {_kind_of(path)}, expected {format_.NAME}")
    try:
        yield
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # every library has its own errors
        _reject("IN: cannot read", path, format_, error)


def write(path: Path, target: Path, format_: Format, image: Image) -> None:
    """Write the file that will be called `target`."""
    try:
        format_.write(path, image)
    except (CommandError, MemoryError):
        raise
    except Exception as error:
        _reject("OUT: cannot write", target, format_, error)


def _reject(what: str, path: Path, format_: Format, error: Exception) -> NoReturn:
    raise CommandError(f"{what} {path} as {format_.NAME}: {one_line(error)}") from None
