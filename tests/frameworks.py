"""The one table of frameworks that tests are parametrised over: how to make and read their arrays, and to derive.

A framework that is not installed is a skip with its reason.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

# Before JAX and TensorFlow are imported: two devices for the tests of sharding, and no chatter.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@dataclass(frozen=True)
class Framework:
    """How tests use a framework."""

    name: str
    module: Any
    array: Callable[[Any], Any]  # from NumPy
    to_numpy: Callable[[Any], np.ndarray]
    # gradient(f, arrays) gives the gradients of the real number f(*arrays).
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
NAMES = tuple(_MAKERS)
_made: dict[str, Framework] = {}


def get(name: str) -> Framework:
    """Import a framework, or skip the test."""
    if name not in _made:
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError) if not _installed(
            name
        ) else None
        _made[name] = _MAKERS[name]()
    return _made[name]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


# What each framework supports, and the test that shows it: the table of docs/frameworks.md. A text instead of a
# test says why not.
FEATURES = {
    "same results as NumPy, bit for bit": dict.fromkeys(NAMES, "test_frameworks.py::test_results_are_those_of_numpy"),
    "no copy on the way in or out": dict.fromkeys(NAMES, "test_frameworks.py::test_nothing_is_copied"),
    "gradients of image, control grid and affine": dict.fromkeys(
        NAMES, "test_frameworks.py::test_gradients_are_those_of_numpy"
    ),
    "second derivatives": {
        "torch": "test_torch.py::test_second_derivatives",
        "jax": "test_jax.py::test_derivatives_in_both_modes",
        "tensorflow": "test_tensorflow.py::test_second_derivatives",
    },
    "forward mode": {
        "torch": "test_torch.py::test_first_derivatives",
        "jax": "test_jax.py::test_derivatives_in_both_modes",
        "tensorflow": "test_tensorflow.py::test_forward_accumulator",
    },
    "compiled": {
        "torch": "test_torch.py::test_compile",
        "jax": "test_jax.py::test_jit",
        "tensorflow": "test_tensorflow.py::test_function_of_unknown_shapes",
    },
    "mapped over items (vmap)": {
        "torch": "test_torch.py::test_vmap",
        "jax": "test_jax.py::test_vmap",
        "tensorflow": "test_tensorflow.py::test_vectorized_map",
    },
    "exported": {
        "torch": "test_torch.py::test_export",
        "jax": "test_jax.py::test_export",
        "tensorflow": "test_tensorflow.py::test_saved_model",
    },
    "several devices": {
        "torch": "CPU tensors only",
        "jax": "test_jax.py::test_sharded_batches_stay_sharded",
        "tensorflow": "CPU tensors only",
    },
    "random grids from its own generators": dict.fromkeys(NAMES, "test_frameworks.py::test_random_grids"),
    "layer": {
        "torch": "test_torch.py::test_layer_modes",
        "jax": "test_keras.py::test_layer",
        "tensorflow": "test_keras.py::test_layer",
    },
}
