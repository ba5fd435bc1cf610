"""The order of axes, and constant linear maps along one axis, each with its transpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ..._spec import DeformSpec, ImageSpec, Shape
from ..._types import ArrayNamespace

Array = Any  # of the namespace
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


# ---- order -----------------------------------------------------------------------------------------------------------


def _core_axes(image: ImageSpec, batch_axes: int) -> Shape:
    channels = [k for k in range(batch_axes, len(image.shape)) if k not in image.axes]
    return (*channels, *range(batch_axes), *image.axes)


def in_core_order(xp: ArrayNamespace, spec: DeformSpec, options: ImageSpec, image: Array) -> Array:
    """Permute an image to (channels, items, deformed axes ...)."""
    ordered = xp.permute_dims(image, _core_axes(options, len(spec.batch)))
    extents = tuple(ordered.shape)[len(options.shape) - spec.axes :]
    return xp.reshape(ordered, (-1, math.prod(spec.batch), *extents))


def in_image_order(xp: ArrayNamespace, options: ImageSpec, values: Array, shape: Shape, batch_axes: int) -> Array:
    """Invert `in_core_order` for an image or an output of this shape."""
    axes = _core_axes(options, batch_axes)
    ordered = xp.reshape(values, tuple(shape[axis] for axis in axes))
    return xp.permute_dims(ordered, tuple(axes.index(axis) for axis in range(len(axes))))


def next_axis_last(xp: ArrayNamespace, array: Array) -> Array:
    """Move the first deformed axis behind the others; once all axes have had their turn, the order is restored."""
    return xp.permute_dims(array, (0, 1, *range(3, len(array.shape)), 2))


# ---- maps of the last axis -------------------------------------------------------------------------------------------


class AxisMap(Protocol):
    """A map of the last axis of an array."""

    def apply(self, xp: ArrayNamespace, array: Array) -> Array:
        """Apply the map to an array."""

    def transposed(self, xp: ArrayNamespace, array: Array) -> Array:
        """Apply the transpose to a gradient of the result; constants that `apply` inserts have no gradient."""


class Taken(NamedTuple):
    """Selected elements of the axis, by index."""

    places: Indices
    extent: int  # of the axis

    def apply(self, xp: ArrayNamespace, array: Array) -> Array:
        """Return the elements."""
        return _taken(xp, array, self.places)

    def transposed(self, xp: ArrayNamespace, array: Array) -> Array:
        """Sum the gradients of all copies of each element. Each round adds the next copy of every element."""
        order = np.argsort(self.places, kind="stable")
        counts = np.bincount(self.places, minlength=self.extent)
        starts = np.cumsum(counts) - counts
        nothing = len(self.places)
        padded = surrounded(xp, array, 0, 1, 0.0)
        total: Array = 0
        for summand in range(counts.max()):
            summands = order[np.minimum(starts + summand, nothing - 1)]
            total = total + _taken(xp, padded, np.where(summand < counts, summands, nothing))
        return total


class Surrounded(NamedTuple):
    """The axis with a constant before and after it."""

    width: int
    value: float

    def apply(self, xp: ArrayNamespace, array: Array) -> Array:
        """Pad with the constant."""
        return surrounded(xp, array, self.width, self.width, self.value)

    def transposed(self, xp: ArrayNamespace, array: Array) -> Array:
        """Remove the padding."""
        return array[..., self.width : array.shape[-1] - self.width]


class Blocks(NamedTuple):
    """One matrix for each of the blocks that make up the axis."""

    matrix: Floats
    blocks: int
    length: int  # of the result, which may end within the last block

    def apply(self, xp: ArrayNamespace, array: Array) -> Array:
        """Multiply each block by the matrix."""
        return self._multiplied(xp, array, self.matrix)[..., : self.length]

    def transposed(self, xp: ArrayNamespace, array: Array) -> Array:
        """Multiply each block by the transposed matrix."""
        rest = self.blocks * self.matrix.shape[1] - self.length
        return self._multiplied(xp, surrounded(xp, array, 0, rest, 0.0), self.matrix.T)

    def _multiplied(self, xp: ArrayNamespace, array: Array, matrix: Floats) -> Array:
        lead = tuple(array.shape[:-1])
        separate = xp.reshape(array, (*lead, self.blocks, matrix.shape[0]))
        multiplied = xp.matmul(separate, xp.asarray(matrix, dtype=array.dtype))
        return xp.reshape(multiplied, (*lead, self.blocks * matrix.shape[1]))


class Multiplied(NamedTuple):
    """A matrix for the whole axis, and a vector added to the product."""

    matrix: Floats
    added: Floats | None = None

    def apply(self, xp: ArrayNamespace, array: Array) -> Array:
        """Multiply the axis by the matrix."""
        product = xp.matmul(array, xp.asarray(self.matrix, dtype=array.dtype))
        return product if self.added is None else product + xp.asarray(self.added, dtype=array.dtype)

    def transposed(self, xp: ArrayNamespace, array: Array) -> Array:
        """Multiply by the transposed matrix."""
        return xp.matmul(array, xp.asarray(self.matrix.T, dtype=array.dtype))


def composed(maps: Sequence[AxisMap], extent: int, added: float = 0.0) -> Multiplied:
    """Combine maps of an axis into one matrix. This avoids intermediate results, which can be far longer.

    `added` is the factor of the constants that the maps insert.
    """
    values: Floats = np.concatenate([np.eye(extent), np.zeros((1, extent))])
    for step in maps:
        values = step.apply(array_namespace(values), values)
    of_constants = values[-1]
    return Multiplied(values[:-1] - of_constants, added * of_constants if of_constants.any() else None)


def _taken(xp: ArrayNamespace, array: Array, index: Indices) -> Array:
    return xp.take(array, xp.asarray(index.astype(np.int32)), axis=-1)


def surrounded(xp: ArrayNamespace, array: Array, before: int, behind: int, value: float) -> Array:
    """Pad the last axis with `value` at each end."""
    lead = tuple(array.shape[:-1])
    borders = [xp.full((*lead, width), value, dtype=array.dtype) for width in (before, behind)]
    return xp.concat([borders[0], array, borders[1]], axis=-1)
