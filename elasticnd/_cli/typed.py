"""The values of options with the text that was typed for them, which messages quote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from .._errors import one_line, shortened

T = TypeVar("T")


class Typed(list[T]):
    """The values of an option that were typed with commas between them."""

    def __init__(self, values: Iterable[T], text: str) -> None:
        super().__init__(values)
        self.text = text


def text_of(value: object) -> str:
    """Return the text that was typed for the value of an option, shortened."""
    return shortened(value.text if isinstance(value, Typed) else str(value))


def reworded(error: Exception, options: object) -> str:
    """Return the message of a library error in terms of options, and of the text that was typed for them."""
    message = one_line(error)
    found = re.match(r"(axis|cval|mode|order|points|rotate|sigma|zoom)\b(: got .*?(?=, expected))?", message)
    if found is None:
        return message
    value = getattr(options, found[1])
    is_quoted = found[2] is not None and isinstance(value, (Typed, int, float))
    got = f": got {text_of(value)}" if is_quoted else found[2] or ""
    return f"--{found[1]}{got}{message[found.end() :]}"
