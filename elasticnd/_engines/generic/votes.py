"""Labels by votes: each voxel under a stencil of order 1 gives its weight to its label, and the largest sum wins."""

from __future__ import annotations

import itertools

from ..._types import ArrayNamespace
from .axes import Array
from .stencils import Stencils

_TIE = 2.0**-16  # sums that differ by at most this are tied, so that rounding does not decide


def winners(xp: ArrayNamespace, flat: Array, reached: Stencils, is_float: bool) -> Array:
    """Return the label of each voxel, (channels, voxels): among tied labels the nearest voxel's, else the smallest.

    `flat` has the labels, including those beyond the border, (channels, all other axes).
    """
    labels, weights = [], []
    for taps in itertools.product((0, 1), repeat=len(reached.strides)):
        offset = sum(tap * stride for tap, stride in zip(taps, reached.strides, strict=True))
        labels.append(xp.take(flat, reached.offset + offset, axis=1))
        weight: Array = 1
        for tap, along in zip(taps, reached.weights(xp), strict=True):
            weight = weight * along[tap, ...]
        weights.append(weight)

    def votes_for(label: Array) -> Array:
        shares = (
            xp.where(_is_same(one, label, is_float), weight, 0.0) for one, weight in zip(labels, weights, strict=True)
        )
        return sum(shares, start=0)

    nearest = xp.take(flat, reached.nearest, axis=1)
    own = votes_for(nearest)
    votes = list(map(votes_for, labels))
    largest = own
    for one in votes:
        largest = xp.where(one > largest, one, largest)
    winner, is_chosen = nearest, largest < 0  # no winner yet
    for label, one in zip(labels, votes, strict=True):
        is_better = (largest - one <= _TIE) & (~is_chosen | _is_less(label, winner, is_float))
        winner, is_chosen = xp.where(is_better, label, winner), is_chosen | is_better
    return xp.where(largest - own <= _TIE, nearest, winner)


def _is_same(label: Array, other: Array, is_float: bool) -> Array:
    """Return whether labels are equal; all NaN are one label."""
    same = label == other
    return same | ((label != label) & (other != other)) if is_float else same  # noqa: PLR0124


def _is_less(label: Array, other: Array, is_float: bool) -> Array:
    """Return whether labels are less than others; NaN is the largest label."""
    less = label < other
    return less | ((label == label) & (other != other)) if is_float else less  # noqa: PLR0124
