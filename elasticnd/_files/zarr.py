"""Zarr arrays: read and written whole, or by chunks, for images larger than memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import CommandError
from .._extras import need
from .image import DTYPES, Image, Shape, spatial_axes

NAME = "a Zarr array"
HOLDS = f"one of {', '.join(DTYPES)}"
COMMON: frozenset[str] = frozenset()

# How many voxels are computed at a time if nothing else is asked for: a block of some 160 x 160 x 160.
_VOXELS = 2**22


def holds(dtype: str, shape: Shape) -> bool:
    """Tell whether a file can hold an array."""
    return dtype in DTYPES


def read(path: Path, order: int, keep: bool) -> Image:
    """Read all of an array."""
    array = open_array(path)
    return Image(np.asarray(array[...]), axes_of(array), kept=array if keep else None)


def write(path: Path, image: Image) -> None:
    """Write an array whole."""
    target = _create(path, image)
    target[...] = image.array


def open_array(path: Path) -> Any:
    """Open an array, without reading its elements."""
    zarr = _zarr()
    node = zarr.open(str(path), mode="r")
    if isinstance(node, zarr.Array):
        return node
    members = node.members(max_depth=None)
    names = ", ".join(sorted(name for name, member in members if isinstance(member, zarr.Array))) or "none"
    raise CommandError(f"IN: {path} is a Zarr group, expected one of its arrays, as {path}/NAME; it has {names}")


def is_array(path: Path) -> bool:
    """Tell whether there is an array."""
    try:
        open_array(path)
    except CommandError:
        return False
    except Exception:  # whatever is there instead
        return False
    return True


def axes_of(array: Any) -> Shape:
    """Choose the axes of an array that are deformed."""
    names = getattr(array.metadata, "dimension_names", None)
    return spatial_axes(names or [None] * array.ndim)


def lazy(path: Path, axes: Sequence[int] | None, chunks: Sequence[int] | None) -> Image:
    """Take an array as one of dask, in the chunks that will be computed at a time."""
    array = open_array(path)
    dask_array = _dask("dask.array")
    parts = _chunks(array, axes_of(array) if axes is None else axes, chunks)
    image = dask_array.from_array(array, chunks=parts, name=False)
    return Image(image, axes_of(array), kept=array)


def store(paths: Sequence[Path], images: Sequence[Image]) -> None:
    """Compute arrays of dask chunk by chunk, into new arrays."""
    targets = [_create(path, image) for path, image in zip(paths, images, strict=True)]
    # No two tasks write to one chunk (or shard), so that none needs to wait for another.
    results = [
        image.array.rechunk(_whole(target, image.array.chunksize))
        for image, target in zip(images, targets, strict=True)
    ]
    progress = _dask("dask.diagnostics").ProgressBar(out=sys.stderr) if sys.stderr.isatty() else nullcontext()
    with progress:
        _dask("dask.array").store(results, targets, lock=False)


def _chunks(array: Any, axes: Sequence[int], wanted: Sequence[int] | None) -> Shape:
    """Choose the chunks that are computed at a time; `wanted` are their extents along the deformed axes."""
    if wanted is None:
        normalize = _dask("dask.array").core.normalize_chunks
        limit = _VOXELS * array.dtype.itemsize
        auto = normalize("auto", array.shape, limit=limit, dtype=array.dtype, previous_chunks=_unit(array))
        return _whole(array, [parts[0] for parts in auto])
    if min(wanted) < 1 or len(wanted) not in (1, len(axes)):
        got = ",".join(map(str, wanted))
        raise CommandError(f"--chunks: got {got}, expected a positive number, or {len(axes)}, one per deformed axis")
    extents = list(_unit(array))
    for k, axis in enumerate(axes):
        if not -array.ndim <= axis < array.ndim:
            raise CommandError(f"--axis: got {axis}, expected axes of an array of shape {array.shape}")
        extents[axis] = min(wanted[k % len(wanted)], max(array.shape[axis], 1))
    return _whole(array, extents)


def _whole(array: Any, extents: Sequence[int]) -> Shape:
    """Enlarge chunks so that each covers whole chunks of a file."""
    return tuple(-(-extent // unit) * unit for extent, unit in zip(extents, _unit(array), strict=True))


def _unit(array: Any) -> Shape:
    """Give the extents of what is written at once."""
    return tuple(max(extent, 1) for extent in array.shards or array.chunks)


def _create(path: Path, image: Image) -> Any:
    """Make a new array, like that which the image comes from if this was one of Zarr."""
    zarr, source = _zarr(), image.kept
    if source is None:
        return zarr.create_array(str(path), shape=image.array.shape, dtype=image.array.dtype)
    return zarr.from_array(
        str(path), data=source, write_data=False, fill_value=source.fill_value, attributes=source.attrs.asdict()
    )


def _zarr() -> Any:
    zarr = need("zarr", "files", NAME)
    if not hasattr(zarr, "from_array"):
        raise CommandError(
            f"{NAME} needs a newer zarr than {zarr.__version__}, and Python 3.11: pip install 'zarr>=3.0.8'"
        )
    return zarr


def _dask(module: str) -> Any:
    return need(module, "files", "deforming Zarr arrays by chunks")
