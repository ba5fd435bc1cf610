"""Values, and the elements that represent them in files."""

from __future__ import annotations

import math
import sys

import numpy as np

from .image import Image

_UNSCALED = (1, 0)


def element_of(value: float, image: Image) -> float:
    """Return the element for a value; raise a ValueError that lists the values that elements can represent."""
    if isinstance(value, float) and math.isnan(value):
        return value  # NaN, which integers cannot hold; the library reports it
    whole = np.dtype(image.array.dtype).kind in "iub"
    least, largest = _limits(image)
    element = value if image.scale == _UNSCALED else _unscaled(value, image.scale)
    if whole and image.scale != _UNSCALED and abs(element) < np.inf:
        element = round(element)
    if not (whole and element % 1) and (least <= element <= largest or (not whole and abs(value) == np.inf)):
        return element
    raise ValueError(f"{'a whole number' if whole and image.scale == _UNSCALED else 'a number'} {_range(image)}")


def _limits(image: Image) -> tuple[float, float]:
    """Return the smallest and the largest element, as Python numbers, which compare with numbers of any size."""
    dtype = np.dtype(image.array.dtype)
    if image.limits is not None:
        return image.limits
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return float(np.finfo(dtype).min), float(np.finfo(dtype).max)


def _unscaled(value: float, scale: tuple[float, float]) -> float:
    if abs(value) > sys.float_info.max:
        return np.inf if value > 0 else -np.inf
    return (value - scale[1]) / scale[0]


def _range(image: Image) -> str:
    slope, intercept = image.scale
    ends = _limits(image) if image.scale == _UNSCALED else sorted(slope * end + intercept for end in _limits(image))
    return f"from {ends[0]} to {ends[1]}"
