"""The form of error messages: the argument, what it got, and what is accepted."""

from __future__ import annotations

import inspect
import os
import traceback
import warnings
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_PACKAGE = os.path.dirname(__file__) + os.sep


def describe(value: object) -> str:
    """Describe a value briefly: arrays by type, dtype and shape, other values by their text."""
    shape = _shape_of(value)
    dtype = getattr(value, "dtype", None)
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if shape is not None and dtype is not None:
        return f"{name} of dtype {dtype} and shape {shape}"
    text = " ".join(repr(value).split())
    return f"{shortened(text)} ({name})"


def _shape_of(value: object) -> tuple[object, ...] | None:
    """Return the shape, or None without one; shapes of sparse, ragged and nested tensors may raise any error."""
    try:
        return tuple(value.shape)  # type: ignore[attr-defined]
    except Exception:
        return None


def reject_value(argument: str, got: object, accepted: str) -> NoReturn:
    """Raise a ValueError: the type is right, but the value is not."""
    raise ValueError(f"{argument}: got {shortened(str(got), 200)}, expected {accepted}")


def reject_type(argument: str, got: object, accepted: str) -> NoReturn:
    """Raise a TypeError: no value of this type can be right."""
    raise TypeError(f"{argument}: got {describe(got)}, expected {accepted}")


def counted(number: int, one: str, many: str) -> str:
    """Return a number and a noun in the form that suits it, such as "1 axis" or "3 axes"."""
    return f"{number} {one if number == 1 else many}"


def one_for_each(number: int, one: str, many: str) -> str:
    """Return what is accepted where each thing needs a value: "one for each of 3 images", or "one for the image"."""
    return f"one for the {one}" if number == 1 else f"one for each of {number} {many}"


def one_or_each(number: int, one: str, many: str) -> str:
    """Return what is accepted where one value can serve for all: "one, or one for each of 3 images"."""
    return f"{'one, or ' if number > 1 else ''}{one_for_each(number, one, many)}"


def or_several(accepted: str, number: int) -> str:
    """Return what is accepted where one value, or as many as there are axes, will do: "a number, or 3 of them"."""
    return f"{accepted}, or {number} of them" if number > 1 else accepted


def suggest(**names: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Return a decorator that suggests elasticnd's names for arguments that other libraries call differently."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def call(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            if not names.keys().isdisjoint(options):
                wrong = next(name for name in options if name in names)
                raise TypeError(f"{wrong}: not an argument of {function.__qualname__}; use {names[wrong]}")
            return function(*arguments, **options)

        return call

    return decorate


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the line that called the package."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_stack(inspect.currentframe())]
    own = [level for level, filename in enumerate(frames) if filename.startswith(_PACKAGE)]
    # TensorFlow runs a rewritten copy of the code, whose frames do not belong to the package.
    warnings.warn(message, category, stacklevel=own[-1] + 2 if own else 2)


def shortened(text: str, longest: int = 60) -> str:
    """Shorten a text for a message; an ellipsis marks an omission."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


class CommandError(Exception):
    """The command line was asked for something impossible; the message gives the reason in one line."""


def one_line(error: BaseException) -> str:
    """Return the message of another library's error, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    """Escape unprintable characters, so that a name with a newline stays on its line and none moves the cursor."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
