"""What the chain rule and the maps of points require of a framework, besides ``+``, ``-`` and slicing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from .._spec import Shape
from .._types import Array, NumpyArray
from .operators import Operands, Operator


class LinearAlgebra(Protocol):
    """A framework's operations on matrices, and on the shapes and dtypes of arrays."""

    def inverse(self, matrices: Array, /) -> Array:
        """Invert matrices."""

    def where(self, condition: Array, one: Array, other: Array, /) -> Array:
        """Choose elements of `one` where a condition holds, and of `other` elsewhere."""

    def without_gradient(self, array: Array, /) -> Array:
        """Return the same values as a constant for differentiation."""

    def zeros_like(self, array: Array, /) -> Array:
        """Return zeros of the same shape and dtype."""

    def determinant(self, matrices: Array, /) -> Array:
        """Compute the determinants of matrices, (..., n, n)."""

    def product(self, left: Array, right: Array, /) -> Array:
        """Multiply matrices in at least their own precision."""

    def transposed(self, matrices: Array, /) -> Array:
        """Swap the last two axes."""

    def joined(self, left: Array, right: Array, /, axis: int = -1) -> Array:
        """Concatenate along an axis."""

    def constant(self, values: Array, like: Array, /) -> Array:
        """Return values as an array of the library and dtype of `like`."""

    def converted(self, array: Array, like: Array, /) -> Array:
        """Convert to the dtype of `like`."""

    def reshaped(self, array: Array, shape: Shape, /) -> Array:
        """Reshape an array."""

    def reordered(self, array: Array, axes: Shape, /) -> Array:
        """Permute the axes of an array."""

    def broadcast(self, array: Array, shape: Shape, /) -> Array:
        """Repeat an array along axes of extent 1, or along new leading axes."""


class FrameworkOps(LinearAlgebra, Protocol):
    """The further operations that the chain rule requires."""

    def apply(self, operator: Operator, operands: Operands, /) -> Sequence[Array]:
        """Apply an operator, differentiably; return a sequence of results."""

    def summed(self, array: Array, axes: Shape, /) -> Array:
        """Sum over some axes."""


class ReadValues(Protocol):
    """A function that reads the values of an array."""

    def __call__(self, array: Array, /, *, wait: bool = True) -> NumpyArray | None:
        """Return the values of an array in the host's memory; None while it is traced.

        Without `wait`, also return None if that would mean waiting for a device.
        """


class Framework(Protocol):
    """What the calls of the public functions require of a framework."""

    def apply(self, operator: Operator, operands: Operands, /) -> Sequence[Array]:
        """Apply an operator, differentiably; return a sequence of results.

        Gradients with respect to displacement and matrix have their dtypes, or float64.
        """

    def delegate(self, images: Sequence[Array], others: Sequence[Array], /) -> Delegated | None:
        """Return a framework that computes instead, with images and other arrays converted for it, or None.

        Gradients of outputs count as images. Some arrays may be None.
        """

    def restored(self, result: Array, image: Array, /) -> Array:
        """Convert a result of another framework to the library of `image`."""

    def algebra(self, array: Array, /) -> FrameworkOps:
        """Return the operations of an array's library."""

    def values(self, array: Array, /, *, wait: bool = True) -> NumpyArray | None:
        """Return the values of an array, as `ReadValues` does."""


Delegated: TypeAlias = tuple[Framework, Sequence[Array], Sequence[Array]]
