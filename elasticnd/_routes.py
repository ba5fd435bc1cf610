"""Which bridge serves an array: the only table of frameworks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from ._bridges import eager
from ._errors import reject_type

_ACCEPTED = "a numpy.ndarray"


def bridge_of(argument: str, array: Any) -> ModuleType:
    """Find the bridge for an image."""
    if type(array) is np.ndarray:
        return eager
    if isinstance(array, np.ma.MaskedArray):
        reject_type(argument, array, f"{_ACCEPTED} without a mask: fill the masked values first")
    if array_api_compat.is_numpy_array(array) and isinstance(array, np.ndarray):
        return eager
    reject_type(argument, array, _ACCEPTED)
