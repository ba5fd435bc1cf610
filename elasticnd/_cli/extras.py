"""Libraries that only the command line needs; without them, it reports an error in one line."""

from __future__ import annotations

from types import ModuleType

from .. import _extras
from .._errors import CommandError, one_line


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library, or report which extra installs it."""
    try:
        return _extras.need(module, extra, purpose)
    except ImportError as error:
        raise CommandError(one_line(error)) from None
