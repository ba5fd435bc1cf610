"""The bridge for arrays that hold their values and record no gradients: NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._dtypes import name_of
from .._errors import reject_type, reject_value
from .._rules import dense, forward, image_vjp, vjp
from .._spec import ArrayInfo

__all__ = ["dense", "forward", "image_vjp", "info", "small_array", "vjp"]

Array = NDArray[Any]


def info(array: Array) -> ArrayInfo:
    """Tell shape and dtype."""
    return ArrayInfo(array.shape, name_of(array.dtype))


def small_array(argument: str, value: Any) -> Array:
    """Take a control grid or a matrix: an array, or nested lists of numbers."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return np.asarray(value)
    if not isinstance(value, (list, tuple)) or _has_masks(value):
        reject_type(argument, value, "a NumPy array or nested lists of numbers")
    try:
        array = np.asarray(value)
    except ValueError:
        reject_value(argument, "nested lists of different lengths", "an array or nested lists of numbers")
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    return array


def _has_masks(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_masks, value))
    return isinstance(value, np.ma.MaskedArray)
