"""Calls that a library's own operations compute, by the generic engine, for the bridges whose arrays no other serves.

The functions are called as those of a bridge, with a namespace before the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import array_api_compat
import numpy as np

from .._autodiff import operators, rules
from .._engines import generic
from .._spec import DeformSpec, EvaluationSpec
from .._types import ArrayNamespace, FrameworkDType, NumpyArray, Unchecked

Array = Any  # of the namespace


class Namespace:
    """The operations of a library; new arrays lie on one device."""

    def __init__(self, names: Any, device: Any) -> None:
        self._names = names
        self._device = device

    def __getattr__(self, name: str) -> Any:
        """Give what is no new array."""
        return getattr(self._names, name)

    def _made(self, maker: str, *arguments: Array, dtype: FrameworkDType) -> Array:
        place = {} if self._device is None else {"device": self._device}
        return getattr(self._names, maker)(*arguments, dtype=dtype, **place)

    def asarray(self, values: Array, *, dtype: FrameworkDType = None) -> Array:
        """Make an array of NumPy's or of nested lists."""
        return self._made("asarray", values, dtype=dtype)

    def full(self, shape: Sequence[int], value: Unchecked, *, dtype: FrameworkDType) -> Array:
        """Make an array of one value."""
        return self._made("full", shape, value, dtype=dtype)

    def take(self, array: Array, indices: Array, *, axis: int) -> Array:
        """Take elements along an axis, by numbers of any integer type."""
        try:
            return self._names.take(array, indices, axis=axis)
        except TypeError:  # the library has numbers of 64 bits alone
            return self._names.take(array, self._names.astype(indices, self._names.int64), axis=axis)

    def zeros(self, shape: Sequence[int], *, dtype: FrameworkDType) -> Array:
        """Make an array of zeros."""
        return self._made("zeros", shape, dtype=dtype)


def namespace_of(array: Array) -> Namespace:
    """Give the operations of an array's library, on its device."""
    return Namespace(array_api_compat.array_namespace(array), getattr(array, "device", None))


def real_array(xp: ArrayNamespace, values: NumpyArray) -> Array:
    """Make an array of the widest floats that the device has."""
    try:
        return xp.asarray(values.astype(np.float64))
    except (TypeError, RuntimeError):  # it has none of 64 bits
        return xp.asarray(values.astype(np.float32))


def forward(
    xp: ArrayNamespace, spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array]:
    """Deform images."""
    matrix = _matrix(spec, affine)
    results = []
    for image, parts in zip(images, operators.real_components(spec), strict=True):
        sources = zip(parts, _parts(xp, image, len(parts)), strict=True)
        deformed = [generic.sample(xp, part, source, displacement, matrix) for part, source in sources]
        results.append(_joined(xp, deformed, image.dtype))
    return results


def image_vjp(
    xp: ArrayNamespace, spec: DeformSpec, gradients: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array | None]:
    """Pull gradients of the outputs back to the images."""
    matrix = _matrix(spec, affine)
    results: list[Array | None] = []
    for gradient, parts in zip(gradients, operators.real_components(spec), strict=True):
        sources = zip(parts, _parts(xp, gradient, len(parts)), strict=True)
        pulled = [generic.sample_adjoint(xp, part, source, None, displacement, matrix)[0] for part, source in sources]
        results.append(_joined(xp, pulled, gradient.dtype))
    return results


def vjp(
    xp: ArrayNamespace,
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    """Pull gradients of the outputs back to images, control grid and affine matrix."""
    matrix = _matrix(spec, affine)
    of_images: list[Array | None] = []
    of_points = xp.zeros(displacement.shape, dtype=displacement.dtype)
    of_matrix = None if matrix is None else xp.zeros(matrix.shape, dtype=matrix.dtype)
    for image, gradient, parts in zip(images, gradients, operators.real_components(spec), strict=True):
        if gradient is None:
            of_images.append(None)
            continue
        pulled = []
        sources = _parts(xp, xp.astype(gradient, image.dtype), len(parts)), _parts(xp, image, len(parts))
        for part, weight, source in zip(parts, *sources, strict=True):
            of_image, of_grid, of_map = generic.sample_adjoint(xp, part, weight, source, displacement, matrix)
            pulled.append(of_image)
            of_points = of_points + xp.astype(of_grid, of_points.dtype)
            if of_matrix is not None:
                of_matrix = of_matrix + xp.astype(of_map, of_matrix.dtype)
        of_images.append(_joined(xp, pulled, image.dtype))
    if affine is None or of_matrix is None:
        return of_images, of_points, None
    of_forward = rules.inverse_map_vjp(LinearAlgebra(xp), matrix, spec.inverse_rotation_zoom_linear, of_matrix)
    last_row = xp.zeros((*affine.shape[:-2], affine.shape[-2] - spec.axes, affine.shape[-1]), dtype=affine.dtype)
    return of_images, of_points, xp.concat([of_forward, last_row], axis=-2)


def dense(xp: ArrayNamespace, spec: DeformSpec, displacement: Array) -> Array:
    """Evaluate the displacement at every voxel."""
    return generic.displace(xp, spec, displacement)


def evaluate(xp: ArrayNamespace, spec: EvaluationSpec, order: int, displacement: Array, positions: Array) -> Array:
    """Compute all derivatives of one order of the displacement at positions."""
    return generic.evaluate(xp, spec, displacement, positions, order)


def _matrix(spec: DeformSpec, affine: Array | None) -> Array | None:
    return None if affine is None else affine[..., : spec.axes, :]


def _parts(xp: ArrayNamespace, array: Array, count: int) -> list[Array]:
    return [array] if count == 1 else [xp.real(array), xp.imag(array)]


def _joined(xp: ArrayNamespace, parts: Sequence[Array], dtype: FrameworkDType) -> Array:
    if len(parts) == 1:
        return parts[0]
    real, imaginary = (xp.astype(part, dtype) for part in parts)
    return real + 1j * imaginary


class LinearAlgebra:
    """What the derivative of an inverse needs of a namespace of the standard."""

    def __init__(self, xp: ArrayNamespace) -> None:
        self.xp = xp
        self.inverse = partial(generic.inverse, xp)
        self.transposed = xp.matrix_transpose
        self.reshaped = xp.reshape
        self.reordered = xp.permute_dims
        self.broadcast = xp.broadcast_to

    def joined(self, left: Array, right: Array) -> Array:
        """Concatenate along the last axis."""
        return self.xp.concat([left, right], axis=-1)

    def constant(self, values: Array, like: Array) -> Array:
        """Make an array of the dtype of `like`."""
        return self.xp.asarray(values, dtype=like.dtype)

    def converted(self, array: Array, like: Array) -> Array:
        """Convert to the dtype of `like`."""
        return self.xp.astype(array, like.dtype)

    def determinant(self, matrices: Array) -> Array:
        """Compute determinants."""
        return self.xp.linalg.det(matrices)
