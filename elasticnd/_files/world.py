"""The map of a frame that has a place in the world, and ITK's world.

`to_world` takes voxels to RAS, in mm, like nibabel's ``affine``. ITK's world is LPS: the first two components have the
opposite sign, except for images of two axes, which have no anatomy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._errors import reject_value
from .._spec import Shape
from .._types import Floats

_ORTHOGONAL = 1e-6  # accepts axes that went through float32
_NO_MAP = 1e-10  # voxels: the error of an identity that went through world coordinates


class FrameMap(NamedTuple):
    """The map of a deformation, x(f) = L f + t + d(f), in voxels of a frame that has a place in the world."""

    displacement: Floats  # of the control points, (n, p_0, ...)
    inverse_map: Floats  # [L | t], (n, n + 1)
    shape: Shape
    to_world: Floats  # (n + 1, n + 1)

    @property
    def linear(self) -> Floats:
        """L."""
        return self.inverse_map[:, :-1]

    @property
    def affine(self) -> Floats | None:
        """The forward affine map, (n, n + 1); None if it is the identity up to rounding."""
        n = len(self.shape)
        if np.all(np.abs(self.inverse_map - np.eye(n, n + 1)) * np.append(self.shape, 1) <= _NO_MAP):
            return None
        forward = np.linalg.inv(self.linear)
        return np.concatenate([forward, -forward @ self.inverse_map[:, -1:]], axis=1)

    @property
    def translation(self) -> Floats:
        """The vector t, to which T⁻¹ maps the origin."""
        return self.inverse_map[:, -1]


class ItkGrid(NamedTuple):
    """The voxels in ITK's description."""

    origin: Floats
    spacing: Floats
    axes: Floats  # unit vectors along the array's axes, in columns: ITK's direction

    @property
    def step(self) -> Floats:
        """The vectors from a voxel to its neighbours, in columns."""
        return np.asarray(self.axes * self.spacing)

    def world(self, positions: Floats) -> Floats:
        """Convert positions in voxels, (..., n)."""
        return positions @ self.step.T + self.origin

    def voxels(self, points: Floats) -> Floats:
        """Convert points of ITK's world, (..., n)."""
        return (points - self.origin) @ np.linalg.inv(self.step).T


def lps(n: int) -> Floats:
    """Return the matrix that takes RAS to LPS, and LPS to RAS."""
    return np.diag([-1.0, -1.0, 1.0]) if n == 3 else np.eye(n)


def itk_grid(to_world: Floats) -> ItkGrid:
    """Return ITK's description of the voxels, which cannot have shear."""
    n = len(to_world) - 1
    matrix = lps(n) @ to_world[:n]
    spacing = np.linalg.norm(matrix[:, :n], axis=0)
    axes = matrix[:, :n] / spacing
    if np.any(np.abs(axes.T @ axes - np.eye(n)) > _ORTHOGONAL):
        reject_value("to_world", to_world.tolist(), "a matrix without shear: the voxels of ITK have orthogonal axes")
    return ItkGrid(matrix[:, n], spacing, axes)
