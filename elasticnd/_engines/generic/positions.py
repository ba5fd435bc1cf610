"""The source positions of the output voxels, and gradients with respect to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ..._modes import Continuation
from ..._spec import DeformSpec, Frame
from ..._types import ArrayNamespace, FrameworkDType
from .axes import Array, Floats, next_axis_last
from .matrices import inverse
from .splines import filtered, folded, spline_weights

Position = tuple[Any, Array]  # a voxel and a displacement from it

_GRID_ORDER = 3  # of the spline through the displacements of the control points


def positions(
    xp: ArrayNamespace, spec: DeformSpec, points: Array, inverse_map: Array | None, dtype: FrameworkDType
) -> list[Position]:
    """Compute where the voxels of the output lie in the image, along each axis.

    Each position is a voxel and a displacement from it, (items, M_0, ...): their sum would lose accuracy in float32.
    """
    moved = field(xp, spec, points, dtype)
    displacements = [moved[:, k, ...] for k in range(spec.axes)]
    voxels = _voxels(xp, spec, dtype)
    if inverse_map is None:
        return [(voxel + start, moved) for voxel, start, moved in zip(voxels, spec.origin, displacements, strict=True)]
    return [
        (start, _transformed(xp, inverse_map[:, k, ...], voxels) + displacements[k])
        for k, start in enumerate(spec.origin)
    ]


def _voxels(xp: ArrayNamespace, spec: DeformSpec, dtype: FrameworkDType) -> list[Array]:
    """Return the indices of the voxels along each axis from the origin, in shapes that broadcast to the output."""
    return [
        xp.reshape(xp.asarray(np.arange(extent) + start, dtype=dtype), (-1, *(1,) * (spec.axes - 1 - k)))
        for k, (extent, start) in enumerate(zip(spec.window.shape, _from_origin(spec), strict=True))
    ]


def _from_origin(spec: DeformSpec) -> list[int]:
    return [start - origin for start, origin in zip(spec.window.start, spec.origin, strict=True)]


# ---- control points --------------------------------------------------------------------------------------------------


def field(xp: ArrayNamespace, spec: DeformSpec, points: Array, dtype: FrameworkDType) -> Array:
    """Compute the displacement of every voxel, (items, n, M_0, ...)."""
    values = xp.reshape(xp.astype(points, dtype), (-1, spec.axes, *spec.grid_shape))
    return _multiplied(xp, values, _grid_matrices(spec))


def field_adjoint(xp: ArrayNamespace, spec: DeformSpec, gradient: Array) -> Array:
    """Apply the transpose of `field`: return the gradient of the control points, in their shape."""
    gradient = _multiplied(xp, gradient, [matrix.T for matrix in _grid_matrices(spec)])
    return xp.reshape(gradient, spec.displacement_shape)


def _multiplied(xp: ArrayNamespace, values: Array, matrices: Sequence[Floats]) -> Array:
    for matrix in matrices:
        values = xp.matmul(next_axis_last(xp, values), xp.asarray(matrix, dtype=values.dtype))
    return values


def _grid_matrices(spec: DeformSpec) -> list[Floats]:
    n = spec.axes
    frame = Frame(spec.extent, (0.0,) * n, (1.0,) * n) if spec.frame is None else spec.frame
    return [_grid_matrix(*size) for size in zip(*frame, spec.grid_shape, *spec.window, strict=True)]


@lru_cache(maxsize=64)
def _grid_matrix(extent: int, frame_start: float, frame_step: float, points: int, start: int, output: int) -> Floats:
    """Return the matrix from the control values of one axis to the displacements of its voxels, (points, output)."""
    if points == 1:  # moves every voxel equally, and by its exact value
        return np.ones((1, output))
    voxels = frame_start + frame_step * np.arange(start, start + output)
    places = voxels * (points - 1) / max(extent - 1, 1)
    cells = np.floor(places)
    weights: Floats = np.zeros((points, output))
    for tap, weight in enumerate(spline_weights(_GRID_ORDER, places - cells)):
        coefficients = folded(cells.astype(int) - _GRID_ORDER // 2 + tap, points, Continuation.MIRRORED)
        np.add.at(weights, (coefficients, np.arange(output)), weight)
    values: Floats = np.eye(points)
    for step in filtered(np.arange(points), points, Continuation.MIRRORED, _GRID_ORDER):
        values = step.apply(array_namespace(values), values)
    values = values @ weights
    values /= values.sum(axis=0)  # makes a constant grid move every voxel equally, up to the rounding of its sum
    return values


# ---- matrices --------------------------------------------------------------------------------------------------------


def inverse_of_affine(
    xp: ArrayNamespace, spec: DeformSpec, affine: Array | None, tangent: Array | None, dtype: FrameworkDType
) -> Array | None:
    """Compute the map from output to image without crop and displacement: [M | t] of each item, or of all items."""
    matrix = spec.inverse_rotation_zoom
    rotation_zoom = None if matrix is None else xp.asarray(np.array([matrix]), dtype=dtype)
    if affine is None:
        return rotation_zoom
    forward = xp.reshape(xp.astype(affine, dtype), (-1, spec.axes, spec.axes + 1))
    linear = inverse(xp, forward[:, :, :-1])
    offset = -xp.matmul(linear, forward[:, :, -1:])
    if rotation_zoom is not None:
        linear = xp.matmul(rotation_zoom[:, :, :-1], linear)
        offset = xp.matmul(rotation_zoom[:, :, :-1], offset) + rotation_zoom[:, :, -1:]
    joined = xp.concat([linear, offset], axis=2)
    return joined if tangent is None else joined + xp.reshape(xp.astype(tangent, dtype), forward.shape)


def _transformed(xp: ArrayNamespace, line: Array, voxels: Sequence[Array]) -> Array:
    """Apply one row of the maps, (items, n + 1)."""
    factors = [xp.reshape(line[:, k], (-1, *(1,) * len(voxels))) for k in range(len(voxels) + 1)]
    return sum((factor * voxel for factor, voxel in zip(factors, voxels, strict=False)), start=factors[-1])


def inverse_of_affine_adjoint(xp: ArrayNamespace, spec: DeformSpec, gradient: Array) -> Array:
    """Convert the gradient of the positions to the gradient of the inverse map, one per item or one for all."""
    voxels = _voxels(xp, spec, gradient.dtype)
    over = tuple(range(2, 2 + spec.axes))
    columns = [xp.sum(gradient * voxel, axis=over) for voxel in voxels]
    of_items = xp.stack([*columns, xp.sum(gradient, axis=over)], axis=-1)
    if spec.affine_batched:
        return xp.reshape(of_items, (*spec.batch, spec.axes, spec.axes + 1))
    return xp.sum(of_items, axis=0)
