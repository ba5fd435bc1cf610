"""Whether a deformation folds, proven: bounds of the volume ratio, and the scale at which nothing folds."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._config import settle_threads
from ._errors import reject_value, shortened, warn
from ._job import make_job
from ._spec import Shape, Window
from ._types import NumpyArray

POLICIES = ("ignore", "warn", "raise", "scale")
_TOLERANCE = 0.01  # of bounds
_SCALE_TOLERANCE = 0.005


class FoldBounds(NamedTuple):
    """Bounds of the smallest volume ratio, as returned by `Deformation.fold_bounds`.

    Attributes
    ----------
    lower : float, or array of the batch shape
        No ratio is smaller. If it is positive, nothing folds.
    upper : float, or array of the batch shape
        The smallest ratio is at most this. If it is negative, the mapping folds.
    converged : bool, or array of the batch shape
        Whether the bounds differ by no more than the tolerance.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.Deformation.identity((64, 48)).fold_bounds(tol=0.5).converged
    True
    """

    lower: Any
    upper: Any
    converged: Any


class FoldWarning(UserWarning):
    """A random deformation folds, or may fold.

    Parameters
    ----------
    message : str
        What folds, and by how much.
    bounds : FoldBounds or None
        Bounds of the smallest volume ratio; None if another library has recreated the warning.

    Examples
    --------
    >>> import warnings
    >>> import elasticnd
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", elasticnd.FoldWarning)
    ...     deformation = elasticnd.Deformation.random(
    ...         (64, 48), sigma=20, points=4, rng=0, fold="warn"
    ...     )
    >>> caught[0].message.bounds.lower < 0
    True
    """

    def __init__(self, message: str, bounds: FoldBounds | None = None) -> None:
        super().__init__(message)
        self.bounds = bounds

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.bounds)


class FoldError(ValueError):
    """A random deformation folds, or may fold.

    Parameters
    ----------
    message : str
        What folds, and by how much.
    bounds : FoldBounds or None
        Bounds of the smallest volume ratio; None if another library has recreated the error.

    Examples
    --------
    >>> import elasticnd
    >>> try:
    ...     elasticnd.Deformation.random((64, 48), sigma=20, points=4, rng=0, fold="raise")
    ... except elasticnd.FoldError as error:
    ...     print(error.bounds.lower < 0)
    True
    """

    def __init__(self, message: str, bounds: FoldBounds | None = None) -> None:
        super().__init__(message)
        self.bounds = bounds

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.bounds)


class FoldPolicy(NamedTuple):
    """What to do if random deformations fold."""

    fold: str
    margin: float

    @classmethod
    def of(cls, fold: object, margin: object) -> FoldPolicy:
        """Check the arguments `fold` and `margin`."""
        if not isinstance(fold, str) or fold not in POLICIES:
            reject_value("fold", repr(fold), " or ".join(map(repr, POLICIES)))
        return cls(fold, check_number("margin", margin, -np.inf, 1, "a number less than 1"))

    def factors(self, grids: ControlGrids) -> Any:
        """Return the factors for the displacement; warn or raise an error where it folds."""
        if self.fold == "scale":
            return grids.largest_scale(self.margin, _SCALE_TOLERANCE)
        bounds = grids.bounds(_TOLERANCE, Window((0,) * len(grids.shape), grids.shape))
        if not np.all(np.asarray(bounds.lower) > 0):
            self._complain(bounds)
        return 1.0

    def _complain(self, bounds: FoldBounds) -> None:
        lower, upper = np.asarray(bounds.lower), np.asarray(bounds.upper)
        items = [int(item) for item in np.flatnonzero(~(lower > 0).ravel())]
        where = f" in batch items {shortened(str(items))}" if lower.ndim else ""
        does = "folds" if np.any(upper <= 0) else "may fold"
        message = (
            f"the mapping {does}{where}: its smallest volume ratio lies between {np.min(lower):.3g} and "
            f"{np.min(upper):.3g}. Use a smaller sigma or fewer points, or fold='scale' to reduce the displacement"
        )
        if self.fold == "raise":
            raise FoldError(message, bounds)
        warn(FoldWarning(message, bounds))


class ControlGrids(NamedTuple):
    """Control grids with values, in a frame, with the linear parts of their forward affine maps."""

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
        """Bound the smallest volume ratio in a window."""
        results = _core.fold_bounds(*self._arguments(window), tolerance)
        return FoldBounds(*(self._per_item(result) for result in results))

    def largest_scale(self, margin: float, tolerance: float) -> Any:
        """Find the largest factor for the control grids."""
        whole = Window((0,) * len(self.shape), self.shape)
        return self._per_item(_core.largest_scales(*self._arguments(whole), margin, tolerance))

    def _per_item(self, values: NumpyArray) -> Any:
        return values.reshape(self.batch) if self.batch else values[0].item()


def check_number(argument: str, value: object, low: float, high: float, accepted: str) -> float:
    """Check a real number above `low` and below `high`."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and low < value < high:
        return float(value)
    reject_value(argument, repr(value), accepted)
