"""The control grid along one axis as a matrix, from displacements of control points to derivatives at positions."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ._autodiff import calls
from ._autodiff.framework import FrameworkOps
from ._bridges import eager
from ._spec import EvaluationSpec
from ._types import Array, NumpyArray

_QUADRATURE = 4  # Gauss points per cell: exact for products of two cubic polynomials


@lru_cache(maxsize=64)
def derivatives_at_voxels(extent: int, count: int, start: int, stop: int, order: int) -> NumpyArray:
    """Return the matrix (voxels, control points) of one axis, for the voxels from `start` to `stop`."""
    return basis(extent, count, np.arange(start, stop, dtype=np.float64), order)


@lru_cache(maxsize=64)
def mean_products(extent: int, count: int, order: int) -> NumpyArray:
    """Return the matrix of exact means of products of derivatives along one axis, for all control points."""
    if extent == 1:
        positions, weights = np.zeros(1), np.ones(1)
    else:
        places, weights = np.polynomial.legendre.leggauss(_QUADRATURE)
        cells = max(count - 1, 1)
        on_grid = np.arange(cells)[:, None] + (places + 1) / 2
        positions = (on_grid * ((extent - 1) / cells)).ravel()
        weights = np.tile(weights / (2 * cells), cells)
    at = basis(extent, count, positions, order)
    products: NumpyArray = at.T @ (weights[:, None] * at)
    return products


def basis(extent: int, count: int, positions: NumpyArray, order: int = 0) -> NumpyArray:
    """Evaluate the splines that are 1 at one control point and 0 at the others, (positions, control points)."""
    # One batch item for each control point.
    spec = EvaluationSpec((count,), (extent,), (count,), len(positions))
    units = np.eye(count)[:, None]
    values = calls.evaluate(eager, spec, order, units, np.broadcast_to(positions[:, None], (count, len(positions), 1)))
    matrix: NumpyArray = np.ascontiguousarray(values.reshape(count, -1).T)
    return matrix


def along_axis(ops: FrameworkOps, array: Array, axis: int, matrix: NumpyArray) -> Array:
    """Multiply by a matrix along an axis."""
    shape = tuple(int(extent) for extent in array.shape)
    last = len(shape) - 1
    swapped = list(range(len(shape)))
    swapped[axis], swapped[last] = last, axis
    rows, columns = matrix.shape
    lead = [shape[k] for k in swapped[:-1]]
    moved = array if axis == last else ops.reordered(array, tuple(swapped))
    flat = ops.product(ops.reshaped(moved, (-1, columns)), ops.constant(np.ascontiguousarray(matrix.T), array))
    result = ops.reshaped(flat, (*lead, rows))
    return result if axis == last else ops.reordered(result, tuple(swapped))
