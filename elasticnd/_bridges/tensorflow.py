"""The bridge for TensorFlow: functions with their own gradients, around calls to NumPy.

XLA cannot compile such calls. In functions compiled by XLA, TensorFlow operations compute everything, with derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from types import ModuleType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from .. import _check
from .._autodiff import calls, compute, operators, rules
from .._autodiff.operators import Operands, Operator, flatten, unflatten
from .._compat import tensorflow as compat
from .._config import forced_engine
from .._engines.cuda.devices import allocating_by, import_cupy
from .._errors import reject_type, reject_value
from .._limits import LABELS
from .._spec import ArrayInfo, DeformSpec, Options, Shape
from .._types import Array, FrameworkDType, NumpyArray, Seed
from . import array_api, contract, eager, tensorflow_namespace
from .array_api import FrameworkOps

_ALIGNMENT = 64  # bytes

# Errors quote the name of the node. They come from XLA, if a function was traced before an outer function was compiled,
# and from other processes that load a SavedModel: neither can call Python.
_NODE = "elasticnd_calls_Python__for_XLA_or_SavedModel_trace_it_with_elasticnd.engine_generic"


delegate = contract.delegate
restored = contract.restored


def info(tensor: tf.Tensor) -> ArrayInfo:
    """Return shape and dtype; an unknown extent counts as 1."""
    return ArrayInfo(tuple(extent or (1 if extent is None else 0) for extent in tensor.shape), tensor.dtype.name)


def engine_name(tensor: tf.Tensor) -> tuple[str, str]:
    if _uses_generic():
        return "generic", "requested by the caller" if forced_engine() else "TensorFlow operations, which XLA compiles"
    device = getattr(tensor, "device", "") or "a graph"
    return ("cuda" if "GPU" in device else "cpu"), f"a tensor on {device}"


def _uses_generic() -> bool:
    """Return whether to compute with TensorFlow operations."""
    return forced_engine() == "generic" or compat.is_compiled_by_xla()


def check(argument: str, image: tf.Tensor, first: tf.Tensor) -> None:
    """Check that an image is a dense tensor of numbers."""
    if not image.dtype.is_numpy_compatible or image.dtype in (tf.string, tf.variant, tf.resource):
        reject_type(argument, image, "a dense tensor of numbers")


def is_recorded(arrays: Sequence[Array]) -> bool:
    """Return whether shapes are unknown."""
    return not all(array.shape.is_fully_defined() for array in arrays if isinstance(array, (tf.Tensor, tf.Variable)))


def small_array(argument: str, value: object, like: tf.Tensor | None = None) -> tf.Tensor:
    """Convert a control grid or a matrix to a tensor, from a tensor, a variable, a NumPy array or nested lists."""
    if isinstance(value, (tf.Tensor, tf.Variable)):
        tensor = tf.convert_to_tensor(value)
        if tensor.dtype.is_integer:
            return tf.cast(tensor, tf.float64)
        return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor
    if not isinstance(value, (np.ndarray, list, tuple)):
        reject_type(argument, value, "a TensorFlow tensor, a NumPy array or nested lists of numbers")
    if isinstance(value, (list, tuple)) and any(isinstance(part, (tf.Tensor, tf.Variable)) for part in value):
        return small_array(argument, tf.stack(value))
    array = eager.small_array(argument, value)
    return tf.constant(array.astype(np.float64)) if array.dtype.kind in "iuf" else tf.zeros(array.shape, tf.bool)


def standard_normal(shape: Shape, batch_axes: int, like: tf.Tensor, rng: Seed) -> tf.Tensor | None:
    """Draw from TensorFlow's generators. In a graph, only the image may know the extents of batch axes."""
    extents = tf.concat([tf.shape(like)[:batch_axes], shape[batch_axes:]], 0)
    if rng is None:
        return tf.random.normal(extents, dtype=tf.float64)
    if isinstance(rng, tf.random.Generator):
        return rng.normal(extents, dtype=tf.float64)
    if isinstance(rng, tf.Tensor):
        return tf.random.stateless_normal(extents, rng, dtype=tf.float64)
    if not tf.executing_eagerly():
        reject_type("rng", rng, "None, a tf.random.Generator or the two numbers of a stateless seed, in a tf.function")
    return None


def algebra(tensor: tf.Tensor) -> FrameworkOps:
    return _OPS


def values(tensor: tf.Tensor, *, wait: bool = True) -> NumpyArray | None:
    if not tf.executing_eagerly() or not (wait or _gpu_of([tensor]) is None):
        return None
    return np.asarray(tensor)


# ---- calls that are checked when they run ----------------------------------------------------------------------------


class RecordedCall(NamedTuple):
    """A call with unknown shapes: the options of one image."""

    options: Options
    has_affine: bool
    inverse_rotation_zoom_linear: NumpyArray | None
    dtype: str
    shape: tf.TensorShape  # of the image, as far as known
    image_shape: tf.Tensor  # the same at run time

    @property
    def votes(self) -> bool:
        """Whether the call is for labels."""
        return self.options.order == LABELS

    def spec_of(self, image_shape: Sequence[int], operands: Operands) -> DeformSpec:
        """Check the call, once arrays are known."""
        image = ArrayInfo(tuple(map(int, image_shape)), self.dtype)
        affine = eager.info(operands.transform[1]) if self.has_affine else None
        return _check.normalize((image,), eager.info(operands.transform[0]), affine, "X", self.options)


def record(images: Sequence[tf.Tensor], displacement: Array, affine: Array, options: Options) -> list[tf.Tensor]:
    """Record a call."""
    if _uses_generic():
        shape = next(image.shape for image in images if not image.shape.is_fully_defined())
        reject_value("X", f"shape {shape}", "a known shape, for XLA and for engine 'generic'")
    displacement = small_array("displacement", displacement)
    linear = None
    if affine is not None:
        affine = small_array("affine", affine)
        unit = (1,) * (int(affine.shape[-1]) - 1)
        matrix = options.inverse_rotation_zoom(unit)
        linear = None if matrix is None else matrix[:, :-1]
    transform = calls.transform_of(values, displacement, affine)
    results: list[tf.Tensor] = []
    for k, image in enumerate(map(tf.convert_to_tensor, images)):
        shape = tf.shape(image, out_type=tf.int64)
        own = _check.options_of_image(options, k, len(images))
        call = RecordedCall(own, affine is not None, linear, image.dtype.name, image.shape, shape)
        results += _apply(Operator(call, "sample"), Operands(image=image, transform=transform))
    return results


# ---- application -----------------------------------------------------------------------------------------------------


def apply(operator: Operator, operands: Operands) -> Sequence[tf.Tensor]:
    """Apply an operator, also to variables. The rules of operators, or TensorFlow itself, differentiate it."""
    operands = unflatten(operator, list(map(tf.convert_to_tensor, flatten(operator, operands))))
    if not _uses_generic():
        return _apply(operator, operands)
    # There is nothing here for AutoGraph to rewrite.
    by_operations = tf.autograph.experimental.do_not_convert(array_api.apply)
    return _without_derivatives(operator, by_operations(tensorflow_namespace, operator, operands))


def _without_derivatives(operator: Operator, results: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
    """Return results without a gradient where they have no derivatives, such as labels by votes."""
    return list(map(tf.stop_gradient, results)) if operator.call.votes else results


def _apply(operator: Operator, operands: Operands) -> Sequence[tf.Tensor]:
    """Apply an operator, differentiably."""

    @tf.custom_gradient
    def function(*flat: tf.Tensor) -> tuple[list[tf.Tensor], Callable[..., list[tf.Tensor | None]]]:
        def vjp(*cotangents: Array) -> list[tf.Tensor | None]:
            # The cotangents of what `tf.gather` reads may be `tf.IndexedSlices`.
            cotangents = tuple(map(tf.convert_to_tensor, cotangents))
            own = unflatten(operator, flat)
            needed = unflatten(operator, [tensor.dtype.is_floating or tensor.dtype.is_complex for tensor in flat])
            return flatten(operator, rules.vjp(_OPS, operator, own, cotangents, needed))

        return _compute(operator, flat), vjp

    results = function(*flatten(operator, operands))
    return _without_derivatives(operator, results if isinstance(results, (list, tuple)) else [results])


_OPS = FrameworkOps(tensorflow_namespace, _apply)


def _compute(operator: Operator, flat: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    likes = operators.likes(operator, unflatten(operator, flat))
    dtypes = [like.dtype for like in likes]
    if tf.executing_eagerly():
        return _run_eagerly(operator, dtypes, *flat)
    call = operator.call
    late = isinstance(call, RecordedCall)
    shapes = _known_shapes(operator, likes) if late else operators.result_shapes(operator, call)
    arguments = [*flat, call.image_shape] if late else list(flat)
    if _has_gpu():  # a function that takes tensors leaves them on the GPU
        results = tf.py_function(partial(_run_eagerly, operator, dtypes), arguments, dtypes, name=_NODE)
    else:
        results = tf.numpy_function(partial(_run, operator), arguments, dtypes, stateful=False, name=_NODE)
    for result, shape in zip(results, shapes, strict=True):
        result.set_shape(shape)
    return list(results)


def _known_shapes(operator: Operator, likes: Sequence[tf.Tensor]) -> list[tf.TensorShape | list[None] | None]:
    """Return the result shapes of a call that runs later, as far as known."""
    call: RecordedCall = operator.call
    if operator.verb == "sample":
        crop = call.options.crop
        return [call.shape if crop is None else [None] * call.shape.rank if call.shape.rank else None]
    return [call.shape, *(like.shape for like in likes[1:])] if operator.wants_image else [x.shape for x in likes]


def _run(operator: Operator, *arrays: Array) -> list[NumpyArray]:
    """Apply an operator to NumPy arrays; results have the dtypes that the framework expects."""
    call = operator.call
    if isinstance(call, RecordedCall):
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


def _run_eagerly(operator: Operator, dtypes: Sequence[Array], *tensors: tf.Tensor) -> list[tf.Tensor]:
    if _gpu_of(tensors):
        return _run_on_gpu(operator, dtypes, *tensors)
    results = _run(operator, *map(np.asarray, tensors))
    return [_from_numpy(array, dtype) for array, dtype in zip(results, dtypes, strict=True)]


def _gpu_of(tensors: Sequence[tf.Tensor]) -> str | None:
    """Return the name of the first GPU that holds one of the tensors."""
    return next((tensor.device for tensor in tensors if "GPU" in tensor.device), None)


def _run_on_gpu(operator: Operator, dtypes: Sequence[Array], *tensors: tf.Tensor) -> list[tf.Tensor]:
    """Apply an operator by the CUDA kernels. TensorFlow hides its streams, so each side waits for the other."""
    cupy = import_cupy("X", "a tensor on a GPU")
    late = [tensors[-1].numpy()] if isinstance(operator.call, RecordedCall) else []
    gpu = _gpu_of(tensors)
    with tf.device(gpu):
        own = [_bits(tensor) for tensor in (tensors[:-1] if late else tensors)]
    tf.test.experimental.sync_devices()
    arrays = [cupy.from_dlpack(_Capsule(tensor)) for tensor in own]
    held: list[tf.Tensor] = []  # until the device is done
    with cupy.cuda.Device(_number_of(arrays[0])), allocating_by(partial(_lend, cupy, gpu, held)):
        results = _run(operator, *arrays, *late)
        cupy.cuda.get_current_stream().synchronize()
    outputs = [tf.experimental.dlpack.from_dlpack(cupy.ascontiguousarray(result).__dlpack__()) for result in results]
    with tf.device(gpu):
        typed = zip(outputs, dtypes, strict=True)
        return [one if one.dtype == dtype else tf.bitcast(one, dtype) for one, dtype in typed]


def _lend(cupy: ModuleType, gpu: str | None, held: list[tf.Tensor], size: int) -> tuple[int, object]:
    """Allocate TensorFlow memory; return its address, and the tensor that holds it."""
    words = -(-size // 8)  # extents have 32 bits
    with tf.device(gpu):
        held.append(tf.raw_ops.Empty(shape=[words], dtype=tf.float64))
    tf.test.experimental.sync_devices()  # TensorFlow may still use memory that it has released
    return int(cupy.from_dlpack(_Capsule(held[-1])).data.ptr), held[-1]


def _number_of(array: Array) -> int:
    return int(array.device.id)


class _Capsule:
    """A tensor with the DLPack protocol that CuPy requires."""

    def __init__(self, tensor: tf.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: object) -> object:
        return tf.experimental.dlpack.to_dlpack(self.tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, int(self.tensor.device.rpartition(":")[2])  # CUDA


def _bits(tensor: tf.Tensor) -> tf.Tensor:
    """Return a tensor on the current device, in a type that CuPy has; TensorFlow keeps int32 in the host's memory."""
    bits = {tf.bfloat16: tf.uint16, tf.int32: tf.uint32}.get(tensor.dtype)
    return tf.identity(tensor) if bits is None else tf.bitcast(tensor, bits)


def _from_numpy(array: NumpyArray, dtype: FrameworkDType) -> tf.Tensor:
    # TensorFlow's kernels need aligned memory, which only large outputs have: only these are used without a copy.
    if dtype == tf.bool or array.nbytes == 0 or array.ctypes.data % _ALIGNMENT:
        return tf.convert_to_tensor(array)
    if dtype == tf.bfloat16:
        return tf.bitcast(_from_numpy(array.view(np.int16), tf.int16), dtype)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
