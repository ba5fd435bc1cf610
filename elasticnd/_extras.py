"""Libraries that only a part of the package needs. They are extras, so they are imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from ._errors import one_line


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library, or raise an ImportError that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {error.name or module}: pip install 'elasticnd[{extra}]'") from None
    except Exception as error:  # of a library that is there, but not as it should be
        raise ImportError(f"{purpose} needs {module}, which fails to load: {one_line(error)}") from None
