"""The displacement and its derivatives at positions anywhere on the control grid, which is mirrored beyond its ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..._modes import Continuation
from ..._spec import EvaluationSpec
from ..._types import ArrayNamespace, FrameworkDType
from .axes import Array, AxisMap, Taken, composed, next_axis_last
from .splines import filtered, folded, spline_derivatives
from .stencils import stencil_sum

_ORDER = 3  # of the spline through the displacements of the control points
_SHORT = 128  # up to this many control points along an axis, one matrix is smaller than blocks with their margins


def evaluate(xp: ArrayNamespace, spec: EvaluationSpec, points: Array, positions: Array, order: int) -> Array:
    """Return the derivatives, (batch..., count, axes, axes...), with one more axis for each order."""
    items, n = math.prod(spec.batch), spec.axes
    widths = [count + 2 for count in spec.grid_shape]
    flat = xp.reshape(_coefficients(xp, spec, points, positions.dtype), (n, items * math.prod(widths)))
    strides = [math.prod(widths[k + 1 :]) for k in range(n)]
    where = xp.reshape(positions, (items, spec.count, n))
    offset = xp.asarray(np.arange(items)[:, None] * math.prod(widths), dtype=xp.int64)
    weights, exists = [], None
    for k, stride in enumerate(strides):
        cell, place, slope, known = _on_grid(xp, where[..., k], spec.extent[k], spec.grid_shape[k])
        offset = offset + xp.astype(cell, xp.int64) * stride
        exists = known if exists is None else exists & known
        weights.append(_weights(xp, xp.reshape(place, (-1,)), xp.reshape(slope, (-1,)), spec.grid_shape[k], order))
    offset, exists = xp.reshape(offset, (-1,)), xp.reshape(exists, (-1,))
    found: dict[tuple[int, ...], Array] = {}
    for along in itertools.combinations_with_replacement(range(n), order):
        chosen = [weights[k][along.count(k)] for k in range(n)]
        found[along] = xp.where(exists, stencil_sum(xp, flat, offset, chosen, strides), math.nan)  # (axes, positions)
    values = [found[tuple(sorted(along))] for along in itertools.product(range(n), repeat=order)]
    stacked = xp.permute_dims(xp.stack(values), (2, 1, 0))
    return xp.reshape(stacked, spec.values_shape(order))


def _coefficients(xp: ArrayNamespace, spec: EvaluationSpec, points: Array, dtype: FrameworkDType) -> Array:
    """Compute the coefficients, with one more at each end of an axis, (axes, items, ...)."""
    values = xp.reshape(xp.astype(points, dtype), (-1, spec.axes, *spec.grid_shape))
    for count in spec.grid_shape:
        values = next_axis_last(xp, values)
        maps: list[AxisMap] = filtered(np.arange(count), count, Continuation.MIRRORED, _ORDER)
        maps.append(Taken(folded(np.arange(-1, count + 1), count, Continuation.MIRRORED), count))
        for step in [composed(maps, count)] if count <= _SHORT else maps:
            values = step.apply(xp, values)
    return xp.permute_dims(values, (1, 0, *range(2, 2 + spec.axes)))


def _on_grid(xp: ArrayNamespace, f: Array, extent: int, points: int) -> tuple[Array, Array, Array, Array]:
    """Return the cell, the place in it, the slope of the place, and whether there is a position."""
    far = 2.0**52 if f.dtype == xp.float64 else 2.0**23
    exists = xp.abs(f) < far
    f = xp.where(exists, f, 0.0)
    if extent == 1 or points == 1:
        return 0 * f, 0 * f, 0 * f, exists
    last = points - 1
    g = f * last / (extent - 1)
    g = g - 2 * last * xp.floor(g / (2 * last))
    mirrored = g > last
    scale = last / (extent - 1)
    slope = xp.where(mirrored, -scale, scale + 0 * f)
    g = xp.where(mirrored, 2 * last - g, g)
    cell = xp.floor(xp.where(g < last - 1, g, last - 1 + 0 * g))
    return cell, g - cell, slope, exists


def _weights(xp: ArrayNamespace, place: Array, slope: Array, points: int, order: int) -> Sequence[Array]:
    """Stack the weights of the four coefficients, (4, positions), for every derivative up to an order."""
    if points == 1:  # moves every position equally, and by its exact value
        constant = xp.stack([0 * place, 1 + 0 * place, 0 * place])
        return [constant, *[0 * constant] * order]
    return [
        xp.stack([weight * slope**times for weight in spline_derivatives(_ORDER, place, times)])
        for times in range(order + 1)
    ]
