"""The engine for NumPy arrays: calls into the compiled core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, _dtypes
from .._geometry import Geometry, with_box

if TYPE_CHECKING:
    from .._spec import Shape

Array = NDArray[Any]
Floats = NDArray[np.float64]

_ALIGNMENT = 64  # bytes: what other libraries ask of memory that they take over without a copy ...
_WORTH_ALIGNING = 65536  # ... which for less is no gain


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Allocate an output: C-ordered, and aligned if it is large."""
    size = math.prod(shape) * dtype.itemsize
    if size < _WORTH_ALIGNING:
        return np.empty(shape, dtype)
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def prefilter_grid(grid: Floats, geometry: Geometry) -> Floats:
    """Filter a control grid, (..., axes, points...): cubic, mirrored ends."""
    coefficients = np.empty(grid.shape)
    code = _dtypes.CODES["float64"]
    _core.prefilter(geometry, grid, code, coefficients, code, filtered=True)
    return coefficients


def prefilter_grid_adjoint(gradient: Floats, geometry: Geometry) -> Floats:
    """Apply the transpose of `prefilter_grid`; overwrites its argument."""
    result = np.empty(gradient.shape)
    code = _dtypes.CODES["float64"]
    _core.prefilter_adjoint(geometry, gradient, code, result, code, filtered=True)
    return result


def source_box(geometry: Geometry, grid: Floats, affine: Floats | None, items: int) -> Geometry:
    """Restrict a geometry to the coefficients that `sample` can reach."""
    return with_box(geometry, *_core.source_box(geometry, grid, affine, items))


def prefilter(image: Array, geometry: Geometry, *, filtered: bool) -> Array:
    """Compute the coefficients inside the geometry's box, in the type of the arithmetic.

    Without `filtered` the samples are taken for coefficients.
    """
    raw, name = _raw(image)
    arithmetic = _arithmetic(name, geometry)
    code = _dtypes.CODES[arithmetic]
    start, extent = _core.held_box(geometry, code, filtered)
    lead = image.shape[: image.ndim - len(start)]
    held = np.empty((*lead, *extent), arithmetic)
    _core.prefilter(geometry, raw, _dtypes.CODES[name], held, code, filtered=filtered)
    axes = len(start)
    first = geometry["box_start"][:axes] - start
    last = first + geometry["box_extent"][:axes]
    box: tuple[Any, ...] = (..., *(slice(int(low), int(high)) for low, high in zip(first, last, strict=True)))
    inside: Array = held[box]
    return inside


def prefilter_adjoint(coefficients: Array, geometry: Geometry, output: Array, *, filtered: bool) -> None:
    """Write the transpose of `prefilter` to `output`; overwrites the coefficients."""
    raw, name = _raw(output)
    code = _dtypes.CODES[_dtypes.name_of(coefficients.dtype)]
    _core.prefilter_adjoint(geometry, coefficients, code, raw, _dtypes.CODES[name], filtered=filtered)


def sample(
    source: Array,
    geometry: Geometry,
    grid: Floats,
    affine: Floats | None,
    output: Array,
    *,
    batch_axes: int,
    fill: bytes,
) -> None:
    """Write the values of the spline at the deformed positions to `output`; order 0 copies elements, or `fill`."""
    source, source_name = _raw(source)
    raw, name = _raw(output)
    _core.sample(
        geometry,
        source,
        _dtypes.CODES[source_name],
        grid,
        affine,
        raw,
        _dtypes.CODES[name],
        batch_axes,
        fill,
    )


def scatter_image(
    gradient: Array, geometry: Geometry, grid: Floats, affine: Floats | None, lead: Shape, *, batch_axes: int
) -> Array:
    """Apply the transpose of `sample` in its source: the gradient of all coefficients."""
    raw, name = _raw(gradient)
    arithmetic = _arithmetic(name, geometry)
    extent = geometry["box_extent"][: int(geometry["axes"])]
    coefficients = np.zeros((*lead, *extent.tolist()), arithmetic)
    _core.scatter_image(
        geometry,
        raw,
        _dtypes.CODES[name],
        grid,
        affine,
        coefficients,
        _dtypes.CODES[arithmetic],
        batch_axes,
    )
    return coefficients


def scatter_grid(
    gradient: Array, coefficients: Array, geometry: Geometry, grid: Floats, affine: Floats | None, *, batch_axes: int
) -> tuple[Floats, Floats]:
    """Differentiate ``<gradient, sample>`` by the grid's coefficients and, per batch item, by the inverse affine."""
    raw, name = _raw(gradient)
    code = _dtypes.CODES[_dtypes.name_of(coefficients.dtype)]
    return _core.scatter_grid(geometry, raw, _dtypes.CODES[name], coefficients, code, grid, affine, batch_axes)


def displace(grid: Floats, geometry: Geometry, output: Floats, *, batch_axes: int) -> None:
    """Write the displacement of each voxel to `output`, (batch..., axes, voxels...)."""
    _core.displace(geometry, grid, output, batch_axes)


def _arithmetic(name: str, geometry: Geometry) -> str:
    return _dtypes.arithmetic(name, int(geometry["order"]), int(geometry["axes"]))


def _raw(array: Array) -> tuple[Array, str]:
    """Give an array in native byte order, and the name of its type; types that NumPy has not, as their bits."""
    name = _dtypes.name_of(array.dtype)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return (array.view(np.uint16) if name == "bfloat16" else array), name
