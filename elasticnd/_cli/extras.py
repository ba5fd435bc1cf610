"""Libraries that only the command line needs. They are extras, so they are imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from .._errors import CommandError, one_line


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CommandError(f"{purpose} needs {error.name or module}: pip install 'elasticnd[{extra}]'") from None
    except Exception as error:  # of a library that is there, but not as it should be
        raise CommandError(f"{purpose} needs {module}, which fails to load: {one_line(error)}") from None
