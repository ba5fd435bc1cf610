"""Random deformations of samples: the parameters from which they are drawn, and the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from .. import _affine, _check
from .._coerce import as_indices, is_sequence
from .._errors import reject_type, reject_value
from .._folds import FoldPolicy
from .._spec import Shape, Window
from .._types import Array, Floats, NumpyArray, Order
from ..deformation import Deformation, by_policy
from .ranges import AxisRanges, Range, Uniform, plane_ranges

_LEAST_ZOOM = 1e-3
_MARGIN = 0.05  # of scaled deformations, as in `Deformation.random`


class Source(NamedTuple):
    """The functions of a host's generator, from which all randomness comes."""

    normal: Callable[[Shape], Floats]  # from the standard normal distribution
    uniform: Uniform


class Drawn(NamedTuple):
    """A deformation of a frame, and the window of it to compute."""

    deformation: Deformation
    window: Window
    is_identity: bool

    def apply(
        self,
        images: Sequence[Array],
        order: Sequence[Order],
        mode: str | Sequence[str],
        cval: Any,
        axis: Sequence[tuple[int, ...]],
    ) -> list[Array]:
        """Deform images in the same way; if the sample is not deformed, only crop them."""
        if not self.is_identity:
            return self.deformation.apply(list(images), order, mode, cval, self.window.slices, axis=axis)
        return [self._cut(image, axes) for image, axes in zip(images, axis, strict=True)]

    def _cut(self, image: Array, axes: tuple[int, ...]) -> Array:
        part = [slice(None)] * image.ndim
        for axis, piece in zip(axes, self.window.slices, strict=True):
            part[axis] = piece
        return image[tuple(part)]

    def record(self) -> dict[str, NumpyArray]:
        """Return a record that replays the deformation: arrays with the same shapes for every sample."""
        deformation = self.deformation
        affine = deformation.affine
        return {
            "displacement": np.array(deformation.displacement),
            "affine": _identity(deformation.ndim) if affine is None else np.array(affine),
            "shape": np.array(deformation.shape),
            "start": np.array(self.window.start),
            "extent": np.array(self.window.shape),
        }

    @classmethod
    def replay(cls, record: Mapping[str, Any]) -> Drawn:
        """Recreate the deformation from a record, whose arrays may also be nested lists or tensors."""
        displacement, affine = (np.array(record[name], np.float64) for name in ("displacement", "affine"))
        shape, start, extent = (tuple(map(int, np.array(record[name]))) for name in ("shape", "start", "extent"))
        return _drawn(displacement, affine, shape, Window(start, extent))


def _drawn(displacement: Floats, affine: Floats, shape: Shape, window: Window) -> Drawn:
    is_linear = np.array_equal(affine, _identity(len(shape)))
    deformation = Deformation(displacement, shape, affine=None if is_linear else affine)
    return Drawn(deformation, window, is_linear and not displacement.any())


def _identity(n: int) -> Floats:
    return np.eye(n, n + 1)


class RandomDeformation:
    """A distribution of random deformations, given by the arguments of a transform, which it checks.

    Parameters
    ----------
    sigma : number, pair of bounds, or one of these for each axis
        Standard deviation of the displacements, in voxels or in the unit of the spacing.
    points : int or sequence of int
        Number of control points along each axis.
    rotate : number, pair of bounds, or mapping of planes to these, optional
        Degrees about the centre of the frame, drawn independently for every plane; a number r stands for (-r, r).
    zoom : number, pair of bounds, or one of these for each axis, optional
        Magnification about the centre of the frame.
    mirror : sequence of int
        The axes to mirror, each with probability 1/2.
    fold : str
        What to do if the mapping folds; see `Deformation.random`.
    size : int or sequence of int, optional
        Extent of the window to compute, along each axis; -1 for the whole axis.
    at_random : bool
        Whether the window is placed at random in the frame. Otherwise, it is in the centre.
    """

    def __init__(
        self,
        sigma: object,
        points: object,
        rotate: object = None,
        zoom: object = None,
        mirror: object = (),
        fold: str = "ignore",
        size: object = None,
        at_random: bool = True,
        size_name: str = "size",
    ) -> None:
        self.sigma = AxisRanges.of(
            "sigma", sigma, 0, "a non-negative number, a pair of bounds, or one of these for each axis"
        )
        self.points = points
        self.rotate = plane_ranges(rotate)
        self.zoom = None
        if zoom is not None:
            self.zoom = AxisRanges.of(
                "zoom", zoom, _LEAST_ZOOM, f"a factor of at least {_LEAST_ZOOM}, a pair, or one of these for each axis"
            )
        self.mirror = as_indices("mirror", mirror, "a sequence of axes to mirror at random")
        self.folds = FoldPolicy.of(fold, _MARGIN)
        self.size, self.size_name = size, size_name
        if not isinstance(at_random, bool):
            reject_type("random_center", at_random, "a bool")
        self.at_random = at_random

    def draw(
        self, shape: Sequence[int], source: Source, *, is_deformed: bool = True, spacing: Sequence[float] | None = None
    ) -> Drawn:
        """Draw a deformation for a frame; if not `is_deformed`, only its window."""
        frame = _check.normalize_frame(shape)
        n = len(frame)
        grid_shape = _check.normalize_points(self.points, n)
        extent = self._extent(frame)
        displacement, affine = np.zeros((n, *grid_shape)), _identity(n)
        if is_deformed:
            unit = np.ones(n) if spacing is None else np.asarray(spacing, np.float64)
            displacement = self._displacement(frame, grid_shape, unit, source)
            affine = self._affine(frame, unit, source)
            displacement = by_policy(displacement, frame, self.folds, affine)
        return _drawn(displacement, affine, frame, Window(self._start(frame, extent, source), extent))

    def _displacement(self, frame: Shape, grid_shape: Shape, unit: Floats, source: Source) -> Floats:
        n = len(frame)
        scale = self.sigma.draw(n, source.uniform) / unit
        scale[np.equal(frame, 1)] = 0  # an axis that the image lacks
        return np.asarray(source.normal((n, *grid_shape)) * scale.reshape(-1, *(1,) * n), np.float64)

    def _affine(self, frame: Shape, unit: Floats, source: Source) -> Floats:
        """Draw zoom, rotation and mirrors, applied in this order about the centre, as [M | t]."""
        n = len(frame)
        linear = np.eye(n)
        if self.rotate is not None:
            planes = self.rotate
            if isinstance(planes, Range):
                planes = dict.fromkeys(combinations(range(n), 2), planes)
            angles = {_affine.checked_plane(plane, n): one.draw(source.uniform) for plane, one in planes.items()}
            solid = {(k, l): angle for (k, l), angle in angles.items() if frame[k] > 1 and frame[l] > 1}
            linear = _affine.rotation_matrix(solid, n) * (unit / unit[:, np.newaxis])
        if self.zoom is not None:
            linear = linear * np.where(np.equal(frame, 1), 1, self.zoom.draw(n, source.uniform))
        for axis in self.mirror:
            if not -n <= axis < n:
                reject_value("mirror", axis, f"axes from {-n} to {n - 1}")
            if source.uniform((1,))[0] < 0.5:
                linear[axis] = -linear[axis]
        centre = np.array(frame, np.float64) / 2 - 0.5
        return np.concatenate([linear, (centre - linear @ centre)[:, np.newaxis]], axis=1)

    def _extent(self, frame: Shape) -> Shape:
        if self.size is None:
            return frame
        accepted = f"an extent for each deformed axis, at most that of the image {frame}, or -1"
        given = as_indices(self.size_name, self.size if is_sequence(self.size) else [self.size], accepted)
        if len(given) == 1:
            given *= len(frame)
        if len(given) != len(frame):
            reject_value(self.size_name, given, accepted)
        extent = tuple(whole if own == -1 else own for own, whole in zip(given, frame, strict=True))
        if any(not 1 <= own <= whole for own, whole in zip(extent, frame, strict=True)):
            reject_value(self.size_name, given, accepted)
        return extent

    def _start(self, frame: Shape, extent: Shape, source: Source) -> Shape:
        room = np.subtract(frame, extent)
        if not self.at_random or not room.any():
            return tuple((room // 2).tolist())
        return tuple(np.minimum(room, np.floor(source.uniform((len(frame),)) * (room + 1))).astype(int).tolist())
