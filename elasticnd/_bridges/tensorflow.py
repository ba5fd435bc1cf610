"""The bridge for TensorFlow: functions with gradients of their own, around calls into NumPy.

XLA cannot compile such calls: in functions that it compiles, operations of TensorFlow do all, derivatives included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from .. import _affine, _check
from .._autodiff import compute, operators, rules
from .._autodiff.operators import Operands, Operator, TransformArrays, flatten, unflatten
from .._compat import tensorflow as compat
from .._config import forced_engine
from .._engines.kernels import import_cupy
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec, Options
from .._types import Array, FrameworkDType, NumpyArray, Seed, Unchecked
from . import eager, operations, tensorflow_names

Tensor = Any

_ALIGNMENT = 64  # bytes

# What cannot call into Python names the node: XLA, of a function that was traced before an outer function was to be
# compiled, and another process, of a SavedModel.
_NODE = "elasticnd_calls_Python__for_XLA_or_SavedModel_trace_it_with_elasticnd.engine_generic"


def info(tensor: Tensor) -> ArrayInfo:
    """Tell shape and dtype; an extent that is not known counts as 1."""
    return ArrayInfo(tuple(extent or (1 if extent is None else 0) for extent in tensor.shape), tensor.dtype.name)


def engine_name(tensor: Tensor) -> tuple[str, str]:
    if _is_plain():
        return "generic", "it was asked for" if forced_engine() else "operations of TensorFlow, which XLA compiles"
    device = getattr(tensor, "device", "") or "a graph"
    return ("cuda" if "GPU" in device else "cpu"), f"a tensor on {device}"


def _by_operations(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call with the operations of TensorFlow; there is nothing in there for AutoGraph to rewrite."""
    return tf.autograph.experimental.do_not_convert(function)(tensorflow_names, *arguments)


def _is_plain() -> bool:
    """Tell whether operations of TensorFlow are to compute."""
    return forced_engine() == "generic" or compat.is_compiled_by_xla()


def check(argument: str, image: Tensor, first: Tensor) -> None:
    """Refuse what is no dense array of numbers."""
    if not image.dtype.is_numpy_compatible or image.dtype in (tf.string, tf.variant, tf.resource):
        reject_type(argument, image, "a dense tensor of numbers")


def is_deferred(arrays: Sequence[Array]) -> bool:
    """Tell whether shapes are not known yet."""
    return not all(array.shape.is_fully_defined() for array in arrays if isinstance(array, (tf.Tensor, tf.Variable)))


def small_array(argument: str, value: Unchecked, like: Tensor | None = None) -> Tensor:
    """Take a control grid or a matrix: a tensor or variable, a NumPy array or nested lists of numbers."""
    if isinstance(value, (tf.Tensor, tf.Variable)):
        value = tf.convert_to_tensor(value)
        if value.dtype.is_integer:
            return tf.cast(value, tf.float64)
        return tf.cast(value, tf.float32) if value.dtype in (tf.float16, tf.bfloat16) else value
    if not isinstance(value, (np.ndarray, list, tuple)):
        reject_type(argument, value, "a tensor of TensorFlow, a NumPy array or nested lists of numbers")
    if isinstance(value, (list, tuple)) and any(isinstance(part, (tf.Tensor, tf.Variable)) for part in value):
        return small_array(argument, tf.stack(value))
    array = eager.small_array(argument, value)
    return tf.constant(array.astype(np.float64)) if array.dtype.kind in "iuf" else tf.zeros(array.shape, tf.bool)


# ---- calls -----------------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Tensor], displacement: Tensor, affine: Tensor | None) -> list[Tensor]:
    if _is_plain():
        return _by_operations(operations.forward, spec, _tensors(images), displacement, affine)
    transform = _transform(displacement, affine)
    return [
        _deform(list(parts), image, transform)
        for image, parts in zip(images, operators.real_components(spec), strict=True)
    ]


def _deform(calls: Sequence[Array], image: Tensor, transform: TransformArrays) -> Tensor:
    results = [
        _apply(Operator(call, "sample"), Operands(image=source, transform=transform))[0]
        for call, source in zip(calls, _parts(image), strict=True)
    ]
    return _joined(results)


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Tensor], displacement: Tensor, affine: Tensor | None
) -> list[Tensor | None]:
    """Pull gradients of the outputs back to the images; this is differentiable itself."""
    if _is_plain():
        return _by_operations(operations.image_vjp, spec, _tensors(gradients), displacement, affine)
    transform = _transform(displacement, affine)

    def pull(part: DeformSpec, source: Tensor) -> Tensor:
        operator = Operator(part, "sample_adjoint", wants_image=True)
        return _apply(operator, Operands(gradient=source, transform=transform))[0]

    return [
        _joined([pull(part, source) for part, source in zip(parts, _parts(gradient), strict=True)])
        for gradient, parts in zip(gradients, operators.real_components(spec), strict=True)
    ]


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Tensor | None],
    images: Sequence[Tensor],
    displacement: Tensor,
    affine: Tensor | None,
) -> tuple[list[Tensor | None], Tensor, Tensor | None]:
    images = _tensors(images)
    given = [k for k, gradient in enumerate(gradients) if gradient is not None]
    wanted = [images[k] for k in given] + [displacement] + ([] if affine is None else [affine])
    with tf.GradientTape() as tape:
        tape.watch(wanted)
        outputs = forward(spec, images, displacement, affine)
        outputs = [outputs[k] for k in given]
    seeds = [tf.cast(gradients[k], output.dtype) for k, output in zip(given, outputs, strict=True)]
    zero = tf.UnconnectedGradients.ZERO
    pulled = tape.gradient(outputs, wanted, seeds, unconnected_gradients=zero)
    of_images: list[Tensor | None] = [None] * len(images)
    for k in given:
        of_images[k] = pulled.pop(0)
    return of_images, pulled[0], None if affine is None else pulled[1]


def dense(spec: DeformSpec, displacement: Tensor) -> Tensor:
    if _is_plain():
        return _by_operations(operations.dense, spec, displacement)
    return _apply(Operator(spec, "displace"), Operands(transform=(displacement,)))[0]


def evaluate(spec: EvaluationSpec, order: int, displacement: Tensor, positions: Tensor) -> Tensor:
    if _is_plain():
        return _by_operations(operations.evaluate, spec, order, displacement, positions)
    operands = Operands(transform=(displacement,), positions=positions)
    return _apply(Operator(spec, "evaluate", order=order), operands)[0]


def algebra(tensor: Tensor) -> _FrameworkOps:
    """Return the linear algebra of TensorFlow."""
    return _OPS


def values(tensor: Tensor) -> NumpyArray | None:
    """Return the values of a tensor; None while a graph is made."""
    return np.asarray(tensor.numpy()) if tf.executing_eagerly() else None


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Tensor, rng: Seed) -> Array:
    """Draw displacements of control points: from TensorFlow's generators, or by a seed as NumPy does."""
    batch = len(shape) - 1 - len(scale)
    extents = tf.concat([tf.shape(like)[:batch], shape[batch:]], 0)
    if rng is None:
        normal = tf.random.normal(extents, dtype=tf.float64)
    elif isinstance(rng, tf.random.Generator):
        normal = rng.normal(extents, dtype=tf.float64)
    elif isinstance(rng, tf.Tensor):
        normal = tf.random.stateless_normal(extents, rng, dtype=tf.float64)
    elif tf.executing_eagerly():
        return eager.random_normal(extents.numpy(), scale, like, rng)
    else:
        reject_type("rng", rng, "None, a tf.random.Generator or the two numbers of a stateless seed, in a tf.function")
    return normal * tf.reshape(tf.constant(scale, tf.float64), (-1, *(1,) * len(scale)))


def _transform(displacement: Tensor, affine: Tensor | None) -> TransformArrays:
    if affine is None:
        return (displacement,)
    axes = int(affine.shape[-1]) - 1
    if tf.executing_eagerly() and not _gpu_of([affine]):  # on a device, that would wait for the values
        _affine.checked_affine(np.asarray(affine), axes)
    return (displacement, affine[..., :axes, :])


def _tensors(images: Sequence[Tensor]) -> list[Tensor]:
    """Read variables."""
    return [tf.convert_to_tensor(image) for image in images]


def _parts(tensor: Tensor) -> list[Tensor]:
    tensor = tf.convert_to_tensor(tensor)
    return [tf.math.real(tensor), tf.math.imag(tensor)] if tensor.dtype.is_complex else [tensor]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else tf.complex(*parts)


# ---- calls that are checked when they run ----------------------------------------------------------------------------


class Deferred(NamedTuple):
    """A call whose shapes are not known: the options of one image."""

    options: Options
    has_affine: bool
    inverse_rotation_zoom_linear: Any
    dtype: str
    shape: Unchecked  # of the image, as far as it is known
    image_shape: Tensor  # the same at run time

    def spec_of(self, image_shape: Sequence[int], operands: Operands) -> DeformSpec:
        """Check the call, now that there are arrays."""
        image = ArrayInfo(tuple(map(int, image_shape)), self.dtype)
        affine = eager.info(operands.transform[1]) if self.has_affine else None
        return _check.normalize((image,), eager.info(operands.transform[0]), affine, "X", self.options)


def deferred(images: Sequence[Tensor], displacement: Array, affine: Array, options: Options) -> list[Tensor]:
    """Record a call."""
    if _is_plain():
        shape = next(image.shape for image in images if not image.shape.is_fully_defined())
        reject_value("X", f"shape {shape}", "a known shape, for XLA and for engine 'generic'")
    displacement = small_array("displacement", displacement)
    linear = None
    if affine is not None:
        affine = small_array("affine", affine)
        unit = (1,) * (int(affine.shape[-1]) - 1)
        matrix = _affine.inverse_rotation_zoom(options.rotate, options.zoom, unit)
        linear = None if matrix is None else matrix[:, :-1]
    transform = _transform(displacement, affine)

    def call(k: int, part: int, parts: Sequence[Tensor]) -> Deferred:
        own = _check.options_of_image(options, k, len(images), part if len(parts) > 1 else None)
        image = parts[part]
        return Deferred(
            own, affine is not None, linear, image.dtype.name, image.shape, tf.shape(image, out_type=tf.int64)
        )

    return [
        _deform([call(k, part, parts) for part in range(len(parts))], image, transform)
        for k, image in enumerate(images)
        for parts in [_parts(image)]
    ]


# ---- application -----------------------------------------------------------------------------------------------------


def _apply(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    """Apply an operator, differentiably."""

    @tf.custom_gradient
    def function(*flat: Tensor) -> Any:
        def pull(*cotangents: Array) -> list[Tensor | None]:
            cotangents = tuple(map(tf.convert_to_tensor, cotangents))  # of `tf.gather`, they are rows alone
            own = unflatten(operator, flat)
            needed = unflatten(operator, [tensor.dtype.is_floating for tensor in flat])
            return flatten(operator, rules.vjp(_OPS, operator, own, cotangents, needed))

        return _compute(operator, flat), pull

    results = function(*flatten(operator, operands))
    return results if isinstance(results, (list, tuple)) else [results]


def _compute(operator: Operator, flat: Sequence[Tensor]) -> list[Tensor]:
    likes = operators.likes(operator, unflatten(operator, flat))
    dtypes = [like.dtype for like in likes]
    if tf.executing_eagerly():
        return _run_eagerly(operator, dtypes, *flat)
    call = operator.call
    late = isinstance(call, Deferred)
    shapes = _known_shapes(operator, likes) if late else operators.result_shapes(operator, call)
    arguments = [*flat, call.image_shape] if late else list(flat)
    if _has_gpu():  # a function of tensors leaves them where they are
        results = tf.py_function(partial(_run_eagerly, operator, dtypes), arguments, dtypes, name=_NODE)
    else:
        results = tf.numpy_function(partial(_run, operator), arguments, dtypes, stateful=False, name=_NODE)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return list(results)


def _known_shapes(operator: Operator, likes: Sequence[Tensor]) -> list[Any]:
    """Give the shapes of the results of a call that runs later, as far as they are known."""
    call: Deferred = operator.call
    if operator.verb == "sample":
        crop = call.options.crop
        return [call.shape if crop is None else [None] * call.shape.rank if call.shape.rank else None]
    return [call.shape, *(like.shape for like in likes[1:])] if operator.wants_image else [x.shape for x in likes]


def _run(operator: Operator, *arrays: Any) -> list[NumpyArray]:
    """Apply an operator to NumPy arrays; results have the dtypes that the framework expects."""
    call = operator.call
    if isinstance(call, Deferred):
        operands = unflatten(operator, arrays[:-1])
        spec = call.spec_of(arrays[-1], operands)
    else:
        operands = unflatten(operator, arrays)
        spec = call
    results = compute.run(operator, spec, operands)
    likes = operators.likes(operator, operands)
    return [result.astype(like.dtype, copy=False) for result, like in zip(results, likes, strict=True)]


@lru_cache(maxsize=1)
def _has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


def _run_eagerly(operator: Operator, dtypes: Sequence[Array], *tensors: Tensor) -> list[Tensor]:
    if _gpu_of(tensors):
        return _run_on_gpu(operator, dtypes, *tensors)
    results = _run(operator, *map(np.asarray, tensors))
    return [_from_numpy(array, dtype) for array, dtype in zip(results, dtypes, strict=True)]


def _gpu_of(tensors: Sequence[Tensor]) -> str | None:
    """Name the first GPU that holds one of the tensors."""
    return next((tensor.device for tensor in tensors if "GPU" in tensor.device), None)


def _run_on_gpu(operator: Operator, dtypes: Sequence[Array], *tensors: Tensor) -> list[Tensor]:
    """Let the CUDA kernels work on the memory of tensors. TensorFlow tells no streams, so each waits for the other."""
    cupy = import_cupy("X", "a tensor on a GPU")
    late = [tensors[-1].numpy()] if isinstance(operator.call, Deferred) else []
    gpu = _gpu_of(tensors)
    with tf.device(gpu):
        own = [_bits(tensor) for tensor in (tensors[:-1] if late else tensors)]
    tf.test.experimental.sync_devices()
    arrays = [cupy.from_dlpack(_Capsule(tensor)) for tensor in own]
    with cupy.cuda.Device(_number_of(arrays[0])):
        results = _run(operator, *arrays, *late)
        cupy.cuda.get_current_stream().synchronize()
    outputs = [tf.experimental.dlpack.from_dlpack(cupy.ascontiguousarray(result).__dlpack__()) for result in results]
    with tf.device(gpu):
        pairs = zip(outputs, dtypes, strict=True)
        return [one if one.dtype == dtype else tf.bitcast(one, dtype) for one, dtype in pairs]


def _number_of(array: Array) -> int:
    return int(array.device.id)


class _Capsule:
    """A tensor by the protocol of DLPack, as CuPy asks for it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return tf.experimental.dlpack.to_dlpack(self.tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, int(self.tensor.device.rpartition(":")[2])  # CUDA


def _bits(tensor: Tensor) -> Tensor:
    """Bring a tensor to the current device, as a type that CuPy has; TensorFlow keeps int32 in the host's memory."""
    bits = {tf.bfloat16: tf.uint16, tf.int32: tf.uint32}.get(tensor.dtype)
    return tf.identity(tensor) if bits is None else tf.bitcast(tensor, bits)


def _from_numpy(array: NumpyArray, dtype: FrameworkDType) -> Tensor:
    # TensorFlow's kernels need aligned memory, which large outputs have: only these are taken over as they are.
    if dtype == tf.bool or array.nbytes == 0 or array.ctypes.data % _ALIGNMENT:
        return tf.convert_to_tensor(array)
    if dtype == tf.bfloat16:
        return tf.bitcast(_from_numpy(array.view(np.int16), tf.int16), dtype)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class _FrameworkOps:
    """What the chain rule needs of TensorFlow."""

    apply = staticmethod(_apply)
    zeros_like = staticmethod(tf.zeros_like)
    inverse = staticmethod(tf.linalg.inv)
    transposed = staticmethod(tf.linalg.matrix_transpose)
    broadcast = staticmethod(tf.broadcast_to)
    reshaped = staticmethod(tf.reshape)
    summed = staticmethod(tf.reduce_sum)
    reordered = staticmethod(tf.transpose)
    determinant = staticmethod(tf.linalg.det)

    @staticmethod
    def converted(tensor: Tensor, like: Tensor) -> Tensor:
        return tf.cast(tensor, like.dtype)

    @staticmethod
    def joined(left: Tensor, right: Tensor) -> Tensor:
        return tf.concat([left, right], -1)

    @staticmethod
    def constant(values: Array, like: Tensor) -> Tensor:
        return tf.constant(values, like.dtype)


_OPS = _FrameworkOps()
