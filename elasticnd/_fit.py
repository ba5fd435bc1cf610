"""Least-squares fits of control grids to displacements: of all voxels, or of scattered samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

from ._errors import counted, reject_value
from ._spec import Shape
from ._splines import basis, mean_products
from ._types import NumpyArray

_ROWS = 4096  # of a design matrix that are in memory at a time, or as many as its columns if there are more


class Fit(NamedTuple):
    """Displacements of control points, and the residual."""

    displacement: NumpyArray  # (B..., n, p_0, ...)
    rms: NumpyArray  # root mean square length of the residual vectors, per batch item


def check_field(field: NumpyArray, shape: Shape) -> None:
    """Check the displacements of all voxels."""
    n = len(shape)
    if field.ndim <= n or field.shape[-n - 1 :] != (n, *shape):
        reject_value("samples", f"shape {field.shape}", f"(..., {', '.join(map(str, (n, *shape)))}), or a tuple of two")
    _check_values(field)


def check_samples(positions: NumpyArray, displacements: NumpyArray, n: int) -> None:
    """Check positions and their displacements."""
    if positions.ndim != 2 or positions.shape[1] != n or not len(positions):
        reject_value("samples[0]", f"shape {positions.shape}", f"(m, {n}): positions in the frame")
    if displacements.shape[-2:] != positions.shape:
        reject_value(
            "samples[1]", f"shape {displacements.shape}", f"(..., {len(positions)}, {n}), to match the positions"
        )
    _check_values(positions)
    _check_values(displacements)


def _check_values(samples: NumpyArray) -> None:
    if not np.isfinite(samples).all():
        reject_value("samples", "NaN or infinite values", "finite values")


def fit_field(field: NumpyArray, grid_shape: Shape, smooth: float) -> Fit:
    """Fit a field of all voxels, (B..., n, N_0, ...)."""
    n = len(grid_shape)
    shape = field.shape[-n:]
    if not smooth:
        _check_counts(grid_shape, shape)
    bases = [basis(extent, count, np.arange(extent)) for count, extent in zip(grid_shape, shape, strict=True)]
    if smooth:
        gram = _kronecker([matrix.T @ matrix for matrix in bases]) / math.prod(shape)
        right = _along_axes([matrix.T for matrix in bases], field) / math.prod(shape)
        flat = _flat(right, n)
        control = _solve(gram + smooth * bending_matrix(grid_shape, shape), flat).T.reshape(right.shape)
    else:
        control = _along_axes([np.linalg.pinv(matrix) for matrix in bases], field)
    left = _along_axes(bases, control) - field
    return Fit(control, _rms(left.reshape(*left.shape[:-n], -1).swapaxes(-1, -2)))


def fit_samples(
    positions: NumpyArray, displacements: NumpyArray, grid_shape: Shape, shape: Shape, smooth: float
) -> Fit:
    """Fit samples, (m, n) and (B..., m, n), at positions of a frame."""
    *batch, count, n = displacements.shape
    right = np.moveaxis(displacements, -2, 0).reshape(count, -1)
    triangle, reduced = _triangular(_design(positions, grid_shape, shape), right)
    if smooth:
        gram = triangle.T @ triangle / count + smooth * bending_matrix(grid_shape, shape)
        flat = _solve(gram, triangle.T @ reduced / count)
    else:
        flat, _, rank, _ = np.linalg.lstsq(triangle, reduced, rcond=None)
        if rank < math.prod(grid_shape):
            determining = counted(count, "position that determines", "positions that determine")
            reject_value(
                "samples",
                f"{determining} {rank} of {math.prod(grid_shape)} control points",
                "positions near each control point, fewer points, or smooth > 0",
            )
    left = np.concatenate([rows @ flat for rows in _design(positions, grid_shape, shape)]) - right
    control = np.moveaxis(flat.reshape(*grid_shape, *batch, n), range(len(grid_shape)), range(-len(grid_shape), 0))
    residuals = np.moveaxis(left.reshape(count, *batch, n), 0, -2)
    return Fit(np.ascontiguousarray(control), _rms(residuals))


def bending_matrix(grid_shape: Shape, shape: Shape) -> NumpyArray:
    """Compute the quadratic form of the bending energy of one component: its mean squared second derivatives."""
    grams = [
        [mean_products(extent, count, order) for order in range(3)]
        for count, extent in zip(grid_shape, shape, strict=True)
    ]
    total = np.zeros((math.prod(grid_shape),) * 2)
    for j, k in combinations_with_replacement(range(len(shape)), 2):
        orders = [(axis == j) + (axis == k) for axis in range(len(shape))]
        total += (1 if j == k else 2) * _kronecker([own[order] for own, order in zip(grams, orders, strict=True)])
    return total


def _kronecker(matrices: Sequence[NumpyArray]) -> NumpyArray:
    product: NumpyArray = np.ones((1, 1))
    for matrix in matrices:
        product = np.kron(product, matrix)
    return product


def _along_axes(matrices: Sequence[NumpyArray], values: NumpyArray) -> NumpyArray:
    """Multiply each of the last axes of an array by its matrix."""
    for axis, matrix in enumerate(matrices, start=-len(matrices)):
        values = np.moveaxis(np.tensordot(values, matrix, axes=(axis, 1)), -1, axis)
    return np.ascontiguousarray(values)


def _flat(values: NumpyArray, n: int) -> NumpyArray:
    """Reshape (..., p_0, ...) to columns."""
    return values.reshape(-1, math.prod(values.shape[-n:])).T


def _design(positions: NumpyArray, grid_shape: Shape, shape: Shape) -> Iterator[NumpyArray]:
    """Yield the rows of the matrix from control values to values at positions, a few at a time."""
    at_a_time = max(_ROWS, math.prod(grid_shape))
    for first in range(0, len(positions), at_a_time):
        some = positions[first : first + at_a_time]
        rows = np.ones((len(some), 1))
        for axis, (count, extent) in enumerate(zip(grid_shape, shape, strict=True)):
            own = basis(extent, count, some[:, axis])
            rows = (rows[:, :, np.newaxis] * own[:, np.newaxis, :]).reshape(len(some), -1)
        yield rows


def _triangular(design: Iterator[NumpyArray], right: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    """Reduce a least-squares problem to as many rows as unknowns, processing a few rows at a time."""
    triangle, reduced = np.empty((0, 0)), right[:0]
    for rows in design:
        own, right = right[: len(rows)], right[len(rows) :]
        triangle = triangle.reshape(-1, rows.shape[1])
        orthogonal, triangle = np.linalg.qr(np.concatenate([triangle, rows]))
        reduced = orthogonal.T @ np.concatenate([reduced, own])
    return triangle, reduced


def _solve(matrix: NumpyArray, right: NumpyArray) -> NumpyArray:
    return np.linalg.lstsq(matrix, right, rcond=None)[0]


def _rms(residuals: NumpyArray) -> NumpyArray:
    """Return the root mean square of the lengths of vectors, (B..., m, n)."""
    return np.asarray(np.sqrt(np.mean(np.sum(residuals**2, axis=-1), axis=-1)))


def _check_counts(grid_shape: Shape, shape: Shape) -> None:
    for axis, (count, extent) in enumerate(zip(grid_shape, shape, strict=True)):
        if count > extent:
            voxels = counted(extent, "voxel", "voxels")
            reject_value("points", f"{count} along axis {axis} of {voxels}", "at most as many as voxels, or smooth > 0")
