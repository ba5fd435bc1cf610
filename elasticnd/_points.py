"""Move points and boxes of the image to the output, by inverting the map of a deformation.

The core finds the positions. If a framework differentiates, two steps of Newton's method follow, computed by
evaluations. A step from an exact root changes nothing, but according to the implicit function theorem it has the
derivative of the root. The first step makes first derivatives right, the second step derivatives up to the third.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ._autodiff import calls
from ._autodiff.framework import LinearAlgebra
from ._bridges import eager
from ._errors import reject_value
from ._positions import Positions
from ._spec import MovementSpec, Shape
from ._types import Array

_STEPS = 2
_SINGULAR = 1e-9  # up to this volume ratio, points have no derivatives


class MovedPoints(NamedTuple):
    """Where points of the image go in the output, as returned by `Deformation.move_points`.

    Attributes
    ----------
    points : array, shape (..., n)
        The points in the output, in voxels. If the search did not converge, the best position found, or NaN.
    residual : array, shape (...)
        Distance, in voxels, from the given point to the source position of the point found. NaN if none was found.
    converged : array of bool, shape (...)
        Whether the residual is within the tolerance.
    outside : array of bool, shape (...)
        Whether the point lies outside the output: below −1/2 or above N − 1/2 along an axis.
    folded : array of bool, shape (...)
        Whether the mapping folds there, so that the same content also appears elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> shift = elasticnd.Deformation(np.full((2, 1, 1), 3.0), (64, 48))
    >>> moved = shift.move_points([[10.0, 2.0], [20.0, 12.0]])
    >>> moved.points
    array([[ 7., -1.],
           [17.,  9.]])
    >>> moved.outside
    array([ True, False])
    """

    points: Array
    residual: Array
    converged: Array
    outside: Array
    folded: Array


class MovedBoxes(NamedTuple):
    """Where boxes of the image go in the output, as returned by `Deformation.move_boxes`.

    Attributes
    ----------
    boxes : array, shape (..., 2, n)
        Lower and upper corners of the boxes around the moved boxes, in voxels.
    residual : array, shape (...)
        The largest residual of the points that were moved, in voxels. NaN if one was not found at all.
    converged : array of bool, shape (...)
        Whether all of these points converged.
    outside : array of bool, shape (...)
        Whether part of the box lies outside the output: below −1/2 or above N − 1/2 along an axis.
    folded : array of bool, shape (...)
        Whether the mapping folds somewhere on the border of the box.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> shift = elasticnd.Deformation(np.full((2, 1, 1), 3.0), (64, 48))
    >>> moved = shift.move_boxes([[10.0, 2.0], [20.0, 12.0]])
    >>> moved.boxes
    array([[ 7., -1.],
           [17.,  9.]])
    >>> bool(moved.outside)
    True
    """

    boxes: Array
    residual: Array
    converged: Array
    outside: Array
    folded: Array


def move(at: Positions, inverse_map: Array | None, tolerance: float) -> MovedPoints:
    """Move the points of `at`; the inverse affine map is None for the identity."""
    return MovedPoints(*_by_values(_move, at, inverse_map, tolerance))


def move_boxes(at: Positions, inverse_map: Array | None, tolerance: float, clip: bool) -> MovedBoxes:
    """Move the boxes whose corners are in `at`."""
    if not at.lead or at.lead[-1] != 2:
        n = at.spec.axes
        leading = "".join(f"{size}, " for size in at.spec.batch)
        shape = (*at.spec.batch, *at.lead, n)
        reject_value("b", f"shape {shape}", f"({leading}..., 2, {n}), the lower and upper corner of each box")
    return MovedBoxes(*_by_values(partial(_move_boxes, clip), at, inverse_map, tolerance))


_Results: TypeAlias = tuple[Array, ...]
_Move: TypeAlias = Callable[[Positions, Any, float], _Results]


def _by_values(function: _Move, at: Positions, inverse_map: Array | None, tolerance: float) -> _Results:
    """Call a function: on NumPy arrays if the bridge delegates the call, otherwise on the given arrays."""
    other = at.bridge.delegate((at.positions,), (at.points, inverse_map))
    if other is None:
        return function(at, inverse_map, tolerance)
    _, (positions,), (points, inverse_map) = other
    results = function(at._replace(bridge=eager, points=points, positions=positions), inverse_map, tolerance)
    first, residual, *flags = (at.bridge.restored(part, at.positions) for part in results)
    algebra = at.bridge.algebra(first)
    return (*(algebra.converted(part, at.positions) for part in (first, residual)), *flags)


def _move(at: Positions, inverse_map: Array | None, tolerance: float) -> _Results:
    n = at.spec.axes
    spec = _spec_of(at, inverse_map, tolerance)
    found = calls.search(at.bridge, "move_points", spec, at.points, inverse_map, at.positions)
    algebra = at.bridge.algebra(found)
    points, residual, ratio, converged = found[..., :n], found[..., n], found[..., n + 1], found[..., n + 2] > 0
    if at.bridge is not eager:
        is_regular = converged & ((ratio > _SINGULAR) | (ratio < -_SINGULAR))
        points = _differentiable(at, inverse_map, points, is_regular)
    lead = (*at.spec.batch, *at.lead)
    of_points = (residual, converged, is_outside(at.spec.extent, points, points), ratio <= 0)
    return (at.reshaped(points, ()), *(algebra.reshaped(part, lead) for part in of_points))


def _move_boxes(clip: bool, at: Positions, inverse_map: Array | None, tolerance: float) -> _Results:
    """Move the points of each border that go farthest, found by a search without derivatives."""
    n, batch = at.spec.axes, at.spec.batch
    spec = _spec_of(at, inverse_map, tolerance)
    found = calls.search(at.bridge, "find_extremes", spec, at.points, inverse_map, at.positions)
    ops = at.bridge.algebra(found)
    count = at.spec.count // 2
    places = ops.reshaped(found[..., : 2 * n * n], (*batch, count, 2, n, n))
    corners = ops.reshaped(at.positions, (*batch, count, 2, 1, 1, n))
    low, high = corners[..., 0, :, :, :], corners[..., 1, :, :, :]
    extremes = ops.reshaped(low + places * (high - low), (*batch, 2 * n * count, n))
    farthest = at._replace(spec=replace(at.spec, count=2 * n * count), positions=extremes, lead=(2 * n * count,))
    ends = ops.reshaped(_move(farthest, inverse_map, tolerance)[0], (*batch, count, 2, n, n))
    boxes = ops.summed(ends * ops.constant(np.eye(n), ends), (len(ends.shape) - 1,))
    outside = is_outside(at.spec.extent, boxes[..., 0, :], boxes[..., 1, :])
    if clip:
        first = ops.constant(np.full(n, -0.5), boxes)
        last = ops.constant(np.array(at.spec.extent) - 0.5, boxes)
        boxes = ops.where(boxes < first, first, boxes)
        boxes = ops.where(boxes > last, last, boxes)
    residual, converged, folded = (found[..., 2 * n * n + k] for k in range(3))
    of_boxes = (residual, converged > 0, outside, folded > 0)
    return (at.reshaped(boxes, ()), *(ops.reshaped(part, (*batch, *at.lead[:-1])) for part in of_boxes))


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


def is_outside(frame: Shape, lower: Array, upper: Array) -> Array:
    """Return whether points, or boxes with these corners, reach beyond the voxels of a frame."""
    ends = [extent - 0.5 for extent in frame]
    outside = (lower[..., 0] < -0.5) | (upper[..., 0] > ends[0])
    for k in range(1, len(ends)):
        outside = outside | (lower[..., k] < -0.5) | (upper[..., k] > ends[k])
    return outside


def _differentiable(at: Positions, inverse_map: Array | None, points: Array, is_regular: Array) -> Array:
    """Return points with the derivatives of roots, or zero derivatives where not regular."""
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
