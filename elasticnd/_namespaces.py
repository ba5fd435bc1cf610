"""The public functions for one framework, which convert their input to its arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from . import _api
from ._errors import reject_type

Function = Callable[..., Any]
Convert = Callable[[object], object]


def functions(convert: Convert) -> tuple[Function, Function, Function]:
    """Make `deform_grid`, `deform_random_grid` and `dense_displacement` for a framework."""
    return (
        _named(_api.deform_grid, "X", convert),
        _named(_api.deform_random_grid, "X", convert),
        _named(_api.dense_displacement, "displacement", convert),
    )


def _named(function: Function, first: str, convert: Convert) -> Function:
    @wraps(function)
    def named(*arguments: object, **options: object) -> object:
        if arguments:
            arguments = (_converted(first, arguments[0], convert), *arguments[1:])
        elif first in options:
            options = options | {first: _converted(first, options[first], convert)}
        return function(*arguments, **options)

    return named


def _converted(argument: str, arrays: object, convert: Convert) -> object:
    if isinstance(arrays, (list, tuple)) and len(arrays) > 0 and all(hasattr(array, "shape") for array in arrays):
        return [_converted_one(f"{argument}[{k}]", array, convert) for k, array in enumerate(arrays)]
    return _converted_one(argument, arrays, convert)


def _converted_one(argument: str, array: object, convert: Convert) -> object:
    try:
        return convert(array)
    except (TypeError, ValueError, RuntimeError) as error:
        if "memory" in str(error):  # PyTorch also raises a RuntimeError when memory runs out
            raise
        reject_type(argument, array, "a dense array or nested lists of numbers")
