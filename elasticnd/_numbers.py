"""Single numbers and short sequences of them, as people write them, checked and made plain Python."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._errors import describe, reject_type, reject_value


def is_sequence(value: Any) -> bool:
    """Tell whether a value is a list of things: not a text, not an array without axes."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def as_index(name: str, value: Any, accepted: str) -> int:
    """Take a whole number; an array without axes holds one."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)):
        reject_type(name, value, accepted)
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        reject_type(name, value, accepted)


def as_indices(name: str, values: Any, accepted: str) -> tuple[int, ...]:
    """Take a sequence of whole numbers."""
    if not is_sequence(values):
        reject_type(name, values, accepted)
    return tuple(as_index(name, value, accepted) for value in values)


def as_number(name: str, value: Any, accepted: str) -> float:
    """Take a finite real number."""
    number = as_real(name, value, accepted)
    if not math.isfinite(number):
        reject_value(name, number, accepted)
    return number


def as_real(name: str, value: Any, accepted: str) -> float:
    """Take a real number, infinite ones and NaN too."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    wrong = (bool, np.bool_, str, bytes, bytearray, complex, np.complexfloating)
    if isinstance(value, wrong) or value is np.ma.masked or is_sequence(value):
        reject_type(name, value, accepted)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        reject_type(name, value, accepted)
    except OverflowError:
        reject_value(name, describe(value), accepted)


def as_numbers(name: str, value: Any, count: int, accepted: str) -> tuple[float, ...]:
    """Take `count` finite numbers, or one that stands for all."""
    if not is_sequence(value):
        return (as_number(name, value, accepted),) * count
    if any(map(is_sequence, value)):
        reject_type(name, value, accepted)
    numbers = tuple(as_number(name, one, accepted) for one in value)
    if len(numbers) != count:
        reject_value(name, describe(value), accepted)
    return numbers
