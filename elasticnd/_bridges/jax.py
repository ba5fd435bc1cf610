"""The bridge for JAX: a primitive with its rules, which XLA runs through its foreign function interface.

Outside of programs, arrays that lie in the host's memory go to the core directly.

Where JAX lacks what a primitive needs, a function with `jax.custom_vjp` serves instead: it has reverse mode alone, and
once. Where XLA lacks the interface, it calls through Python.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _affine, _core
from .._autodiff import compute, operators, rules
from .._autodiff.operators import Operands, Operator, TransformArrays, flatten, unflatten
from .._engines import generic
from .._engines.kernels import external_stream
from .._errors import reject_type, reject_value
from .._job import Job, evaluation_job, field_job
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec, Shape
from .._types import FrameworkDType, NumpyArray, Seed, Unchecked
from . import contract, eager

try:
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir
except ImportError:  # pragma: no cover - an older or newer JAX
    Primitive = None

try:
    from jax.experimental.buffer_callback import buffer_callback
except ImportError:  # pragma: no cover - an older or newer JAX
    buffer_callback = None

Array = Any

_OneDevice = jax.sharding.SingleDeviceSharding

is_deferred = contract.is_deferred
deferred = contract.deferred


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
    """Refuse keys of random numbers, and images on several devices."""
    if jax.dtypes.issubdtype(image.dtype, jax.dtypes.extended):
        reject_type(argument, image, "an array of numbers")
    if image is not first:
        _require_same_devices(argument, image, first)


def _require_same_devices(argument: str, array: Array, image: Array) -> None:
    own, others = _chosen_devices(array), _chosen_devices(image)
    if own and others and own != others:
        reject_value(argument, f"an array on {_names(own)}", f"one on {_names(others)}, where the image is")


def _chosen_devices(array: Array) -> frozenset[Any]:
    """Give the devices that someone put an array on; others go where they are needed, traced ones have none yet."""
    chosen = not isinstance(array, jax.core.Tracer) and getattr(array, "committed", False)
    return frozenset(array.devices()) if chosen else frozenset()


def _names(devices: frozenset[Any]) -> str:
    return ", ".join(sorted(map(str, devices)))


def small_array(argument: str, value: Unchecked, like: Array | None = None) -> Array:
    """Take a control grid or a matrix: an array of JAX or NumPy, or nested lists of numbers."""
    if not isinstance(value, jax.Array):
        if not isinstance(value, (np.ndarray, list, tuple)):
            reject_type(argument, value, "an array of JAX or NumPy, or nested lists of numbers")
        if isinstance(value, (list, tuple)) and any(isinstance(part, jax.Array) for part in value):
            value = jnp.stack([jnp.asarray(part) for part in value])
        else:
            value = jnp.asarray(eager.small_array(argument, value))
    elif like is not None:
        _require_same_devices(argument, value, like)
    if jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(jnp.result_type(float))
    narrow = jnp.issubdtype(value.dtype, jnp.floating) and value.dtype.itemsize < 4
    return value.astype(jnp.float32) if narrow else value


# ---- calls -----------------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None) -> list[Array]:
    transform = _transform(spec, displacement, affine)
    return [
        _joined(
            [
                _sample(Operator(part, "sample"), source, transform)
                for part, source in zip(parts, _parts(image), strict=True)
            ]
        )
        for image, parts in zip(images, operators.real_components(spec), strict=True)
    ]


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array | None]:
    """Pull gradients of the outputs back to the images; this is differentiable itself."""
    transform = _transform(spec, displacement, affine)

    def pull(part: DeformSpec, source: Array) -> Array:
        operator = Operator(part, "sample_adjoint", wants_image=True)
        return _apply(operator, Operands(gradient=source, transform=transform))[0]

    return [
        _joined([pull(part, source) for part, source in zip(parts, _parts(gradient), strict=True)])
        for gradient, parts in zip(gradients, operators.real_components(spec), strict=True)
    ]


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    given = [k for k, gradient in enumerate(gradients) if gradient is not None]

    def deform(wanted: list[Array], displacement: Array, affine: Array | None) -> list[Array]:
        merged = list(images)
        for k, image in zip(given, wanted, strict=True):
            merged[k] = image
        outputs = forward(spec, merged, displacement, affine)
        return [outputs[k] for k in given]

    outputs, pull = jax.vjp(deform, [images[k] for k in given], displacement, affine)
    # JAX takes the gradient of a complex number conjugated.
    pulled = pull([jnp.conj(gradients[k]).astype(y.dtype) for k, y in zip(given, outputs, strict=True)])
    of_images: list[Array | None] = [None] * len(images)
    for k, of_image in zip(given, pulled[0], strict=True):
        of_images[k] = jnp.conj(of_image)
    return of_images, pulled[1], pulled[2]


def dense(spec: DeformSpec, displacement: Array) -> Array:
    return _apply(Operator(spec, "displace"), Operands(transform=(displacement,)))[0]


def evaluate(spec: EvaluationSpec, order: int, displacement: Array, positions: Array) -> Array:
    operands = Operands(transform=(displacement,), positions=positions)
    return _apply(Operator(spec, "evaluate", order=order), operands)[0]


def algebra(array: Array) -> _FrameworkOps:
    """Return the linear algebra of JAX."""
    return _OPS


def values(array: Array) -> NumpyArray | None:
    """Return the values of an array; None while it is traced."""
    return None if isinstance(array, jax.core.Tracer) else np.asarray(array)


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Array, rng: Seed) -> Array:
    """Draw displacements of control points: from a key of JAX, or by a seed as NumPy does."""
    if not isinstance(rng, jax.Array):
        if isinstance(like, jax.core.Tracer):
            reject_type("rng", rng, "a key of jax.random, since the image is traced")
        return eager.random_normal(shape, scale, like, rng)
    if not (jax.dtypes.issubdtype(rng.dtype, jax.dtypes.prng_key) or (rng.dtype == jnp.uint32 and rng.ndim == 1)):
        reject_type("rng", rng, "a key of jax.random, or a seed that is no array")
    return jax.random.normal(rng, tuple(shape), float) * jnp.reshape(jnp.asarray(scale), (-1, *(1,) * len(scale)))


def _transform(spec: DeformSpec, displacement: Array, affine: Array | None) -> TransformArrays:
    if affine is None:
        return (displacement,)
    # Values on a device are not looked at: that would wait for them.
    if not isinstance(affine, jax.core.Tracer) and all(device.platform == "cpu" for device in affine.devices()):
        _affine.checked_affine(np.asarray(affine), spec.axes)
    return (displacement, affine[..., : spec.axes, :])


def _parts(array: Array) -> list[Array]:
    return [lax.real(array), lax.imag(array)] if jnp.iscomplexobj(array) else [array]


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else lax.complex(*parts)


# ---- application -----------------------------------------------------------------------------------------------------


def _sample(operator: Operator, image: Array, transform: TransformArrays) -> Array:
    if _primitive is None:
        return _sample_once(operator, image, *transform)
    return _apply(operator, Operands(image=image, transform=transform))[0]


def _apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator, differentiably if there is a primitive."""
    flat = flatten(operator, operands)
    spec: DeformSpec = operator.call
    if spec.has_affine and spec.batch and not spec.affine_batched:  # so that every operand has the batch axes
        operator, flat = _with_own_affine(operator, spec, flat)
    if _primitive is None:
        return _call(operator, flat)
    return _primitive.bind(*_equally_varying(flat), operator=operator)


def _results(operator: Operator, flat: Sequence[Array]) -> list[tuple[Shape, Any]]:
    """Give shapes and dtypes of the results."""
    likes = operators.likes(operator, unflatten(operator, flat))
    shapes = operators.result_shapes(operator, operator.call)
    return [(shape, like.dtype) for shape, like in zip(shapes, likes, strict=True)]


def _call(operator: Operator, flat: Sequence[Array]) -> list[Array]:
    """Have XLA call the core, or Python; arrays that are at hand need no XLA."""
    if _are_at_hand(flat):
        return _run_at_once(operator, flat)
    kinds = [jax.ShapeDtypeStruct(*result) for result in _results(operator, flat)]
    if not _has_targets():
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
    mesh = getattr(jax.sharding, "get_abstract_mesh", None)  # which an older JAX lacks
    if mesh is not None and not mesh().empty:  # results go to its devices
        return False
    # New arrays have no more than 32 bits then, but results shall have the types of arrays that are there.
    if not jax.config.jax_enable_x64 and any(array.dtype.itemsize == 8 for array in flat):
        return False
    placements = _placements(arrays)
    on_host = all(device.platform == "cpu" for array in arrays for device in array.devices())
    return on_host and (len(placements) == 1 or (not placements and _default_platform() == "cpu"))


def _placements(arrays: Sequence[Array]) -> frozenset[Any]:
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
    with jax.transfer_guard_host_to_device("allow"):  # the memory is handed over, nothing is transferred
        return [jax.device_put(result, placement) for result in _run(operator, *flat)]


class _FrameworkOps:
    """What the chain rule needs of JAX."""

    apply = staticmethod(_apply)
    zeros_like = staticmethod(jnp.zeros_like)
    inverse = staticmethod(jnp.linalg.inv)
    broadcast = staticmethod(jnp.broadcast_to)
    reshaped = staticmethod(jnp.reshape)
    summed = staticmethod(jnp.sum)
    reordered = staticmethod(jnp.transpose)
    determinant = staticmethod(jnp.linalg.det)

    @staticmethod
    def converted(array: Array, like: Array) -> Array:
        return array.astype(like.dtype)

    @staticmethod
    def transposed(matrices: Array) -> Array:
        return jnp.swapaxes(matrices, -1, -2)

    @staticmethod
    def joined(left: Array, right: Array) -> Array:
        return jnp.concatenate([left, right], -1)

    @staticmethod
    def constant(values: Array, like: Array) -> Array:
        return jnp.asarray(values, like.dtype)


_OPS = _FrameworkOps()


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


def _abstract(*flat: Any, operator: Operator) -> list[Any]:
    base = flat[0]  # which knows over which axes of a mesh it varies
    return [
        base.update(shape=shape, dtype=dtype, weak_type=False, sharding=base.sharding.update(spec=(None,) * len(shape)))
        for shape, dtype in _results(operator, flat)
    ]


def _push(
    primals: Sequence[Array], tangents: Sequence[Array], *, operator: Operator
) -> tuple[list[Array], list[Array]]:
    outputs = _primitive.bind(*primals, operator=operator)
    operands = unflatten(operator, primals)
    if jnp.issubdtype(outputs[0].dtype, jnp.inexact):
        changes = [None if type(tangent) is ad.Zero else tangent for tangent in tangents]
        pushed = rules.jvp(_OPS, operator, operands, unflatten(operator, changes))
    else:
        pushed = [None] * len(outputs)
    zeros = (ad.Zero(output.aval.to_tangent_aval()) for output in outputs)
    return outputs, [zero if result is None else result for zero, result in zip(zeros, pushed, strict=True)]


def _pull(cotangents: Sequence[Array], *flat: Array, operator: Operator) -> list[Array]:
    """Transpose in the operands that are still open."""
    given = [None if type(cotangent) is ad.Zero else cotangent for cotangent in cotangents]
    is_open = [ad.is_undefined_primal(operand) for operand in flat]
    if all(cotangent is None for cotangent in given):
        return [ad.Zero(operand.aval) if left else None for operand, left in zip(flat, is_open, strict=True)]
    needed = unflatten(operator, is_open)
    pulled = flatten(operator, rules.vjp(_OPS, operator, unflatten(operator, flat), given, needed))
    return [gradient if left else None for gradient, left in zip(pulled, is_open, strict=True)]


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


def _check_for(name: str, is_bad: Any, results: Sequence[Array]) -> None:
    if any(bool(is_bad(result).any()) for result in results):
        raise FloatingPointError(f"elasticnd: {name} in a result")


@lru_cache(maxsize=512)
def _jitted(operator: Operator) -> Any:
    return jax.jit(lambda *flat: _primitive.bind(*flat, operator=operator))


def _lower(context: Any, *flat: Any, operator: Operator) -> Any:
    if not _has_targets():
        return mlir.lower_fun(partial(_call_by_operator, operator), multiple_results=True)(context, *flat)
    extra = _partition(operator, context)
    lowering = jax.ffi.ffi_lowering(_target_of(operator), extra_attributes=extra)
    return lowering(context, *flat, **_attributes(operator))


def _call_by_operator(operator: Operator, *flat: Array) -> list[Array]:
    return _call(operator, flat)


def _lower_on_gpu(context: Any, *flat: Any, operator: Operator) -> Any:
    if not _has_cupy():
        return _lower_plainly(context, *flat, operator=operator)
    return mlir.lower_fun(partial(_call_on_buffers, operator), multiple_results=True)(context, *flat)


@lru_cache(maxsize=1)
def _has_cupy() -> bool:
    """Tell whether the CUDA kernels can run; without CuPy, operations of JAX do the same on the device."""
    return buffer_callback is not None and importlib.util.find_spec("cupy") is not None


def _call_on_buffers(operator: Operator, *flat: Array) -> list[Array]:
    """Have the CUDA kernels read and write XLA's buffers, on XLA's stream."""
    results = _results(operator, flat)
    kinds = [jax.ShapeDtypeStruct(shape, _bits(dtype)) for shape, dtype in results]
    arrays = [_as_type(array, _bits(array.dtype)) for array in flat]
    outputs = buffer_callback(partial(_run_on_buffers, operator), kinds)(*arrays)
    return [_as_type(output, dtype) for output, (_, dtype) in zip(outputs, results, strict=True)]


def _as_type(array: Array, dtype: FrameworkDType) -> Array:
    return array if array.dtype == dtype else lax.bitcast_convert_type(array, dtype)


def _bits(dtype: FrameworkDType) -> FrameworkDType:
    """Give the type that stands for one which CuPy has not."""
    return np.dtype(np.uint16) if dtype == jnp.bfloat16 else dtype


def _run_on_buffers(operator: Operator, context: Any, outputs: Sequence[Array], *flat: Array) -> None:
    xp, stream = _place_of(context)
    with stream:
        arrays = unflatten(operator, [xp.asarray(buffer) for buffer in flat])
        targets = [xp.asarray(output) for output in outputs]
        into = targets[0] if operator.verb == "sample" or operator.wants_image else None
        for target, result in zip(targets, compute.run(operator, operator.call, arrays, into), strict=True):
            if result is not target:
                target[...] = result


def _place_of(context: Any) -> tuple[Any, Any]:
    import cupy  # noqa: PLC0415 - for those who have a CUDA device

    return cupy, external_stream(context.stream)


def _lower_plainly(context: Any, *flat: Any, operator: Operator) -> Any:
    """Serve devices that the core does not know, such as TPUs."""
    return mlir.lower_fun(partial(_plainly, operator), multiple_results=True)(context, *flat)


@jax.default_matmul_precision("highest")
def _plainly(operator: Operator, *flat: Array) -> list[Array]:
    """Apply an operator by operations of JAX, which knows their derivatives."""
    spec: Any = operator.call
    gradient, image, transform, tangents, positions = unflatten(operator, flat)
    if operator.verb == "evaluate":
        return [generic.evaluate(jnp, spec, transform[0], positions, operator.order)]
    if operator.verb == "evaluate_adjoint":
        evaluation = partial(generic.evaluate, jnp, spec, positions=positions, order=operator.order)
        _, pull = jax.vjp(evaluation, jnp.zeros(spec.displacement_shape, gradient.dtype))
        return list(pull(gradient))
    if operator.verb == "displace":
        return [generic.displace(jnp, spec, transform[0])]
    if operator.verb == "displace_adjoint":
        _, pull = jax.vjp(partial(generic.displace, jnp, spec), jnp.zeros(spec.displacement_shape, gradient.dtype))
        return list(pull(gradient))
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
        _, pull = jax.vjp(lambda image: _along(partial(deform, True, image), tangents)(*here), blank)
        results += pull(gradient)
    if operator.wants_transform:
        _, pull = jax.vjp(_along(partial(deform, operator.homogeneous, image), tangents), *here)
        results += pull(gradient)
    return results


def _along(function: Any, tangents: Sequence[TransformArrays]) -> Any:
    """Differentiate a function along tangents."""
    for tangent in tangents:
        function = partial(_along_one, function, tangent)
    return function


def _along_one(function: Any, tangent: TransformArrays, *here: Array) -> Array:
    return jax.jvp(function, here, tangent)[1]


def _make_primitive() -> Any:
    primitive = Primitive("elasticnd")
    primitive.multiple_results = True
    primitive.def_impl(_evaluate)
    primitive.def_abstract_eval(_abstract)
    ad.primitive_jvps[primitive] = _push
    ad.primitive_transposes[primitive] = _pull
    batching.primitive_batchers[primitive] = _map
    mlir.register_lowering(primitive, _lower, platform="cpu")
    mlir.register_lowering(primitive, _lower_on_gpu, platform="cuda")
    mlir.register_lowering(primitive, _lower_plainly)
    return primitive


_primitive: Any = None if Primitive is None else _make_primitive()


# ---- many devices ----------------------------------------------------------------------------------------------------


def _with_own_affine(operator: Operator, spec: DeformSpec, flat: list[Array]) -> tuple[Operator, list[Array]]:
    """Repeat the affine matrix, and its tangents, for every batch item."""
    operands = unflatten(operator, flat)

    def own(pair: TransformArrays) -> TransformArrays:
        return pair[0], jnp.broadcast_to(pair[1], (*spec.batch, *pair[1].shape))

    pairs = tuple(map(own, operands.tangents))
    wider = operands._replace(transform=own(operands.transform), tangents=pairs)
    operator = operator._replace(call=spec.with_batched_affine())
    return operator, flatten(operator, wider)


def _equally_varying(flat: Sequence[Array]) -> Sequence[Array]:
    """Inside of `jax.shard_map`, let all operands vary over the axes of the mesh that one of them varies over."""
    if not hasattr(jax, "typeof"):
        return flat
    axes = [_varying_axes(jax.typeof(array)) for array in flat]
    every = frozenset().union(*axes)
    if not every:
        return flat
    return [
        _vary(array, tuple(sorted(every - own))) if every - own else array
        for array, own in zip(flat, axes, strict=True)
    ]


def _varying_axes(aval: Any) -> frozenset[str]:
    if hasattr(aval, "manual_axis_type"):  # since JAX 0.10
        return frozenset(aval.manual_axis_type.varying)
    return getattr(aval, "vma", frozenset())


def _vary(array: Array, axes: tuple[str, ...]) -> Array:
    return lax.pcast(array, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axes)


def _partition(operator: Operator, context: Any) -> dict[str, Any] | None:
    """Tell XLA that each batch item is computed by itself, so that sharded batches stay where they are."""
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
    """Name an axis as Shardy does: i, j, ... z, z_1, z_2, ..."""
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
