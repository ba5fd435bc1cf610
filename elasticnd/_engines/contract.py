"""What every engine provides, and what its verbs take besides arrays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .._job import Job

if TYPE_CHECKING:
    from .._spec import Shape

Array = Any  # of NumPy or CuPy
Floats = NDArray[np.float64]


class Transform(NamedTuple):
    """Where voxels go, and the tangents along which this is differentiated."""

    displacement: Array  # of the control points
    affine: Array | None = None  # forward map of the output patch; the engine inverts it
    # Tangents of the displacement and, with an affine matrix, of the inverse map.
    tangents: tuple[tuple[Array, Array | None], ...] = ()


class Engine(Protocol):
    """The verbs, on one kind of device. An engine is a module; it knows no framework and no chain rule.

    Each verb is linear in its first array. The axes of image-like arrays are in the order batch, channels, deformed; a
    `Job` holds everything else.
    """

    def namespace(self) -> Any:
        """Return the module that makes the engine's arrays."""

    def holding(self, array: Array, /) -> AbstractContextManager[Any]:
        """Return a context in which the device of an array is current."""

    def empty(self, shape: Shape, dtype: np.dtype[Any], /) -> Array:
        """Allocate an output."""

    def empties(self, count: int, shape: Shape, dtype: np.dtype[Any], /) -> list[Array]:
        """Allocate several outputs with separate memory."""

    def sample(self, job: Job, images: Sequence[Array], transform: Transform, outputs: Sequence[Array], /) -> None:
        """Write the values of each image's spline at the deformed positions to its output; order 0 copies elements.

        With tangents in the transform, write the derivative along them.
        """

    def sample_adjoint(
        self, job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None, /
    ) -> tuple[Array, Array | None] | None:
        """Apply the transpose of `sample` in its image, and compute the gradients of ``<gradient, sample>``.

        Write the gradient of the image to `image_gradient`, if given; for part of an image, only for the voxels that
        `sample` reads. With an image, return the gradients of the control points and, with an affine matrix, of its
        inverse map, per batch item.
        """

    def displace(self, job: Job, displacement: Array, output: Array, /) -> None:
        """Write the displacement of each voxel to `output`, (batch..., axes, voxels...)."""

    def displace_adjoint(self, job: Job, gradient: Array, output: Array, /) -> None:
        """Apply the transpose of `displace` to the gradient, and write it to `output`."""

    def evaluate(self, job: Job, displacement: Array, positions: Array, /) -> Array:
        """Return all derivatives of the displacement, of the job's order, at positions.

        Shapes: (items, axes, points...) and (items, count, axes) to (items, count, axes, axes ** order).
        """

    def evaluate_adjoint(self, job: Job, gradient: Array, positions: Array, /) -> Array:
        """Apply the transpose of `evaluate` in the displacement."""

    def prefilter(self, job: Job, image: Array, /) -> Array:
        """Compute the coefficients inside the job's box, in the compute dtype: one step of `sample`."""

    def prefilter_adjoint(self, job: Job, coefficients: Array, output: Array, /) -> None:
        """Apply the transpose of `prefilter`, and write it to `output`."""
