"""The engine for NumPy arrays: calls into the compiled core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, _dtypes
from .._config import settle_threads
from .._job import Job
from .contract import Floats, Transform

if TYPE_CHECKING:
    from .._spec import Shape

Array = NDArray[Any]

_COMPUTE_DTYPES = {_dtypes.CODES[name]: name for name in ("float32", "float64")}
_NO_CONTEXT = nullcontext()
_ALIGNMENT = 64  # bytes: the alignment at which other libraries adopt memory without a copy ...
_WORTH_ALIGNING = 65536  # ... which is not worthwhile for less memory than this


def namespace() -> ModuleType:
    return np


def holding(array: Array) -> AbstractContextManager[Any]:
    return _NO_CONTEXT


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Allocate an output: C-ordered, and aligned if large."""
    (array,) = empties(1, shape, dtype)
    return array


def empties(count: int, shape: Shape, dtype: np.dtype[Any]) -> list[Array]:
    size = math.prod(shape) * dtype.itemsize
    if size < _WORTH_ALIGNING:
        return [np.empty(shape, dtype) for _ in range(count)]
    return [_aligned(size).view(dtype).reshape(shape) for _ in range(count)]


def _aligned(size: int) -> Array:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size]


def sample(job: Job, images: Sequence[Array], transform: Transform, outputs: Sequence[Array]) -> None:
    settle_threads()
    _core.sample(job, _all_raw(images), transform, _all_raw(outputs))


def sample_adjoint(
    job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None
) -> tuple[Floats, Floats | None] | None:
    settle_threads()
    return _core.sample_adjoint(
        job,
        _raw(gradient),
        None if image is None else _raw(image),
        transform,
        None if image_gradient is None else _raw(image_gradient),
    )


def source_voxels(job: Job, blocks: Array, transform: Transform) -> Array:
    """Find the parts of the image that `sample` reads for blocks of the output: first voxel and extent of each axis.

    Blocks and result have shape (blocks, axes, 2). Where nothing is read, the extents are 0.
    """
    return _core.source_voxels(job, blocks, transform)


def displace(job: Job, displacement: Floats, output: Floats) -> None:
    _core.displace(job, displacement, output)


def displace_adjoint(job: Job, gradient: Floats, output: Floats) -> None:
    _core.displace_adjoint(job, gradient, output)


def evaluate(job: Job, displacement: Floats, positions: Floats) -> Floats:
    settle_threads()
    return _core.evaluate(job, displacement, positions)


def evaluate_adjoint(job: Job, gradient: Floats, positions: Floats) -> Floats:
    settle_threads()
    return _core.evaluate_adjoint(job, gradient, positions)


def move_points(
    job: Job, displacement: Floats, inverse_map: Floats | None, targets: Floats, tolerance: float
) -> tuple[Floats, Floats, Floats]:
    """Search for the positions whose sources are targets, (items, count, axes).

    Also return their residuals, the distances between source positions and targets, and the volume ratios there.
    """
    settle_threads()
    return _core.move_points(job, displacement, inverse_map, targets, tolerance)


def prefilter(job: Job, image: Array) -> Array:
    axes = int(job["axes"])
    lead = image.shape[: image.ndim - axes]
    coefficients = np.empty((*lead, *job["box_extent"][:axes].tolist()), _COMPUTE_DTYPES[int(job["compute_dtype"])])
    _core.prefilter(job, _raw(image), coefficients)
    return coefficients


def prefilter_adjoint(job: Job, coefficients: Array, output: Array) -> None:
    _core.prefilter_adjoint(job, coefficients, _raw(output))


def _all_raw(arrays: Sequence[Array]) -> Sequence[Array]:
    """Return arrays of one dtype, each converted by `_raw`."""
    dtype = arrays[0].dtype
    return arrays if dtype.isnative and dtype.kind != "V" else list(map(_raw, arrays))


def _raw(array: Array) -> Array:
    """Return an array in native byte order; elements of types that NumPy lacks become their bits."""
    dtype = array.dtype
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    return array.view(np.uint16) if dtype.kind == "V" else array
