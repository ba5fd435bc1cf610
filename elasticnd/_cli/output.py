"""The standard output and error streams, which may be closed pipes or on a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from .._errors import CommandError, one_line, printable


def say(text: str, end: str = "\n") -> None:
    """Print and flush, so that an error is raised here and not at exit."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        _reject(error)


def note(text: str) -> None:
    """Print a note on the standard error stream, about something that did not stop the command."""
    report(f"elasticnd: note: {text}")


def report(line: str) -> None:
    """Print a line on the standard error stream; a failure cannot be reported anywhere."""
    with suppress(OSError):
        print(printable(line), file=sys.stderr)


@contextmanager
def without_errors_of_libraries() -> Iterator[None]:
    """Silence what compiled libraries print directly on the standard error stream."""
    try:
        kept = os.dup(2)
    except OSError:  # the stream is closed
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
    """Write buffered output."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _reject(error)


def _reject(error: OSError) -> NoReturn:
    """Raise an error, and keep Python from retrying at exit, which would report it again."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    raise CommandError(f"cannot write to the standard output: {error.strerror or one_line(error)}") from None
