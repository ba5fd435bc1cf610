"""Programs of JAX that call the CUDA kernels, on XLA's buffers and stream."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._autodiff import compute
from .._autodiff.operators import Operator, unflatten
from .._compat import jax as compat
from .._compat.jax import mlir
from .._config import is_deterministic
from .._engines.cuda.devices import allocating_by, external_stream, import_cupy
from .._types import ArrayNamespace, FrameworkDType
from . import jax_arrays as arrays_of
from . import jax_operations, jax_sharding
from .jax_arrays import Array


def lower(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    if not has_cupy():
        return jax_operations.lower(context, *flat, operator=operator)
    # Of what XLA divides, it would have to know the scratch memory of each part.
    is_divided = bool(operator.call.batch) and jax_sharding.CAN_DIVIDE and compat.device_count(context) > 1
    call = partial(_call_on_buffers, operator, lends_scratch=not is_divided)
    results = mlir.lower_fun(call, multiple_results=True)(context, *flat)
    if is_divided:
        jax_sharding.divide(results, operator, context)
    return results


@lru_cache(maxsize=1)
def has_cupy() -> bool:
    """Return whether the CUDA kernels can run; without CuPy, operations of JAX do the same on the device."""
    if not compat.HAS_BUFFER_CALLBACKS or importlib.util.find_spec("cupy") is None:
        return False
    try:
        import_cupy("X", "an array on a CUDA device")
    except (ImportError, RuntimeError) as error:
        warnings.warn(f"operations of JAX compute instead of the CUDA kernels: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def _call_on_buffers(operator: Operator, *flat: Array, lends_scratch: bool = True) -> list[Array]:
    """Apply an operator by the CUDA kernels, which read and write XLA's buffers on XLA's stream."""
    results = arrays_of.results_of(operator, flat)
    kinds = [jax.ShapeDtypeStruct(shape, _bits(dtype)) for shape, dtype in results]
    scratch = _scratch_of(operator, flat) if lends_scratch else 0
    if scratch:  # as one more result, since callbacks can allocate nothing
        kinds.append(jax.ShapeDtypeStruct((scratch,), np.uint8))
    arrays = [_as_type(array, _bits(array.dtype)) for array in flat]
    outputs = compat.buffer_callback(partial(_run_on_buffers, operator, len(results)), kinds)(*arrays)
    return [_as_type(output, dtype) for output, (_, dtype) in zip(outputs, results, strict=False)]


def _scratch_of(operator: Operator, flat: Sequence[Array]) -> int:
    """Return how many bytes of scratch memory a call needs, which XLA shall allocate; 0 where CuPy does."""
    results = arrays_of.results_of(operator, flat)
    if operator.verb not in ("sample", "sample_adjoint") or operator.tangents or is_deterministic():
        return 0
    plan = compute.plan_of(operator.call, operator.homogeneous)
    if plan.core_axes is not None or any(0 in shape for shape, _ in results):
        return 0
    from .._engines import cuda  # noqa: PLC0415 - for those who have a CUDA device

    gradient, image, transform, *_ = unflatten(operator, [(array.shape, _bits(array.dtype)) for array in flat])
    shapes = [shape for shape, _ in transform]
    if operator.verb == "sample":
        return cuda.scratch_of_sample(plan.job, shapes, image, (plan.output_shape, image[1]))
    is_sloped = operator.wants_transform and operator.call.images[0].order > 0
    of_image = (results[0][0], gradient[1]) if operator.wants_image else None
    return cuda.scratch_of_adjoint(plan.job, gradient, image if is_sloped else None, shapes, of_image)


def _as_type(array: Array, dtype: FrameworkDType) -> Array:
    return array if array.dtype == dtype else lax.bitcast_convert_type(array, dtype)


def _bits(dtype: FrameworkDType) -> FrameworkDType:
    """Return the type that stands for one which CuPy does not have."""
    return np.dtype(np.uint16) if dtype == jnp.bfloat16 else dtype


def _run_on_buffers(
    operator: Operator, results: int, context: compat.BufferContext, outputs: Sequence[compat.Buffer], *flat: object
) -> None:
    xp, place = _place_of(context, outputs[0])
    with place, _allocating_in(xp, outputs[results:]):
        given = [xp.asarray(buffer) for buffer in flat]
        spec = operator.call.for_batch(
            given[0].shape[: len(operator.call.batch)]
        )  # of the part of a batch that is here
        arrays = unflatten(operator, given)
        targets = [xp.asarray(output) for output in outputs[:results]]
        into = targets[0] if operator.verb == "sample" or operator.wants_image else None
        for target, result in zip(targets, compute.run(operator, spec, arrays, into), strict=True):
            if result is not target:
                target[...] = result


def _place_of(
    context: compat.BufferContext, output: compat.Buffer
) -> tuple[ArrayNamespace, AbstractContextManager[object]]:
    """Return CuPy, and a context in which the device of a buffer and XLA's stream are current.

    In the thread that XLA calls from, neither need be.
    """
    import cupy  # noqa: PLC0415 - for those who have a CUDA device

    return cupy, _on_stream(cupy, output.__dlpack_device__()[1], context.stream)


def _allocating_in(cupy: ArrayNamespace, scratch: Sequence[compat.Buffer]) -> AbstractContextManager[None]:
    """Return a context in which CuPy takes the scratch memory of a call from a buffer of XLA's, if there is one.

    That is allocated at once, and by far the most of what a call allocates.
    """
    if not scratch:
        return nullcontext()
    waiting, allocate = [cupy.asarray(scratch[0])], cupy.cuda.get_allocator()

    def lend(size: int) -> tuple[int, object]:
        if waiting and waiting[0].nbytes // 2 < size <= waiting[0].nbytes:
            own = waiting.pop()
            return int(own.data.ptr), own
        memory = allocate(size)
        return int(memory.ptr), memory

    return allocating_by(lend)


@contextmanager
def _on_stream(cupy: ModuleType, device: int, stream: int) -> Iterator[None]:
    with cupy.cuda.Device(device), external_stream(stream):
        yield
