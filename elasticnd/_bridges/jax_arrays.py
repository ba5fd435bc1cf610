"""JAX arrays: which ones calls accept, and operators applied without a program to arrays at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._autodiff import compute, operators
from .._autodiff.operators import Operator, unflatten
from .._compat import jax as compat
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, Shape
from .._types import DType, NumpyArray
from . import eager

Array: TypeAlias = jax.Array  # or a tracer

_OneDevice = jax.sharding.SingleDeviceSharding


def info(array: Array) -> ArrayInfo:
    return ArrayInfo(tuple(array.shape), array.dtype.name)


def check(argument: str, image: Array, first: Array) -> None:
    """Check that an image is not a key of random numbers, and that all images are on the same devices."""
    if jax.dtypes.issubdtype(image.dtype, jax.dtypes.extended):
        reject_type(argument, image, "an array of numbers")
    if image is not first:
        _require_same_devices(argument, image, first)


def _require_same_devices(argument: str, array: Array, image: Array) -> None:
    own, others = _chosen_devices(array), _chosen_devices(image)
    if own and others and own != others:
        reject_value(argument, f"an array on {_names(own)}", f"one on {_names(others)}, where the image is")


def _chosen_devices(array: Array) -> frozenset[jax.Device]:
    """Return the devices on which an array was explicitly put; other arrays can move, and traced ones have none yet."""
    chosen = not isinstance(array, jax.core.Tracer) and getattr(array, "committed", False)
    return frozenset(array.devices()) if chosen else frozenset()


def _names(devices: frozenset[jax.Device]) -> str:
    return ", ".join(sorted(map(str, devices)))


def small_array(argument: str, value: object, like: Array | None = None) -> Array:
    """Convert a control grid or a matrix to an array, from a JAX or NumPy array or nested lists of numbers."""
    array = _as_array(argument, value)
    if like is not None:
        _require_same_devices(argument, array, like)
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(jnp.result_type(float))
    narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
    return array.astype(jnp.float32) if narrow else array


def _as_array(argument: str, value: object) -> Array:
    if isinstance(value, jax.Array):
        return value
    if not isinstance(value, (np.ndarray, list, tuple)):
        reject_type(argument, value, "a JAX or NumPy array, or nested lists of numbers")
    if isinstance(value, (list, tuple)) and any(isinstance(part, jax.Array) for part in value):
        return jnp.stack([jnp.asarray(part) for part in value])
    return jnp.asarray(eager.small_array(argument, value))


# ---- without a program -----------------------------------------------------------------------------------------------


def results_of(operator: Operator, flat: Sequence[Array]) -> list[tuple[Shape, DType]]:
    """Return shapes and dtypes of the results."""
    likes = operators.likes(operator, unflatten(operator, flat))
    shapes = operators.result_shapes(operator, operator.call)
    return [(shape, like.dtype) for shape, like in zip(shapes, likes, strict=True)]


def run(operator: Operator, *flat: Array) -> list[NumpyArray]:
    """Apply an operator in Python."""
    arrays = [np.asarray(array) for array in flat]
    results = compute.run(operator, operator.call, unflatten(operator, arrays))
    kinds = results_of(operator, arrays)
    return [result.astype(dtype, copy=False) for result, (_, dtype) in zip(results, kinds, strict=True)]


def are_at_hand(flat: Sequence[Array]) -> bool:
    """Return whether all arrays have values in the memory of one host device, where the core can read them.

    XLA compiles a program for every new crop, angle or border value; the core does not.
    """
    arrays = [array for array in flat if not isinstance(array, np.ndarray)]
    if any(isinstance(array, jax.core.Tracer) or not isinstance(array.sharding, _OneDevice) for array in arrays):
        return False
    if compat.is_in_mesh():
        return False
    # New arrays then have at most 32 bits, but results must have the types of existing arrays.
    if not jax.config.jax_enable_x64 and any(array.dtype.itemsize == 8 for array in flat):
        return False
    placements = _placements(arrays)
    on_host = all(device.platform == "cpu" for array in arrays for device in array.devices())
    return on_host and (len(placements) == 1 or (not placements and _default_platform() == "cpu"))


def _placements(arrays: Sequence[Array]) -> frozenset[jax.sharding.Sharding]:
    """Return where arrays were explicitly put."""
    return frozenset(array.sharding for array in arrays if getattr(array, "committed", False))


def _default_platform() -> str:
    """Return the kind of device for arrays that were not explicitly put anywhere."""
    default = jax.config.jax_default_device
    if default is None:
        return str(jax.default_backend())
    return default if isinstance(default, str) else str(default.platform)


def run_at_once(operator: Operator, flat: Sequence[Array]) -> list[Array]:
    """Apply an operator to arrays at hand; place the results as a program would."""
    placement = next(iter(_placements(flat)), None)
    return [placed(result, placement) for result in run(operator, *flat)]


def placed(result: NumpyArray, placement: jax.sharding.Sharding | None) -> Array:
    """Convert a NumPy result to an array with a placement."""
    with jax.transfer_guard_host_to_device("allow"):  # the memory is handed over without a transfer
        return jax.device_put(result, placement)
