"""The bending energy of a displacement, computed exactly from its control points."""

from __future__ import annotations

from ._autodiff.framework import FrameworkOps
from ._spec import Shape
from ._splines import along_axis, mean_products
from ._types import Array


def bending_energy(ops: FrameworkOps, displacement: Array, extent: Shape) -> Array:
    """Compute the mean over the frame of the squared second derivatives, for each batch item."""
    n = len(extent)
    rank = len(displacement.shape)
    grid_shape = tuple(int(count) for count in displacement.shape[rank - n :])
    total = None
    for i in range(n):
        for j in range(i, n):
            orders = [(k == i) + (k == j) for k in range(n)]
            product = displacement
            for k, order in enumerate(orders):
                matrix = mean_products(extent[k], grid_shape[k], order)
                product = along_axis(ops, product, rank - n + k, matrix)
            energy = ops.summed(displacement * product, tuple(range(rank - n - 1, rank)))
            energy = energy if i == j else 2 * energy  # a mixed derivative counts in both orders
            total = energy if total is None else total + energy
    return total
