"""What every bridge has: the functions that the package calls on arrays, whatever their framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._autodiff.framework import Framework
from .._spec import ArrayInfo, Options, Shape
from .._types import Array, Seed


class Bridge(Framework, Protocol):
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

    def small_array(self, argument: str, value: object, like: Array | None = None, /) -> Array:
        """Return a control grid or a matrix as an array that goes with the image `like`.

        It is an array of the framework, of NumPy, or nested lists of numbers; integers become floats.
        """

    def standard_normal(self, shape: Shape, batch_axes: int, like: Array, rng: Seed, /) -> Array | None:
        """Draw numbers from the framework's generator `rng`; return None if that is a seed for NumPy.

        They are for the image `like`, with which they share so many batch axes. A `rng` of None stands for the
        generator that the framework itself would take.
        """

    def is_recorded(self, arrays: Sequence[object], /) -> bool:
        """Return whether a call is recorded and checked when it runs, since shapes are not known yet."""

    def record(self, images: Sequence[Array], displacement: object, affine: object, options: Options, /) -> list[Array]:
        """Record a call."""


# ---- for bridges that compute themselves, and whose arrays always have their shapes ----------------------------------


def delegate(images: Sequence[Array], others: Sequence[Array]) -> None:
    """Return None."""


def restored(result: Array, image: Array) -> Array:
    """Return a result as it is."""
    return result


def is_recorded(arrays: Sequence[object]) -> bool:
    """Return False."""
    return False


def record(images: Sequence[Array], displacement: object, affine: object, options: Options) -> list[Array]:
    """Raise an error, as no call is recorded."""
    raise NotImplementedError("every call is checked at once")
