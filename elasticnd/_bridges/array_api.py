"""Operators on arrays of the array API standard, computed by the generic engine.

This serves the bridges whose arrays no other engine can read, and provides the operations of the chain rule for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import numpy as np

from .._autodiff import compute
from .._autodiff.operators import Operands, Operator, apply_by_component, component_specs, flatten, unflatten
from .._engines import generic
from .._errors import reject_type
from .._spec import Shape
from .._types import Array, ArrayNamespace, FrameworkDType, NumpyArray


class Namespace:
    """The operations of a library; new arrays are created on one device."""

    def __init__(self, names: ArrayNamespace, device: object) -> None:
        self._names = names
        self._device = device

    def __getattr__(self, name: str) -> Any:
        """Return any other function or attribute of the library."""
        return getattr(self._names, name)

    def _made(self, maker: str, *arguments: Array, dtype: FrameworkDType) -> Array:
        place = {} if self._device is None else {"device": self._device}
        return getattr(self._names, maker)(*arguments, dtype=dtype, **place)

    def asarray(self, values: Array, *, dtype: FrameworkDType = None) -> Array:
        """Convert a NumPy array or nested lists to an array."""
        return self._made("asarray", values, dtype=dtype)

    def full(self, shape: Sequence[int], value: object, *, dtype: FrameworkDType) -> Array:
        """Return an array filled with one value."""
        return self._made("full", shape, value, dtype=dtype)

    def take(self, array: Array, indices: Array, *, axis: int) -> Array:
        """Return elements along an axis, by indices of any integer type."""
        try:
            return self._names.take(array, indices, axis=axis)
        except TypeError:  # the library only accepts 64-bit indices
            return self._names.take(array, self._names.astype(indices, self._names.int64), axis=axis)

    def zeros(self, shape: Sequence[int], *, dtype: FrameworkDType) -> Array:
        """Return an array of zeros."""
        return self._made("zeros", shape, dtype=dtype)


def namespace_of(array: Array) -> Namespace:
    """Return the operations of an array's library, on its device."""
    return Namespace(array_api_compat.array_namespace(array), getattr(array, "device", None))


def real_array(xp: ArrayNamespace, values: NumpyArray) -> Array:
    """Convert to an array of the widest floats that the device supports."""
    try:
        return xp.asarray(values.astype(np.float64))
    except (TypeError, RuntimeError):  # the device does not support 64 bits
        return xp.asarray(values.astype(np.float32))


def apply(xp: ArrayNamespace, operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator of a call. It has no derivative rules, since libraries differentiate their own operations."""
    spec = operator.call
    displacement, *affine = operands.transform
    if operator.verb == "displace":
        return [generic.displace(xp, spec, displacement)]
    if operator.verb == "evaluate":
        return [generic.evaluate(xp, spec, displacement, operands.positions, operator.order)]
    matrix = affine[0] if affine else None
    if operator.verb == "move_points":
        return [generic.move_points(xp, spec, displacement, matrix, operands.positions)]
    if operator.verb == "find_extremes":
        return [_find_extremes(xp, operator, operands)]

    def apply_to_component(k: int, own: Operands) -> Sequence[Array]:
        real = component_specs(spec)[k]
        if operator.verb == "sample":
            return [generic.sample(xp, real, own.image, displacement, matrix)]
        of_image, *of_transform = generic.sample_adjoint(xp, real, own.gradient, own.image, displacement, matrix)
        given = [one for one in of_transform if one is not None]
        return [of_image, *(xp.astype(one, like.dtype) for one, like in zip(given, operands.transform, strict=False))]

    if not spec.images[0].is_complex:
        return apply_to_component(0, operands)
    dtype = (operands.image if operator.verb == "sample" else operands.gradient).dtype

    def complex_of(real: Array, imaginary: Array) -> Array:
        return xp.astype(real, dtype) + 1j * xp.astype(imaginary, dtype)

    return apply_by_component(
        apply_to_component, lambda array: (xp.real(array), xp.imag(array)), complex_of, operator, operands
    )


def _find_extremes(xp: ArrayNamespace, operator: Operator, operands: Operands) -> Array:
    """Search on the host, with the core."""
    try:
        flat = [np.asarray(array.cpu() if hasattr(array, "cpu") else array) for array in flatten(operator, operands)]
    except (TypeError, ValueError, NotImplementedError, RuntimeError):
        reject_type("b", operands.positions, "boxes with values, for engine 'generic'")
    (found,) = compute.run(operator, operator.call, unflatten(operator, flat))
    return xp.asarray(found, dtype=operands.positions.dtype)


class FrameworkOps:
    """The operations that the chain rule requires, by their names in the standard."""

    def __init__(self, xp: ArrayNamespace, apply: Callable[[Operator, Operands], Sequence[Array]]) -> None:
        self.xp = xp
        self.apply = apply
        self.product = xp.matmul
        self.transposed = xp.matrix_transpose
        self.reshaped = xp.reshape
        self.reordered = xp.permute_dims
        self.broadcast = xp.broadcast_to
        self.zeros_like = xp.zeros_like
        self.where = xp.where

    def inverse(self, matrices: Array) -> Array:
        """Invert matrices."""
        return generic.inverse(self.xp, matrices)

    def determinant(self, matrices: Array) -> Array:
        """Compute determinants."""
        return self.xp.linalg.det(matrices)

    def without_gradient(self, array: Array) -> Array:
        """Return a constant for differentiation, also for PyTorch on the generic engine and for JAX."""
        if array_api_compat.is_torch_array(array):
            return array.detach()
        if array_api_compat.is_jax_array(array):
            from jax.lax import stop_gradient  # noqa: PLC0415 - optional

            return stop_gradient(array)
        return getattr(self.xp, "stop_gradient", lambda constant: constant)(array)

    def joined(self, left: Array, right: Array, axis: int = -1) -> Array:
        """Concatenate along an axis."""
        return self.xp.concat([left, right], axis=axis)

    def constant(self, values: Array, like: Array) -> Array:
        """Return values as an array of the dtype of `like`."""
        return self.xp.asarray(values, dtype=like.dtype)

    def converted(self, array: Array, like: Array) -> Array:
        """Convert to the dtype of `like`, and a NumPy array also to its library."""
        if isinstance(array, np.ndarray) and type(array) is not type(like):
            return self.xp.asarray(array, dtype=like.dtype)
        return array if array.dtype == like.dtype else self.xp.astype(array, like.dtype)

    def summed(self, array: Array, axes: Shape) -> Array:
        """Sum over some axes."""
        return self.xp.sum(array, axis=axes)
