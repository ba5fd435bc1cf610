"""Sums into coefficients at indices that only the device knows, with operations of the standard.

The standard has no operation that adds to elements by index. Voxels are therefore sorted by the first coefficient that
they reach, and voxels with the same one are summed in pairs, pairs of pairs, and so on. No other voxel's value enters a
sum, so rounding errors and non-finite values do not spread. The other coefficients of a stencil lie at known
distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..._types import ArrayNamespace
from .axes import Array, surrounded
from .stencils import GATHERED_AXES, Stencils


def splat_stencils(xp: ArrayNamespace, stencils: Stencils, values: Array) -> Array:
    """Apply the transpose of `stencil_sum`: from (channels, voxels) to all coefficients, (channels, coefficients)."""
    order = xp.argsort(stencils.offset)
    groups = _groups(xp, xp.take(stencils.offset, order, axis=0), stencils.size)
    weights = [xp.take(weight, order, axis=1) for weight in stencils.weights(xp)]
    return _spread(xp, xp.take(values, order, axis=1), weights, stencils.strides, groups)


def _spread(
    xp: ArrayNamespace, values: Array, weights: Sequence[Array], strides: Sequence[int], groups: _Groups
) -> Array:
    if len(weights) > GATHERED_AXES:
        total: Array = 0
        for tap in range(weights[0].shape[0]):
            inner = _spread(xp, values * weights[0][tap, ...], weights[1:], strides[1:], groups)
            total = total + _shifted(xp, inner, tap * strides[0])
        return total
    for weight in weights:
        values = values[..., None, :] * weight
    sums = _summed(xp, values, groups)
    for weight, stride in reversed(list(zip(weights, strides, strict=False))):  # no weights at order 0
        sums = sum(_shifted(xp, sums[..., tap, :], tap * stride) for tap in range(weight.shape[0]))
    return sums


def _shifted(xp: ArrayNamespace, array: Array, step: int) -> Array:
    """Shift the elements of the last axis up; the last ones, which nothing reaches, are dropped."""
    return surrounded(xp, array[..., : array.shape[-1] - step], step, 0, 0.0)


# ---- groups of neighbours --------------------------------------------------------------------------------------------


class _Groups(NamedTuple):
    """Sorted elements, in groups with equal index."""

    begins: Array  # whether a group begins at an element
    last: Array  # the last element of each possible group
    exists: Array  # whether there is such a group


def _groups(xp: ArrayNamespace, sorted_numbers: Array, size: int) -> _Groups:
    changes = sorted_numbers[1:] != sorted_numbers[:-1]
    begins = xp.concat([xp.full((1,), True, dtype=xp.bool), changes])
    numbers = xp.asarray(np.arange(size), dtype=sorted_numbers.dtype)
    last = xp.searchsorted(sorted_numbers, numbers, side="right") - 1
    last = xp.where(last < 0, 0, last)
    return _Groups(begins, last, xp.take(sorted_numbers, last, axis=0) == numbers)


def _summed(xp: ArrayNamespace, values: Array, groups: _Groups) -> Array:
    """Sum each group of the last axis."""
    running = _running_sums(xp, values, groups.begins)
    lead = tuple(values.shape[:-1])
    flat = xp.take(xp.reshape(running, (-1, values.shape[-1])), groups.last, axis=1)
    return xp.reshape(xp.where(groups.exists, flat, 0.0), (*lead, -1))


def _running_sums(xp: ArrayNamespace, values: Array, begins: Array) -> Array:
    """Add to each element those before it in its group: by sums of pairs, pairs of pairs, and so on."""
    count = values.shape[-1]
    if count == 1:
        return values
    if count % 2:
        values = surrounded(xp, values, 0, 1, 0.0)
        begins = surrounded(xp, begins, 0, 1, True)
    first, second = values[..., ::2], values[..., 1::2]
    first_begins, second_begins = begins[::2], begins[1::2]
    sums = xp.where(second_begins, second, first + second)
    of_second = _running_sums(xp, sums, first_begins | second_begins)
    before = _shifted(xp, of_second, 1)
    of_first = xp.where(first_begins, first, first + before)
    return xp.reshape(xp.stack([of_first, of_second], axis=-1), (*values.shape[:-1], -1))[..., :count]
