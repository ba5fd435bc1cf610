"""The bridge for arrays that hold values and record no gradients: NumPy and CuPy."""

from __future__ import annotations

from collections.abc import Sequence

import array_api_compat
import numpy as np

from .. import _affine, _dtypes
from .._autodiff import compute
from .._autodiff.operators import Operands, Operator
from .._engines import engine_of, is_cupy
from .._errors import describe, reject_type, reject_value
from .._spec import ArrayInfo, Shape
from .._types import Array, NumpyArray, Seed
from . import contract
from .array_api import FrameworkOps

is_recorded = contract.is_recorded
record = contract.record
delegate = contract.delegate
restored = contract.restored


def info(array: Array) -> ArrayInfo:
    return ArrayInfo(array.shape, _dtypes.name_of(array.dtype))


def small_array(argument: str, value: object, like: Array | None = None) -> Array:
    """Convert a control grid or a matrix to an array. NumPy arrays and nested lists go with any image."""
    if type(value) is np.ndarray and (like is None or type(like) is np.ndarray):
        return _with_floats(value)
    if is_cupy(value if like is None else like):
        return _on_device(argument, value, like)
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return _with_floats(np.asarray(value))
    if not isinstance(value, (list, tuple)) or _has_masks(value):
        reject_type(argument, value, "a NumPy array or nested lists of numbers")
    try:
        return _with_floats(np.asarray(value))
    except ValueError:
        reject_value(argument, "nested lists of different lengths", "an array or nested lists of numbers")
    except (TypeError, RuntimeError):  # lists of arrays of other libraries
        reject_type(argument, value, "a NumPy array or nested lists of numbers")


def _with_floats(array: NumpyArray) -> NumpyArray:
    return array.astype(np.float64) if array.dtype.kind in "iu" else array


def _on_device(argument: str, value: Array, like: Array | None) -> Array:
    if is_cupy(value):
        if like is not None and value.device != like.device:
            reject_value(argument, f"an array on CUDA device {value.device.id}", f"one on device {like.device.id}")
        return value.astype(np.float64) if value.dtype.kind in "iu" else value
    array = small_array(argument, value)
    if argument == "affine" and array.ndim > 1 and array.dtype.kind == "f":
        _affine.check_affine_values(array, array.shape[-1] - 1)
    with engine_of(like).holding(like):
        return engine_of(like).namespace().asarray(array)


def _has_masks(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_masks, value))
    return isinstance(value, np.ma.MaskedArray)


def engine_name(array: Array) -> tuple[str, str]:
    if is_cupy(array):
        return "cuda", f"an array on CUDA device {array.device.id}"
    return "cpu", "an array in the host's memory"


def check(argument: str, image: Array, first: Array) -> None:
    """Check that all images are NumPy arrays, or all are CuPy arrays on one device."""
    if is_cupy(image) != is_cupy(first):
        reject_value(argument, describe(image), f"an array of the same library as the first image, {describe(first)}")
    if is_cupy(image) and image.device != first.device:
        reject_value(argument, f"an array on CUDA device {image.device.id}", f"one on device {first.device.id}")


def standard_normal(shape: Shape, batch_axes: int, like: Array, rng: Seed) -> Array | None:
    """Draw from a CuPy generator."""
    if is_cupy(like) and isinstance(rng, engine_of(like).namespace().random.Generator):
        return rng.standard_normal(shape)
    return None


def apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    held = operands.transform[0] if operands.transform else operands.gradient
    if type(held) is np.ndarray:
        return compute.apply(operator, operator.call, operands)
    with engine_of(held).holding(held):
        return compute.apply(operator, operator.call, operands)


def algebra(array: Array) -> FrameworkOps:
    on_device = is_cupy(array)
    if on_device not in _ops:
        _ops[on_device] = _Ops(array_api_compat.array_namespace(array), apply)
    return _ops[on_device]


class _Ops(FrameworkOps):
    def converted(self, array: Array, like: Array) -> Array:
        """Convert to the dtype of `like`, in the byte order of this machine."""
        return array.astype(_dtypes.native(like.dtype), copy=False)


_ops: dict[bool, FrameworkOps] = {}  # for NumPy and CuPy, once there are such arrays


def values(array: Array, *, wait: bool = True) -> NumpyArray | None:
    if not is_cupy(array):
        return np.asarray(array)
    copy: NumpyArray | None = array.get() if wait else None
    return copy
