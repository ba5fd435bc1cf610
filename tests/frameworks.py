"""The frameworks over which tests are parametrised, with functions that create, read and differentiate their arrays.

Tests of a framework that is not installed are skipped.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

# This must be set before JAX and TensorFlow are imported: two devices for the tests of sharding, and fewer messages.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Framework:
    """The functions with which tests use a framework."""

    name: str
    module: Any
    array: Callable[[Any], Any]  # from NumPy
    to_numpy: Callable[[Any], np.ndarray]
    # gradient(f, arrays) returns the gradients of the real number f(*arrays).
    gradient: Callable[[Callable, list], list]
    owns: Callable[[Any], bool]


def _import(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def _torch() -> Framework:
    torch = _import("torch")
    import ml_dtypes

    def array(values):
        values = np.asarray(values)
        if values.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(values.view(np.int16).copy()).view(torch.bfloat16)
        return torch.from_numpy(np.ascontiguousarray(values).copy().reshape(values.shape))

    def to_numpy(tensor):
        tensor = tensor.detach().resolve_conj().resolve_neg()
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return tensor.numpy()

    def gradient(function, arrays):
        leaves = [tensor.detach().requires_grad_() for tensor in arrays]
        return list(torch.autograd.grad(function(*leaves), leaves, create_graph=False))

    return Framework("torch", torch, array, to_numpy, gradient, lambda value: isinstance(value, torch.Tensor))


def _jax() -> Framework:
    jax = _import("jax")
    jax.config.update("jax_enable_x64", True)

    def gradient(function, arrays):
        return list(jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays))

    return Framework("jax", jax, jax.numpy.asarray, np.asarray, gradient, lambda value: isinstance(value, jax.Array))


def _tensorflow() -> Framework:
    tf = _import("tensorflow")

    def gradient(function, arrays):
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            result = function(*arrays)
        return tape.gradient(result, arrays)

    return Framework("tensorflow", tf, tf.constant, np.asarray, gradient, tf.is_tensor)


_MAKERS = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}
_made: dict[str, Framework] = {}


def get(name: str) -> Framework:
    """Import a framework, or skip the test if it is not installed."""
    if name not in _made:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)
        _made[name] = _MAKERS[name]()
    return _made[name]
