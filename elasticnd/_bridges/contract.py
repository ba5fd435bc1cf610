"""What every bridge provides: the functions that the package calls on arrays of any framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .._autodiff.framework import Framework
from .._spec import ArrayInfo, Options, Shape
from .._types import Array, Seed


class Bridge(Framework, Protocol):
    """A framework's way to the engines. A bridge is a module, and does no numerical work itself.

    Its functions receive arrays that `check` has accepted, and control grids and matrices from `small_array`.
    """

    @property
    def __name__(self) -> str:
        """The name of the module."""

    def info(self, array: Array, /) -> ArrayInfo:
        """Return shape and dtype without reading values, so that tracers are accepted."""

    def engine_name(self, array: Array, /) -> tuple[str, str]:
        """Return the name of the engine that computes, and the reason."""

    def check(self, argument: str, image: Array, first: Array, /) -> None:
        """Check that an image is supported, and compatible with the first one of the call."""

    def small_array(self, argument: str, value: object, like: Array | None = None, /) -> Array:
        """Convert a control grid or a matrix to an array that is compatible with the image `like`.

        The value is an array of the framework or of NumPy, or nested lists of numbers; integers become floats.
        """

    def standard_normal(self, shape: Shape, batch_axes: int, like: Array, rng: Seed, /) -> Array | None:
        """Draw numbers from the framework's generator `rng`; return None if it is a seed for NumPy.

        The numbers are for the image `like`, and their first `batch_axes` axes are those of the image. None as `rng`
        stands for the framework's default generator.
        """

    def is_recorded(self, arrays: Sequence[object], /) -> bool:
        """Return whether a call is recorded, and checked only when it runs, because shapes are unknown."""

    def record(self, images: Sequence[Array], displacement: object, affine: object, options: Options, /) -> list[Array]:
        """Record a call."""


# ---- for bridges that delegate nothing, and whose arrays always have known shapes ------------------------------------


def delegate(images: Sequence[Array], others: Sequence[Array]) -> None:
    """Return None."""


def restored(result: Array, image: Array) -> Array:
    """Return the result unchanged."""
    return result


def is_recorded(arrays: Sequence[object]) -> bool:
    """Return False."""
    return False


def record(images: Sequence[Array], displacement: object, affine: object, options: Options) -> list[Array]:
    """Raise an error, since no call is recorded."""
    raise NotImplementedError("every call is checked at once")
