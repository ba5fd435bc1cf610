"""Rotation, zoom and affine matrices, and how they compose.

All matrices act on patch indices. `[M | t]` of shape (n, n + 1) stands for ``o -> M o + t``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ._coerce import as_number, as_numbers, check_constant, is_sequence
from ._errors import counted, describe, or_several, reject_type, reject_value, warn
from ._types import NumpyArray

Floats = NDArray[np.float64]

_ORTHONORMAL = 1e-6  # accepts rotation matrices that were stored as float32
_SMALLEST_ZOOM = 1e-300  # its inverse is still finite
_LIKE_RADIANS = 1e-6  # relative: angles may have been stored as float32


def _cosine_and_sine(degrees: float) -> tuple[float, float]:
    """Compute both, exactly at multiples of 90 degrees, where a rounding error would move voxels out of the image."""
    rest = math.remainder(degrees, 360)
    quarters = round(rest / 90)
    angle = math.radians(rest - 90 * quarters)
    cosine, sine = math.cos(angle), math.sin(angle)
    return ((cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine))[quarters % 4]


def _plane_rotation(n: int, plane: tuple[int, int], degrees: float) -> Floats:
    k, l = plane
    cosine, sine = _cosine_and_sine(degrees)
    matrix = np.eye(n)
    matrix[k, k] = matrix[l, l] = cosine
    matrix[k, l] = -sine
    matrix[l, k] = sine
    return matrix


def _as_degrees(name: str, value: object, accepted: str) -> float:
    """Convert an angle; warn if it looks like radians."""
    degrees = as_number(name, value, accepted)
    twelfths = round(degrees / (math.pi / 12))
    if 0 < abs(twelfths) <= 24 and math.isclose(degrees, twelfths * math.pi / 12, rel_tol=_LIKE_RADIANS):
        divisor = math.gcd(twelfths, 12)
        part = "" if divisor == 12 else f"/{12 // divisor}"
        radians = f"{twelfths // divisor}{part} π radians"
        warn(f"{name}: got {degrees:.6g} degrees, which looks like {radians}; use numpy.degrees")
    return degrees


def checked_plane(plane: object, n: int) -> tuple[int, int]:
    """Check a plane of two deformed axes, and count negative axes from the front."""
    accepted = f"two different deformed axes, from 0 to {n - 1}"
    whole = (int, np.integer)
    if not (isinstance(plane, tuple) and len(plane) == 2 and all(isinstance(k, whole) for k in plane)):
        reject_type("rotate", plane, accepted + " as the key of a plane")
    k, l = (int(k) + n if k < 0 else int(k) for k in plane)
    if k == l or not (0 <= k < n and 0 <= l < n):
        reject_value("rotate", plane, accepted + " as the key of a plane")
    return k, l


def rotation_matrix(rotate: object, n: int) -> Floats:
    """Build the rotation matrix for the public argument `rotate`, (n, n)."""
    if isinstance(rotate, Mapping):
        matrix = np.eye(n)
        for plane, degrees in rotate.items():
            angle = _as_degrees(f"rotate[{plane!r}]", degrees, "a finite number of degrees")
            matrix = _plane_rotation(n, checked_plane(plane, n), angle) @ matrix
        return matrix
    if hasattr(rotate, "as_matrix"):
        rotate = rotate.as_matrix()
    if not is_sequence(rotate):
        accepted = "degrees, a mapping {(k, l): degrees}, a rotation matrix or a Rotation"
        degrees = _as_degrees("rotate", rotate, accepted)
        if n != 2:
            reject_value(
                "rotate",
                f"one angle for {counted(n, 'deformed axis', 'deformed axes')}",
                "a mapping {(k, l): degrees} or a rotation matrix (a single angle needs exactly two deformed axes)",
            )
        return _plane_rotation(2, (0, 1), degrees)
    accepted = f"an orthonormal matrix of shape {(n, n)} with determinant 1"
    for row in rotate:
        for number in row if is_sequence(row) else (row,):
            check_constant("rotate", number)
    try:
        given = np.asarray(rotate)
    except ValueError:
        reject_value("rotate", describe(rotate), accepted)
    if given.dtype.kind not in "iuf" or isinstance(rotate, np.ma.MaskedArray):
        reject_type("rotate", rotate, accepted)
    if given.shape != (n, n):
        reject_value("rotate", f"shape {given.shape}", accepted)
    matrix = given.astype(np.float64)
    finite = bool(np.all(np.isfinite(matrix)))
    if not finite or np.any(np.abs(matrix @ matrix.T - np.eye(n)) > _ORTHONORMAL) or np.linalg.det(matrix) < 0:
        reject_value("rotate", given.tolist(), accepted)
    return matrix


def zoom_factors(zoom: object, n: int) -> Floats:
    """Build the zoom factor of each axis for the public argument `zoom`."""
    accepted = or_several("a finite number other than 0", n)
    factors = np.array(as_numbers("zoom", zoom, n, accepted))
    if np.any(np.abs(factors) < _SMALLEST_ZOOM):
        reject_value("zoom", describe(zoom), accepted)
    return factors


def inverse_rotation_zoom(rotate: object, zoom: object, output: Sequence[int]) -> Floats | None:
    """Invert "zoom, then rotate, about the centre of the patch", as [M | t]; None without either."""
    if rotate is None and zoom is None:
        return None
    n = len(output)
    inverse = np.eye(n) if rotate is None else rotation_matrix(rotate, n).T
    if zoom is not None:
        inverse = inverse / zoom_factors(zoom, n)[:, np.newaxis]
    centre = np.array(output, dtype=np.float64) / 2 - 0.5
    return np.concatenate([inverse, (centre - inverse @ centre)[:, np.newaxis]], axis=1)


def check_affine_values(affine: NumpyArray, n: int) -> None:
    """Check the values of an affine matrix of known shape."""
    matrix = np.asarray(affine, dtype=np.float64)
    if not np.all(np.isfinite(matrix)):
        reject_value("affine", f"{describe(affine)} with NaN or infinite values", "finite values")
    if matrix.shape[-2] == n + 1:
        last = np.eye(n + 1)[n]
        if not np.allclose(matrix[..., n, :], last):
            reject_value("affine", f"the last row {matrix[..., n, :].tolist()}", f"{last.tolist()} as the last row")
        matrix = matrix[..., :n, :]
    _check_invertible(matrix)


def _check_invertible(matrix: Floats) -> None:
    """Raise an error for singular matrices, before anything is computed."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            linear = np.linalg.inv(matrix[..., :-1])
            invertible = bool(np.all(np.isfinite(linear)) and np.all(np.isfinite(linear @ matrix[..., -1:])))
        except np.linalg.LinAlgError:
            invertible = False
    if not invertible:
        reject_value("affine", "a singular matrix", "an invertible matrix")


def rotation_zoom(rotate: object, zoom: object, frame: Sequence[int]) -> Floats | None:
    """Compose "zoom, then rotate, about the centre of the frame", as [M | t]; None without either."""
    if rotate is None and zoom is None:
        return None
    n = len(frame)
    forward = np.eye(n) if rotate is None else rotation_matrix(rotate, n)
    if zoom is not None:
        forward = forward * zoom_factors(zoom, n)
    centre = np.array(frame, dtype=np.float64) / 2 - 0.5
    return np.concatenate([forward, (centre - forward @ centre)[:, np.newaxis]], axis=1)


def world_matrix(to_world: object, n: int, argument: str = "to_world") -> Floats:
    """Check an index-to-world matrix, (n + 1, n + 1)."""
    accepted = f"an invertible matrix of finite real numbers, shape {(n + 1, n + 1)}, with the last row (0, ..., 0, 1)"
    try:
        matrix = np.asarray(to_world)
    except (TypeError, RuntimeError):  # no values, or gradients are recorded
        reject_type(argument, to_world, accepted)
    except ValueError:
        reject_value(argument, describe(to_world), accepted)
    if matrix.dtype.kind not in "iuf":
        reject_type(argument, to_world, accepted)
    if matrix.shape != (n + 1, n + 1):
        reject_value(argument, f"shape {matrix.shape}", accepted)
    values = matrix.astype(np.float64)
    if not np.all(np.isfinite(values)) or not np.array_equal(values[n], np.eye(n + 1)[n]) or np.linalg.det(values) == 0:
        reject_value(argument, matrix.tolist(), accepted)
    return values
