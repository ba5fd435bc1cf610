"""Searches in the output for points and boxes of the image, on the host; the results have no derivatives."""

from __future__ import annotations

import math

import numpy as np

from .._job import Job
from .._spec import MovementSpec
from .._types import NumpyArray
from . import cpu
from .contract import Floats

_SAMPLES_PER_CELL = 10  # of the border of a box, per control-point spacing
_FEWEST_SAMPLES = 5  # along an edge
_REFINEMENTS = 10
_POINTS_TOGETHER = 200_000


def move_points(
    job: Job, spec: MovementSpec, displacement: Floats, inverse_map: Floats | None, targets: Floats
) -> Floats:
    """Search for points: return position, residual, volume ratio, and convergence, along the last axis."""
    items, n = math.prod(spec.batch), spec.axes
    found, residual, ratio = cpu.move_points(
        job,
        displacement.reshape(items, n, *spec.grid_shape),
        None if inverse_map is None else inverse_map.reshape(-1, n, n + 1),
        targets.reshape(items, -1, n),
        spec.tolerance,
    )
    together = np.concatenate([found, np.stack([residual, ratio, residual <= spec.tolerance], -1)], -1)
    return together.reshape(*targets.shape[:-1], n + 3)


# ---- boxes -----------------------------------------------------------------------------------------------------------


def find_extremes(
    job: Job, spec: MovementSpec, displacement: Floats, inverse_map: Floats | None, corners: Floats
) -> Floats:
    """Search the border of boxes, (..., 2 for each box, n), for the points that go farthest along each axis.

    Return along the last axis: these points as fractions of the box, first the lowest along each axis and then the
    highest, with n numbers each. Then follow the largest residual of the sampled border, whether all samples converged,
    and whether any is folded.
    """
    items, n = math.prod(spec.batch), spec.axes
    boxes = corners.reshape(items, -1, 2, n)
    border = _border(spec, boxes)
    together = max(1, _POINTS_TOGETHER // (len(border) * max(items, 1)))
    search = _Extremes(job, spec, displacement, inverse_map, border)
    parts = [search.of(boxes[:, first : first + together]) for first in range(0, boxes.shape[1], together)]
    found = np.concatenate([np.zeros((items, 0, 2 * n * n + 3)), *parts], axis=1)
    return found.reshape(*corners.shape[:-2], boxes.shape[1], 2 * n * n + 3)


class _Extremes:
    """The search for the extremes of boxes, based on samples of their borders."""

    def __init__(
        self, job: Job, spec: MovementSpec, displacement: Floats, inverse_map: Floats | None, border: Floats
    ) -> None:
        self._call = job, spec, displacement, inverse_map
        self._n = spec.axes
        self._border = border

    def of(self, boxes: Floats) -> Floats:
        """Search some boxes, (items, count, 2, n)."""
        n = self._n
        low, extent = boxes[:, :, :1], boxes[:, :, 1:] - boxes[:, :, :1]
        sampled = self._moved(low + self._border * extent)
        converged = sampled[..., n + 2] > 0
        worst = [sampled[..., n].max(-1), converged.all(-1), (sampled[..., n + 1] <= 0).any(-1)]
        ends = sampled[..., :n]
        lowest = np.where(converged[..., None], ends, np.inf).argmin(2)
        highest = np.where(converged[..., None], ends, -np.inf).argmax(2)
        places = self._border[np.stack([lowest, highest], axis=2)]  # (items, count, 2, n, n)
        places = self._refined(places, low[:, :, :, None, None], extent[:, :, :, None, None])
        return np.concatenate([places.reshape(*boxes.shape[:2], -1), np.stack(worst, -1)], -1)

    def _refined(self, places: Floats, low: Floats, extent: Floats) -> Floats:
        """Search along the faces of the box around these places, halving the steps each time."""
        n = self._n
        steps = np.concatenate([np.zeros((1, n)), np.eye(n), -np.eye(n)]) * _spacing(self._border)
        sign = np.array([1.0, -1.0]).reshape(2, 1, 1)
        along = np.arange(n).reshape(1, 1, 1, n, 1, 1)
        for _ in range(_REFINEMENTS):
            trials = np.clip(places[..., None, :] + steps, 0, 1)
            is_on_border = ((trials == 0) | (trials == 1)).any(-1, keepdims=True)
            trials = np.where(is_on_border, trials, places[..., None, :])
            moved = self._moved(low + trials * extent)
            ends = np.take_along_axis(moved[..., :n], along, -1)[..., 0] * sign
            best = np.where(moved[..., n + 2] > 0, ends, np.inf).argmin(-1)
            places = np.take_along_axis(trials, best[..., None, None], -2)[..., 0, :]
            steps = steps / 2
        return places

    def _moved(self, points: Floats) -> Floats:
        return move_points(*self._call, np.ascontiguousarray(points))


def _border(spec: MovementSpec, boxes: Floats) -> Floats:
    """Return points on the border of a unit box, as many as the largest box needs, (count, n)."""
    cells = [(count - 1) / max(extent - 1, 1) for count, extent in zip(spec.grid_shape, spec.extent, strict=True)]
    extents = np.abs(boxes[:, :, 1] - boxes[:, :, 0]).reshape(-1, spec.axes)
    largest = np.where(np.isfinite(extents), extents, 0).max(0, initial=0)
    samples = np.minimum(largest, spec.extent) * cells * _SAMPLES_PER_CELL
    lines = [np.linspace(0, 1, max(_FEWEST_SAMPLES, math.ceil(count) + 1)) for count in samples]
    faces = []
    for axis in range(spec.axes):  # the two faces across each axis, without points that are on earlier faces
        own = [line[1:-1] if k < axis else line for k, line in enumerate(lines)]
        own[axis] = np.array([0.0, 1.0])
        faces.append(np.stack(np.meshgrid(*own, indexing="ij"), -1).reshape(-1, spec.axes))
    border: NumpyArray = np.concatenate(faces)
    return border


def _spacing(border: Floats) -> Floats:
    """Return the distance between neighbouring points along each axis."""
    spacing: NumpyArray = np.array([1 / (len(np.unique(border[:, k])) - 1) for k in range(border.shape[1])])
    return spacing


SEARCH = {"move_points": move_points, "find_extremes": find_extremes}
