"""Check single numbers and short sequences of numbers, and convert them to plain Python."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import SupportsFloat, SupportsIndex, TypeGuard, cast

import numpy as np

from ._errors import describe, reject_type, reject_value
from ._types import Array


def is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    """Return whether a value is a sequence of things: not a string, and not an array without axes."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def as_index(name: str, value: object, accepted: str) -> int:
    """Convert a whole number; it may be an array without axes."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.bool_)):
        reject_type(name, value, accepted)
    try:
        return operator.index(cast("SupportsIndex", value))
    except (TypeError, ValueError, RuntimeError):
        reject_type(name, value, accepted)


def as_indices(name: str, values: object, accepted: str) -> tuple[int, ...]:
    """Convert a sequence of whole numbers."""
    if not is_sequence(values):
        reject_type(name, values, accepted)
    return tuple(as_index(name, value, accepted) for value in values)


def as_number(name: str, value: object, accepted: str) -> float:
    """Convert a finite real number."""
    number = as_real(name, value, accepted)
    if not math.isfinite(number):
        reject_value(name, number, accepted)
    return number


def as_real(name: str, value: object, accepted: str) -> float:
    """Convert a real number, which may be infinite or NaN."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    wrong = (bool, np.bool_, str, bytes, bytearray, complex, np.complexfloating)
    if isinstance(value, wrong) or value is np.ma.masked or is_sequence(value):
        reject_type(name, value, accepted)
    check_constant(name, value)
    try:
        return float(cast("SupportsFloat", value))
    except (TypeError, ValueError, RuntimeError):  # PyTorch raises the last one for several numbers
        reject_type(name, value, accepted)
    except OverflowError:
        reject_value(name, describe(value), accepted)


def check_constant(name: str, value: object) -> None:
    """Check that no framework differentiates a value: a number converted from it would lose the derivative."""
    if isinstance(value, (int, float)):
        return
    is_differentiated = _DIFFERENTIATED.get(type(value).__module__.partition(".")[0])
    if is_differentiated is not None and is_differentiated(value):
        reject_value(
            name,
            f"{describe(value)}, which is differentiated or traced",
            "a constant: only image, displacement and affine are differentiated; pass an affine matrix instead",
        )


def _requires_grad(tensor: Array) -> bool:
    torch = sys.modules["torch"]
    if torch.is_grad_enabled() and tensor.requires_grad:
        return True
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


def _is_tracer(array: Array) -> bool:
    return isinstance(array, sys.modules["jax"].core.Tracer)


def _is_watched(tensor: Array) -> bool:
    from ._compat.tensorflow import is_differentiated  # noqa: PLC0415 - the value is a tensor

    return is_differentiated(tensor)


# By the module of the value's type.
_DIFFERENTIATED: dict[str, Callable[[object], bool]] = {
    "torch": _requires_grad,
    "jax": _is_tracer,
    "jaxlib": _is_tracer,
    "tensorflow": _is_watched,
}


def as_numbers(name: str, value: object, count: int, accepted: str) -> tuple[float, ...]:
    """Convert `count` finite numbers, or a single one that stands for all."""
    if not is_sequence(value):
        return (as_number(name, value, accepted),) * count
    if any(map(is_sequence, value)):
        reject_type(name, value, accepted)
    numbers = tuple(as_number(name, one, accepted) for one in value)
    if len(numbers) != count:
        reject_value(name, describe(value), accepted)
    return numbers
