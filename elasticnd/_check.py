"""Validation of all shapes, types and options: it returns the specifications of `_spec`, or raises an error."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike

from . import _dtypes
from ._coerce import as_index, as_indices, as_numbers, as_real, is_sequence
from ._errors import counted, describe, one_for_each, one_or_each, or_several, reject_type, reject_value, warn
from ._limits import LABELS, MAX_AXES, MAX_ORDER
from ._modes import MODES, Mode
from ._spec import ArrayInfo, DeformSpec, ImageSpec, Options, Shape, Window

_LONGEST_AXIS = 2**48  # leaves room for all computations on positions and offsets


def normalize(
    images: tuple[ArrayInfo, ...], displacement: ArrayInfo, affine: ArrayInfo | None, name: str, options: Options
) -> DeformSpec:
    """Check a call and return its specification; messages call the images `name`.

    Equal options of the same types reuse the specification of an earlier call.
    """
    return (_normalize_cached if is_cacheable(options) else _normalize)(images, displacement, affine, name, *options)


_CACHEABLE = frozenset((type(None), bool, int, float, str))


def is_cacheable(options: Options) -> bool:
    """Return whether equal options are interchangeable."""
    return _CACHEABLE.issuperset(map(type, options)) or all(map(_is_cacheable, options))


def _is_cacheable(option: object) -> bool:
    return type(option) in _CACHEABLE or (type(option) is tuple and all(type(part) in (int, str) for part in option))


def _normalize(
    images: tuple[ArrayInfo, ...],
    displacement: ArrayInfo,
    affine: ArrayInfo | None,
    name: str,
    *given: Any,
) -> DeformSpec:
    options = Options(*given)
    names = [name] if len(images) == 1 else [f"{name}[{i}]" for i in range(len(images))]
    for label, image in zip(names, images, strict=True):
        _check_image(label, image)
    check_real("displacement", displacement)
    axis_lists = axes_of_images(options.axis, len(images))
    frame_axes = None if options.frame is None else len(options.frame)
    batch = _batch_shape(images[0], axis_lists[0], displacement, names[0], frame_axes)
    axes = [
        image_axes(label, image, chosen, batch) for label, image, chosen in zip(names, images, axis_lists, strict=True)
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
    grid = options.output_grid
    whole = extent if grid is None else grid.shape
    window = normalize_crop(options.crop, whole)
    about = window if options.frame is None and grid is None else Window((0,) * len(extent), whole)
    inverse = options.inverse_rotation_zoom(about.shape)
    is_affine = affine is not None or inverse is not None
    orders = _per_image("order", options.order, len(images))
    modes = _per_image("mode", options.mode, len(images))
    cvals = _per_image("cval", options.cval, len(images))
    if not isinstance(options.prefilter, (bool, np.bool_)):
        reject_type("prefilter", options.prefilter, "True or False")
    return DeformSpec(
        images=tuple(
            _normalize_image(names[i], image, axes[i], orders[i], modes[i], cvals[i], bool(options.prefilter))
            for i, image in enumerate(images)
        ),
        batch=batch,
        extent=extent,
        grid_shape=points,
        window=window,
        origin=about.start if is_affine else (0,) * len(extent),
        has_affine=affine is not None,
        affine_batched=check_affine(affine, batch, len(extent)),
        inverse_rotation_zoom=None if inverse is None else tuple(map(tuple, inverse.tolist())),
        frame=None if grid is None else grid.frame,
    )


def _normalize_image(
    name: str, image: ArrayInfo, axes: Shape, order: object, mode: object, cval: object, prefilter: bool
) -> ImageSpec:
    """Convert one image and its own options to their normal form."""
    number, votes = _normalize_order(order)
    if votes and image.dtype in _dtypes.COMPLEX_COMPONENTS:
        raise TypeError(f"{name}: got dtype {image.dtype}, expected real numbers for order {LABELS!r}")
    value = _normalize_cval(cval, image.dtype)
    if votes:
        _check_label(cval, image.dtype)
    return ImageSpec(image.shape, image.dtype, axes, number, _normalize_mode(mode), value, prefilter, votes)


# True and 1 are equal, but only 1 is an order: `typed` distinguishes them as separate arguments.
_normalize_cached = lru_cache(maxsize=256, typed=True)(_normalize)


def options_of_image(options: Options, index: int, count: int) -> Options:
    """Return the options for one of several images."""
    return options._replace(
        order=_per_image("order", options.order, count)[index],
        mode=_per_image("mode", options.mode, count)[index],
        cval=_per_image("cval", options.cval, count)[index],
        axis=axes_of_images(options.axis, count)[index],
    )


def normalize_field(displacement: ArrayInfo, shape: object, crop: object) -> DeformSpec:
    """Check a call that only computes the field."""
    check_real("displacement", displacement)
    extent = normalize_frame(shape)
    batch = displacement.shape[: max(0, len(displacement.shape) - 1 - len(extent))]
    points = _grid_points(displacement, batch, extent)
    window = normalize_crop(crop, extent)
    return DeformSpec((), batch, extent, points, window, (0,) * len(extent), False, False, None)


def normalize_frame(shape: object) -> Shape:
    """Check the extents of a frame."""
    extent = normalize_shape("shape", shape)
    if not 1 <= len(extent) <= MAX_AXES:
        reject_value("shape", extent, f"1 to {MAX_AXES} deformed axes")
    return extent


def normalize_random(
    image: ArrayInfo, axis: object, batch_dims: object, count: int, name: str = "X"
) -> tuple[Shape, Shape]:
    """Return the batch shape of the random grid for an image, and the image's extent along the deformed axes."""
    _check_image(name, image)
    chosen = axes_of_images(axis, count)[0]
    batch_axes = as_index("batch_dims", batch_dims, "a number of leading axes")
    if not 0 <= batch_axes < len(image.shape):
        reject_value("batch_dims", batch_axes, f"0 to {len(image.shape) - 1} for an image of shape {image.shape}")
    batch = image.shape[:batch_axes]
    return batch, tuple(image.shape[axis] for axis in image_axes(name, image, chosen, batch))


def normalize_points(points: object, ndim: object) -> Shape:
    """Convert the numbers of control points to one per deformed axis."""
    if ndim is not None:
        ndim = as_index("ndim", ndim, "a positive number of deformed axes")
        if ndim < 1:
            reject_value("ndim", ndim, "a positive number of deformed axes")
    accepted = "a positive number of control points, or one per deformed axis"
    if is_sequence(points):
        counts = as_indices("points", points, accepted)
        if ndim is not None and len(counts) != ndim:
            reject_value("points", points, f"{counted(ndim, 'number', 'numbers')}, one per deformed axis")
    else:
        count = as_index("points", points, accepted)
        if ndim is None:
            reject_value("points", count, "a sequence with one number per deformed axis, since ndim is not given")
        counts = (count,) * ndim
    if not counts or min(counts) < 1:
        reject_value("points", points, accepted)
    return counts


def normalize_sigma(sigma: object, ndim: int) -> tuple[float, ...]:
    """Convert the standard deviations to one per deformed axis, in voxels."""
    accepted = or_several("a finite, non-negative number of voxels", ndim)
    values = as_numbers("sigma", sigma, ndim, accepted)
    if min(values) < 0:
        reject_value("sigma", describe(sigma), accepted)
    return values


def warn_of_folds(sigma: tuple[float, ...], extent: Shape, grid_shape: Shape) -> None:
    """Warn if random displacements exceed the spacing of control points: the mapping then folds nearly everywhere."""
    for axis, (scale, voxels, count) in enumerate(zip(sigma, extent, grid_shape, strict=True)):
        spacing = (voxels - 1) / max(count - 1, 1)
        if count > 1 and scale > spacing:
            warn(
                f"sigma: got {scale:g} voxels, more than the control-point spacing along deformed axis {axis} "
                f"({spacing:g}): the mapping folds nearly everywhere. Use a smaller sigma or fewer points; pass axis "
                f"to leave out channels"
            )
            return


_MOST_CHANNELS = 4  # and at least four times as many voxels along all other axes


def warn_of_channels(shape: Shape, displacement: np.ndarray[Any, Any]) -> None:
    """Warn if a control grid for all axes moves voxels across a whole axis that looks like one of channels."""
    if displacement.shape[:1] != (len(shape),) or displacement.ndim != len(shape) + 1:
        return
    if displacement.dtype.kind not in "fiu":
        return  # rejected later
    for axis in (0, len(shape) - 1):
        others = tuple(k for k in range(len(shape)) if k != axis)
        if shape[axis] > _MOST_CHANNELS or min(shape[k] for k in others) < 4 * _MOST_CHANNELS:
            continue
        reach = np.abs(displacement[axis]).max(initial=0)
        if reach >= max(shape[axis], 1):
            warn(
                f"displacement: moves voxels by up to {reach:.3g} along axis {axis}, which has only {shape[axis]}. If "
                f"this axis holds channels, pass axis={others} and a control grid without its component"
            )


def normalize_layer_axis(axis: object, ndim: object) -> Shape | None:
    """Convert the axes that a layer deforms to axes counted from the end, which suit tensors of any rank."""
    count = None if ndim is None else as_index("ndim", ndim, "a number of deformed axes")
    if count is not None and not 1 <= count <= MAX_AXES:
        reject_value("ndim", ndim, f"1 to {MAX_AXES} deformed axes")
    if axis is None:
        return None
    accepted = "None, or axes counted from the end, such as (-2, -1)"
    axes = as_indices("axis", axis, accepted)
    if not axes or max(axes) >= 0:
        reject_value("axis", axes, accepted)
    if count is not None and len(axes) != count:
        reject_value("axis", axes, f"{counted(count, 'axis', 'axes')}, to match ndim")
    return axes


def check_layer_rank(shape: Shape, ndim: int | None, axes: str) -> None:
    """Check that an image of a layer has batch and channel axes besides the `ndim` deformed axes."""
    if ndim is not None and len(shape) != ndim + 2:
        reject_value("tensors", f"shape {shape}", f"{ndim + 2} axes for ndim={ndim}: {axes}")


def normalize_image_shapes(shape: object, count: int) -> list[Shape]:
    """Convert the argument X_shape to one shape per image."""
    if is_sequence(shape) and len(shape) > 0 and all(is_sequence(one) for one in shape):
        shapes = [normalize_shape("X_shape", one) for one in shape]
    else:
        shapes = [normalize_shape("X_shape", shape)]
    if len(shapes) != count:
        reject_value("X_shape", counted(len(shapes), "shape", "shapes"), one_for_each(count, "image", "images"))
    return shapes


def normalize_dtype(dtype: object) -> str:
    """Return the name of an image dtype."""
    try:
        name = dtype if dtype in _dtypes.SUPPORTED else _dtypes.name_of(np.dtype(cast("DTypeLike", dtype)))
    except TypeError:
        name = ""
    if name not in _dtypes.SUPPORTED:
        reject_value("dtype", describe(dtype), f"one of {', '.join(_dtypes.SUPPORTED)}")
    return str(name)


def check_gradient(name: str, image: ImageSpec, gradient: ArrayInfo, expected: Shape) -> None:
    """Check that a gradient matches the output of an image."""
    if image.votes:
        reject_value(name, f"a gradient for order {LABELS!r}", "another order: labels have no gradient")
    if not _dtypes.is_inexact(image.dtype):
        reject_value(name, f"a gradient for an image of {image.dtype}", "an image of floats: integers have no gradient")
    if not _dtypes.is_inexact(gradient.dtype):
        reject_value(name, f"dtype {gradient.dtype}", "floats: integers have no gradient")
    if gradient.dtype in _dtypes.COMPLEX_COMPONENTS and image.dtype not in _dtypes.COMPLEX_COMPONENTS:
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


def normalize_shape(name: str, shape: object) -> Shape:
    """Convert a shape to a tuple of extents."""
    extents = as_indices(name, shape, "a tuple of extents")
    _check_extents(name, extents)
    return extents


def _check_extents(name: str, extents: Shape) -> None:
    if any(extent < 0 for extent in extents):
        reject_value(name, f"extents {extents}", "non-negative extents")
    if any(extent > _LONGEST_AXIS for extent in extents):
        reject_value(name, f"extents {extents}", f"extents of at most {_LONGEST_AXIS}")


def axes_of_images(axis: object, count: int) -> list[Shape | None]:
    """Return one tuple of axes per image, or None for all axes; negative axes are kept."""
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
        reject_value("axis", counted(len(axis), "entry", "entries"), one_for_each(count, "image", "images"))
    return [
        None if own is None else as_indices("axis", own if is_nested else [own], accepted)
        for own, is_nested in zip(axis, nested, strict=True)
    ]


def _axes_that_fit(image: Shape, grid: Shape) -> str:
    """Return a suggestion to pass the longest axes, for a control grid with fewer axes than the image."""
    n = len(grid) - 1
    if not 0 < n < len(image) or grid[0] != n:
        return ""
    longest = sorted(range(len(image)), key=lambda axis: -image[axis])[:n]
    return f", such as axis={tuple(sorted(longest))}"


def _batch_shape(
    image: ArrayInfo, chosen: Shape | None, displacement: ArrayInfo, name: str, frame_axes: int | None
) -> Shape:
    """Return the batch axes of the displacement: without `axis` or a frame, the fewest with which its shape fits."""
    grid = displacement.shape
    if chosen is not None:
        batch_axes = len(grid) - 1 - len(chosen)
        if batch_axes < 0:
            deformed = counted(len(chosen), "deformed axis", "deformed axes")
            expected = f"(..., {len(chosen)}, p_0, ...) with {len(chosen) + 1} axes for {deformed}"
            reject_value("displacement", f"shape {grid}", expected)
    elif frame_axes is not None:
        batch_axes = len(grid) - 1 - frame_axes
    else:
        rank = len(image.shape)
        if len(grid) != rank + 1:
            reject_value(
                "displacement",
                f"shape {grid}",
                f"({rank}, p_0, ...) with {rank + 1} axes, one more than {name} of shape {image.shape}; otherwise "
                f"pass axis{_axes_that_fit(image.shape, grid)}",
            )
        fits = (b for b in range(rank) if grid[b] == rank - b and grid[:b] == image.shape[:b])
        batch_axes = next(fits, 0)
    batch = grid[:batch_axes]
    if image.shape[:batch_axes] != batch:
        reject_value(
            "displacement", f"shape {grid}", f"batch axes {image.shape[:batch_axes]}, the leading axes of {name}"
        )
    return batch


def image_axes(name: str, image: ArrayInfo, chosen: Shape | None, batch: Shape) -> Shape:
    """Return the deformed axes of an image."""
    rank = len(image.shape)
    if image.shape[: len(batch)] != batch:
        reject_value(name, f"shape {image.shape}", f"leading batch axes {batch}")
    if chosen is None:
        axes = tuple(range(len(batch), rank))
    else:
        if any(not -rank <= k < rank for k in chosen):
            reject_value("axis", chosen, f"axes from {-rank} to {rank - 1} for {name} of shape {image.shape}")
        axes = tuple(k % rank for k in chosen)
        if len(set(axes)) != len(axes):
            reject_value("axis", chosen, "different axes")
        if any(k < len(batch) for k in axes):
            reject_value("axis", chosen, f"axes after the batch axes {batch} of the displacement")
    if not 1 <= len(axes) <= MAX_AXES:
        reject_value("axis", f"{len(axes)} deformed axes", f"1 to {MAX_AXES}")
    return axes


def _grid_points(displacement: ArrayInfo, batch: Shape, extent: Shape) -> Shape:
    grid = displacement.shape[len(batch) :]
    if len(grid) != len(extent) + 1 or grid[0] != len(extent):
        expected = f"({', '.join(map(str, (*batch, len(extent))))}{', p' * len(extent)})"
        deformed = counted(len(extent), "deformed axis", "deformed axes")
        reject_value("displacement", f"shape {displacement.shape}", f"{expected} for {deformed}")
    if min(grid[1:]) < 1:
        reject_value("displacement", f"shape {displacement.shape}", "at least one control point along each axis")
    return grid[1:]


def normalize_crop(crop: object, extent: Shape) -> Window:
    """Convert slices of the deformed axes to a window."""
    if crop is None:
        return Window((0,) * len(extent), extent)
    accepted = f"{counted(len(extent), 'slice', 'slices')}, one per deformed axis"
    if not isinstance(crop, (tuple, list)):
        reject_type("crop", crop, accepted)
    if len(crop) != len(extent):
        reject_value("crop", counted(len(crop), "entry", "entries"), accepted)
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
            reject_value(name, part, f"a non-empty slice of an axis with {length} voxels")
        starts.append(start)
        lengths.append(max(0, stop - start))
    return Window(tuple(starts), tuple(lengths))


def _per_image(name: str, value: object, count: int) -> list[object]:
    if is_sequence(value) and getattr(value, "ndim", 1) == 1:
        if len(value) != count:
            reject_value(name, counted(len(value), "value", "values"), one_or_each(count, "image", "images"))
        return list(value)
    return [value] * count


def check_options(*, order: object = (), mode: object = (), order_name: str = "order", mode_name: str = "mode") -> None:
    """Check orders and border modes, one or several of each, before there are images."""
    for one in order if is_sequence(order) else (order,):
        _normalize_order(one, order_name)
    for one in mode if is_sequence(mode) else (mode,):
        _normalize_mode(one, mode_name)


def _normalize_order(order: object, name: str = "order") -> tuple[int, bool]:
    """Return the order of the spline, and whether labels vote with its weights."""
    accepted = f"an integer from 0 to {MAX_ORDER} or {LABELS!r}"
    if isinstance(order, str):
        if order != LABELS:
            reject_value(name, describe(order), accepted)
        return 1, True
    number = as_index(name, order, accepted)
    if not 0 <= number <= MAX_ORDER:
        reject_value(name, number, accepted)
    return number, False


def _normalize_mode(mode: object, name: str = "mode") -> Mode:
    accepted = "one of " + ", ".join(map(repr, MODES))
    if not isinstance(mode, str):
        reject_type(name, mode, accepted)
    if mode not in MODES:
        reject_value(name, describe(mode), accepted)
    return MODES[mode]


def _normalize_cval(cval: object, dtype: str) -> int | float | tuple[float, float]:
    """Return a number of the image's kind, with canonical NaN and zero, so that equal calls have equal keys."""
    limits = _dtypes.integer_limits(dtype)
    if isinstance(cval, (bool, np.bool_)):
        cval = int(cval)
    if limits is not None:
        if isinstance(cval, (int, np.integer)):  # a double might not hold it exactly
            return _dtypes.saturate(int(cval), limits)
        number = as_real("cval", cval, "a real number")
        if math.isnan(number):
            reject_value("cval", number, f"a number that {dtype} can hold")
        return _dtypes.saturate(number, limits)
    if dtype in _dtypes.COMPLEX_COMPONENTS and isinstance(cval, (complex, np.complexfloating)):
        return _canonical(float(cval.real)), _canonical(float(cval.imag))
    number = _canonical(as_real("cval", cval, "a number"))
    return (number, 0.0) if dtype in _dtypes.COMPLEX_COMPONENTS else number


def _check_label(cval: object, dtype: str) -> None:
    """Check that a dtype holds a label exactly, so that it does not become another one."""
    is_integer = isinstance(cval, (int, np.integer, np.bool_))  # a double might not hold it exactly
    label = int(cast("int", cval)) if is_integer else as_real("cval", cval, "a number")
    if not _dtypes.holds(label, dtype):
        reject_value("cval", label, f"a label that {dtype} can hold exactly")


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
