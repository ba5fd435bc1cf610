"""The bridge for JAX: a primitive that XLA runs with the core, the CUDA kernels or JAX operations.

Outside programs, arrays in the host's memory go directly to the core.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._autodiff.framework import Delegated
from .._autodiff.operators import Operands, Operator, apply_by_component, component_specs
from .._compat import jax as compat
from .._errors import reject_type
from .._spec import Shape
from .._types import NumpyArray, Seed
from . import contract, eager, jax_buffers, jax_primitive
from . import jax_arrays as arrays_of
from .array_api import FrameworkOps
from .jax_arrays import Array

check = arrays_of.check
info = arrays_of.info
small_array = arrays_of.small_array
is_recorded = contract.is_recorded
record = contract.record


def engine_name(array: Array) -> tuple[str, str]:
    if isinstance(array, jax.core.Tracer):
        return (
            "cpu",
            "a traced array: decided by the device of the compiled program, by default the host",
        )
    platform = next(iter(array.devices())).platform
    if platform == "cpu":
        return "cpu", "an array in the host's memory, which the core reads"
    if platform in ("cuda", "gpu") and jax_buffers.has_cupy():
        return "cuda", "an array on a CUDA device, which XLA hands to the kernels"
    return "generic", f"JAX operations, on a device of type {platform}"


def standard_normal(shape: Shape, batch_axes: int, like: Array, rng: Seed) -> jax.Array | None:
    """Draw with a JAX key."""
    if not isinstance(rng, jax.Array):
        if isinstance(like, jax.core.Tracer):
            reject_type("rng", rng, "a key of jax.random, since the image is traced")
        return None
    if not (jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key) or (rng.dtype == jnp.uint32 and rng.ndim == 1)):
        reject_type("rng", rng, "a key of jax.random, or a seed that is not an array")
    return jax.random.normal(rng, shape, float)


def delegate(images: Sequence[Array | None], others: Sequence[Array | None]) -> Delegated | None:
    """Return NumPy arrays for arrays that the core can read, outside all programs.

    Calls without images are left to `apply`, which knows the dtype of their results.
    """
    flat = [array for array in (*images, *others) if array is not None]
    if not images or not compat.is_outside_programs() or jax.config.jax_debug_nans or jax.config.jax_debug_infs:
        return None
    # Results are placed like their image, which is right only if all arrays are committed to a device, or none is.
    if len({array.committed for array in flat}) > 1 or not arrays_of.are_at_hand(flat):
        return None
    return eager, list(map(_to_numpy, images)), list(map(_to_numpy, others))


def _to_numpy(array: Array | None) -> NumpyArray | None:
    return None if array is None else np.asarray(array)


def restored(result: NumpyArray, image: Array) -> Array:
    return arrays_of.placed(result, image.sharding if image.committed else None)


def algebra(array: Array) -> FrameworkOps:
    return jax_primitive.OPS


def values(array: Array, *, wait: bool = True) -> NumpyArray | None:
    if isinstance(array, jax.core.Tracer):
        return None
    is_here = wait or all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if is_here else None


def apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator; XLA's handlers only support real numbers."""
    images = operator.call.images
    if not images or not images[0].is_complex:
        return jax_primitive.apply_real(operator, operands)

    def apply_to_component(k: int, own: Operands) -> Sequence[Array]:
        return jax_primitive.apply_real(operator._replace(call=component_specs(operator.call)[k]), own)

    return apply_by_component(
        apply_to_component, lambda array: (lax.real(array), lax.imag(array)), lax.complex, operator, operands
    )
