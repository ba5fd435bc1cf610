"""Engines, each of which computes on one kind of device; `contract.py` defines what every engine provides."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from .contract import Engine, Floats, Transform

__all__ = ["Engine", "Floats", "Transform", "engine_of", "is_cupy"]


def is_cupy(array: Any) -> bool:
    """Return whether an array is a CuPy array."""
    return type(array) is not np.ndarray and array_api_compat.is_cupy_array(array)


def _cpu() -> Engine:
    from . import cpu  # noqa: PLC0415

    return cpu


def _cuda() -> Engine:
    from . import cuda  # noqa: PLC0415

    return cuda


_loaded: dict[bool, Engine] = {}  # empty until there is an array for an engine


def engine_of(array: Any) -> Engine:
    """Return the engine for a NumPy or CuPy array."""
    on_device = is_cupy(array)
    engine = _loaded.get(on_device)
    if engine is None:
        engine = _loaded[on_device] = _cuda() if on_device else _cpu()
    return engine
