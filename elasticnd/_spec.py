"""What a call asks for, checked and in one form. All validation of shapes, types and options happens here.

A specification is made of shapes, dtypes and options alone, never of values, and is hashable: it works for arrays that
have no values yet, and serves as a key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from . import _dtypes
from ._affine import inverse_rotation_zoom
from ._coerce import as_index, as_indices, as_numbers, as_real, is_sequence
from ._errors import describe, reject_type, reject_value
from ._geometry import MAX_AXES, MAX_ORDER
from ._modes import MODES, Mode
from ._types import Unchecked

_LONGEST_AXIS = 2**48  # leaves room for all arithmetic on positions and offsets

Shape = tuple[int, ...]
Matrix = tuple[tuple[float, ...], ...]


class Options(NamedTuple):
    """What a call says besides its arrays, as the caller has said it."""

    order: Unchecked = 3
    mode: Unchecked = "constant"
    cval: Unchecked = 0.0
    crop: Unchecked = None
    prefilter: Unchecked = True
    axis: Unchecked = None
    rotate: Unchecked = None
    zoom: Unchecked = None
    about_frame: bool = False  # what affine maps, rotation and zoom act about: else the patch
    frame: Shape | None = None  # the extents that the deformed axes must have

    def of_image(self, index: int, count: int, component: int | None) -> Options:
        """Return the options of one of several images; of a complex image, of its real (0) or imaginary (1) part."""
        cval = _per_image("cval", self.cval, count)[index]
        if component is not None:
            cval = cval.imag if component else cval.real
        return self._replace(
            order=_per_image("order", self.order, count)[index],
            mode=_per_image("mode", self.mode, count)[index],
            cval=cval,
            axis=axes_of_images(self.axis, count)[index],
        )

    def cropped(self, shape: Shape) -> Shape:
        """Return the shape of the output, of an image whose extents may be symbols."""
        if self.crop is None:
            return shape
        extents = list(shape)
        axes = self.axis or range(len(shape) - len(self.crop), len(shape))
        for axis, part in zip(axes, self.crop, strict=True):
            start, stop, _ = part.indices(extents[axis])
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

    @property
    def is_complex(self) -> bool:
        """Tell whether elements have two parts."""
        return self.dtype in _dtypes.COMPLEX_PARTS

    def with_leading_axis(self, size: int) -> ImageSpec:
        """Put an axis that is not deformed before the others."""
        return replace(self, shape=(size, *self.shape), axes=tuple(axis + 1 for axis in self.axes))

    def real_component(self, part: int) -> ImageSpec:
        """Describe the real (0) or imaginary (1) part of a complex image; a real image is its own part 0."""
        if not isinstance(self.cval, tuple):
            return self
        return replace(self, dtype=_dtypes.COMPLEX_PARTS[self.dtype], cval=self.cval[part])


class Window(NamedTuple):
    """A part of the frame, the box of voxels that the deformed axes span."""

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
    extent: Shape  # of the frame, and so of the images along their deformed axes
    grid_shape: Shape
    window: Window  # what is computed
    origin: Shape  # voxel of the frame from which affine maps count
    has_affine: bool
    affine_batched: bool
    inverse_rotation_zoom: Matrix | None
    roi: Window | None = None  # what there is of the images; None: all

    def __hash__(self) -> int:
        """Hash the fields, once: every call looks something up by its specification."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        fields = (self.images, self.batch, self.extent, self.grid_shape, self.window, self.origin, self.roi)
        return hash((*fields, self.inverse_rotation_zoom))  # else random rotations would all have one

    def __getstate__(self) -> dict[str, Unchecked]:
        """Leave the hash out, which another process would not find the same."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def axes(self) -> int:
        """Count the deformed axes."""
        return len(self.extent)

    @property
    def inverse_rotation_zoom_linear(self) -> Matrix | None:
        """Give the linear part of the inverse of rotation and zoom."""
        matrix = self.inverse_rotation_zoom
        return None if matrix is None else tuple(row[:-1] for row in matrix)

    def only(self, image: ImageSpec) -> DeformSpec:
        """Give the specification of the same deformation for one image."""
        return replace(self, images=(image,))

    def for_window(self, window: Window, roi: Window, image_shape: Shape) -> DeformSpec:
        """Return the specification of a part of a call; of the image, `roi` is there, an array of `image_shape`."""
        (image,) = self.images
        batch = image_shape[: len(self.batch)]
        return replace(self, images=(replace(image, shape=image_shape),), batch=batch, window=window, roi=roi)

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> DeformSpec:
        """Put one batch axis more before the others."""
        images = tuple(image.with_leading_axis(size) for image in self.images)
        return replace(self, images=images, batch=(size, *self.batch), affine_batched=affine_batched)

    def with_batched_affine(self) -> DeformSpec:
        """Give every batch item an affine matrix of its own."""
        return replace(self, affine_batched=True)

    def with_channel_axis(self, size: int) -> DeformSpec:
        """Put an axis that is not deformed before those of the images; for specifications without batch axes."""
        return replace(self, images=tuple(image.with_leading_axis(size) for image in self.images))

    @property
    def displacement_shape(self) -> Shape:
        """Give the shape of the displacement of the control points."""
        return (*self.batch, self.axes, *self.grid_shape)

    @property
    def field_shape(self) -> Shape:
        """Give the shape of the displacement of each voxel."""
        return (*self.batch, self.axes, *self.window.shape)

    def output_shape(self, image: ImageSpec) -> Shape:
        """Give the shape of an image's output."""
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

    def with_batch_axis(self, size: int, affine_batched: bool = False) -> EvaluationSpec:
        """Return the specification with one batch axis more before the others."""
        return replace(self, batch=(size, *self.batch))


def normalize(
    images: tuple[ArrayInfo, ...], displacement: ArrayInfo, affine: ArrayInfo | None, name: str, options: Options
) -> DeformSpec:
    """Check a call and bring it into one form; `name` is what the images are called there.

    A call like one before gets the specification of that one, where the options are such that equal ones are alike.
    """
    alike = _PLAIN.issuperset(map(type, options)) or all(map(_is_plain, options))
    return (_normalize_cached if alike else _normalize)(images, displacement, affine, name, *options)


_PLAIN = frozenset((type(None), bool, int, float, str))


def _is_plain(option: Unchecked) -> bool:
    return type(option) in _PLAIN or (type(option) is tuple and all(type(part) is int for part in option))


def _normalize(
    images: tuple[ArrayInfo, ...],
    displacement: ArrayInfo,
    affine: ArrayInfo | None,
    name: str,
    *given: Unchecked,
) -> DeformSpec:
    options = Options(*given)
    names = [name] if len(images) == 1 else [f"{name}[{i}]" for i in range(len(images))]
    for label, image in zip(names, images, strict=True):
        _check_image(label, image)
    check_real("displacement", displacement)
    axis_lists = axes_of_images(options.axis, len(images))
    batch = _batch_shape(images[0], axis_lists[0], displacement, names[0])
    axes = [
        _image_axes(label, image, chosen, batch) for label, image, chosen in zip(names, images, axis_lists, strict=True)
    ]
    extents = [tuple(image.shape[k] for k in own) for image, own in zip(images, axes, strict=True)]
    extent = extents[0]
    for label, other in zip(names[1:], extents[1:], strict=True):
        if other != extent:
            reject_value(label, f"extent {other} along its deformed axes", f"{extent}, as {names[0]} has")
    if options.frame is not None and extent != options.frame:
        expected = f"{options.frame}, the shape of the deformation"
        reject_value(names[0], f"extent {extent} along its deformed axes", expected)
    points = _grid_points(displacement, batch, extent)
    window = _normalize_crop(options.crop, extent)
    centred_in = extent if options.about_frame else window.shape
    inverse = inverse_rotation_zoom(options.rotate, options.zoom, centred_in)
    about_patch = not options.about_frame and (affine is not None or inverse is not None)
    orders = _per_image("order", options.order, len(images))
    modes = _per_image("mode", options.mode, len(images))
    cvals = _per_image("cval", options.cval, len(images))
    if not isinstance(options.prefilter, (bool, np.bool_)):
        reject_type("prefilter", options.prefilter, "True or False")
    return DeformSpec(
        images=tuple(
            ImageSpec(
                shape=image.shape,
                dtype=image.dtype,
                axes=own,
                order=_normalize_order(orders[i]),
                mode=_normalize_mode(modes[i]),
                cval=_normalize_cval(cvals[i], image.dtype),
                prefilter=bool(options.prefilter),
            )
            for i, (image, own) in enumerate(zip(images, axes, strict=True))
        ),
        batch=batch,
        extent=extent,
        grid_shape=points,
        window=window,
        origin=window.start if about_patch else (0,) * len(extent),
        has_affine=affine is not None,
        affine_batched=check_affine(affine, batch, len(extent)),
        inverse_rotation_zoom=None if inverse is None else tuple(map(tuple, inverse.tolist())),
    )


# True and 1 are equal, but not the same order: `typed` keeps them apart, where they are arguments by themselves.
_normalize_cached = lru_cache(maxsize=256, typed=True)(_normalize)


def normalize_field(displacement: ArrayInfo, shape: Unchecked, crop: Unchecked) -> DeformSpec:
    """Check a call that asks for the displacement alone."""
    check_real("displacement", displacement)
    extent = normalize_frame(shape)
    batch = displacement.shape[: max(0, len(displacement.shape) - 1 - len(extent))]
    points = _grid_points(displacement, batch, extent)
    window = _normalize_crop(crop, extent)
    return DeformSpec((), batch, extent, points, window, (0,) * len(extent), False, False, None)


def normalize_frame(shape: Unchecked) -> Shape:
    """Check the extents of a frame."""
    extent = normalize_shape("shape", shape)
    if not 1 <= len(extent) <= MAX_AXES:
        reject_value("shape", extent, f"1 to {MAX_AXES} deformed axes")
    return extent


def normalize_random(
    image: ArrayInfo, axis: Unchecked, batch_dims: Unchecked, count: int, name: str = "X"
) -> tuple[Shape, int]:
    """Give batch shape and number of deformed axes of the random grid for an image."""
    _check_image(name, image)
    chosen = axes_of_images(axis, count)[0]
    batch_axes = as_index("batch_dims", batch_dims, "a number of leading axes")
    if not 0 <= batch_axes < len(image.shape):
        reject_value("batch_dims", batch_axes, f"0 to {len(image.shape) - 1} for an image of shape {image.shape}")
    batch = image.shape[:batch_axes]
    return batch, len(_image_axes(name, image, chosen, batch))


def normalize_points(points: Unchecked, ndim: Unchecked) -> Shape:
    """Bring the numbers of control points into one form: one per deformed axis."""
    if ndim is not None:
        ndim = as_index("ndim", ndim, "a positive number of deformed axes")
        if ndim < 1:
            reject_value("ndim", ndim, "a positive number of deformed axes")
    accepted = "a positive number of control points, or one per deformed axis"
    if is_sequence(points):
        counts = as_indices("points", points, accepted)
        if ndim is not None and len(counts) != ndim:
            reject_value("points", counts, f"{ndim} numbers, one per deformed axis")
    else:
        count = as_index("points", points, accepted)
        if ndim is None:
            reject_value("points", count, "a sequence, one number per deformed axis, where ndim is not given")
        counts = (count,) * ndim
    if not counts or min(counts) < 1:
        reject_value("points", counts, accepted)
    return counts


def normalize_sigma(sigma: Unchecked, ndim: int) -> tuple[float, ...]:
    """Bring the standard deviations into one form: one per deformed axis, in voxels."""
    accepted = f"a finite number of voxels that is not negative, or {ndim} of them"
    values = as_numbers("sigma", sigma, ndim, accepted)
    if min(values) < 0:
        reject_value("sigma", describe(sigma), accepted)
    return values


def normalize_layer_axis(axis: Unchecked, ndim: Unchecked) -> Shape | None:
    """Bring the axes that a layer deforms into one form: counted from the end, for tensors of any rank."""
    if ndim is not None and not 1 <= as_index("ndim", ndim, "a number of deformed axes") <= MAX_AXES:
        reject_value("ndim", ndim, f"1 to {MAX_AXES} deformed axes")
    if axis is None:
        return None
    accepted = "None, or axes counted from the end, such as (-2, -1)"
    axes = as_indices("axis", axis, accepted)
    if not axes or max(axes) >= 0:
        reject_value("axis", axes, accepted)
    if ndim is not None and len(axes) != ndim:
        reject_value("axis", axes, f"{ndim} axes, as ndim says")
    return axes


def check_layer_rank(shape: Shape, ndim: int | None, axes: str) -> None:
    """Check that an image of a layer has batch and channels besides `ndim` axes to deform."""
    if ndim is not None and len(shape) != ndim + 2:
        reject_value("tensors", f"shape {shape}", f"{ndim + 2} axes for ndim={ndim}: {axes}")


def normalize_image_shapes(shape: Unchecked, count: int) -> list[Shape]:
    """Bring the argument X_shape into one form: a shape per image."""
    if is_sequence(shape) and len(shape) > 0 and all(is_sequence(one) for one in shape):
        shapes = [normalize_shape("X_shape", one) for one in shape]
    else:
        shapes = [normalize_shape("X_shape", shape)]
    if len(shapes) != count:
        reject_value("X_shape", f"{len(shapes)} shapes", f"one for each of {count} images")
    return shapes


def normalize_dtype(dtype: Unchecked) -> str:
    """Give the name of a dtype of images."""
    try:
        name = dtype if dtype in _dtypes.SUPPORTED else _dtypes.name_of(np.dtype(dtype))
    except TypeError:
        name = ""
    if name not in _dtypes.SUPPORTED:
        reject_value("dtype", describe(dtype), f"one of {', '.join(_dtypes.SUPPORTED)}")
    return str(name)


def check_gradient(name: str, image: ImageSpec, gradient: ArrayInfo, expected: Shape) -> None:
    """Check that a gradient can belong to the output of an image."""
    if not _dtypes.is_inexact(image.dtype):
        reject_value(name, f"a gradient for an image of {image.dtype}", "an image of floats: integers have no gradient")
    if not _dtypes.is_inexact(gradient.dtype):
        reject_value(name, f"dtype {gradient.dtype}", "floats: integers have no gradient")
    if gradient.dtype in _dtypes.COMPLEX_PARTS and image.dtype not in _dtypes.COMPLEX_PARTS:
        reject_value(name, f"dtype {gradient.dtype}", f"real numbers for an image of {image.dtype}")
    if gradient.shape != expected:
        reject_value(name, f"shape {gradient.shape}", f"{expected}, the shape of the output")


def _check_image(name: str, image: ArrayInfo) -> None:
    if image.dtype not in _dtypes.SUPPORTED:
        raise TypeError(f"{name}: got dtype {image.dtype}, expected one of {', '.join(_dtypes.SUPPORTED)}")
    if not image.shape:
        reject_value(name, "an array of 0 axes", "at least 1")
    _check_extents(name, image.shape)


def check_real(name: str, grid: ArrayInfo) -> None:
    if not _dtypes.is_real_number(grid.dtype):
        raise TypeError(f"{name}: got dtype {grid.dtype}, expected real numbers")


def normalize_shape(name: str, shape: Unchecked) -> Shape:
    """Bring a shape into one form: a tuple of extents."""
    extents = as_indices(name, shape, "a tuple of extents")
    _check_extents(name, extents)
    return extents


def _check_extents(name: str, extents: Shape) -> None:
    if any(extent < 0 for extent in extents):
        reject_value(name, f"extents {extents}", "extents that are not negative")
    if any(extent > _LONGEST_AXIS for extent in extents):
        reject_value(name, f"extents {extents}", f"extents of at most {_LONGEST_AXIS}")


def axes_of_images(axis: Unchecked, count: int) -> list[Shape | None]:
    """Give one tuple of axes per image, or None for all; still with negative axes."""
    accepted = "None, an axis, a sequence of axes, or one such sequence per image"
    if axis is None:
        return [None] * count
    if isinstance(axis, np.ndarray) and axis.ndim > 1:
        reject_type("axis", axis, accepted)
    if not is_sequence(axis):
        return [(as_index("axis", axis, accepted),)] * count
    nested = [own is None or is_sequence(own) for own in axis]
    if not any(nested):
        return [as_indices("axis", axis, accepted)] * count
    if len(axis) != count:
        reject_value("axis", f"{len(axis)} entries", f"one for each of {count} images")
    return [
        None if own is None else as_indices("axis", own if is_nested else [own], accepted)
        for own, is_nested in zip(axis, nested, strict=True)
    ]


def _batch_shape(image: ArrayInfo, chosen: Shape | None, displacement: ArrayInfo, name: str) -> Shape:
    """Find how many axes of the displacement are batch axes: the fewest with which it fits."""
    grid = displacement.shape
    if chosen is not None:
        batch_axes = len(grid) - 1 - len(chosen)
        if batch_axes < 0:
            reject_value(
                "displacement",
                f"shape {grid}",
                f"(..., {len(chosen)}, p_0, ...) with {len(chosen) + 1} axes for {len(chosen)} deformed axes",
            )
    else:
        rank = len(image.shape)
        if len(grid) != rank + 1:
            reject_value(
                "displacement",
                f"shape {grid}",
                f"{rank + 1} axes, one more than {name} of shape {image.shape}, or axis to be given",
            )
        fits = (b for b in range(rank) if grid[b] == rank - b and grid[:b] == image.shape[:b])
        batch_axes = next(fits, 0)
    batch = grid[:batch_axes]
    if image.shape[:batch_axes] != batch:
        reject_value(
            "displacement", f"shape {grid}", f"batch axes {image.shape[:batch_axes]}, the leading axes of {name}"
        )
    return batch


def _image_axes(name: str, image: ArrayInfo, chosen: Shape | None, batch: Shape) -> Shape:
    rank = len(image.shape)
    if image.shape[: len(batch)] != batch:
        reject_value(name, f"shape {image.shape}", f"the batch axes {batch} first")
    if chosen is None:
        axes = tuple(range(len(batch), rank))
    else:
        if any(not -rank <= k < rank for k in chosen):
            reject_value("axis", chosen, f"axes from {-rank} to {rank - 1} for {name} of shape {image.shape}")
        axes = tuple(k % rank for k in chosen)
        if len(set(axes)) != len(axes):
            reject_value("axis", chosen, "different axes")
        if any(k < len(batch) for k in axes):
            reject_value("axis", chosen, f"axes after the {len(batch)} batch axes of the displacement")
    if not 1 <= len(axes) <= MAX_AXES:
        reject_value("axis", f"{len(axes)} deformed axes", f"1 to {MAX_AXES}")
    return axes


def _grid_points(displacement: ArrayInfo, batch: Shape, extent: Shape) -> Shape:
    grid = displacement.shape[len(batch) :]
    expected = f"({', '.join(map(str, (*batch, len(extent))))}{', p' * len(extent)})"
    if len(grid) != len(extent) + 1 or grid[0] != len(extent):
        reject_value("displacement", f"shape {displacement.shape}", f"{expected} for {len(extent)} deformed axes")
    if min(grid[1:]) < 1:
        reject_value("displacement", f"shape {displacement.shape}", "at least one control point along each axis")
    return grid[1:]


def _normalize_crop(crop: Unchecked, extent: Shape) -> Window:
    if crop is None:
        return Window((0,) * len(extent), extent)
    accepted = f"{len(extent)} slices, one per deformed axis"
    if not isinstance(crop, (tuple, list)):
        reject_type("crop", crop, accepted)
    if len(crop) != len(extent):
        reject_value("crop", f"{len(crop)} entries", accepted)
    starts, lengths = [], []
    for k, (part, length) in enumerate(zip(crop, extent, strict=True)):
        name = f"crop[{k}]"
        if not isinstance(part, slice):
            reject_type(name, part, "a slice")
        try:
            start, stop, step = part.indices(length)
        except (TypeError, ValueError):
            reject_type(name, part, "a slice of integers without a step")
        if step != 1:
            reject_value(name, part, "a slice without a step")
        if stop <= start and length > 0:
            reject_value(name, part, f"a slice that is not empty, of an axis of {length} voxels")
        starts.append(start)
        lengths.append(max(0, stop - start))
    return Window(tuple(starts), tuple(lengths))


def _per_image(name: str, value: Unchecked, count: int) -> list[Unchecked]:
    if is_sequence(value) and getattr(value, "ndim", 1) == 1:
        if len(value) != count:
            reject_value(name, f"{len(value)} values", f"one, or one for each of {count} images")
        return list(value)
    return [value] * count


def _normalize_order(order: Unchecked) -> int:
    accepted = f"an integer from 0 to {MAX_ORDER}"
    number = as_index("order", order, accepted)
    if not 0 <= number <= MAX_ORDER:
        reject_value("order", number, accepted)
    return number


def _normalize_mode(mode: Unchecked) -> Mode:
    accepted = "one of " + ", ".join(map(repr, MODES))
    if not isinstance(mode, str):
        reject_type("mode", mode, accepted)
    if mode not in MODES:
        reject_value("mode", describe(mode), accepted)
    return MODES[mode]


def _normalize_cval(cval: Unchecked, dtype: str) -> int | float | tuple[float, float]:
    """Give a number of the image's kind; NaN and zero are made canonical, so that equal calls have equal keys."""
    limits = _dtypes.integer_limits(dtype)
    if isinstance(cval, (bool, np.bool_)):
        cval = int(cval)
    if limits is not None:
        if isinstance(cval, (int, np.integer)):  # a double might not hold it
            return _dtypes.saturate(int(cval), limits)
        number = as_real("cval", cval, "a real number")
        if math.isnan(number):
            reject_value("cval", number, f"a number that {dtype} can hold")
        return _dtypes.saturate(number, limits)
    if dtype in _dtypes.COMPLEX_PARTS and isinstance(cval, (complex, np.complexfloating)):
        return _canonical(float(cval.real)), _canonical(float(cval.imag))
    number = _canonical(as_real("cval", cval, "a number"))
    return (number, 0.0) if dtype in _dtypes.COMPLEX_PARTS else number


def _canonical(number: float) -> float:
    return math.nan if math.isnan(number) else number + 0.0


def check_affine(affine: ArrayInfo | None, batch: Shape, n: int) -> bool:
    """Check the shape of an affine matrix; return whether each batch item has its own."""
    if affine is None:
        return False
    check_real("affine", affine)
    matrices = ((n, n + 1), (n + 1, n + 1))
    if affine.shape in matrices:
        return False
    if batch and affine.shape in tuple((*batch, *matrix) for matrix in matrices):
        return True
    leading = f", or these after the batch axes {batch}" if batch else ""
    return reject_value("affine", f"shape {affine.shape}", f"{matrices[0]} or {matrices[1]}{leading}")
