"""Which bridge serves an array: the only table of frameworks."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from ._bridges import eager
from ._errors import describe, reject_type, reject_value


def _eager() -> ModuleType:
    return eager


def _torch() -> ModuleType:
    from ._bridges import torch  # noqa: PLC0415

    return torch


def _jax() -> ModuleType:
    from ._bridges import jax  # noqa: PLC0415

    return jax


def _tensorflow() -> ModuleType:
    from ._bridges import tensorflow  # noqa: PLC0415

    return tensorflow


# The module of a framework, its type of arrays, and its bridge. Nothing is imported for those who have no such array.
_FRAMEWORKS = (
    ("cupy", "ndarray", _eager),
    ("torch", "Tensor", _torch),
    ("jax", "Array", _jax),
    ("tensorflow", "Tensor", _tensorflow),
    ("tensorflow", "Variable", _tensorflow),
)
_ACCEPTED = "an array of NumPy, CuPy, PyTorch, JAX or TensorFlow"


# Those of the types that have come so far.
_known: dict[type, ModuleType] = {np.ndarray: eager}


def bridge_of(argument: str, array: Any) -> ModuleType:
    """Find the bridge for an image."""
    bridge = _known.get(type(array))
    if bridge is None:
        bridge = _known[type(array)] = _find_bridge(argument, array)
    return bridge


def _find_bridge(argument: str, array: Any) -> ModuleType:
    for framework, kind, bridge in _FRAMEWORKS:
        module = sys.modules.get(framework)
        if module is not None and isinstance(array, getattr(module, kind, ())):
            return bridge()
    if isinstance(array, np.ma.MaskedArray):
        reject_type(argument, array, f"{_ACCEPTED} without a mask: fill the masked values first")
    if array_api_compat.is_numpy_array(array) and isinstance(array, np.ndarray):
        return eager
    reject_type(argument, array, _ACCEPTED)


def common_bridge(names: list[str], arrays: list[Any]) -> ModuleType:
    """Find the one bridge for several images."""
    bridges = [bridge_of(name, array) for name, array in zip(names, arrays, strict=True)]
    for name, array, bridge in zip(names, arrays, bridges, strict=True):
        if bridge is not bridges[0]:
            reject_value(name, describe(array), f"an array of the same library as {names[0]}, {describe(arrays[0])}")
    return bridges[0]
