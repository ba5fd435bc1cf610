"""Specifications of calls: frozen and hashable, built by `_check`.

They contain only shapes, dtypes and options. They can therefore be keys of caches, and describe arrays that do not have
values yet.
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
    """Where output voxels lie in the frame that the control points span, if they are not the frame's own voxels."""

    extent: Shape
    start: tuple[float, ...]  # position in the frame of output voxel 0
    step: tuple[float, ...]  # from one output voxel to the next: positive, so that all lie in the frame


class OutputGrid(NamedTuple):
    """The voxels of the output, if they are not those of the image."""

    shape: Shape
    frame: Frame
    inverse_map: Matrix | None  # to image voxels, without displacement; it may follow the inverse of `affine`


class Options(NamedTuple):
    """The options of a call besides its arrays, as given by the caller."""

    order: object = 3
    mode: object = "constant"
    cval: object = 0.0
    crop: Sequence[slice] | None = None
    prefilter: object = True
    axis: Axes | None = None
    rotate: object = None
    zoom: object = None
    # The extents that the deformed axes must have; affine map, rotation and zoom then act about this frame. None: any
    # extents, and the maps act about the patch.
    frame: Shape | None = None
    # Replaces rotation, zoom and frame.
    output_grid: OutputGrid | None = None

    def inverse_rotation_zoom(self, output: Shape) -> Floats | None:
        """Return the constant part of the map from output to image, [M | t], for an output of this extent."""
        if self.output_grid is None:
            return inverse_rotation_zoom(self.rotate, self.zoom, output)
        matrix = self.output_grid.inverse_map
        return None if matrix is None else np.array(matrix)

    def cropped(self, shape: Shape) -> Shape:
        """Return the shape of the output for an image whose extents may be symbolic."""
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
    """Shape and dtype of an array of any library."""

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
    cval: int | float | tuple[float, float]  # of complex images, both components
    prefilter: bool
    votes: bool = False  # labels: the one with the largest sum of order-1 weights wins

    @property
    def is_complex(self) -> bool:
        """Whether elements have two components."""
        return self.dtype in _dtypes.COMPLEX_COMPONENTS

    def with_leading_axis(self, size: int) -> ImageSpec:
        """Return the specification with an additional leading axis that is not deformed."""
        return replace(self, shape=(size, *self.shape), axes=tuple(axis + 1 for axis in self.axes))

    def real_component(self, part: int) -> ImageSpec:
        """Return the specification of the real (0) or imaginary (1) component; a real image is its own component 0."""
        if not isinstance(self.cval, tuple):
            return self
        return replace(self, dtype=_dtypes.COMPLEX_COMPONENTS[self.dtype], cval=self.cval[part])


class Window(NamedTuple):
    """A part of the box of voxels spanned by the deformed axes."""

    start: Shape  # first voxel
    shape: Shape

    @property
    def slices(self) -> tuple[slice, ...]:
        """The window as slices of the deformed axes."""
        return tuple(slice(start, start + extent) for start, extent in zip(self.start, self.shape, strict=True))


@dataclass(frozen=True)
class DeformSpec:
    """The specification of a call for deformed images."""

    images: tuple[ImageSpec, ...]
    batch: Shape
    extent: Shape  # of the images along their deformed axes
    grid_shape: Shape
    window: Window  # the part that is computed
    origin: Shape  # output voxel from which affine maps count
    has_affine: bool
    affine_batched: bool
    inverse_rotation_zoom: Matrix | None
    roi: Window | None = None  # the part of the images in memory; None: all
    frame: Frame | None = None  # spanned by the control points; None: all voxels of the images

    def __hash__(self) -> int:
        """Hash the fields, once, because every call looks something up by its specification."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        fields = (self.images, self.batch, self.extent, self.grid_shape, self.window, self.origin, self.roi)
        return hash((*fields, self.frame, self.inverse_rotation_zoom))  # without it, random rotations would all collide

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the hash, which differs between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def votes(self) -> bool:
        """Whether the call is for labels, whose output has no derivatives."""
        return any(image.votes for image in self.images)

    @property
    def axes(self) -> int:
        """The number of deformed axes."""
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
        """Return the specification of a part of a call, with `roi` of the image in an array of `image_shape`."""
        (image,) = self.images
        batch = image_shape[: len(self.batch)]
        return replace(self, images=(replace(image, shape=image_shape),), batch=batch, window=window, roi=roi)

    def for_batch(self, batch: Shape) -> DeformSpec:
        """Return the specification with this batch shape."""
        if batch == self.batch:
            return self
        count = len(batch)
        images = tuple(replace(image, shape=(*batch, *image.shape[count:])) for image in self.images)
        return replace(self, images=images, batch=batch)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> DeformSpec:
        """Return the specification with an additional leading batch axis."""
        images = tuple(image.with_leading_axis(size) for image in self.images)
        return replace(self, images=images, batch=(size, *self.batch), affine_batched=affine_batched)

    def with_batched_affine(self) -> DeformSpec:
        """Return the specification with an affine matrix for every batch item."""
        return replace(self, affine_batched=True)

    def with_channel_axis(self, size: int) -> DeformSpec:
        """Return the specification with an additional leading channel axis; only without batch axes."""
        return replace(self, images=tuple(image.with_leading_axis(size) for image in self.images))

    @property
    def displacement_shape(self) -> Shape:
        """The shape of the displacement of the control points."""
        return (*self.batch, self.axes, *self.grid_shape)

    @property
    def field_shape(self) -> Shape:
        """The shape of the displacement of every voxel."""
        return (*self.batch, self.axes, *self.window.shape)

    def output_shape(self, image: ImageSpec) -> Shape:
        """Return the shape of an image's output."""
        shape = list(image.shape)
        for axis, extent in zip(image.axes, self.window.shape, strict=True):
            shape[axis] = extent
        return tuple(shape)

    def in_core_order(self) -> DeformSpec:
        """Return the specification for images whose axes have the order of `core_axes`."""
        images = []
        for image in self.images:
            shape = tuple(image.shape[axis] for axis in self.core_axes(image))
            images.append(replace(image, shape=shape, axes=tuple(range(len(shape) - self.axes, len(shape)))))
        return replace(self, images=tuple(images))

    def core_axes(self, image: ImageSpec) -> Shape:
        """Return the axes of an image in the order of the kernels: batch, channels, deformed."""
        others = [k for k in range(len(image.shape)) if k not in image.axes]
        return (*others, *image.axes)


@dataclass(frozen=True)
class EvaluationSpec:
    """An evaluation of control grids at positions, the same number for each batch item."""

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
        """Return the specification with this batch shape."""
        return replace(self, batch=batch)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> EvaluationSpec:
        """Return the specification with an additional leading batch axis."""
        return replace(self, batch=(size, *self.batch))


@dataclass(frozen=True)
class MovementSpec(EvaluationSpec):
    """A search in the output for points or boxes of the image; a box counts as two points."""

    tolerance: float
    has_affine: bool = False  # in the map from output to image, besides the displacement
    affine_batched: bool = False

    def found_shape(self, verb: str) -> Shape:
        """Return the shape of what a search finds; see `searches.py`."""
        if verb == "move_points":
            return (*self.batch, self.count, self.axes + 3)
        return (*self.batch, self.count // 2, 2 * self.axes * self.axes + 3)

    def with_batched_affine(self) -> MovementSpec:
        """Return the specification with an affine map for each batch item."""
        return replace(self, affine_batched=True)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> MovementSpec:
        """Return the specification with an additional leading batch axis."""
        return replace(self, batch=(size, *self.batch), affine_batched=self.affine_batched or affine_batched)
