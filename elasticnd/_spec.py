"""What a call asks for: frozen, hashable specifications, which `_check` makes.

They consist of shapes, dtypes and options alone, never of values: so they serve arrays that have no values yet, and as
keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, cast

import numpy as np

from . import _dtypes
from ._affine import inverse_rotation_zoom
from ._modes import Mode
from ._types import Axes, Floats

Shape = tuple[int, ...]
Matrix = tuple[tuple[float, ...], ...]


class Frame(NamedTuple):
    """Where output voxels lie in the frame that control points span, where they are not its own."""

    extent: Shape
    start: tuple[float, ...]  # index of the frame at output voxel 0
    step: tuple[float, ...]  # from one output voxel to the next: positive, so that all lie in the frame


class OutputGrid(NamedTuple):
    """The voxels of the output, where they are not those of the image."""

    shape: Shape
    frame: Frame
    inverse_map: Matrix | None  # to voxels of the image, without displacement, or what follows the inverse of `affine`


class Options(NamedTuple):
    """What a call says besides its arrays, as the caller has said it."""

    order: object = 3
    mode: object = "constant"
    cval: object = 0.0
    crop: Sequence[slice] | None = None
    prefilter: object = True
    axis: Axes | None = None
    rotate: object = None
    zoom: object = None
    # The extents that the deformed axes must have; affine map, rotation and zoom then act about this frame. None: they
    # have any, and the maps act about the patch.
    frame: Shape | None = None
    # Instead of rotation, zoom and frame.
    output_grid: OutputGrid | None = None

    def inverse_rotation_zoom(self, output: Shape) -> Floats | None:
        """Return the part of the map from output to image that is constant, [M | t], for an output of some extent."""
        if self.output_grid is None:
            return inverse_rotation_zoom(self.rotate, self.zoom, output)
        matrix = self.output_grid.inverse_map
        return None if matrix is None else np.array(matrix)

    def cropped(self, shape: Shape) -> Shape:
        """Return the shape of the output, of an image whose extents may be symbols."""
        grid = self.output_grid
        whole: Sequence[object] | None = self.crop if grid is None else grid.shape
        if whole is None:
            return shape
        extents = list(shape)
        axes = cast("Sequence[int]", self.axis) or range(len(shape) - len(whole), len(shape))
        for k, axis in enumerate(axes):
            if grid is not None:
                extents[axis] = grid.shape[k]
            if self.crop is not None:
                start, stop, _ = self.crop[k].indices(extents[axis])
                extents[axis] = max(0, stop - start)
        return tuple(extents)


class ArrayInfo(NamedTuple):
    """Shape and dtype of an array, by whatever library."""

    shape: Shape
    dtype: str


@dataclass(frozen=True)
class ImageSpec:
    """One image of a call and its own options."""

    shape: Shape
    dtype: str
    axes: Shape  # deformed axes, in the order of the displacement's components
    order: int
    mode: Mode
    cval: int | float | tuple[float, float]  # of complex images, both parts
    prefilter: bool
    votes: bool = False  # of labels, the one with most of the weights of order 1 wins

    @property
    def is_complex(self) -> bool:
        """Whether elements have two components."""
        return self.dtype in _dtypes.COMPLEX_COMPONENTS

    def with_leading_axis(self, size: int) -> ImageSpec:
        """Return the same with an axis that is not deformed before the others."""
        return replace(self, shape=(size, *self.shape), axes=tuple(axis + 1 for axis in self.axes))

    def real_component(self, part: int) -> ImageSpec:
        """Describe the real (0) or imaginary (1) part of a complex image; a real image is its own part 0."""
        if not isinstance(self.cval, tuple):
            return self
        return replace(self, dtype=_dtypes.COMPLEX_COMPONENTS[self.dtype], cval=self.cval[part])


class Window(NamedTuple):
    """A part of the box of voxels that the deformed axes span."""

    start: Shape  # first voxel
    shape: Shape

    @property
    def slices(self) -> tuple[slice, ...]:
        """The part as slices of the deformed axes."""
        return tuple(slice(start, start + extent) for start, extent in zip(self.start, self.shape, strict=True))


@dataclass(frozen=True)
class DeformSpec:
    """One call."""

    images: tuple[ImageSpec, ...]
    batch: Shape
    extent: Shape  # of the images along their deformed axes
    grid_shape: Shape
    window: Window  # what is computed
    origin: Shape  # output voxel from which affine maps count
    has_affine: bool
    affine_batched: bool
    inverse_rotation_zoom: Matrix | None
    roi: Window | None = None  # what there is of the images; None: all
    frame: Frame | None = None  # that control points span; None: all voxels of the images

    def __hash__(self) -> int:
        """Hash the fields, once: every call looks something up by its specification."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        fields = (self.images, self.batch, self.extent, self.grid_shape, self.window, self.origin, self.roi)
        return hash((*fields, self.frame, self.inverse_rotation_zoom))  # else random rotations would all have one

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the hash, which differs between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def votes(self) -> bool:
        """Whether it is for labels, whose output has no derivatives."""
        return any(image.votes for image in self.images)

    @property
    def axes(self) -> int:
        """Count the deformed axes."""
        return len(self.extent)

    @property
    def inverse_rotation_zoom_linear(self) -> Matrix | None:
        """The linear part of the inverse of rotation and zoom."""
        matrix = self.inverse_rotation_zoom
        return None if matrix is None else tuple(row[:-1] for row in matrix)

    def only(self, image: ImageSpec) -> DeformSpec:
        """Return the specification of the same deformation for one image."""
        return replace(self, images=(image,))

    def for_window(self, window: Window, roi: Window, image_shape: Shape) -> DeformSpec:
        """Return the specification of a part of a call; of the image, `roi` is there, an array of `image_shape`."""
        (image,) = self.images
        batch = image_shape[: len(self.batch)]
        return replace(self, images=(replace(image, shape=image_shape),), batch=batch, window=window, roi=roi)

    def for_batch(self, batch: Shape) -> DeformSpec:
        """Return the specification of so many batch items."""
        if batch == self.batch:
            return self
        count = len(batch)
        images = tuple(replace(image, shape=(*batch, *image.shape[count:])) for image in self.images)
        return replace(self, images=images, batch=batch)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> DeformSpec:
        """Return the same with one more batch axis before the others."""
        images = tuple(image.with_leading_axis(size) for image in self.images)
        return replace(self, images=images, batch=(size, *self.batch), affine_batched=affine_batched)

    def with_batched_affine(self) -> DeformSpec:
        """Return the same with an affine matrix for every batch item."""
        return replace(self, affine_batched=True)

    def with_channel_axis(self, size: int) -> DeformSpec:
        """Return the same with an axis that is not deformed before those of the images; without batch axes only."""
        return replace(self, images=tuple(image.with_leading_axis(size) for image in self.images))

    @property
    def displacement_shape(self) -> Shape:
        """The shape of the displacement of the control points."""
        return (*self.batch, self.axes, *self.grid_shape)

    @property
    def field_shape(self) -> Shape:
        """The shape of the displacement of each voxel."""
        return (*self.batch, self.axes, *self.window.shape)

    def output_shape(self, image: ImageSpec) -> Shape:
        """Return the shape of an image's output."""
        shape = list(image.shape)
        for axis, extent in zip(image.axes, self.window.shape, strict=True):
            shape[axis] = extent
        return tuple(shape)

    def core_axes(self, image: ImageSpec) -> Shape:
        """Order the axes of an image as kernels want them: batch, channels, deformed."""
        others = [k for k in range(len(image.shape)) if k not in image.axes]
        return (*others, *image.axes)


@dataclass(frozen=True)
class EvaluationSpec:
    """An evaluation of control grids at positions, as many for each batch item."""

    batch: Shape
    extent: Shape  # of the frame
    grid_shape: Shape
    count: int

    images = ()
    has_affine = False
    affine_batched = False
    inverse_rotation_zoom_linear = None
    votes = False

    @property
    def axes(self) -> int:
        """The number of deformed axes."""
        return len(self.extent)

    @property
    def displacement_shape(self) -> Shape:
        """The shape of the displacement of the control points."""
        return (*self.batch, self.axes, *self.grid_shape)

    def values_shape(self, order: int) -> Shape:
        """Return the shape of the derivatives of an order."""
        return (*self.batch, self.count, self.axes, *(self.axes,) * order)

    def for_batch(self, batch: Shape) -> EvaluationSpec:
        """Return the specification of so many batch items."""
        return replace(self, batch=batch)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> EvaluationSpec:
        """Return the specification with one batch axis more before the others."""
        return replace(self, batch=(size, *self.batch))


@dataclass(frozen=True)
class MovementSpec(EvaluationSpec):
    """A search in the output for points of the image, or for what boxes become; boxes are two points each."""

    tolerance: float
    has_affine: bool = False  # the map from output to image, beside the displacement
    affine_batched: bool = False

    def found_shape(self, verb: str) -> Shape:
        """Return the shape of what a search finds, as `searches.py` has it."""
        if verb == "move_points":
            return (*self.batch, self.count, self.axes + 3)
        return (*self.batch, self.count // 2, 2 * self.axes * self.axes + 3)

    def with_batched_affine(self) -> MovementSpec:
        """Return the specification with an affine map for each batch item."""
        return replace(self, affine_batched=True)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> MovementSpec:
        """Return the specification with one batch axis more before the others."""
        return replace(self, batch=(size, *self.batch), affine_batched=self.affine_batched or affine_batched)
