"""Splines: their weights, their coefficients, and the continuation of these beyond the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._limits import check_coefficients
from ..._modes import Continuation, padding_of
from ..._spec import ImageSpec
from ..._types import ArrayNamespace
from .axes import Array, AxisMap, Blocks, Floats, Indices, Surrounded, Taken, composed, next_axis_last


def spline_weights(order: int, place: Any) -> list[Array]:
    """Compute the weights of the order + 1 coefficients that reach a place in its knot span, by de Boor's recursion."""
    weights: list[Array] = [1.0]
    for degree in range(1, order + 1):
        lower = [weight / degree for weight in weights]
        weights = [
            (1 - place) * lower[0],
            *((place + (degree - tap)) * lower[tap - 1] + (tap + 1 - place) * lower[tap] for tap in range(1, degree)),
            place * lower[-1],
        ]
    return weights


def spline_derivatives(order: int, place: Any, times: int) -> list[Array]:
    """Differentiate `spline_weights` this many times: by differences of the weights of a lower order."""
    if times == 0:
        return [weight + 0 * place for weight in spline_weights(order, place)]
    if times > order:
        return [0 * place] * (order + 1)
    lower = [0 * place, *spline_derivatives(order - 1, place, times - 1), 0 * place]
    return [lower[tap] - lower[tap + 1] for tap in range(order + 1)]


def knot_shift(order: int) -> float:
    """Return the offset of knots from voxels: 0 for odd orders, 1/2 for even ones."""
    return 0.0 if order % 2 else 0.5


# ---- filter ----------------------------------------------------------------------------------------------------------

_BLOCK = 128  # coefficients that are computed together
_MARGIN = 48  # samples on each side of a block that its coefficients need; others contribute less than 1e-17


def _block_filter(order: int, block: int) -> Floats:
    """Return the matrix from samples to the coefficients of a spline that passes through them."""
    period = 4 * _MARGIN  # far enough for the response to have faded
    samples_of_spline = np.zeros(period)
    for tap, weight in enumerate(spline_weights(order, knot_shift(order))):
        samples_of_spline[tap - order // 2] = weight
    response = np.fft.irfft(1 / np.fft.rfft(samples_of_spline), period)
    distance = np.arange(block + 2 * _MARGIN)[:, None] - _MARGIN - np.arange(block)
    matrix: Floats = np.where(abs(distance) <= _MARGIN, response[distance % period], 0.0)
    return matrix


def filtered(source: Indices, extent: int, continuation: Continuation, order: int) -> list[AxisMap]:
    """Return the maps from the samples ``source`` of an axis to coefficients, for a continuation of the samples.

    They work in blocks with margins, so that the cost grows with the length and not with its square.
    """
    blocks = -(-len(source) // _BLOCK)
    block = -(-len(source) // blocks)
    near = np.arange(blocks)[:, None] * block + np.arange(-_MARGIN, block + _MARGIN)
    surroundings = Taken(source[folded(near.ravel(), len(source), continuation)], extent)
    return [surroundings, Blocks(_block_filter(order, block), blocks, len(source))]


# ---- borders ---------------------------------------------------------------------------------------------------------


def folded(index: Indices, extent: int, continuation: Continuation) -> Indices:
    """Return the indices of the samples that represent these indices."""
    if continuation == Continuation.NEAREST:
        return np.clip(index, 0, extent - 1)
    if continuation == Continuation.PERIODIC:
        return index % extent
    if continuation == Continuation.REFLECTED:
        return np.minimum(index % (2 * extent), (-1 - index) % (2 * extent))
    period = max(2 * (extent - 1), 1)
    return np.minimum(index % period, -index % period)


def border_reach(order: int) -> int:
    """Return the number of voxels beyond the border after which no coefficient of the image is in reach."""
    return order // 2 + 1


def border_width(order: int) -> int:
    """Return the number of coefficients beyond the border that a stencil at a folded position can reach."""
    return order // 2 + border_reach(order)


# ---- coefficients ----------------------------------------------------------------------------------------------------


def _coefficient_maps(image: ImageSpec, extent: int, border_value: float) -> list[AxisMap]:
    """Return the maps from an axis of the image to coefficients, including those beyond the border."""
    padded = extent + 2 * padding_of(image.order, image.mode, image.prefilter)
    if padded > _BLOCK or not image.prefilter or image.order < 2:
        return [*_padding_and_filter(image, extent, border_value), _continuation(image, padded, border_value)]
    maps, continuation = _padding_and_filter(image, extent, 1.0), _continuation(image, padded, border_value)
    if isinstance(continuation, Taken):
        return [composed([*maps, continuation], extent, border_value)]
    return [composed(maps, extent, border_value), continuation]  # NaN in the image does not reach the constant


def _padding_and_filter(image: ImageSpec, extent: int, border_value: float) -> list[AxisMap]:
    traits = image.mode.traits
    padding = padding_of(image.order, image.mode, image.prefilter)
    maps: list[AxisMap] = []
    if traits.coefficients == Continuation.NOTHING and padding:
        maps.append(Surrounded(padding, border_value))
        extent += 2 * padding
        source = np.arange(extent)
    else:
        source = folded(np.arange(-padding, extent + padding), extent, Continuation.NEAREST)
    if image.prefilter and image.order > 1:
        maps += filtered(source, extent, traits.samples, image.order)
    return maps


def _continuation(image: ImageSpec, padded: int, border_value: float) -> AxisMap:
    width = border_width(image.order)
    continuation = image.mode.traits.coefficients
    if continuation == Continuation.NOTHING:
        return Surrounded(width, border_value)
    return Taken(folded(np.arange(-width, padded + width), padded, continuation), padded)


def coefficients(xp: ArrayNamespace, image: ImageSpec, values: Array, border_value: float) -> Array:
    """Compute the spline's coefficients, with those beyond the border, from (channels, items, deformed axes ...)."""
    for extent in deformed(image):
        values = next_axis_last(xp, values)
        for step in _coefficient_maps(image, extent, border_value):
            values = step.apply(xp, values)
    return values


def coefficients_adjoint(xp: ArrayNamespace, image: ImageSpec, gradient: Array) -> Array:
    """Apply the transpose of `coefficients`. The maps of different axes commute."""
    for extent in deformed(image):
        gradient = axis_coefficients_adjoint(xp, image, extent, next_axis_last(xp, gradient))
    return gradient


def axis_coefficients_adjoint(xp: ArrayNamespace, image: ImageSpec, extent: int, gradient: Array) -> Array:
    """Apply the transpose of `coefficients` along one axis, the last one of `gradient`."""
    for step in reversed(_coefficient_maps(image, extent, 0.0)):
        gradient = step.transposed(xp, gradient)
    return gradient


def box_of(image: ImageSpec) -> Sequence[int]:
    """Return the extents of the coefficients."""
    width = padding_of(image.order, image.mode, image.prefilter) + border_width(image.order)
    check_coefficients(deformed(image), width)
    return [extent + 2 * width for extent in deformed(image)]


def deformed(image: ImageSpec) -> list[int]:
    """Return the extents of the deformed axes."""
    return [image.shape[axis] for axis in image.axes]
