"""Zarr arrays as dask arrays, divided into blocks that are computed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import ModuleType
from typing import TYPE_CHECKING

from ...._errors import CommandError, or_several
from ... import signals
from ...extras import need
from ..image import Shape

if TYPE_CHECKING:
    from dask.array import Array as Lazy
    from zarr import Array

# How many voxels to compute at a time by default: a block of about 160 x 160 x 160.
_VOXELS = 2**22


def lazy(array: Array, axes: Sequence[int] | None, chunks: Sequence[int] | None) -> Lazy:
    """Return an array as a dask array, divided into the blocks to compute."""
    blocks = _default_blocks(array) if chunks is None or axes is None else _wanted_blocks(array, axes, chunks)
    return _dask("dask.array").from_array(array, chunks=blocks, name=False)


def store(arrays: Sequence[Lazy], targets: Sequence[Array], progress: AbstractContextManager[object]) -> None:
    """Compute dask arrays block by block, and store them in Zarr arrays."""
    # No two tasks write to the same chunk (or shard), so none needs to wait for another.
    results = [array.rechunk(_whole(target, array.chunksize)) for array, target in zip(arrays, targets, strict=True)]
    pool = ThreadPoolExecutor(_dask("dask.system").CPU_COUNT)
    try:
        with _dask("dask").config.set(scheduler="threads", pool=pool), progress:
            _dask("dask.array").store(results, targets, lock=False)
    finally:
        with signals.held():  # writing ends before anything is removed
            pool.shutdown(cancel_futures=True)


def _default_blocks(array: Array) -> Shape:
    normalize = _dask("dask.array").core.normalize_chunks
    limit = _VOXELS * array.dtype.itemsize
    auto = normalize("auto", array.shape, limit=limit, dtype=array.dtype, previous_chunks=_unit(array))
    return _whole(array, [parts[0] for parts in auto])


def _wanted_blocks(array: Array, axes: Sequence[int], wanted: Sequence[int]) -> Shape:
    """Choose blocks with the extents `wanted` along the deformed axes."""
    if min(wanted) < 1 or len(wanted) not in (1, len(axes)):
        got = ",".join(map(str, wanted))
        accepted = or_several("a positive number", len(axes))
        raise CommandError(f"--chunks: got {got}, expected {accepted}")
    extents = list(_unit(array))
    for k, axis in enumerate(axes):
        if not -array.ndim <= axis < array.ndim:
            raise CommandError(f"--axis: got {axis}, expected axes of an array of shape {array.shape}")
        extents[axis] = min(wanted[k % len(wanted)], max(array.shape[axis], 1))
    return _whole(array, extents)


def _whole(array: Array, extents: Sequence[int]) -> Shape:
    """Enlarge blocks until each covers whole chunks of a file."""
    return tuple(-(-extent // unit) * unit for extent, unit in zip(extents, _unit(array), strict=True))


def _unit(array: Array) -> Shape:
    """Return the extents of a shard or, without shards, of a chunk: what is written in one step."""
    return tuple(max(extent, 1) for extent in array.shards or array.chunks)


def _dask(module: str) -> ModuleType:
    return need(module, "files", "deforming Zarr arrays by chunks")
