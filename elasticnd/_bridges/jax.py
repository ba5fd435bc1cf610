"""The bridge for JAX: a primitive with its rules, which XLA runs through its foreign function interface.

Outside of programs, arrays that lie in the host's memory go to the core directly.

Where JAX lacks what a primitive needs, a function with `jax.custom_vjp` serves instead: it has reverse mode alone, and
once. Where XLA lacks the interface, it calls through Python.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _core
from .._autodiff import compute, operators, rules
from .._autodiff.framework import Delegated
from .._autodiff.operators import (
    Operands,
    Operator,
    TransformArrays,
    apply_by_component,
    component_specs,
    flatten,
    unflatten,
)
from .._compat import jax as compat
from .._compat.jax import ad, batching, mlir
from .._config import is_deterministic
from .._engines import generic
from .._engines.cuda.devices import allocating_by, external_stream, import_cupy
from .._errors import reject_type, reject_value
from .._job import Job, evaluation_job, field_job
from .._spec import ArrayInfo, DeformSpec, Shape
from .._types import ArrayNamespace, DType, FrameworkDType, NumpyArray, Seed
from . import contract, eager
from .array_api import FrameworkOps

Array: TypeAlias = jax.Array  # or a tracer

_OneDevice = jax.sharding.SingleDeviceSharding

is_recorded = contract.is_recorded
record = contract.record


def delegate(images: Sequence[Array | None], others: Sequence[Array | None]) -> Delegated | None:
    """Return NumPy arrays for arrays at hand, outside of all programs.

    Without images, results have the dtype of an array, which `apply` knows.
    """
    flat = [array for array in (*images, *others) if array is not None]
    if not images or not compat.is_outside_programs() or jax.config.jax_debug_nans or jax.config.jax_debug_infs:
        return None
    # Results are put where their image is: the other arrays must be there for the same reason.
    if len({array.committed for array in flat}) > 1 or not _are_at_hand(flat):
        return None
    return eager, list(map(_to_numpy, images)), list(map(_to_numpy, others))


def _to_numpy(array: Array | None) -> NumpyArray | None:
    return None if array is None else np.asarray(array)


def restored(result: NumpyArray, image: Array) -> Array:
    return _placed(result, image.sharding if image.committed else None)


def _placed(result: NumpyArray, placement: jax.sharding.Sharding | None) -> Array:
    """Return a result of NumPy as an array where it shall be."""
    with jax.transfer_guard_host_to_device("allow"):  # the memory is handed over, nothing is transferred
        return jax.device_put(result, placement)


def info(array: Array) -> ArrayInfo:
    return ArrayInfo(tuple(array.shape), array.dtype.name)


def engine_name(array: Array) -> tuple[str, str]:
    if isinstance(array, jax.core.Tracer):
        return (
            "cpu",
            "a traced array: by the device that the program is compiled for, the host's unless it says otherwise",
        )
    platform = next(iter(array.devices())).platform
    if platform == "cpu":
        return "cpu", "an array in the host's memory, which the core reads"
    if platform in ("cuda", "gpu") and _has_cupy():
        return "cuda", "an array on a CUDA device, which XLA hands to the kernels"
    return "generic", f"operations of JAX, on a device of kind {platform}"


def check(argument: str, image: Array, first: Array) -> None:
    """Check that an image is no key of random numbers, and that all are on the same devices."""
    if jax.dtypes.issubdtype(image.dtype, jax.dtypes.extended):
        reject_type(argument, image, "an array of numbers")
    if image is not first:
        _require_same_devices(argument, image, first)


def _require_same_devices(argument: str, array: Array, image: Array) -> None:
    own, others = _chosen_devices(array), _chosen_devices(image)
    if own and others and own != others:
        reject_value(argument, f"an array on {_names(own)}", f"one on {_names(others)}, where the image is")


def _chosen_devices(array: Array) -> frozenset[jax.Device]:
    """Return the devices that someone put an array on; others go where they are needed, traced ones have none yet."""
    chosen = not isinstance(array, jax.core.Tracer) and getattr(array, "committed", False)
    return frozenset(array.devices()) if chosen else frozenset()


def _names(devices: frozenset[jax.Device]) -> str:
    return ", ".join(sorted(map(str, devices)))


def small_array(argument: str, value: object, like: Array | None = None) -> Array:
    """Return a control grid or a matrix as an array, from one of JAX or NumPy or from nested lists of numbers."""
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
        reject_type(argument, value, "an array of JAX or NumPy, or nested lists of numbers")
    if isinstance(value, (list, tuple)) and any(isinstance(part, jax.Array) for part in value):
        return jnp.stack([jnp.asarray(part) for part in value])
    return jnp.asarray(eager.small_array(argument, value))


def standard_normal(shape: Shape, batch_axes: int, like: Array, rng: Seed) -> jax.Array | None:
    """Draw by a key of JAX."""
    if not isinstance(rng, jax.Array):
        if isinstance(like, jax.core.Tracer):
            reject_type("rng", rng, "a key of jax.random, since the image is traced")
        return None
    if not (jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key) or (rng.dtype == jnp.uint32 and rng.ndim == 1)):
        reject_type("rng", rng, "a key of jax.random, or a seed that is no array")
    return jax.random.normal(rng, shape, float)


def algebra(array: Array) -> FrameworkOps:
    return _OPS


def values(array: Array, *, wait: bool = True) -> NumpyArray | None:
    if isinstance(array, jax.core.Tracer):
        return None
    is_here = wait or all(device.platform == "cpu" for device in array.devices())
    return np.asarray(array) if is_here else None


# ---- application -----------------------------------------------------------------------------------------------------


def apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator; XLA's handlers know real numbers only."""
    images = operator.call.images
    if not images or not images[0].is_complex:
        return _apply(operator, operands)

    def apply_to_component(k: int, own: Operands) -> Sequence[Array]:
        return _apply(operator._replace(call=component_specs(operator.call)[k]), own)

    return apply_by_component(
        apply_to_component, lambda array: (lax.real(array), lax.imag(array)), lax.complex, operator, operands
    )


def _apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator, differentiably if there is a primitive."""
    flat = flatten(operator, operands)
    spec: DeformSpec = operator.call
    if spec.has_affine and spec.batch and not spec.affine_batched:  # so that every operand has the batch axes
        operator, flat = _with_own_affine(operator, spec, flat)
    if _primitive is not None:
        return _primitive.bind(*compat.vary_alike(flat), operator=operator)
    is_deformation = operator.verb == "sample" and not operator.tangents
    return [_sample_once(operator, *flat)] if is_deformation else _call(operator, flat)


_OPS = FrameworkOps(jnp, _apply)


def _results(operator: Operator, flat: Sequence[Array]) -> list[tuple[Shape, DType]]:
    """Return shapes and dtypes of the results."""
    likes = operators.likes(operator, unflatten(operator, flat))
    shapes = operators.result_shapes(operator, operator.call)
    return [(shape, like.dtype) for shape, like in zip(shapes, likes, strict=True)]


def _call(operator: Operator, flat: Sequence[Array]) -> list[Array]:
    """Apply an operator by XLA, which calls the core or Python; arrays that are at hand need no XLA."""
    if _are_at_hand(flat):
        return _run_at_once(operator, flat)
    kinds = [jax.ShapeDtypeStruct(*result) for result in _results(operator, flat)]
    if not _has_target(operator):
        return list(jax.pure_callback(partial(_run, operator), kinds, *flat, vmap_method="sequential"))
    target = jax.ffi.ffi_call(_target_of(operator), kinds, vmap_method="sequential")
    return list(target(*flat, **_attributes(operator)))


def _run(operator: Operator, *flat: Array) -> list[NumpyArray]:
    """Apply an operator in Python."""
    arrays = [np.asarray(array) for array in flat]
    results = compute.run(operator, operator.call, unflatten(operator, arrays))
    kinds = _results(operator, arrays)
    return [result.astype(dtype, copy=False) for result, (_, dtype) in zip(results, kinds, strict=True)]


# ---- without a program -----------------------------------------------------------------------------------------------


def _are_at_hand(flat: Sequence[Array]) -> bool:
    """Check whether all arrays have values in the memory of one host device, where the core can read them.

    XLA compiles a program for every new crop, angle or border value; the core needs none.
    """
    arrays = [array for array in flat if not isinstance(array, np.ndarray)]
    if any(isinstance(array, jax.core.Tracer) or not isinstance(array.sharding, _OneDevice) for array in arrays):
        return False
    if compat.is_in_mesh():
        return False
    # New arrays have no more than 32 bits then, but results shall have the types of arrays that are there.
    if not jax.config.jax_enable_x64 and any(array.dtype.itemsize == 8 for array in flat):
        return False
    placements = _placements(arrays)
    on_host = all(device.platform == "cpu" for array in arrays for device in array.devices())
    return on_host and (len(placements) == 1 or (not placements and _default_platform() == "cpu"))


def _placements(arrays: Sequence[Array]) -> frozenset[jax.sharding.Sharding]:
    """Return where someone has put arrays."""
    return frozenset(array.sharding for array in arrays if getattr(array, "committed", False))


def _default_platform() -> str:
    """Return the kind of device where arrays lie that nobody has put anywhere."""
    default = jax.config.jax_default_device
    if default is None:
        return str(jax.default_backend())
    return default if isinstance(default, str) else str(default.platform)


def _run_at_once(operator: Operator, flat: Sequence[Array]) -> list[Array]:
    """Apply an operator to arrays that are at hand; the results are placed as those of a program would be."""
    placement = next(iter(_placements(flat)), None)
    return [_placed(result, placement) for result in _run(operator, *flat)]


# ---- without a primitive ---------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sample_once(operator: Operator, *flat: Array) -> Array:
    """Sample, with a reverse rule that computes the gradients of image and transform in one go."""
    return _call(operator, flat)[0]


def _sample_forward(operator: Operator, *flat: Array) -> tuple[Array, tuple[Array, ...]]:
    return _call(operator, flat)[0], flat


def _sample_backward(operator: Operator, flat: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    image_has_gradient = jnp.issubdtype(flat[0].dtype, jnp.inexact)
    if not image_has_gradient:
        return (None, *map(jnp.zeros_like, flat[1:]))
    needed = unflatten(operator, [True] * len(flat))
    return tuple(flatten(operator, rules.vjp(_OPS, operator, unflatten(operator, flat), [cotangent], needed)))


_sample_once.defvjp(_sample_forward, _sample_backward)


# ---- the primitive ---------------------------------------------------------------------------------------------------


def _abstract(*flat: Array, operator: Operator) -> list[object]:
    return [compat.result_type(flat[0], shape, dtype) for shape, dtype in _results(operator, flat)]


def _jvp(primals: Sequence[Array], tangents: Sequence[Array], *, operator: Operator) -> tuple[list[Array], list[Array]]:
    outputs = _primitive.bind(*primals, operator=operator)
    operands = unflatten(operator, primals)
    if jnp.issubdtype(outputs[0].dtype, jnp.inexact) and not operator.call.votes:
        changes = [None if type(tangent) is ad.Zero else tangent for tangent in tangents]
        derivatives = rules.jvp(_OPS, operator, operands, unflatten(operator, changes))
    else:
        derivatives = [None] * len(outputs)
    zeros = map(compat.zero_tangent, outputs)
    return outputs, [zero if result is None else result for zero, result in zip(zeros, derivatives, strict=True)]


def _transpose(cotangents: Sequence[Array], *flat: Array, operator: Operator) -> list[Array]:
    """Transpose in the operands that are still open."""
    given = [None if type(cotangent) is ad.Zero else cotangent for cotangent in cotangents]
    is_open = [ad.is_undefined_primal(operand) for operand in flat]
    if all(cotangent is None for cotangent in given):
        return [ad.Zero(operand.aval) if left else None for operand, left in zip(flat, is_open, strict=True)]
    needed = unflatten(operator, is_open)
    gradients = flatten(operator, rules.vjp(_OPS, operator, unflatten(operator, flat), given, needed))
    return [gradient if left else None for gradient, left in zip(gradients, is_open, strict=True)]


def _map(flat: Sequence[Array], dims: Sequence[int | None], *, operator: Operator) -> tuple[Sequence[Array], list[int]]:
    size = next(array.shape[dim] for array, dim in zip(flat, dims, strict=True) if dim is not None)
    first = [array if dim is None else jnp.moveaxis(array, dim, 0) for array, dim in zip(flat, dims, strict=True)]
    mapped = unflatten(operator, [dim is not None for dim in dims])
    results = rules.apply_mapped(_OPS, operator, size, unflatten(operator, first), mapped)
    return results, [0] * len(results)


def _evaluate(*flat: Array, operator: Operator) -> list[Array]:
    """Apply the primitive outside of programs."""
    if _are_at_hand(flat):
        results = _run_at_once(operator, flat)
    else:
        # JAX would run a program that is disabled, or has given NaN, by the primitives in it: this one.
        with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):
            results = _jitted(operator)(*flat)
    if jax.config.jax_debug_nans:
        _check_for("NaN", jnp.isnan, results)
    if jax.config.jax_debug_infs:
        _check_for("infinity", jnp.isinf, results)
    return results


def _check_for(name: str, is_bad: Callable[[Array], Array], results: Sequence[Array]) -> None:
    if any(bool(is_bad(result).any()) for result in results):
        raise FloatingPointError(f"elasticnd: {name} in a result")


@lru_cache(maxsize=512)
def _jitted(operator: Operator) -> Callable[..., list[Array]]:
    return jax.jit(lambda *flat: _primitive.bind(*flat, operator=operator))


def _lower(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    if not _has_target(operator):
        return mlir.lower_fun(partial(_call_by_operator, operator), multiple_results=True)(context, *flat)
    extra = _partition(operator, context)
    lowering = jax.ffi.ffi_lowering(_target_of(operator), extra_attributes=extra)
    return lowering(context, *flat, **_attributes(operator))


def _call_by_operator(operator: Operator, *flat: Array) -> list[Array]:
    return _call(operator, flat)


def _lower_on_gpu(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    if not _has_cupy():
        return _lower_by_generic(context, *flat, operator=operator)
    return mlir.lower_fun(partial(_call_on_buffers, operator), multiple_results=True)(context, *flat)


@lru_cache(maxsize=1)
def _has_cupy() -> bool:
    """Return whether the CUDA kernels can run; without CuPy, operations of JAX do the same on the device."""
    if not compat.HAS_BUFFER_CALLBACKS or importlib.util.find_spec("cupy") is None:
        return False
    try:
        import_cupy("X", "an array on a CUDA device")
    except (ImportError, RuntimeError) as error:
        warnings.warn(f"operations of JAX compute instead of the CUDA kernels: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True


def _call_on_buffers(operator: Operator, *flat: Array) -> list[Array]:
    """Apply an operator by the CUDA kernels, which read and write XLA's buffers on XLA's stream."""
    results = _results(operator, flat)
    kinds = [jax.ShapeDtypeStruct(shape, _bits(dtype)) for shape, dtype in results]
    scratch = _scratch_of(operator, flat)
    if scratch:  # as one more result, since callbacks can allocate nothing
        kinds.append(jax.ShapeDtypeStruct((scratch,), np.uint8))
    arrays = [_as_type(array, _bits(array.dtype)) for array in flat]
    outputs = compat.buffer_callback(partial(_run_on_buffers, operator, len(results)), kinds)(*arrays)
    return [_as_type(output, dtype) for output, (_, dtype) in zip(outputs, results, strict=False)]


def _scratch_of(operator: Operator, flat: Sequence[Array]) -> int:
    """Return how many bytes of scratch memory a call needs, which XLA shall allocate; 0 where CuPy does."""
    results = _results(operator, flat)
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
        arrays = unflatten(operator, [xp.asarray(buffer) for buffer in flat])
        targets = [xp.asarray(output) for output in outputs[:results]]
        into = targets[0] if operator.verb == "sample" or operator.wants_image else None
        for target, result in zip(targets, compute.run(operator, operator.call, arrays, into), strict=True):
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


def _lower_by_generic(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    """Lower to operations of JAX, on devices that the core does not know, such as TPUs."""
    return mlir.lower_fun(partial(_by_generic, operator), multiple_results=True)(context, *flat)


@jax.default_matmul_precision("highest")
def _by_generic(operator: Operator, *flat: Array) -> list[Array]:
    """Apply an operator by operations of JAX, which knows their derivatives."""
    spec = operator.call
    gradient, image, transform, tangents, positions = unflatten(operator, flat)
    if operator.takes_positions:
        return _at_positions(operator, gradient, transform, positions)
    if operator.verb == "displace":
        return [generic.displace(jnp, spec, transform[0])]
    if operator.verb == "displace_adjoint":
        _, adjoint = jax.vjp(partial(generic.displace, jnp, spec), jnp.zeros(spec.displacement_shape, gradient.dtype))
        return list(adjoint(gradient))
    affine = transform[1] if spec.has_affine else None

    def deform(homogeneous: bool, image: Array, points: Array, *tangent: Array) -> Array:
        moved = tangent[0] if tangent else None
        return generic.sample(jnp, spec, image, points, affine, tangent=moved, homogeneous=homogeneous)

    here = (transform[0], *map(jnp.zeros_like, transform[1:]))
    if operator.verb == "sample":
        return [_along(partial(deform, operator.homogeneous, image), tangents)(*here)]
    results: list[Array] = []
    if operator.wants_image:
        blank = jnp.zeros(spec.images[0].shape, gradient.dtype)
        _, adjoint = jax.vjp(lambda image: _along(partial(deform, True, image), tangents)(*here), blank)
        results += adjoint(gradient)
    if operator.wants_transform:
        _, adjoint = jax.vjp(_along(partial(deform, operator.homogeneous, image), tangents), *here)
        results += adjoint(gradient)
    return results


def _at_positions(operator: Operator, gradient: Array, transform: TransformArrays, positions: Array) -> list[Array]:
    """Apply an operator that takes positions by operations of JAX."""
    spec = operator.call
    if operator.verb == "move_points":
        return [generic.move_points(jnp, spec, transform[0], transform[1] if spec.has_affine else None, positions)]
    if operator.verb == "find_extremes":
        return _call(operator, flatten(operator, Operands(transform=transform, positions=positions)))
    if operator.verb == "evaluate":
        return [generic.evaluate(jnp, spec, transform[0], positions, operator.order)]
    evaluation = partial(generic.evaluate, jnp, spec, positions=positions, order=operator.order)
    _, adjoint = jax.vjp(evaluation, jnp.zeros(spec.displacement_shape, gradient.dtype))
    return list(adjoint(gradient))


def _along(function: Callable[..., Array], tangents: Sequence[TransformArrays]) -> Callable[..., Array]:
    """Differentiate a function along tangents."""
    for tangent in tangents:
        function = partial(_along_one, function, tangent)
    return function


def _along_one(function: Callable[..., Array], tangent: TransformArrays, *here: Array) -> Array:
    derivative: Array = jax.jvp(function, here, tangent)[1]
    return derivative


def _make_primitive() -> Any:
    primitive = compat.Primitive("elasticnd")
    primitive.multiple_results = True
    primitive.def_impl(_evaluate)
    primitive.def_abstract_eval(_abstract)
    ad.primitive_jvps[primitive] = _jvp
    ad.primitive_transposes[primitive] = _transpose
    batching.primitive_batchers[primitive] = _map
    mlir.register_lowering(primitive, _lower, platform="cpu")
    mlir.register_lowering(primitive, _lower_on_gpu, platform="cuda")
    mlir.register_lowering(primitive, _lower_by_generic)
    return primitive


_primitive: Any = _make_primitive() if compat.HAS_PRIMITIVES else None


# ---- many devices ----------------------------------------------------------------------------------------------------


def _with_own_affine(operator: Operator, spec: DeformSpec, flat: list[Array]) -> tuple[Operator, list[Array]]:
    """Repeat the affine matrix, and its tangents, for every batch item."""
    operands = unflatten(operator, flat)

    def own(arrays: TransformArrays) -> TransformArrays:
        displacement, affine = arrays
        return displacement, jnp.broadcast_to(affine, (*spec.batch, *affine.shape))

    tangents = tuple(map(own, operands.tangents))
    wider = operands._replace(transform=own(operands.transform), tangents=tangents)
    operator = operator._replace(call=spec.with_batched_affine())
    return operator, flatten(operator, wider)


def _partition(operator: Operator, context: compat.LoweringContext) -> dict[str, object] | None:
    """Return what tells XLA that batch items are independent, so that sharded batches stay where they are."""
    batch = len(operator.call.batch)
    if not batch or not hasattr(jax.ffi, "register_ffi_target_as_batch_partitionable"):
        return None
    count = batch
    names = [_factor(k) for k in range(batch)]
    sizes = dict(zip(names, operator.call.batch, strict=True))
    texts = []
    for aval in (*context.avals_in, *context.avals_out):
        own = list(names)
        for extent in aval.shape[batch:]:
            own.append(_factor(count))
            sizes[own[-1]] = extent
            count += 1
        texts.append(f"[{', '.join(own)}]")
    inputs = len(context.avals_in)
    rest = [name for name in sizes if name not in names]
    rule = (
        f"#sdy.op_sharding_rule<({', '.join(texts[:inputs])})->({', '.join(texts[inputs:])}) "
        f"{{{', '.join(f'{name}={size}' for name, size in sizes.items())}}} "
        f"need_replication={{{', '.join(rest)}}}, custom>"
    )
    return {
        "mhlo.frontend_attributes": mlir.ir.DictAttr.get({"num_batch_dims": mlir.ir.StringAttr.get(str(batch))}),
        "sdy.sharding_rule": mlir.ir.Attribute.parse(rule),
    }


def _factor(index: int) -> str:
    """Return the name of an axis, as Shardy has them: i, j, ... z, z_1, z_2, ..."""
    return chr(ord("i") + index) if index < 18 else f"z_{index - 17}"


# ---- XLA -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _has_targets() -> bool:
    """Register the handlers of the core. A handler that is too new for XLA would disable it altogether."""
    targets = _core.xla_targets()
    if not targets or not hasattr(jax, "ffi") or _core.xla_version > _runtime_version():
        return False
    for name, capsule in targets.items():
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
        if hasattr(jax.ffi, "register_ffi_target_as_batch_partitionable"):
            jax.ffi.register_ffi_target_as_batch_partitionable(name)
    return True


def _runtime_version() -> tuple[int, int]:
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h").read_text()
    major, minor = (re.search(rf"XLA_FFI_API_{part} (\d+)", header) for part in ("MAJOR", "MINOR"))
    return (int(major[1]), int(minor[1])) if major and minor else (0, 0)


def _has_target(operator: Operator) -> bool:
    """Return whether XLA calls the core itself; else it calls through Python."""
    return operator.verb not in operators.SEARCHES and _has_targets()


def _target_of(operator: Operator) -> str:
    return f"elasticnd_{operator.verb}"


@lru_cache(maxsize=512)
def _attributes(operator: Operator) -> dict[str, Any]:
    """Pack the numbers of a call, as cpp/src/bindings/xla.cpp takes them."""
    spec: Any = operator.call
    if operator.verb in operators.EVALUATION:
        return {"job": _words(evaluation_job(spec, operator.order))}
    if operator.verb in operators.ADJOINT:
        return {"job": _words(field_job(spec))}
    wants = operator.wants_image, operator.wants_transform
    return {
        "job": _words(compute.plan_of(spec, operator.homogeneous).job),
        "axes": np.array(spec.core_axes(spec.images[0]), np.int64),
        "operands": np.array([spec.has_affine, operator.tangents, *wants], np.int64),
    }


def _words(job: Job) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(job.tobytes(), np.int64)
