"""JAX programs that call the CUDA kernels on XLA's buffers and stream."""

from __future__ import annotations

import importlib.util
import math
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
from .._autodiff.operators import ADJOINT, SEARCHES, Operator, flatten, unflatten
from .._compat import jax as compat
from .._compat.jax import mlir
from .._config import is_deterministic
from .._engines.cuda.devices import allocating_by, external_stream, import_cupy
from .._engines.cuda.scratch import ALIGNMENT, lender
from .._job import evaluation_job, field_job
from .._spec import Shape
from .._types import ArrayNamespace, FrameworkDType
from . import jax_arrays as arrays_of
from . import jax_operations, jax_sharding
from .jax_arrays import Array

_DOUBLE = 8  # bytes


def lower(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    if not has_cupy():
        return jax_operations.lower(context, *flat, operator=operator)
    # When XLA divides a call, only XLA knows how much scratch memory each part needs.
    is_divided = bool(operator.call.batch) and jax_sharding.CAN_DIVIDE and compat.device_count(context) > 1
    call = partial(_call_on_buffers, operator, lends_scratch=not is_divided)
    results = mlir.lower_fun(call, multiple_results=True)(context, *flat)
    if is_divided:
        jax_sharding.divide(results, operator)
    return results


@lru_cache(maxsize=1)
def has_cupy() -> bool:
    """Return whether the CUDA kernels can run; without CuPy, JAX operations do the same on the device."""
    if not compat.HAS_BUFFER_CALLBACKS or importlib.util.find_spec("cupy") is None:
        return False
    try:
        import_cupy("X", "an array on a CUDA device")
    except (ImportError, RuntimeError) as error:
        warnings.warn(f"JAX operations are used instead of the CUDA kernels: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def _call_on_buffers(operator: Operator, *flat: Array, lends_scratch: bool = True) -> list[Array]:
    """Apply an operator by the CUDA kernels, which read and write XLA's buffers on XLA's stream.

    XLA orders the axes of images as the kernels need them, in its own memory.
    """
    spec, operands = operator.call, unflatten(operator, flat)
    has_image = not (operator.takes_positions or operator.verb in ADJOINT)
    order = compute.plan_of(spec).core_axes if has_image else None
    if order is None:
        return _call_in_order(operator, flat, lends_scratch)
    gradient, image = (None if array is None else array.transpose(order) for array in operands[:2])
    own = operator._replace(call=spec.in_core_order())
    results = _call_in_order(own, flatten(own, operands._replace(gradient=gradient, image=image)), lends_scratch)
    if operator.verb == "sample" or operator.wants_image:
        results[0] = results[0].transpose(np.argsort(order))
    return results


def _call_in_order(operator: Operator, flat: Sequence[Array], lends_scratch: bool) -> list[Array]:
    results = arrays_of.results_of(operator, flat)
    kinds = [jax.ShapeDtypeStruct(shape, _bits(dtype)) for shape, dtype in results]
    scratch = _scratch_of(operator, flat) if lends_scratch else 0
    if scratch:  # as a further result, because callbacks cannot allocate
        kinds.append(jax.ShapeDtypeStruct((scratch,), np.uint8))
    arrays = [_as_type(array, _bits(array.dtype)) for array in flat]
    outputs = compat.buffer_callback(partial(_run_on_buffers, operator, len(results)), kinds)(*arrays)
    return [_as_type(output, dtype) for output, (_, dtype) in zip(outputs, results, strict=False)]


# ---- scratch memory --------------------------------------------------------------------------------------------------


def _scratch_of(operator: Operator, flat: Sequence[Array]) -> int:
    """Return how many bytes of scratch memory XLA must allocate for a call; 0 if it allocates none.

    For calls along tangents and for sums in integers, which use CuPy's operations, CuPy allocates memory. Searches run
    on the host.
    """
    results = [shape for shape, _ in arrays_of.results_of(operator, flat)]
    in_integers = operator.wants_image and is_deterministic()
    if operator.tangents or in_integers or operator.verb in SEARCHES or any(0 in shape for shape in results):
        return 0
    doubles = flat if operator.takes_positions or operator.verb in ADJOINT else unflatten(operator, flat).transform
    copies = [array.shape for array in doubles if array.dtype.itemsize < _DOUBLE]
    own = results[1:] if operator.verb == "sample" or operator.wants_image else results
    besides = sum(_DOUBLE * math.prod(shape) + ALIGNMENT for shape in (*copies, *own))
    return besides + _planned_scratch(operator, flat, results)


def _planned_scratch(operator: Operator, flat: Sequence[Array], results: Sequence[Shape]) -> int:
    """Return how many bytes the engine needs for a call in core order, besides operands and results in its types."""
    from .._engines import cuda  # noqa: PLC0415 - only with a CUDA device

    spec, verb = operator.call, operator.verb
    if operator.takes_positions:
        job = evaluation_job(spec, operator.order)
        return cuda.scratch_of_evaluation(job, verb, math.prod(spec.batch), spec.count)
    if verb in ADJOINT:
        return cuda.scratch_of_field(field_job(spec), verb, flat[0].shape, results[0])
    kinds = [(array.shape, _bits(array.dtype)) for array in flat]
    gradient, image, transform, *_ = unflatten(operator, kinds)
    shapes = [shape for shape, _ in transform]
    plan = compute.plan_of(spec, operator.homogeneous)
    if verb == "sample":
        return cuda.scratch_of_sample(plan.job, shapes, image, (plan.output_shape, image[1]))
    is_sloped = operator.wants_transform and spec.images[0].order > 0
    of_image = (results[0], gradient[1]) if operator.wants_image else None
    return cuda.scratch_of_adjoint(plan.job, gradient, image if is_sloped else None, shapes, of_image)


def _as_type(array: Array, dtype: FrameworkDType) -> Array:
    return array if array.dtype == dtype else lax.bitcast_convert_type(array, dtype)


def _bits(dtype: FrameworkDType) -> FrameworkDType:
    """Return the type that stands for one that CuPy lacks."""
    return np.dtype(np.uint16) if dtype == jnp.bfloat16 else dtype


def _run_on_buffers(
    operator: Operator, results: int, context: compat.BufferContext, outputs: Sequence[compat.Buffer], *flat: object
) -> None:
    xp, place = _place_of(context, outputs[0])
    with place, _allocating_in(xp, outputs[results:]):
        given = [xp.asarray(buffer) for buffer in flat]
        spec = operator.call.for_batch(given[0].shape[: len(operator.call.batch)])  # of the local part of a batch
        arrays = unflatten(operator, given)
        targets = [xp.asarray(output) for output in outputs[:results]]
        into = targets[0] if operator.verb == "sample" or operator.wants_image else None
        for target, result in zip(targets, compute.run(operator, spec, arrays, into), strict=True):
            if result is not target:
                target[...] = result


def _place_of(
    context: compat.BufferContext, output: compat.Buffer
) -> tuple[ArrayNamespace, AbstractContextManager[object]]:
    """Return CuPy, and a context that selects the device of a buffer and XLA's stream.

    In the thread from which XLA calls, others may be current.
    """
    import cupy  # noqa: PLC0415 - only with a CUDA device

    return cupy, _on_stream(cupy, output.__dlpack_device__()[1], context.stream)


def _allocating_in(cupy: ArrayNamespace, scratch: Sequence[compat.Buffer]) -> AbstractContextManager[None]:
    """Return a context in which CuPy takes the memory of a call from one of XLA's buffers, if there is one."""
    if not scratch:
        return nullcontext()
    buffer, allocate = cupy.asarray(scratch[0]), cupy.cuda.get_allocator()

    def more(size: int) -> tuple[int, object]:
        memory = allocate(size)
        return int(memory.ptr), memory

    return allocating_by(lender(int(buffer.data.ptr), int(buffer.nbytes), buffer, more))


@contextmanager
def _on_stream(cupy: ModuleType, device: int, stream: int) -> Iterator[None]:
    with cupy.cuda.Device(device), external_stream(stream):
        yield
