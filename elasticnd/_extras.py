"""Libraries that only parts of the package need. They are extras, imported when needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from ._errors import one_line


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a library, or raise an ImportError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{purpose} needs {error.name or module}: pip install 'elasticnd[{extra}]'") from None
    except Exception as error:  # the library is installed but broken
        raise ImportError(f"{purpose} needs {module}, which fails to load: {one_line(error)}") from None
