"""The bridge for libraries that nothing here knows by name.

Where their arrays lie in the host's memory, the core reads it by DLPack; elsewhere the library's own operations do all,
as far as it keeps to the array API standard.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from .. import _dtypes
from .._config import forced_engine
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec
from .._types import Seed, Unchecked
from . import contract, eager, operations

Array = Any  # of any library

_HOST = 1  # as DLPack numbers devices

is_deferred = contract.is_deferred
deferred = contract.deferred


def takes(array: Array) -> bool:
    """Tell whether an array is one of such a library."""
    if isinstance(array, np.generic) or not (hasattr(array, "shape") and hasattr(array, "dtype")):
        return False
    if hasattr(array, "todense"):  # a sparse array, which may have operations of the standard, but not enough of them
        return False
    return _is_on_host(array) or hasattr(array, "__array_namespace__")


def has_namespace(array: Array) -> bool:
    """Tell whether the library of an array has the operations of the standard."""
    try:
        array_api_compat.array_namespace(array)
    except TypeError:
        return False
    return True


def engine_name(array: Array) -> tuple[str, str]:
    if forced_engine() == "generic":
        return "generic", "it was asked for"
    if _is_on_host(array):
        return "cpu", "the core reads the array's memory by DLPack"
    return "generic", "only its library reaches the array's memory"


def info(array: Array) -> ArrayInfo:
    if any(extent is None for extent in array.shape):
        reject_value("X", f"shape {array.shape}", "an array whose shape is known")
    return ArrayInfo(tuple(map(int, array.shape)), str(array.dtype).rpartition(".")[2].strip("'>"))


def check(argument: str, image: Array, first: Array) -> None:
    """Refuse arrays of several libraries or devices."""
    if type(image) is not type(first):
        reject_type(argument, image, f"an array of the same library as the first image, {type(first).__module__}")
    if _device(image) != _device(first):
        reject_value(argument, f"an array on {_device(image)}", f"one on {_device(first)}, as the first image")


def small_array(argument: str, value: Unchecked, like: Array | None = None) -> Array:
    """Take a control grid or a matrix: an array of the image's library or of NumPy, or nested lists of numbers."""
    if like is not None and type(value) is not type(like):
        if not isinstance(value, (np.ndarray, list, tuple)):
            library = type(like).__module__.partition(".")[0]
            reject_type(argument, value, f"an array of {library} or NumPy, or nested lists of numbers")
        array = eager.small_array(argument, value)
        if array.dtype.kind not in "iuf" or _is_on_host(like):
            return array
        return operations.real_array(operations.namespace_of(like), array)
    if like is not None and _device(value) != _device(like):
        reject_value(argument, f"an array on {_device(value)}", f"one on {_device(like)}, where the image is")
    if _dtypes.integer_limits(info(value).dtype) is None or _is_on_host(value):
        return value
    xp = operations.namespace_of(value)
    return xp.astype(value, operations.real_array(xp, np.zeros(())).dtype)


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Array, rng: Seed) -> Array:
    """Draw displacements of control points, as NumPy does."""
    return eager.random_normal(shape, scale, None, rng)


# ---- calls -----------------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None) -> list[Array]:
    if _is_on_host(images[0]):
        results = eager.forward(spec, list(map(_to_numpy, images)), _to_numpy(displacement), _to_numpy(affine))
        return [_like(result, image) for result, image in zip(results, images, strict=True)]
    return operations.forward(operations.namespace_of(images[0]), spec, images, displacement, affine)


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array | None]:
    if not _is_on_host(gradients[0]):
        return operations.image_vjp(operations.namespace_of(gradients[0]), spec, gradients, displacement, affine)
    results = eager.image_vjp(spec, list(map(_to_numpy, gradients)), _to_numpy(displacement), _to_numpy(affine))
    return [_like(result, gradient) for result, gradient in zip(results, gradients, strict=True)]


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    if not _is_on_host(images[0]):
        return operations.vjp(operations.namespace_of(images[0]), spec, gradients, images, displacement, affine)
    weights, sources = list(map(_to_numpy, gradients)), list(map(_to_numpy, images))
    pulled, of_displacement, of_affine = eager.vjp(spec, weights, sources, _to_numpy(displacement), _to_numpy(affine))
    of_images = [_like(result, images[0]) for result in pulled]
    return of_images, _like(of_displacement, images[0]), _like(of_affine, images[0])


def dense(spec: DeformSpec, displacement: Array) -> Array:
    if _is_on_host(displacement):
        return _like(eager.dense(spec, _to_numpy(displacement)), displacement)
    return operations.dense(operations.namespace_of(displacement), spec, displacement)


def evaluate(spec: EvaluationSpec, order: int, displacement: Array, positions: Array) -> Array:
    if _is_on_host(positions):
        return _like(eager.evaluate(spec, order, _to_numpy(displacement), _to_numpy(positions)), positions)
    return operations.evaluate(operations.namespace_of(positions), spec, order, displacement, positions)


def algebra(array: Array) -> operations.LinearAlgebra:
    """Return the linear algebra of the array's library."""
    return operations.LinearAlgebra(operations.namespace_of(array))


def values(array: Array) -> Array:
    """Return the values of an array in the host's memory."""
    return _to_numpy(array) if _is_on_host(array) else np.asarray(array)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _is_on_host(array: Array) -> bool:
    """Tell whether the core can read an array, and may."""
    if forced_engine() == "generic":
        return False
    if isinstance(array, np.ndarray):
        return True
    try:
        return bool(array.__dlpack_device__()[0] == _HOST)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError, BufferError):
        return False


def _to_numpy(array: Array) -> Array:
    """Share the memory of an array."""
    if array is None or isinstance(array, np.ndarray):
        return array
    if info(array).dtype == "bfloat16":
        return _bfloat16_to_numpy(array)
    return np.from_dlpack(array)


def _bfloat16_to_numpy(array: Array) -> Array:
    """Share the memory of an array of a type that NumPy does not know: as bits, which ml_dtypes reads."""
    if importlib.util.find_spec("ml_dtypes") is None:
        reject_type("X", array, "an array of another type: those of bfloat16 need the package ml_dtypes")
    from ml_dtypes import bfloat16  # noqa: PLC0415 - for those who have it

    return np.from_dlpack(array.view(_namespace(array).uint16)).view(bfloat16)


def _like(result: Array, array: Array) -> Array:
    """Give a result of NumPy as an array of the library, in the same memory where that can be had."""
    if result is None:
        return None
    xp = _namespace(array)
    device = _device(array)
    try:
        return xp.from_dlpack(result, device=device)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError, BufferError):
        return xp.asarray(result, device=device) if device is not None else xp.asarray(result)


def _namespace(array: Array) -> ModuleType:
    namespace: ModuleType = array_api_compat.array_namespace(array)
    return namespace


def _device(array: Array) -> Any:
    return getattr(array, "device", None)
