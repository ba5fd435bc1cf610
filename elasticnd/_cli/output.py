"""The standard output and error streams, which can be closed pipes or on a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from .._errors import CommandError, one_line, printable


def say(text: str, end: str = "\n") -> None:
    """Print at once, so that an error is one of this command."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        _reject(error)


def note(text: str) -> None:
    """Print a line on the standard error stream about what was done nevertheless."""
    report(f"elasticnd: note: {text}")


def report(line: str) -> None:
    """Print a line on the standard error stream; if that fails, there is nowhere left to say so."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr)


@contextmanager
def without_errors_of_libraries() -> Iterator[None]:
    """Silence what compiled libraries print on the standard error stream, past Python."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def flush() -> None:
    """Write what was printed otherwise."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _reject(error)


def _reject(error: OSError) -> NoReturn:
    """Raise an error, and keep Python from trying again when it ends, which would report it once more."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    raise CommandError(f"cannot write to the standard output: {error.strerror or one_line(error)}") from None
