"""What every bridge has: the functions that all others call on arrays, of whatever framework they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._autodiff.framework import LinearAlgebra
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec, Options, Shape
from .._types import Array, NumpyArray, Seed, Unchecked


class Bridge(Protocol):
    """A framework's way to the engines; a bridge is a module. It computes nothing itself.

    Its functions get arrays that `check` has passed. Control grids and matrices are what `small_array` has made.
    """

    @property
    def __name__(self) -> str:
        """The name of the module."""

    def info(self, array: Array, /) -> ArrayInfo:
        """Return shape and dtype, without a look at the values, so that tracers pass."""

    def engine_name(self, array: Array, /) -> tuple[str, str]:
        """Return the name of the engine that computes, and the reason."""

    def check(self, argument: str, image: Array, first: Array, /) -> None:
        """Check that an image can be taken, and goes with the first one of the call."""

    def small_array(self, argument: str, value: Unchecked, like: Array | None = None, /) -> Array:
        """Return a control grid or a matrix as an array that goes with the image `like`.

        It is an array of the framework, of NumPy, or nested lists of numbers; integers become floats.
        """

    def random_normal(self, shape: Shape, scale: Sequence[float], like: Array, rng: Seed, /) -> Array:
        """Draw displacements of control points, (..., n, p_0, ...), of a standard deviation for each component.

        `like` is the image that they are for, `rng` a generator of the framework, or what NumPy makes one of.
        """

    def is_deferred(self, arrays: Sequence[Unchecked], /) -> bool:
        """Return whether a call is recorded and checked when it runs, since shapes are not known yet."""

    def deferred(
        self, images: Sequence[Array], displacement: Unchecked, affine: Unchecked, options: Options, /
    ) -> list[Array]:
        """Record a call."""

    def forward(
        self, spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None, /
    ) -> list[Array]:
        """Deform images."""

    def image_vjp(
        self, spec: DeformSpec, gradients: Sequence[Array], displacement: Array, affine: Array | None, /
    ) -> list[Array | None]:
        """Compute the gradients of the images from those of the outputs."""

    def vjp(
        self,
        spec: DeformSpec,
        gradients: Sequence[Array | None],
        images: Sequence[Array],
        displacement: Array,
        affine: Array | None,
        /,
    ) -> tuple[list[Array | None], Array, Array | None]:
        """Compute the gradients of images, control grid and affine matrix from those of the outputs.

        Those of real and imaginary part of a complex image are one number.
        """

    def dense(self, spec: DeformSpec, displacement: Array, /) -> Array:
        """Compute the displacement of every voxel."""

    def evaluate(self, spec: EvaluationSpec, order: int, displacement: Array, positions: Array, /) -> Array:
        """Compute all derivatives of one order of the displacement at positions."""

    def algebra(self, array: Array, /) -> LinearAlgebra:
        """Return the linear algebra of an array's library."""

    def values(self, array: Array, /) -> NumpyArray | None:
        """Return the values of an array in the host's memory; None while it is traced."""


# ---- for bridges whose arrays always have their shapes ---------------------------------------------------------------


def is_deferred(arrays: Sequence[Unchecked]) -> bool:
    """Return False."""
    return False


def deferred(images: Sequence[Array], displacement: Unchecked, affine: Unchecked, options: Options) -> list[Array]:
    """Raise an error, as no call is deferred."""
    raise NotImplementedError("every call is checked at once")
