"""Determinants of the Jacobian at all voxels: by the core for NumPy arrays, by matrix products for others."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import numpy as np

from . import _core
from ._autodiff.framework import FrameworkOps
from ._config import settle_threads
from ._engines.generic.matrices import MOST_ROWS, by_formula
from ._job import make_job
from ._spec import Shape, Window
from ._splines import along_axis, derivatives_at_voxels
from ._types import Array, NumpyArray

_MOST_POINTS = 64  # along an axis: with more, most elements of a matrix would be zero


def are_together(displacement: Array, extent: Shape, grid_shape: Shape) -> bool:
    """Return whether all voxels are computed together, which is faster than evaluating single positions.

    PyTorch tensors are not, since PyTorch's compiler would trace how the matrices are made.
    """
    if len(extent) > MOST_ROWS:
        return False
    torch = sys.modules.get("torch")
    is_tensor = torch is not None and isinstance(displacement, getattr(torch, "Tensor", ()))
    return isinstance(displacement, np.ndarray) or (not is_tensor and max(grid_shape) <= _MOST_POINTS)


def determinants(ops: FrameworkOps, displacement: Array, extent: Shape, window: Window, linear: Array | None) -> Array:
    """Compute the determinants of the Jacobian, (B..., M_0, ...).

    `linear` is the linear part of the inverse affine map, or None. NumPy arrays are float64.
    """
    if isinstance(displacement, np.ndarray):
        return _by_core(displacement, extent, window, linear)
    grid_shape = tuple(int(count) for count in displacement.shape[-len(extent) :])
    matrices = [
        [derivatives_at_voxels(size, count, start, start + length, order) for order in range(2)]
        for size, count, start, length in zip(extent, grid_shape, window.start, window.shape, strict=True)
    ]
    return _by_matrices(ops, displacement, matrices, linear)


def _by_core(displacement: NumpyArray, extent: Shape, window: Window, linear: NumpyArray | None) -> NumpyArray:
    n = len(extent)
    batch, grid_shape = displacement.shape[: -n - 1], displacement.shape[-n:]
    result_shape = (*batch, *window.shape)
    if 0 in result_shape:
        return np.empty(result_shape)
    job = make_job(image=extent, grid_shape=grid_shape, start=window.start, output=window.shape)
    points = displacement.reshape(math.prod(batch), n, *grid_shape)
    if linear is not None and linear.ndim > 2:
        linear = np.broadcast_to(linear, (*batch, n, n))
    settle_threads()
    result: NumpyArray = _core.determinants(job, points, linear).reshape(result_shape)
    return result


def _by_matrices(
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
