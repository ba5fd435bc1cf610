"""What the chain rule and maps of points need of a framework, whose arrays have ``+``, ``-`` and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from .._spec import Shape
from .._types import Array, NumpyArray
from .operators import Operands, Operator


class LinearAlgebra(Protocol):
    """A framework's operations on matrices, and what brings arrays into shape for them."""

    def inverse(self, matrices: Array, /) -> Array:
        """Invert matrices."""

    def where(self, condition: Array, one: Array, other: Array, /) -> Array:
        """Choose the elements of one array where a condition holds, else those of the other."""

    def without_gradient(self, array: Array, /) -> Array:
        """Return the same values, as a constant of differentiation."""

    def zeros_like(self, array: Array, /) -> Array:
        """Make zeros."""

    def determinant(self, matrices: Array, /) -> Array:
        """Compute the determinants of (..., n, n)."""

    def product(self, left: Array, right: Array, /) -> Array:
        """Multiply matrices, in no less than their own precision."""

    def transposed(self, matrices: Array, /) -> Array:
        """Swap the last two axes."""

    def joined(self, left: Array, right: Array, /, axis: int = -1) -> Array:
        """Concatenate along an axis."""

    def constant(self, values: Array, like: Array, /) -> Array:
        """Make an array of the kind and dtype of `like`."""

    def converted(self, array: Array, like: Array, /) -> Array:
        """Convert to the dtype of `like`."""

    def reshaped(self, array: Array, shape: Shape, /) -> Array:
        """Reshape an array."""

    def reordered(self, array: Array, axes: Shape, /) -> Array:
        """Permute the axes of an array."""

    def broadcast(self, array: Array, shape: Shape, /) -> Array:
        """Repeat an array along axes of extent 1, or new ones before the others."""


class FrameworkOps(LinearAlgebra, Protocol):
    """What the chain rule needs besides."""

    def apply(self, operator: Operator, operands: Operands, /) -> Sequence[Array]:
        """Apply an operator, differentiably; one result for each that it has."""

    def summed(self, array: Array, axes: Shape, /) -> Array:
        """Sum over some axes."""


class ReadValues(Protocol):
    """A function that reads the values of an array."""

    def __call__(self, array: Array, /, *, wait: bool = True) -> NumpyArray | None:
        """Return the values of an array in the host's memory; None while it is traced.

        Without `wait`, None also where a device would have to be waited for.
        """


class Framework(Protocol):
    """What the calls of the public functions need of a framework."""

    def apply(self, operator: Operator, operands: Operands, /) -> Sequence[Array]:
        """Apply an operator, differentiably; one result for each that it has.

        Gradients of displacement and matrix are float64, or of the dtypes of these.
        """

    def delegate(self, images: Sequence[Array], others: Sequence[Array], /) -> Delegated | None:
        """Return another framework that computes, and images and other arrays as it takes them; None if none does.

        Gradients of outputs count as images. Some arrays may be None.
        """

    def restored(self, result: Array, image: Array, /) -> Array:
        """Return a result of another framework as an array of the library of `image`."""

    def algebra(self, array: Array, /) -> FrameworkOps:
        """Return the operations of an array's library."""

    def values(self, array: Array, /, *, wait: bool = True) -> NumpyArray | None:
        """Return the values of an array, as `ReadValues` does."""


Delegated: TypeAlias = tuple[Framework, Sequence[Array], Sequence[Array]]
