"""Apply one deformation to all levels of an image, which are the same image at several resolutions.

Voxel o of a level lies on voxel factor * o + offset of the first level, along every deformed axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import _api
from ..deformation import Deformation

Floats = NDArray[np.float64]

_DENSER = 8
_MOST_NUMBERS = 2**22  # in a control grid


def on_level(deformation: Deformation, shape: Sequence[int], factor: Floats, offset: Floats) -> Deformation:
    """Convert the deformation of the first level to the voxels of another level with this shape."""
    displacement = _displacement_on_level(deformation.displacement, deformation.shape, shape, factor, offset)
    return Deformation(displacement, shape, affine=_affine_on_level(deformation.affine, factor, offset))


def _displacement_on_level(
    displacement: Floats, first: Sequence[int], level: Sequence[int], factor: Floats, offset: Floats
) -> Floats:
    """Return the control grid of a level, in its voxels; `first` and `level` are the extents of the two levels.

    It has a point for each voxel, which is exact, or enough points that a spline through them has a small error. It
    cannot have as few points as the first grid, since the grids of the levels end at different places.
    """
    denser = _DENSER
    while denser > 1 and displacement.size * denser ** len(first) > _MOST_NUMBERS:
        denser -= 1
    grid = displacement
    for k, points in enumerate(displacement.shape[1:]):
        if points > 1 and first[k] > 1:
            per_voxel = (points - 1) / (first[k] - 1)
            count = min(level[k], denser * points)
            step = factor[k] * per_voxel * (level[k] - 1) / (count - 1) if count > 1 else 1.0
            grid = _sampled(grid, k + 1, step, offset[k] * per_voxel, count)
    return grid / np.reshape(factor, (-1, *(1 for _ in first)))


def _sampled(grid: Floats, axis: int, step: float, start: float, count: int) -> Floats:
    """Evaluate the spline of a control grid, mirrored at its ends, along an axis: at `count` places, `step` apart."""
    points = grid.shape[axis]
    parts = []
    for first in range(0, count, points):
        affine = [[1 / step, -(start / step + first)]]  # from places on the grid to sample numbers
        parts.append(_api.deform_grid(grid, np.zeros((1, 1)), mode="mirror", axis=axis, affine=affine))
    return np.take(np.concatenate(parts, axis=axis), range(count), axis=axis)


def _affine_on_level(affine: Floats | None, factor: Floats, offset: Floats) -> Floats | None:
    """Convert the forward affine map of the first level to voxels of another."""
    if affine is None:
        return None
    to_first = _homogeneous(np.diag(factor), offset)
    return np.asarray(np.linalg.inv(to_first) @ _homogeneous(affine[:, :-1], affine[:, -1]) @ to_first)


def _homogeneous(linear: Floats, translation: Floats) -> Floats:
    matrix = np.eye(len(translation) + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = translation
    return matrix
