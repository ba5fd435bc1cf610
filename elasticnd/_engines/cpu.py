"""The engine for NumPy arrays: calls into the compiled core."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, _dtypes
from .._config import settle_threads
from .._geometry import Geometry
from .contract import Floats, Job, Transform

if TYPE_CHECKING:
    from .._spec import Shape

Array = NDArray[Any]

_ARITHMETIC = {_dtypes.CODES[name]: name for name in ("float32", "float64")}
_NO_CONTEXT = nullcontext()
_ALIGNMENT = 64  # bytes: what other libraries ask of memory that they take over without a copy ...
_WORTH_ALIGNING = 65536  # ... which for less is no gain


def namespace() -> ModuleType:
    return np


def holding(array: Array) -> AbstractContextManager[Any]:
    return _NO_CONTEXT


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Allocate an output: C-ordered, and aligned if it is large."""
    size = math.prod(shape) * dtype.itemsize
    if size < _WORTH_ALIGNING:
        return np.empty(shape, dtype)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def sample(job: Job, image: Array, transform: Transform, output: Array) -> None:
    settle_threads()
    _core.sample(
        job.geometry,
        _raw(image),
        job.dtype,
        transform.displacement,
        transform.affine,
        transform.inverse_rotation_zoom,
        transform.tangents,
        _raw(output),
        job.batch_axes,
        job.filtered,
        job.arithmetic,
        job.fill,
        job.held,
    )


def sample_adjoint(
    job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None
) -> tuple[Floats, Floats | None] | None:
    settle_threads()
    return _core.sample_adjoint(
        job.geometry,
        _raw(gradient),
        job.dtype,
        None if image is None else _raw(image),
        transform.displacement,
        transform.affine,
        transform.inverse_rotation_zoom,
        transform.tangents,
        None if image_gradient is None else _raw(image_gradient),
        job.batch_axes,
        job.filtered,
        job.arithmetic,
        job.held,
    )


def source_voxels(job: Job, blocks: Array, transform: Transform) -> Array:
    """Find first voxel and extent, along each axis, of what `sample` reads for blocks of the output.

    So the blocks are given and the result comes, (blocks, axes, 2). Where nothing is read, the extents are 0.
    """
    return _core.source_voxels(
        job.geometry,
        blocks,
        transform.displacement,
        transform.affine,
        transform.inverse_rotation_zoom,
        job.filtered,
        job.arithmetic,
    )


def displace(points: Floats, geometry: Geometry, output: Floats, *, batch_axes: int) -> None:
    _core.displace(geometry, points, output, batch_axes)


def displace_adjoint(gradient: Floats, geometry: Geometry, points: Floats, *, batch_axes: int) -> Floats:
    return _core.displace_adjoint(geometry, gradient, points, batch_axes)


def evaluate(geometry: Geometry, points: Floats, positions: Floats, order: int) -> Floats:
    settle_threads()
    return _core.evaluate(geometry, points, positions, order)


def evaluate_adjoint(geometry: Geometry, gradient: Floats, positions: Floats, order: int) -> Floats:
    settle_threads()
    return _core.evaluate_adjoint(geometry, gradient, positions, order)


def prefilter(job: Job, image: Array) -> Array:
    axes = int(job.geometry["axes"])
    lead = image.shape[: image.ndim - axes]
    coefficients = np.empty((*lead, *job.geometry["box_extent"][:axes].tolist()), _ARITHMETIC[job.arithmetic])
    _core.prefilter(job.geometry, _raw(image), job.dtype, coefficients, job.arithmetic, job.filtered)
    return coefficients


def prefilter_adjoint(job: Job, coefficients: Array, output: Array) -> None:
    _core.prefilter_adjoint(job.geometry, coefficients, job.arithmetic, _raw(output), job.dtype, job.filtered)


def _raw(array: Array) -> Array:
    """Give an array in native byte order; elements of types that NumPy has not, as their bits."""
    dtype = array.dtype
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
    return array.view(np.uint16) if dtype.kind == "V" else array
