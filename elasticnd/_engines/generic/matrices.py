"""Inverses and determinants of small matrices, which the standard has only in an optional extension."""

from __future__ import annotations

import numpy as np

from ..._types import ArrayNamespace
from .axes import Array

MOST_ROWS = 3  # of matrices whose determinant is computed by a formula


def inverse(xp: ArrayNamespace, matrices: Array) -> Array:
    """Invert matrices, (..., n, n). The extension rejects singular ones; otherwise, they give non-finite numbers."""
    return xp.linalg.inv(matrices) if hasattr(xp, "linalg") else eliminated(xp, matrices)


def eliminated(xp: ArrayNamespace, matrices: Array) -> Array:
    """Turn [M | 1] into [1 | M^-1], column by column."""
    n = matrices.shape[-1]
    unit = xp.zeros(matrices.shape, dtype=matrices.dtype) + xp.asarray(np.eye(n), dtype=matrices.dtype)
    rows = xp.concat([matrices, unit], axis=-1)
    numbers = xp.asarray(np.arange(n))
    for k in range(n):
        # The pivot is the largest remaining number in the column; its row is swapped with row k.
        pivot = xp.argmax(xp.abs(rows[..., k:, k]), axis=-1, keepdims=True) + k
        is_pivot = (numbers == pivot)[..., None]
        pivot_row = xp.sum(xp.where(is_pivot, rows, 0.0), axis=-2, keepdims=True)
        rows = xp.where(is_pivot, rows[..., k : k + 1, :], rows)
        pivot_row = pivot_row / pivot_row[..., k : k + 1]
        rows = xp.where((numbers == k)[:, None], pivot_row, rows - rows[..., k : k + 1] * pivot_row)
    return rows[..., n:]


def determinant(xp: ArrayNamespace, matrices: Array) -> Array:
    """Compute the determinants of matrices, (..., n, n)."""
    return by_formula(entries_of(matrices)) if matrices.shape[-1] <= MOST_ROWS else xp.linalg.det(matrices)


def entries_of(matrices: Array) -> list[list[Array]]:
    """Return the entries of matrices, (..., n, n), as rows of arrays."""
    n = matrices.shape[-1]
    return [[matrices[..., i, j] for j in range(n)] for i in range(n)]


def by_formula(entry: list[list[Array]]) -> Array:
    """Compute the determinants of matrices of one to three rows from their entries."""
    n = len(entry)
    if n == 1:
        return entry[0][0]

    def minor(rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        (i, k), (j, l) = rows, columns
        return entry[i][j] * entry[k][l] - entry[i][l] * entry[k][j]

    if n == 2:
        return minor((0, 1), (0, 1))
    return (
        entry[0][0] * minor((1, 2), (1, 2)) - entry[0][1] * minor((1, 2), (0, 2)) + entry[0][2] * minor((1, 2), (0, 1))
    )
