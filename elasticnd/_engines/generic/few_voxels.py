"""The gradient of an image with few voxels and far more coefficients, computed without the coefficients.

The weights of an output voxel are products over the axes. The transpose of the map from image to coefficients can
therefore be applied to the weights along each axis, separately for each output voxel. The results are weights of the
image's own voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..._spec import ImageSpec
from ..._types import ArrayNamespace
from .axes import Array
from .splines import axis_coefficients_adjoint, box_of, deformed
from .stencils import Stencils


def is_worth(image: ImageSpec, output: Sequence[int]) -> bool:
    """Return whether the weights of all voxels are fewer than the coefficients of an item.

    Not at orders 0 and 1: their stencils are small, and non-finite values must not leave the stencils.
    """
    extents, box = deformed(image), box_of(image)
    if image.order < 2 or len(extents) < 2:
        return False
    split = _split(extents)
    weights = math.prod(extents[:split]) + math.prod(extents[split:]) + max(box)
    return math.prod(output) * weights < math.prod(box)


def image_gradient(xp: ArrayNamespace, image: ImageSpec, stencils: Stencils, values: Array, items: int) -> Array:
    """Return (channels, items, N_0, ...) from the values of the voxels, (channels, voxels of all items)."""
    extents = deformed(image)
    weights = [
        axis_coefficients_adjoint(xp, image, extent, _coefficient_weights(xp, first, along, width))
        for extent, first, along, width in zip(
            extents, stencils.firsts, stencils.weights(xp), box_of(image), strict=True
        )
    ]
    split = _split(extents)
    left, right = _products(xp, weights[:split]), _products(xp, weights[split:])
    channels, voxels = values.shape[0], values.shape[1] // items
    left = xp.reshape(left, (1, items, voxels, -1)) * xp.reshape(values, (channels, items, voxels, 1))
    right = xp.reshape(right, (1, items, voxels, -1))
    gradient = xp.matmul(xp.permute_dims(left, (0, 1, 3, 2)), right)
    return xp.reshape(gradient, (channels, items, *extents))


def _split(extents: Sequence[int]) -> int:
    """Return the axis before which to split, so that the products of the extents before and after it are small."""
    return min(range(1, len(extents)), key=lambda k: math.prod(extents[:k]) + math.prod(extents[k:]))


def _coefficient_weights(xp: ArrayNamespace, first: Array, weights: Array, width: int) -> Array:
    """Expand the weights of the reached coefficients along an axis to all coefficients, (voxels, width)."""
    tap_of_coefficient = xp.asarray(np.arange(width), dtype=first.dtype) - first[:, None]
    of_taps = [xp.where(tap_of_coefficient == tap, weights[tap, ...][:, None], 0.0) for tap in range(weights.shape[0])]
    return sum(of_taps[1:], start=of_taps[0])


def _products(xp: ArrayNamespace, weights: Sequence[Array]) -> Array:
    """Multiply the weights of several axes, (voxels, product of the extents)."""
    product = weights[0]
    for weight in weights[1:]:
        product = xp.reshape(product[:, :, None] * weight[:, None, :], (product.shape[0], -1))
    return product
