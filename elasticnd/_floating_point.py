"""The floating-point state in which everything is computed, whatever state the caller has set."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np

from . import _core

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_DEFAULT = _core.default_floating_point_state()


def in_default_state(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Run a function with rounding to nearest, subnormal numbers, and no floating-point errors from NumPy.

    The caller's state applies to one thread only, so results would depend on which thread computes what.
    """
    quietly = np.errstate(all="ignore")(function)

    @wraps(function)
    def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        if is_recorded():
            return function(*arguments, **options)
        before = _core.floating_point_state()
        if before == _DEFAULT:
            return quietly(*arguments, **options)
        _core.set_floating_point_state(_DEFAULT)
        try:
            return quietly(*arguments, **options)
        finally:
            _core.set_floating_point_state(before)

    return run


def is_recorded() -> bool:
    """Return whether PyTorch's compiler is tracing the code, to compute it later."""
    torch = sys.modules.get("torch")
    return torch is not None and hasattr(torch, "compiler") and bool(torch.compiler.is_compiling())
