"""The coefficients that a position reaches: folding of positions at the border, and weighted sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..._modes import Continuation, Mode, padding_of
from ..._spec import DeformSpec, ImageSpec
from ..._types import ArrayNamespace, FrameworkDType
from .axes import Array
from .positions import Position
from .splines import border_reach, border_width, box_of, knot_shift, spline_derivatives

# ---- positions -------------------------------------------------------------------------------------------------------


def _clamped(xp: ArrayNamespace, x: Array, low: float, high: float) -> Array:
    """Clamp to the limits, with slope 1 on them, which minimum and maximum do not guarantee."""
    return xp.where(x < low, low, xp.where(x > high, high, x))


def _border_tolerance(xp: ArrayNamespace, last: int, dtype: FrameworkDType) -> float:
    """Compute how far beyond the border a position still counts as on it: more than rounding errors."""
    return 1e-9 if dtype == xp.float64 else 2.0**-21 * (last + 1)


def _ends_at_last_voxel(order: int, mode: Mode, last: int) -> bool:
    """Return whether the image ends at its last voxel; the slope there is then the slope from the voxel before."""
    return order == 1 and mode.traits.ends_at_last_voxel and last > 0


def _fold(xp: ArrayNamespace, x: Array, last: int, reach: int, mode: Mode) -> tuple[Array, Array]:
    """Return the sign and the shift that bring positions into or near [0, last]: sign * x + shift."""
    continuation = mode.traits.coordinates
    if continuation == Continuation.NEAREST:
        below, above = xp.astype(x < -reach, x.dtype), xp.astype(x > last + reach, x.dtype)
        return 1 - below - above, (last + reach) * above - reach * below
    if continuation == Continuation.PERIODIC:
        return 1, -(last + 1) * xp.floor(x / (last + 1))
    if continuation == Continuation.NOTHING or last == 0:
        return int(continuation == Continuation.NOTHING), 0
    if continuation == Continuation.SHORT_PERIODIC:
        # The period is one voxel short; a negative multiple of it lands on the last voxel.
        near = _border_tolerance(xp, last, x.dtype)
        forward, back = last * (xp.floor((near - x) / last) + 1), -last * xp.floor((x + near) / last)
        return 1, xp.where(x < -near, forward, xp.where(x > last + near, back, 0.0))
    edge = 0.5 if continuation == Continuation.REFLECTED else 0.0
    turn = 2 * last + 4 * edge
    passed = turn * xp.floor((x + edge) / turn)
    mirrored = xp.astype(x - passed > last + edge, x.dtype)
    sign = 1 - 2 * mirrored
    return sign, (2 * last + 2 * edge) * mirrored - sign * passed


class _Reached(NamedTuple):
    """The coefficients that positions along one axis reach."""

    first: Array  # coefficient of the stencil, counted with those beyond the border
    place: Array  # in the knot span
    exists: Array  # whether there is a position
    slope: Array  # derivative of the place with respect to the position
    nearest: Array  # coefficient at most half a voxel from the position; None unless requested


def _reached(
    xp: ArrayNamespace, position: Position, extent: int, order: int, mode: Mode, asks_nearest: bool
) -> _Reached:
    voxel, moved = position
    last = extent - 1
    width = border_width(order)
    # Beyond this, numbers have no fraction, and a folded position is meaningless.
    far = 2.0**52 if moved.dtype == xp.float64 else 2.0**23
    x = voxel + moved
    clamps = mode.traits.coordinates == Continuation.NEAREST
    if mode.traits.has_constant:
        tolerance = border_reach(order) if clamps else _border_tolerance(xp, last, x.dtype)
        exists = (x >= -tolerance) & (x <= last + tolerance)
    else:
        exists = (x >= 0) | (x < 0) if clamps else xp.abs(x) < far
    moved = xp.where(exists, _clamped(xp, moved, -far, far), 0.0)
    sign, shift = _fold(xp, voxel + moved, last, border_reach(order), mode)
    nearest = None
    if order == 0 or asks_nearest:
        # The sum is rounded first, so that rounding errors of the displacement do not decide ties.
        nearest = xp.floor(sign * (voxel + moved) + shift + knot_shift(0))
    if order == 0:
        first, place = nearest, moved
    else:
        knot = sign * moved + knot_shift(order)
        steps = xp.floor(knot)
        first, place = sign * voxel + shift + steps - order // 2, knot - steps
    # The end of the last knot span that has coefficients belongs to this span, and does not start another one. Rounding
    # errors of far positions must not lead beyond the coefficients either.
    lowest, highest = (0, last - 1) if _ends_at_last_voxel(order, mode, last) else (-width, last + width - order)
    kept = _clamped(xp, first, lowest, highest)
    if asks_nearest:
        nearest = _clamped(xp, nearest, kept, kept + order) + width
    return _Reached(kept + width, place + (first - kept), exists, sign * xp.astype(exists, moved.dtype), nearest)


# ---- sums ------------------------------------------------------------------------------------------------------------


class Stencils(NamedTuple):
    """The coefficients that each voxel of the output reaches, (voxels of all items)."""

    order: int
    firsts: list[Array]  # index of the first coefficient along each axis
    offset: Array  # index of the first coefficient, among all
    strides: list[int]  # from one coefficient to the next, along each axis
    size: int  # number of all coefficients
    places: list[Array]  # in the knot span, along each axis; none for order 0, which has no weights
    slopes: list[Array]  # derivatives of the places with respect to the positions
    exists: Array  # whether there is a position
    nearest: Array  # index of the nearest coefficient, among all; None except for votes

    def weights(self, xp: ArrayNamespace, sloped_axis: int | None = None) -> list[Array]:
        """Compute the weights of the coefficients, (taps, voxels) for each axis; for one axis, their derivatives."""
        return [
            xp.stack(spline_derivatives(self.order, place, int(axis == sloped_axis)))
            for axis, place in enumerate(self.places)
        ]


def stencils(
    xp: ArrayNamespace, spec: DeformSpec, image: ImageSpec, positions: Sequence[Position], dtype: FrameworkDType
) -> Stencils:
    """Find the coefficients of each voxel; weights are in `dtype`."""
    items, box = math.prod(spec.batch), box_of(image)
    strides = [math.prod(box[k + 1 :]) for k in range(len(box))]
    size = items * math.prod(box)
    integer = xp.int32 if size < 2**31 else xp.int64
    offset = xp.asarray(np.reshape(np.arange(items) * math.prod(box), (-1, *(1,) * len(box))), dtype=integer)
    nearest = offset if image.votes else None
    everywhere: Array = True
    firsts, places, slopes = [], [], []
    padding = padding_of(image.order, image.mode, image.prefilter)
    for (voxel, moved), extent, stride in zip(positions, spec.extent, strides, strict=True):
        along = _reached(xp, (voxel + padding, moved), extent + 2 * padding, image.order, image.mode, image.votes)
        offset = offset + xp.astype(along.first, integer) * stride
        if image.votes:
            nearest = nearest + xp.astype(along.nearest, integer) * stride
        everywhere = along.exists & everywhere
        firsts.append(xp.reshape(along.first, (-1,)))
        if image.order > 0:
            places.append(xp.reshape(xp.astype(along.place, dtype), (-1,)))
            slopes.append(xp.reshape(along.slope, (-1,)))
    flat, everywhere = xp.reshape(offset, (-1,)), xp.reshape(everywhere, (-1,))
    of_nearest = xp.reshape(nearest, (-1,)) if image.votes else None
    return Stencils(image.order, firsts, flat, strides, size, places, slopes, everywhere, of_nearest)


GATHERED_AXES = 2  # in one step: more axes take more memory; with fewer, programs compile slowly


def stencil_sum(
    xp: ArrayNamespace, flat: Array, offset: Array, weights: Sequence[Array], strides: Sequence[int]
) -> Array:
    """Sum the weighted coefficients under each voxel's stencil; `weights` are (taps, voxels) per remaining axis."""
    if len(weights) > GATHERED_AXES:
        total = 0
        for tap in range(weights[0].shape[0]):
            inner = stencil_sum(xp, flat, offset + tap * strides[0], weights[1:], strides[1:])
            total = total + inner * weights[0][tap, ...]
        return total
    taps = tuple(weight.shape[0] for weight in weights)
    steps = np.tensordot(strides, np.indices(taps), 1) if taps else np.zeros(())
    places = offset + xp.asarray(steps[..., None], dtype=offset.dtype)
    values = xp.reshape(xp.take(flat, xp.reshape(places, (-1,)), axis=1), (flat.shape[0], *taps, -1))
    for weight in reversed(weights):
        values = xp.sum(values * weight, axis=-2)
    return values
