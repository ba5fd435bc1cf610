"""Whether a deformation folds, proven: bounds of the ratio of volumes, and by how much a field must be reduced."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._config import settle_threads
from ._errors import reject_value
from ._job import make_job
from ._spec import Shape, Window
from ._types import NumpyArray


class FoldBounds(NamedTuple):
    """Bounds of the least ratio of volumes; as `Deformation.fold_bounds` returns them.

    Attributes
    ----------
    lower : float, or array of the batch shape
        No ratio is less. If it is positive, nothing folds.
    upper : float, or array of the batch shape
        Somewhere the ratio is at most this. If it is negative, the mapping folds.
    converged : bool, or array of the batch shape
        Whether the two differ by no more than the tolerance.
    """

    lower: Any
    upper: Any
    converged: Any


class ControlGrids(NamedTuple):
    """Control grids that hold values, in a frame, with the linear parts of their forward affine maps."""

    points: NumpyArray  # (B..., n, p_0, ...)
    forward: NumpyArray | None  # (n, n) or (B..., n, n)
    shape: Shape

    @property
    def batch(self) -> Shape:
        """The batch shape."""
        return self.points.shape[: -len(self.shape) - 1]

    def _arguments(self, window: Window) -> tuple[Any, NumpyArray, NumpyArray | None]:
        grid_shape = self.points.shape[-len(self.shape) :]
        job = make_job(image=self.shape, grid_shape=grid_shape, start=window.start, output=window.shape)
        items = math.prod(self.batch)
        points = np.asarray(self.points, np.float64).reshape(items, len(self.shape), *grid_shape)
        forward = self.forward
        if forward is not None:
            forward = np.ascontiguousarray(forward, np.float64)
            if forward.ndim > 2:
                forward = np.ascontiguousarray(np.broadcast_to(forward, (*self.batch, *forward.shape[-2:])))
        settle_threads()
        return job, points, forward

    def bounds(self, tolerance: float, window: Window) -> FoldBounds:
        """Bound the least ratio of volumes in a window."""
        results = _core.fold_bounds(*self._arguments(window), tolerance)
        return FoldBounds(*(self._per_item(result) for result in results))

    def largest_scale(self, margin: float, tolerance: float) -> Any:
        """Find by what the control grids may be multiplied."""
        whole = Window((0,) * len(self.shape), self.shape)
        return self._per_item(_core.largest_scales(*self._arguments(whole), margin, tolerance))

    def _per_item(self, values: NumpyArray) -> Any:
        return values.reshape(self.batch) if self.batch else values[0].item()


def check_number(argument: str, value: object, low: float, high: float, accepted: str) -> float:
    """Check a real number above `low` and below `high`."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and low < value < high:
        return float(value)
    reject_value(argument, repr(value), accepted)
