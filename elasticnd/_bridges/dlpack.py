"""The bridge for any other library.

If its arrays are in the host's memory, the core reads them by DLPack; otherwise the library's own operations compute,
as far as it implements the array API standard.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import array_api_compat
import numpy as np

from .. import _dtypes
from .._autodiff.framework import Delegated
from .._autodiff.operators import Operands, Operator, flatten
from .._config import forced_engine
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, Shape
from .._types import Array, ArrayNamespace, NumpyArray, Seed
from . import array_api, contract, eager

_HOST = 1  # the number of this device in DLPack

is_recorded = contract.is_recorded
record = contract.record


def takes(array: Array) -> bool:
    """Return whether this bridge supports an array."""
    if isinstance(array, np.generic) or not (hasattr(array, "shape") and hasattr(array, "dtype")):
        return False
    if hasattr(array, "todense"):  # sparse arrays may have operations of the standard, but too few
        return False
    return _is_on_host(array) or hasattr(array, "__array_namespace__")


def has_namespace(array: Array) -> bool:
    """Return whether the library of an array has the operations of the standard."""
    try:
        array_api_compat.array_namespace(array)
    except TypeError:
        return False
    return True


def engine_name(array: Array) -> tuple[str, str]:
    if forced_engine() == "generic":
        return "generic", "requested by the caller"
    if _is_on_host(array):
        return "cpu", "the core reads the array's memory by DLPack"
    return "generic", "only the array's library can access its memory"


def info(array: Array) -> ArrayInfo:
    if any(extent is None for extent in array.shape):
        reject_value("X", f"shape {array.shape}", "an array whose shape is known")
    return ArrayInfo(tuple(map(int, array.shape)), str(array.dtype).rpartition(".")[2].strip("'>"))


def check(argument: str, image: Array, first: Array) -> None:
    """Check that arrays are of one library and on one device."""
    if type(image) is not type(first):
        reject_type(argument, image, f"an array of the same library as the first image, {type(first).__module__}")
    if _device(image) != _device(first):
        reject_value(argument, f"an array on {_device(image)}", f"one on {_device(first)}, like the first image")


def small_array(argument: str, value: object, like: Array | None = None) -> Array:
    """Convert a control grid or a matrix, from an array of the image's library, a NumPy array or nested lists."""
    if like is not None and type(value) is not type(like):
        if not isinstance(value, (np.ndarray, list, tuple)):
            library = type(like).__module__.partition(".")[0]
            reject_type(argument, value, f"an array of {library} or NumPy, or nested lists of numbers")
        array = eager.small_array(argument, value)
        if array.dtype.kind not in "iuf" or _is_on_host(like):
            return array
        return array_api.real_array(array_api.namespace_of(like), array)
    if like is not None and _device(value) != _device(like):
        reject_value(argument, f"an array on {_device(value)}", f"one on {_device(like)}, where the image is")
    if _dtypes.integer_limits(info(value).dtype) is None or info(value).dtype == "bool":
        return value
    xp = array_api.namespace_of(value)
    return xp.astype(value, array_api.real_array(xp, np.zeros(())).dtype)


def standard_normal(shape: Shape, batch_axes: int, like: Array, rng: Seed) -> None:
    """Return None, so that NumPy draws."""


def delegate(images: Sequence[Array], others: Sequence[Array]) -> Delegated | None:
    if not _is_on_host((*images, *others)[0]):
        return None
    return eager, list(map(_to_numpy, images)), list(map(_to_numpy, others))


def restored(result: Array, image: Array) -> Array:
    """Convert a NumPy result to the library of `image`, in the same memory if possible."""
    if not isinstance(result, np.ndarray) or isinstance(image, np.ndarray):
        return result
    xp = _namespace(image)
    device = _device(image)
    try:
        return xp.from_dlpack(result, device=device)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError, BufferError):
        return xp.asarray(result, device=device) if device is not None else xp.asarray(result)


def apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    xp = array_api.namespace_of(flatten(operator, operands)[0])
    return array_api.apply(xp, operator, operands)


def algebra(array: Array) -> array_api.FrameworkOps:
    return array_api.FrameworkOps(array_api.namespace_of(array), apply)


def values(array: Array, *, wait: bool = True) -> NumpyArray | None:
    if _is_on_host(array):
        return _to_numpy(array)
    return np.asarray(array) if wait else None


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _is_on_host(array: Array) -> bool:
    """Return whether the core can read an array, and is allowed to."""
    if forced_engine() == "generic":
        return False
    if isinstance(array, np.ndarray):
        return True
    try:
        return bool(array.__dlpack_device__()[0] == _HOST)
    except (AttributeError, TypeError, ValueError, NotImplementedError, RuntimeError, BufferError):
        return False


def _to_numpy(array: Array) -> Array:
    """Return the memory of an array as a NumPy array."""
    if array is None or isinstance(array, np.ndarray):
        return array
    if info(array).dtype == "bfloat16":
        return _bfloat16_to_numpy(array)
    return np.from_dlpack(array)


def _bfloat16_to_numpy(array: Array) -> Array:
    """Return the memory of a bfloat16 array, which NumPy does not support, as bits for ml_dtypes."""
    if importlib.util.find_spec("ml_dtypes") is None:
        reject_type("X", array, "an array of another dtype: bfloat16 requires the package ml_dtypes")
    from ml_dtypes import bfloat16  # noqa: PLC0415 - optional

    return np.from_dlpack(array.view(_namespace(array).uint16)).view(bfloat16)


def _namespace(array: Array) -> ArrayNamespace:
    return array_api_compat.array_namespace(array)


def _device(array: Array) -> object:
    return getattr(array, "device", None)
