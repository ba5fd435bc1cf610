"""What every engine has, and what its verbs take besides arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .._geometry import Geometry

if TYPE_CHECKING:
    from .._spec import Shape

Array = Any  # of NumPy or CuPy
Floats = NDArray[np.float64]


class Transform(NamedTuple):
    """Where the voxels go, and tangents along which that can change."""

    displacement: Array  # of the control points
    affine: Array | None = None  # forward map of the output patch; the engine inverts it
    inverse_rotation_zoom: Array | None = None
    # Of the displacement and, with an affine, of the inverse map.
    tangents: tuple[tuple[Array, Array | None], ...] = ()


class Job(NamedTuple):
    """What a verb needs to know of an image of real numbers, besides the arrays."""

    geometry: Geometry
    batch_axes: int
    dtype: int  # of the image, a number of `_dtypes.CODES`
    arithmetic: int  # in which it is computed: that of float32 or float64
    filtered: bool  # else the image is taken for its coefficients
    fill: bytes  # the element where there is no position, for order 0
    held: tuple[tuple[int, int], ...] | None = None  # first voxel and extent of what is there of the image; None: all


class Engine(Protocol):
    """The same few verbs on one kind of device; an engine is a module. It knows no framework and no chain rule.

    Each verb is linear in its first array. Image-like arrays come with their axes in the order batch, channels,
    deformed; a `Job` says the rest.
    """

    def namespace(self) -> Any:
        """Return the module that makes the engine's arrays."""

    def holding(self, array: Array, /) -> AbstractContextManager[Any]:
        """Return a context in which the device of an array is current."""

    def empty(self, shape: Shape, dtype: np.dtype[Any], /) -> Array:
        """Allocate an output."""

    def sample(self, job: Job, image: Array, transform: Transform, output: Array, /) -> None:
        """Write the values of the image's spline at the deformed positions to `output`; order 0 copies elements.

        With tangents in the transform, write their derivative along these.
        """

    def sample_adjoint(
        self, job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None, /
    ) -> tuple[Array, Array | None] | None:
        """Apply the transpose of `sample` in its image, and compute the gradients of ``<gradient, sample>``.

        Write the gradient of the image to `image_gradient`, if there is one; of a part of an image, of what `sample`
        reads. With an image, return those of the control points and, if there is an affine, of its inverse map, per
        batch item.
        """

    def displace(self, points: Array, geometry: Geometry, output: Array, /, *, batch_axes: int) -> None:
        """Write the displacement of each voxel to `output`, (batch..., axes, voxels...)."""

    def displace_adjoint(self, gradient: Array, geometry: Geometry, points: Array, /, *, batch_axes: int) -> Array:
        """Apply the transpose of `displace`; the shape of `points` is that of the result."""

    def evaluate(self, geometry: Geometry, points: Array, positions: Array, order: int, /) -> Array:
        """Return all derivatives of one order of the displacement at positions.

        From (items, axes, points...) and (items, count, axes) to (items, count, axes, axes ** order).
        """

    def evaluate_adjoint(self, geometry: Geometry, gradient: Array, positions: Array, order: int, /) -> Array:
        """Apply the transpose of `evaluate` in the points."""

    def prefilter(self, job: Job, image: Array, /) -> Array:
        """Compute the coefficients inside the geometry's box, in the type of the arithmetic: a step of `sample`."""

    def prefilter_adjoint(self, job: Job, coefficients: Array, output: Array, /) -> None:
        """Write the transpose of `prefilter` to `output`."""
