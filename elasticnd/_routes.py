"""Which bridge serves an array, by the array's type."""

from __future__ import annotations

import sys
from typing import NamedTuple

import array_api_compat
import numpy as np

from . import _labels
from ._bridges import dlpack, eager
from ._bridges.contract import Bridge
from ._config import forced_engine
from ._errors import describe, reject_type, reject_value
from ._types import Array, NumpyArray


def _eager() -> Bridge:
    return eager


def _torch() -> Bridge:
    from ._bridges import torch  # noqa: PLC0415

    return torch


def _jax() -> Bridge:
    from ._bridges import jax  # noqa: PLC0415

    return jax


def _tensorflow() -> Bridge:
    from ._bridges import tensorflow  # noqa: PLC0415

    return tensorflow


def _dask() -> Bridge:
    from ._bridges import dask  # noqa: PLC0415

    return dask


# The module of a framework, its array type, and its bridge. A bridge is imported only once there is such an array.
_FRAMEWORKS = (
    ("cupy", "ndarray", _eager),
    ("torch", "Tensor", _torch),
    ("jax", "Array", _jax),
    ("tensorflow", "Tensor", _tensorflow),
    ("tensorflow", "Variable", _tensorflow),
    ("dask.array", "Array", _dask),
)
_ACCEPTED = (
    "a dense array of NumPy, CuPy, PyTorch, JAX, TensorFlow, dask, xarray, or a library that implements the array API "
    "standard"
)


# The bridges of the types seen so far.
_known: dict[type, Bridge] = {np.ndarray: eager}


def known_bridge(kind: type) -> Bridge | None:
    """Return the bridge for an array type, if one has been seen so far."""
    return _known.get(kind)


def bridge_of(argument: str, array: Array) -> Bridge:
    """Find the bridge for an image."""
    bridge = _known.get(type(array))
    if bridge is None:
        bridge = _known[type(array)] = _find_bridge(argument, array)
    forced = forced_engine()
    return bridge if forced is None else _forced_bridge(argument, array, bridge, forced)


def _forced_bridge(argument: str, array: Array, bridge: Bridge, forced: str) -> Bridge:
    engine, reason = bridge.engine_name(array)
    if engine == forced:
        return bridge
    if forced == "generic":
        if not dlpack.has_namespace(array):
            reject_type(
                argument, array, "an array of a library that implements the array API standard, for engine 'generic'"
            )
        return dlpack
    reject_value(argument, f"{describe(array)}, which engine {engine!r} computes ({reason})", f"one for {forced!r}")


def _find_bridge(argument: str, array: Array) -> Bridge:
    for framework, kind, bridge in _FRAMEWORKS:
        module = sys.modules.get(framework)
        if module is not None and isinstance(array, getattr(module, kind, ())):
            return bridge()
    if isinstance(array, np.ma.MaskedArray):
        reject_type(argument, array, f"{_ACCEPTED} without a mask: fill the masked values first")
    if array_api_compat.is_numpy_array(array) and isinstance(array, np.ndarray):
        return eager
    if dlpack.takes(array):
        return dlpack
    reject_type(argument, array, _ACCEPTED)


def common_bridge(names: list[str], arrays: list[Array]) -> Bridge:
    """Return the bridge that serves all of several images."""
    bridges = [bridge_of(name, array) for name, array in zip(names, arrays, strict=True)]
    for name, array, bridge in zip(names, arrays, bridges, strict=True):
        if bridge is not bridges[0]:
            reject_value(name, describe(array), f"an array of the same library as {names[0]}, {describe(arrays[0])}")
    return bridges[0]


def values_of(argument: str, array: Array) -> NumpyArray:
    """Return the values of an array in the host's memory; raise an error where it has none, as in traced programs."""
    values = bridge_of(argument, array).values(array)
    if values is None:
        reject_type(argument, array, "an array with values, not one of a program that is being traced")
    return np.asarray(values)


class BackendInfo(NamedTuple):
    """How an array is computed."""

    library: str  # of the array
    bridge: str  # the module of elasticnd that adapts it
    engine: str  # "cpu" (C++ core), "cuda" (CUDA kernels) or "generic" (plain operations of the library)
    device: str  # as the library names it
    reason: str


def backend_info(X: object) -> BackendInfo:
    """Return what computes an array, and why. `which` is an older name.

    Parameters
    ----------
    X : array
        An image, as for `deform_grid`.

    Returns
    -------
    BackendInfo
        A named tuple:

        - ``library``: the library of the array;
        - ``bridge``: the part of elasticnd that adapts it;
        - ``engine``: ``"cpu"`` (the C++ core), ``"cuda"`` (the CUDA kernels) or ``"generic"`` (plain
          operations of the library);
        - ``device``: as the library names it, or ``"cpu"``;
        - ``reason``: why this engine was chosen.

    Raises
    ------
    TypeError
        If `X` is not an array that can be deformed.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> elasticnd.backend_info(np.zeros((3, 4)))
    BackendInfo(library='numpy', bridge='eager', engine='cpu', device='cpu', reason="an array in the host's memory")
    """
    array = _labels.unlabelled(X)
    bridge = bridge_of("X", array)
    bridge.check("X", array, array)
    engine, reason = bridge.engine_name(array)
    library = type(X).__module__.partition(".")[0]
    adapter = "xarray" if _labels.is_labelled(X) else bridge.__name__.rpartition(".")[2]
    return BackendInfo(library, adapter, engine, _device(array), reason)


which = backend_info


def _device(array: Array) -> str:
    """Return the name of an array's device, or "cpu" if it has none, as in a program that is being traced."""
    try:
        return str(getattr(array, "device", None) or "cpu")
    except (AttributeError, RuntimeError, TypeError):
        return "cpu"
