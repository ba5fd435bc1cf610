"""Helpers for tests on a CUDA device: the reason to skip them, and the libraries with which they use the device."""

import importlib.util
import os
from typing import Any, NamedTuple

import frameworks
import numpy as np
import pytest


def missing():
    """Return the reason why these tests cannot run, or None."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "there is no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no CUDA device: {error}"


REASON = missing()
MARKS = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.filterwarnings("default"),  # other libraries issue warnings that have nothing to do with elasticnd
    pytest.mark.usefixtures("sound_device"),
]
SHAPE = (41, 37)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])


if REASON is None and os.environ.get("ELASTICND_WITHOUT_POOLS"):  # pools hide the errors that memory checkers look for
    import cupy

    cupy.cuda.set_allocator(None)


class Library(NamedTuple):
    """The functions with which tests use a library on the device."""

    array: Any  # from NumPy
    to_numpy: Any
    owns: Any
    gradient: Any  # gradient(f, arrays) returns the gradients of the real number f(*arrays)


def cupy_library():
    import cupy

    return Library(cupy.asarray, cupy.asnumpy, lambda x: isinstance(x, cupy.ndarray), None)


def torch_library():
    torch = frameworks.get("torch").module
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA device")
    gradient = frameworks.get("torch").gradient
    return Library(
        lambda x: torch.as_tensor(np.ascontiguousarray(x)).cuda(),
        lambda x: x.detach().cpu().numpy(),
        lambda x: x.is_cuda,
        gradient,
    )


def jax_library():
    jax = frameworks.get("jax").module
    try:
        device = jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"this JAX has no CUDA device: {error}")
    gradient = frameworks.get("jax").gradient
    return Library(lambda x: jax.device_put(x, device), np.asarray, lambda x: x.device == device, gradient)


def agree(library, ours, theirs, tolerance):
    assert library.owns(ours)
    got = library.to_numpy(ours)
    assert got.dtype == theirs.dtype
    scale = max(1.0, np.abs(theirs.astype(np.float64)).max(initial=0))
    np.testing.assert_allclose(got.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale)
