"""What the chain rule and maps of points need of a framework, whose arrays have ``+``, ``-``, ``@`` and slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._spec import Shape
from .._types import Array
from .operators import Operands, Operator


class LinearAlgebra(Protocol):
    """A framework's operations on matrices, and what brings arrays into shape for them."""

    def inverse(self, matrices: Array, /) -> Array:
        """Invert matrices."""

    def determinant(self, matrices: Array, /) -> Array:
        """Compute the determinants of (..., n, n)."""

    def transposed(self, matrices: Array, /) -> Array:
        """Swap the last two axes."""

    def joined(self, left: Array, right: Array, /) -> Array:
        """Concatenate along the last axis."""

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

    def zeros_like(self, array: Array, /) -> Array:
        """Make zeros."""

    def summed(self, array: Array, axes: Shape, /) -> Array:
        """Sum over some axes."""
