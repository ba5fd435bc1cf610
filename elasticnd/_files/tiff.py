"""TIFF files: pictures and stacks, those of ImageJ among them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._errors import CommandError
from .._extras import need
from .image import DTYPES, Image, Shape, spatial_axes

NAME = "a TIFF file"
HOLDS = f"one of {', '.join(DTYPES)} in at least 2 axes, none of them empty"

# Messages of tifffile about files of which it then reads only a part, or fills in zeros.
_DAMAGE = re.compile("corrupt|failed to|incomplete|incorrect|invalid (page|value)|missing|out of range", re.IGNORECASE)
_LOSSLESS = (1, 5, 8, 32773, 32946, 50000)  # none, LZW, Deflate, PackBits, Deflate, Zstandard


def holds(dtype: str, shape: Shape) -> bool:
    """Tell whether a file can hold an array."""
    return dtype in DTYPES and len(shape) >= 2 and 0 not in shape


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file."""
    tifffile = _tifffile()
    with _damage_raised(), tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise CommandError(f"IN: {path} holds {len(file.series)} images of different kinds, expected one")
        (series,) = file.series
        page = series.keyframe
        if page.colormap is not None and order != 0:
            raise CommandError(f"--order: got {order} for {path}, which holds numbers of colours, expected 0")
        array, axes = series.asarray(), series.axes
        kept = _kept(file, page, axes) if keep else None
    colours = axes.endswith("S") or _is_colour_picture(array.shape, axes)
    spatial = spatial_axes(axes[:-1] + "S" if colours else axes)
    return Image(array, spatial, colours=colours, kept=kept)


def write(path: Path, image: Image) -> None:
    """Write a file."""
    options = {"photometric": "rgb" if image.colours and image.array.shape[-1] > 2 else "minisblack"}
    _tifffile().imwrite(path, image.array, **(image.kept or options))


def _tifffile() -> Any:
    return need("tifffile", "files", NAME)


def _is_colour_picture(shape: Shape, axes: str) -> bool:
    """Tell whether a file that does not say what its axes are holds a picture in colour."""
    return len(shape) == 3 and shape[2] in (3, 4) and axes[0] in "IQ"


def _kept(file: Any, page: Any, axes: str) -> dict[str, Any]:
    """Give the options that write a file like this one."""
    options = {
        "photometric": page.photometric,
        "resolution": page.resolution,
        "resolutionunit": page.resolutionunit,
        "compression": page.compression if page.compression in _LOSSLESS else None,
        "metadata": {"axes": axes},
    }
    if "S" in axes:
        options |= {"photometric": "rgb", "planarconfig": page.planarconfig, "extrasamples": page.extrasamples}
    if page.colormap is not None:
        options["colormap"] = page.colormap
    if file.is_imagej:
        options |= {"imagej": True, "metadata": {**_of_imagej(file), "axes": axes}}
    return options


def _of_imagej(file: Any) -> dict[str, Any]:
    """Give ImageJ's own metadata, without the numbers that the shape says."""
    said_by_shape = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack")
    return {name: value for name, value in file.imagej_metadata.items() if name not in said_by_shape}


@contextmanager
def _damage_raised() -> Iterator[None]:
    """Turn what tifffile only logs about damaged files into an error."""
    logger, found = logging.getLogger("tifffile"), _Messages()
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(found)
    try:
        yield
    finally:
        logger.removeHandler(found)
        logger.propagate = propagates
    for message in found.messages:
        if _DAMAGE.search(message):
            raise ValueError(message)


class _Messages(logging.Handler):
    """Collects messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message."""
        self.messages.append(record.getMessage())
