"""Points of the image moved to the output: the map of a deformation, which leads the other way, inverted.

The core finds the positions. Where a framework differentiates, two steps of Newton's method follow, made of
evaluations: a step from an exact root changes nothing, but its derivative is that of the root, by the implicit function
theorem. Each step doubles how many orders of derivatives are right: one after the first, three after the second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._autodiff import calls
from ._autodiff.framework import LinearAlgebra
from ._bridges import eager
from ._positions import Positions
from ._spec import MovementSpec
from ._types import Array

_STEPS = 2
_SINGULAR = 1e-9  # a ratio of volumes that is as good as 0: there are no derivatives


class MovedPoints(NamedTuple):
    """Where points of the image go in the output; as `Deformation.move_points` returns it.

    Attributes
    ----------
    points : array, shape (..., n)
        The points in the output, in voxels. Where none was found, the position that looks nearest of those met.
    residual : array, shape (...)
        How far from the point its position in the output looks, in voxels. NaN without a position.
    converged : array of bool, shape (...)
        Whether the residual is within the tolerance.
    outside : array of bool, shape (...)
        Whether the point lies outside of the output: below −1/2 or above N − 1/2 along an axis.
    folded : array of bool, shape (...)
        Whether the mapping folds there, so that the same content is at other places too.
    """

    points: Array
    residual: Array
    converged: Array
    outside: Array
    folded: Array


def move(at: Positions, inverse_map: Array | None, tolerance: float) -> MovedPoints:
    """Move the points that `at` holds; the inverse affine map is None for the identity."""
    other = at.bridge.delegate((at.positions,), (at.points, inverse_map))
    if other is not None:
        _, (positions,), (points, inverse_map) = other
        moved = move(at._replace(bridge=eager, points=points, positions=positions), inverse_map, tolerance)
        first, residual, *flags = (at.bridge.restored(part, at.positions) for part in moved)
        algebra = at.bridge.algebra(first)
        return MovedPoints(*(algebra.converted(part, at.positions) for part in (first, residual)), *flags)

    n = at.spec.axes
    found = calls.search(
        at.bridge, "move_points", _spec_of(at, inverse_map, tolerance), at.points, inverse_map, at.positions
    )
    algebra = at.bridge.algebra(found)
    points, residual, ratio, converged = found[..., :n], found[..., n], found[..., n + 1], found[..., n + 2] > 0
    if at.bridge is not eager:
        is_regular = converged & ((ratio > _SINGULAR) | (ratio < -_SINGULAR))
        points = _differentiable(at, inverse_map, points, is_regular)
    lead = (*at.spec.batch, *at.lead)
    of_points = (residual, converged, _outside(at, points), ratio <= 0)
    return MovedPoints(at.reshaped(points, ()), *(algebra.reshaped(part, lead) for part in of_points))


def _spec_of(at: Positions, inverse_map: Array | None, tolerance: float) -> MovementSpec:
    spec = at.spec
    return MovementSpec(
        spec.batch,
        spec.extent,
        spec.grid_shape,
        spec.count,
        tolerance,
        has_affine=inverse_map is not None,
        affine_batched=inverse_map is not None and len(inverse_map.shape) > 2,
    )


def _outside(at: Positions, points: Array) -> Array:
    ends = [extent - 0.5 for extent in at.spec.extent]
    outside = (points[..., 0] < -0.5) | (points[..., 0] > ends[0])
    for k in range(1, at.spec.axes):
        outside = outside | (points[..., k] < -0.5) | (points[..., k] > ends[k])
    return outside


def _differentiable(at: Positions, inverse_map: Array | None, points: Array, is_regular: Array) -> Array:
    """Return points whose derivatives are those of roots, and zero for the others."""
    algebra = at.bridge.algebra(points)
    keep, keep_matrix = is_regular[..., None], is_regular[..., None, None]
    unit = algebra.constant(np.eye(at.spec.axes), points)
    linear = unit if inverse_map is None else inverse_map[..., None, :, :-1]
    nowhere = algebra.zeros_like(points)
    targets = algebra.where(keep, at.positions, nowhere)
    position = algebra.where(keep, points, nowhere)
    for _ in range(_STEPS):
        there = at._replace(positions=position)
        matrices = algebra.where(keep_matrix, there.evaluate(1) + linear, unit)
        difference = there.mapped(inverse_map) - targets
        position = position - _solved(algebra, matrices, difference)
    return algebra.where(keep, position, points)


def _solved(algebra: LinearAlgebra, matrices: Array, vectors: Array) -> Array:
    return algebra.product(algebra.inverse(matrices), vectors[..., None])[..., 0]
