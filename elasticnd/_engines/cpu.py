"""The engine for NumPy arrays: calls into the compiled core."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _core, _dtypes
from .._geometry import Geometry

if TYPE_CHECKING:
    from .._spec import Shape

Array = NDArray[Any]
Floats = NDArray[np.float64]

_ARITHMETIC = {_dtypes.CODES[name]: name for name in ("float32", "float64")}
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


def sample(
    image: Array,
    geometry: Geometry,
    points: Floats,
    affine: Floats | None,
    output: Array,
    *,
    batch_axes: int,
    filtered: bool,
    fill: bytes,
) -> None:
    """Write the values of the image's spline at the deformed positions to `output`; order 0 copies elements, or `fill`.

    Without `filtered` the image is taken for its coefficients.
    """
    raw, name = _raw(image)
    _core.sample(
        geometry,
        raw,
        _dtypes.CODES[name],
        points,
        affine,
        _raw(output)[0],
        batch_axes,
        filtered,
        _arithmetic_code(name, geometry),
        fill,
    )


def scatter(
    gradient: Array,
    geometry: Geometry,
    image: Array | None,
    points: Floats,
    affine: Floats | None,
    image_gradient: Array | None,
    *,
    batch_axes: int,
    filtered: bool,
) -> tuple[Floats, Floats] | None:
    """Pull the gradient of the output back to what `sample` took.

    Writes that of the image to `image_gradient`, if there is one. With an image, returns those of the control points
    and, per batch item, of the inverse affine.
    """
    raw, name = _raw(gradient)
    return _core.scatter(
        geometry,
        raw,
        _dtypes.CODES[name],
        None if image is None else _raw(image)[0],
        points,
        affine,
        None if image_gradient is None else _raw(image_gradient)[0],
        batch_axes,
        filtered,
        _arithmetic_code(name, geometry),
    )


def displace(points: Floats, geometry: Geometry, output: Floats, *, batch_axes: int) -> None:
    """Write the displacement of each voxel to `output`, (batch..., axes, voxels...)."""
    _core.displace(geometry, points, output, batch_axes)


def prefilter(image: Array, geometry: Geometry, *, filtered: bool) -> Array:
    """Compute the coefficients inside the geometry's box, in the type of the arithmetic."""
    raw, name = _raw(image)
    axes = int(geometry["axes"])
    code = _arithmetic_code(name, geometry)
    lead = image.shape[: image.ndim - axes]
    coefficients = np.empty((*lead, *geometry["box_extent"][:axes].tolist()), _ARITHMETIC[code])
    _core.prefilter(geometry, raw, _dtypes.CODES[name], coefficients, code, filtered)
    return coefficients


def prefilter_adjoint(coefficients: Array, geometry: Geometry, output: Array, *, filtered: bool) -> None:
    """Write the transpose of `prefilter` to `output`."""
    raw, name = _raw(output)
    code = _dtypes.CODES[_dtypes.name_of(coefficients.dtype)]
    _core.prefilter_adjoint(geometry, coefficients, code, raw, _dtypes.CODES[name], filtered)


def _arithmetic_code(name: str, geometry: Geometry) -> int:
    return _dtypes.CODES[_dtypes.arithmetic(name, int(geometry["order"]), int(geometry["axes"]))]


def _raw(array: Array) -> tuple[Array, str]:
    """Give an array in native byte order, and the name of its type; types that NumPy has not, as their bits."""
    name = _dtypes.name_of(array.dtype)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return (array.view(np.uint16) if name == "bfloat16" else array), name
