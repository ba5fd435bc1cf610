"""Rotation, zoom and affine matrices: their meaning, their composition, and the derivative of the inverse.

All matrices act on patch indices. `[M | t]` of shape (n, n + 1) stands for ``o -> M o + t``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import describe, reject_type, reject_value

Floats = NDArray[np.float64]

_ORTHONORMAL = 1e-6  # a rotation matrix that went through float32 still passes


def _as_number(argument: str, value: Any, accepted: str) -> float:
    if isinstance(value, (bool, np.bool_, str, bytes)):
        reject_type(argument, value, accepted)
    try:
        number = float(value)
    except (TypeError, ValueError):
        reject_type(argument, value, accepted)
    if not np.isfinite(number):
        reject_value(argument, number, accepted)
    return number


def _plane_rotation(n: int, plane: tuple[int, int], degrees: float) -> Floats:
    k, l = plane
    angle = np.deg2rad(degrees)
    matrix = np.eye(n)
    matrix[k, k] = matrix[l, l] = np.cos(angle)
    matrix[k, l] = -np.sin(angle)
    matrix[l, k] = np.sin(angle)
    return matrix


def _checked_plane(plane: Any, n: int) -> tuple[int, int]:
    accepted = f"two different deformed axes, from 0 to {n - 1}"
    whole = (int, np.integer)
    if not (isinstance(plane, tuple) and len(plane) == 2 and all(isinstance(k, whole) for k in plane)):
        reject_type("rotate", plane, accepted + " as the key of a plane")
    k, l = (int(k) + n if k < 0 else int(k) for k in plane)
    if k == l or not (0 <= k < n and 0 <= l < n):
        reject_value("rotate", plane, accepted + " as the key of a plane")
    return k, l


def rotation_matrix(rotate: Any, n: int) -> Floats:
    """Build the rotation that the argument `rotate` of the public functions stands for, (n, n)."""
    if isinstance(rotate, Mapping):
        matrix = np.eye(n)
        for plane, degrees in rotate.items():
            angle = _as_number(f"rotate[{plane!r}]", degrees, "a finite number of degrees")
            matrix = _plane_rotation(n, _checked_plane(plane, n), angle) @ matrix
        return matrix
    if hasattr(rotate, "as_matrix"):
        rotate = rotate.as_matrix()
    if np.ndim(rotate) == 0:
        degrees = _as_number("rotate", rotate, "degrees, a mapping {(k, l): degrees}, a rotation matrix or a Rotation")
        if n != 2:
            reject_value(
                "rotate",
                f"one angle for {n} deformed axes",
                "a mapping {(k, l): degrees} of planes or a rotation matrix, but for two axes",
            )
        return _plane_rotation(2, (0, 1), degrees)
    accepted = f"an orthonormal matrix of shape {(n, n)} with determinant 1"
    try:
        matrix = np.asarray(rotate, dtype=np.float64)
    except (TypeError, ValueError):
        reject_type("rotate", rotate, accepted)
    if matrix.shape != (n, n):
        reject_value("rotate", f"shape {matrix.shape}", accepted)
    orthonormal = bool(np.all(np.abs(matrix @ matrix.T - np.eye(n)) < _ORTHONORMAL))
    if not orthonormal or np.linalg.det(matrix) < 0:
        reject_value("rotate", matrix.tolist(), accepted)
    return matrix


def zoom_factors(zoom: Any, n: int) -> Floats:
    """Build the factor of each axis that the argument `zoom` of the public functions stands for."""
    accepted = f"a finite number other than 0, or {n} of them"
    sequence = isinstance(zoom, (Sequence, np.ndarray)) and not isinstance(zoom, (str, bytes)) and np.ndim(zoom) > 0
    factors = [_as_number("zoom", factor, accepted) for factor in (zoom if sequence else itertools.repeat(zoom, n))]
    if len(factors) != n or 0 in factors:
        reject_value("zoom", factors, accepted)
    return np.array(factors)


def inverse_rotation_and_zoom(rotate: Any, zoom: Any, output: Sequence[int]) -> Floats | None:
    """Invert "zoom, then rotate, about the centre of the patch", as [M | t]; None without either."""
    if rotate is None and zoom is None:
        return None
    n = len(output)
    inverse = np.eye(n) if rotate is None else rotation_matrix(rotate, n).T
    if zoom is not None:
        inverse = inverse / zoom_factors(zoom, n)[:, np.newaxis]
    centre = np.array(output, dtype=np.float64) / 2 - 0.5
    return np.concatenate([inverse, (centre - inverse @ centre)[:, np.newaxis]], axis=1)


def checked_affine(affine: Any, n: int) -> Floats:
    """Check the values of an affine matrix of known shape; give (..., n, n + 1) in float64."""
    matrix = np.asarray(affine, dtype=np.float64)
    if not np.all(np.isfinite(matrix)):
        reject_value("affine", f"{describe(affine)} with NaN or infinite values", "finite values")
    if matrix.shape[-2] == n + 1:
        last = np.eye(n + 1)[n]
        if not np.allclose(matrix[..., n, :], last):
            reject_value("affine", f"the last row {matrix[..., n, :].tolist()}", f"{last.tolist()} as the last row")
        matrix = matrix[..., :n, :]
    return matrix


def inverted(matrix: Floats) -> Floats:
    """Invert (..., n, n + 1)."""
    try:
        inverse = np.linalg.inv(matrix[..., :-1])
    except np.linalg.LinAlgError:
        inverse = np.full_like(matrix[..., :-1], np.inf)
    if not np.all(np.isfinite(inverse)):
        reject_value("affine", "a singular matrix", "a matrix that can be inverted")
    return np.concatenate([inverse, -inverse @ matrix[..., -1:]], axis=-1)


def composed(first: Floats, then: Floats) -> Floats:
    """Compose two maps of shape (..., n, n + 1): `first`, then `then`."""
    linear = then[..., :-1]
    moved = linear @ first
    moved[..., -1] += then[..., -1]
    return moved


def inverse_gradient(matrix: Floats, after: Floats | None, gradient: Floats) -> Floats:
    """Differentiate ``composed(inverted(matrix), after)``: from its gradient to that of `matrix`."""
    if after is not None:
        gradient = after[:, :-1].T @ gradient
    inverse = np.linalg.inv(matrix[..., :-1])
    transposed = np.swapaxes(inverse, -1, -2)
    # inverted(matrix) = [B | -B t] with B the inverse: first through the offset, then through B itself.
    offset = gradient[..., -1:]
    of_inverse = gradient[..., :-1] - offset @ np.swapaxes(matrix[..., -1:], -1, -2)
    return np.concatenate([-transposed @ of_inverse @ transposed, -transposed @ offset], axis=-1)
