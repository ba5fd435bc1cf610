"""Jacobians of all voxels: by products with a matrix along each axis, which are quicker than positions one by one."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from ._autodiff.framework import FrameworkOps
from ._engines.generic.matrices import MOST_ROWS, by_formula
from ._spec import Shape, Window
from ._splines import along_axis, derivatives_at_voxels
from ._types import Array, NumpyArray

_MOST_POINTS = 64  # along an axis: of more, most of a matrix is zero
_VOXELS_TOGETHER = 16384  # of NumPy arrays: what comes in between stays in the cache


def can_multiply(displacement: Array, extent: Shape, grid_shape: Shape) -> bool:
    """Return whether products with matrices are the way for a grid.

    Not for tensors of PyTorch, whose compiler would trace how the matrices are made.
    """
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(displacement, getattr(torch, "Tensor", ()))
    return not is_tensor and len(extent) <= MOST_ROWS and max(grid_shape) <= _MOST_POINTS


def determinants(ops: FrameworkOps, displacement: Array, extent: Shape, window: Window, linear: Array | None) -> Array:
    """Compute the determinants of the Jacobian, (B..., M_0, ...); `linear` is of the affine map, if there is one."""
    grid_shape = tuple(int(count) for count in displacement.shape[-len(extent) :])
    matrices = [
        [derivatives_at_voxels(size, count, start, start + length, order) for order in range(2)]
        for size, count, start, length in zip(extent, grid_shape, window.start, window.shape, strict=True)
    ]
    if not isinstance(displacement, np.ndarray):
        return _determinants(ops, displacement, matrices, linear)
    batch = displacement.shape[: -len(extent) - 1]
    result = np.empty((*batch, *window.shape))
    together = max(1, _VOXELS_TOGETHER // max(1, math.prod(batch) * math.prod(window.shape[1:])))
    for first in range(0, window.shape[0], together):
        rows = slice(first, first + together)
        some = [[matrix[rows] for matrix in matrices[0]], *matrices[1:]]
        result[(*(slice(None),) * len(batch), rows)] = _determinants(ops, displacement, some, linear)
    return result


def _determinants(
    ops: FrameworkOps, displacement: Array, matrices: Sequence[Sequence[NumpyArray]], linear: Array | None
) -> Array:
    n = len(matrices)
    lead = len(displacement.shape) - n
    value = displacement
    slopes: list[Array] = []
    for k, (values_at, slopes_at) in enumerate(matrices):
        slopes = [along_axis(ops, slope, lead + k, values_at) for slope in slopes]
        slopes.append(along_axis(ops, value, lead + k, slopes_at))
        value = along_axis(ops, value, lead + k, values_at) if k < n - 1 else value
    voxels = (slice(None),) * n
    entries = [[slopes[j][(..., i, *voxels)] for j in range(n)] for i in range(n)]
    for i in range(n):
        for j in range(n):
            if linear is not None:
                own = linear[..., i, j]
                entries[i][j] = entries[i][j] + ops.reshaped(own, (*own.shape, *(1,) * n))
            elif i == j:
                entries[i][j] = entries[i][j] + 1
    return by_formula(entries)
