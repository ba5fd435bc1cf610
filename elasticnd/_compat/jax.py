"""All names of JAX that the package uses and that may change without notice, or that some versions lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import jax
from jax import lax

try:  # the parts of a primitive with its own rules
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir
except ImportError:  # pragma: no cover - an older or newer JAX
    Primitive = None

try:
    from jax.experimental.buffer_callback import buffer_callback
except ImportError:  # pragma: no cover - an older or newer JAX
    buffer_callback = None

try:
    from jax._src.core import trace_state_clean
except ImportError:  # pragma: no cover - an older or newer JAX
    trace_state_clean = None

__all__ = ["Primitive", "ad", "batching", "buffer_callback", "mlir"]


class LoweringContext(Protocol):
    """The information that JAX passes to a lowering rule."""

    avals_in: Sequence[jax.ShapeDtypeStruct]
    avals_out: Sequence[jax.ShapeDtypeStruct]
    module_context: Any


class BufferContext(Protocol):
    """The information that JAX passes to a callback on buffers."""

    stream: int


class Buffer(Protocol):
    """An XLA array in a callback on buffers."""

    def __dlpack_device__(self) -> tuple[int, int]: ...


HAS_PRIMITIVES = Primitive is not None
HAS_BUFFER_CALLBACKS = buffer_callback is not None


def is_outside_programs() -> bool:
    """Return whether no program is being traced and nothing is differentiated; False if JAX does not say."""
    return trace_state_clean is not None and bool(trace_state_clean())


def result_type(operand: Any, shape: tuple[int, ...], dtype: object) -> Any:
    """Return the abstract value of a result that varies over the same mesh axes as an operand."""
    sharding = operand.sharding.update(spec=(None,) * len(shape))
    return operand.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)


def zero_tangent(output: Any) -> Any:
    """Return the symbolic zero for a tangent of an output."""
    return ad.Zero(output.aval.to_tangent_aval())


def is_in_mesh() -> bool:
    """Return whether a mesh is set; results are then placed on its devices."""
    mesh = getattr(jax.sharding, "get_abstract_mesh", None)
    return mesh is not None and not mesh().empty


def device_count(context: LoweringContext) -> int:
    """Return the number of devices among which XLA divides a lowered call; 1 in `jax.shard_map`, or if unknown."""
    return int(getattr(getattr(context.module_context, "axis_context", None), "num_devices", 1))


def vary_alike(arrays: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """Return arrays that, in `jax.shard_map`, vary over every mesh axis that any of them varies over."""
    if not hasattr(jax, "typeof"):
        return arrays
    axes = [_varying_axes(jax.typeof(array)) for array in arrays]
    every = frozenset().union(*axes)
    if not every:
        return arrays
    return [
        _vary(array, tuple(sorted(every - own))) if every - own else array
        for array, own in zip(arrays, axes, strict=True)
    ]


def _varying_axes(aval: Any) -> frozenset[str]:
    if hasattr(aval, "manual_axis_type"):  # since JAX 0.10
        return frozenset(aval.manual_axis_type.varying)
    return getattr(aval, "vma", frozenset())


def _vary(array: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return lax.pcast(array, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axes)
