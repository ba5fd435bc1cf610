"""Images and outputs with other voxels than a deformation's frame, by index-to-world matrices.

With the matrices F of the frame, W of the image and V of the output, output voxel o is sampled at the image position

    x(o) = P (T⁻¹(Q o) + d(Q o)),   Q = F⁻¹ V,   P = W⁻¹ F.

This map is again a deformation, applied in one resampling. Its affine map is composed of P, T⁻¹ and Q. The linear part
of P maps the displacements of the control points to its own displacements. If Q does not mix axes, they still form a
control grid, which is mirrored where the output extends beyond the frame. Otherwise there is a control point for each
output voxel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np

from . import _affine, _apply, _check, _labels
from ._bridges.contract import Bridge
from ._coerce import is_sequence
from ._errors import counted, describe, one_for_each, reject_value
from ._floating_point import in_default_state
from ._positions import Positions
from ._routes import bridge_of
from ._spec import ArrayInfo, Frame, Matrix, Options, OutputGrid, Shape
from ._types import Array, Floats, Images, NumpyArray

_SAME = 1e-9  # voxels: smaller distances are rounding errors


class DeformationParts(NamedTuple):
    """The parts of a deformation."""

    displacement: Array
    affine: Array | None
    rotate: object
    zoom: object
    shape: Shape
    to_world: Matrix | None


class Worlds(NamedTuple):
    """Where images and outputs lie, as given by the caller."""

    to_world: object
    output_to_world: object
    output_shape: object


class _Grids(NamedTuple):
    """The index-to-world matrices of one image, and the shape of its output."""

    frame: Floats
    image: Floats
    output: Floats
    shape: Shape

    def are_frame(self, shape: Shape, extent: Shape) -> bool:
        """Return whether image and output have the voxels of a frame of this shape."""
        is_same = np.array_equal(self.image, self.frame) and np.array_equal(self.output, self.frame)
        return is_same and self.shape == shape == extent


@in_default_state
def apply(deformation: DeformationParts, X: Images, options: Options, worlds: Worlds) -> Images:
    """Deform images anywhere in the world, ignoring the options for rotation, zoom and frame."""
    given, images = _apply.with_and_without_labels("X", X)
    bridge = _apply.image_bridge("X", images, X)
    names = _apply.names_of("X", len(images), X)
    options = options._replace(axis=_labels.axis_numbers(given, options.axis))
    axes = [
        _deformed_axes(deformation, name, bridge.info(image), chosen)
        for name, image, chosen in zip(names, images, _check.axes_of_images(options.axis, len(images)), strict=True)
    ]
    extents = [tuple(image.shape[k] for k in own) for image, own in zip(images, axes, strict=True)]
    grids = _grids(deformation, names, extents, worlds)
    results = []
    for k, (image, own) in enumerate(zip(images, grids, strict=True)):
        alone = _check.options_of_image(options, k, len(images))._replace(axis=axes[k])
        if own.are_frame(deformation.shape, extents[k]):
            alone = alone._replace(rotate=deformation.rotate, zoom=deformation.zoom, frame=deformation.shape)
            displacement, affine = deformation.displacement, deformation.affine
        else:
            displacement, frame = _displacement_on(deformation, own)
            affine, inverse_map = _affine_on(deformation, own)
            alone = alone._replace(output_grid=OutputGrid(own.shape, frame, inverse_map))
        (result,) = _apply.deform_all(names[k], bridge, [image], displacement, affine, alone)
        is_own_grid = np.array_equal(own.image, own.output) and own.shape == extents[k]
        if _labels.is_labelled(given[k]):
            labels = _labels.patch_of(given[k], axes[k], options.crop) if is_own_grid else None
            result = _labels.labelled_elsewhere(result, given[k], axes[k], labels)
        results.append(result)
    return _apply.like_input(X, results)


# ---- arguments -------------------------------------------------------------------------------------------------------


def _deformed_axes(deformation: DeformationParts, name: str, image: ArrayInfo, chosen: Shape | None) -> Shape:
    n = len(deformation.shape)
    batch = tuple(int(size) for size in deformation.displacement.shape[: -n - 1])
    axes = _check.image_axes(name, image, chosen, batch)
    if len(axes) != n:
        expected = f"{counted(n, 'deformed axis', 'deformed axes')}, like the deformation; otherwise pass axis"
        reject_value(name, f"shape {image.shape} with {counted(len(axes), 'axis', 'axes')} to deform", expected)
    if any(image.shape[axis] == 0 for axis in axes):
        reject_value(name, f"shape {image.shape}", "an image with voxels")
    return axes


def _grids(deformation: DeformationParts, names: list[str], extents: list[Shape], worlds: Worlds) -> list[_Grids]:
    n, count = len(deformation.shape), len(names)
    images = _matrices("to_world", worlds.to_world, count, n)
    outputs = _matrices("output_to_world", worlds.output_to_world, count, n)
    shapes = _shapes(worlds.output_shape, count, n)
    frame: Floats | None = images[0] if deformation.to_world is None else np.array(deformation.to_world)
    if frame is None:
        reject_value("to_world", None, "index-to-world matrices of the images, since the deformation has none")
    grids = []
    for k, extent in enumerate(extents):
        if images[k] is None and extent != deformation.shape:
            expected = f"{deformation.shape}, the shape of the deformation; otherwise pass to_world"
            reject_value(names[k], f"extent {extent} along its deformed axes", expected)
        if shapes[k] is None and None in extent:
            reject_value("output_shape", None, f"the shape of the output, since that of {names[k]} is not known")
        own = _first_of(images[k], frame)
        grids.append(_Grids(frame, own, _first_of(outputs[k], own), shapes[k] or extent))
    return grids


def _first_of(given: Floats | None, default: Floats) -> Floats:
    return default if given is None else given


def _matrices(argument: str, value: object, count: int, n: int) -> list[Floats | None]:
    """Check index-to-world matrices: one for all images, or one or None for each."""
    if value is None:
        return [None] * count
    if not _is_for_each(value, matrix_rank=2):
        return [_affine.world_matrix(value, n, argument)] * count
    each = list(cast("Sequence[object]", value))
    if len(each) != count:
        reject_value(argument, counted(len(each), "matrix", "matrices"), one_for_each(count, "image", "images"))
    return [None if one is None else _affine.world_matrix(one, n, f"{argument}[{k}]") for k, one in enumerate(each)]


def _is_for_each(value: object, matrix_rank: int) -> bool:
    if isinstance(value, (list, tuple)):
        return all(one is None or _rank(one) == matrix_rank for one in value)
    return _rank(value) == matrix_rank + 1


def _rank(value: object) -> int:
    try:
        return int(np.ndim(cast("Array", value)))
    except (ValueError, TypeError, RuntimeError):
        return -1


def _shapes(value: object, count: int, n: int) -> list[Shape | None]:
    """Check the shapes of outputs: one for all images, or one or None for each."""
    if value is None:
        return [None] * count
    is_for_each = is_sequence(value) and all(one is None or is_sequence(one) for one in value)
    each = list(cast("Sequence[object]", value)) if is_for_each else [value] * count
    if len(each) != count:
        reject_value("output_shape", counted(len(each), "shape", "shapes"), one_for_each(count, "image", "images"))
    shapes: list[Shape | None] = []
    for k, one in enumerate(each):
        name = f"output_shape[{k}]" if is_for_each else "output_shape"
        shape = None if one is None else _check.normalize_shape(name, one)
        if shape is not None and (len(shape) != n or min(shape) < 1):
            accepted = f"{counted(n, 'positive extent', 'positive extents')}, one per deformed axis"
            reject_value(name, describe(one), accepted)
        shapes.append(shape)
    return shapes


# ---- the affine map --------------------------------------------------------------------------------------------------


def _relative(to: Floats, of: Floats) -> Floats:
    """Return the map from one grid's voxels to another's, (n + 1, n + 1); exactly the identity for equal grids."""
    identity = np.eye(len(to))
    if np.array_equal(to, of):
        return identity
    matrix = np.asarray(np.linalg.solve(to, of), np.float64)
    matrix[-1] = identity[-1]
    return matrix


def _affine_on(deformation: DeformationParts, grids: _Grids) -> tuple[Array | None, Matrix | None]:
    """Return the affine map that the core inverts, and the constant map that follows the inverse."""
    n = len(deformation.shape)
    identity = np.eye(n + 1)
    centred = _affine.inverse_rotation_zoom(deformation.rotate, deformation.zoom, deformation.shape)
    if deformation.affine is None and centred is None:
        return None, _as_matrix(_relative(grids.image, grids.output))
    constant = _relative(grids.image, grids.frame)
    if centred is not None:
        constant = constant @ np.vstack([centred, identity[-1]])
    if deformation.affine is None:
        return None, _as_matrix(constant @ _relative(grids.frame, grids.output))
    matrix = deformation.affine[..., :n, :]
    if not np.array_equal(grids.output, grids.frame):
        back = _relative(grids.output, grids.frame)
        algebra = bridge_of("affine", matrix).algebra(matrix)
        moved = algebra.product(algebra.constant(back[:n, :n], matrix), matrix)
        offset = moved[..., -1:] + algebra.constant(back[:n, n:], matrix)
        matrix = algebra.joined(moved[..., :-1], offset)
    return matrix, _as_matrix(constant)


def _as_matrix(matrix: Floats) -> Matrix | None:
    """Convert [M | t] to a constant; return None for the identity."""
    if np.array_equal(matrix, np.eye(len(matrix))):
        return None
    return tuple(map(tuple, matrix[:-1].tolist()))


# ---- the displacement ------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """How the output voxels along one axis lie on the control grid along an axis of the frame."""

    points: NumpyArray  # control points of the frame, mirrored where the output extends beyond it
    extent: int
    start: float
    step: float


def _displacement_on(deformation: DeformationParts, grids: _Grids) -> tuple[Array, Frame]:
    """Return displacements of control points, in voxels of the image, and the position of the output in their frame."""
    n = len(deformation.shape)
    to_frame = _relative(grids.frame, grids.output)
    to_image = _relative(grids.image, grids.frame)[:n, :n]
    displacement = deformation.displacement
    bridge = bridge_of("displacement", displacement)
    counts = tuple(int(count) for count in displacement.shape[-n:])
    along = _axes_along(to_frame, deformation.shape, counts, grids.shape)
    if along is not None:
        lines = [
            _line(to_frame[i, n], to_frame[i, j], deformation.shape[i], counts[i], grids.shape[j])
            for j, i in enumerate(along)
        ]
        if math.prod(len(line.points) for line in lines) <= max(math.prod(grids.shape), math.prod(counts)):
            frame = Frame(*(tuple(values) for values in zip(*(line[1:] for line in lines), strict=True)))
            points = _chosen(bridge, displacement, [line.points for line in lines], along)
            return _mixed(bridge, points, to_image), frame
    moved = _at_voxels(bridge, deformation, to_frame, grids.shape)
    return _mixed(bridge, moved, to_image), Frame(grids.shape, (0.0,) * n, (1.0,) * n)


def _axes_along(to_frame: Floats, shape: Shape, counts: Shape, output: Shape) -> Shape | None:
    """Return the axis of the frame along which each output axis runs; None if one runs along several.

    Axes of the frame along which the displacement is constant are assigned to the remaining output axes.
    """
    n = len(shape)
    distances = np.abs(to_frame[:n, :n]) * np.maximum(np.array(output) - 1, 1)
    varies = (np.array(shape) > 1) & (np.array(counts) > 1)
    leads = (distances > _SAME) & varies[:, np.newaxis]
    if np.any(leads.sum(axis=0) > 1) or np.any(leads.sum(axis=1) != varies):
        return None
    left = iter(np.flatnonzero(~varies).tolist())
    return tuple(int(leads[:, j].argmax()) if leads[:, j].any() else next(left) for j in range(n))


def _line(start: float, step: float, extent: int, count: int, output: int) -> _Line:
    """Return the control points between which the output voxels of an axis of the frame lie."""
    if extent == 1 or count == 1:
        return _Line(np.zeros(1, np.int64), output, 0.0, 1.0)
    last = extent - 1
    low, high = sorted((start, start + step * (output - 1)))
    first = math.floor((low + _SAME) / last)
    frames = max(math.ceil((high - _SAME) / last) - first, 1)
    points = np.abs(
        (np.arange(frames * (count - 1) + 1) + first * (count - 1) + count - 1) % (2 * (count - 1)) - count + 1
    )
    start -= first * last
    if step > 0:
        return _Line(points, frames * last + 1, float(start), float(step))
    return _Line(points[::-1], frames * last + 1, float(frames * last - start), float(-step))


def _chosen(bridge: Bridge, displacement: Array, points: list[NumpyArray], along: Shape) -> Array:
    """Select control points along each axis, and return them with the axes in the order of the output's."""
    n = len(along)
    algebra = bridge.algebra(displacement)
    lead = len(displacement.shape) - n
    for own, axis in zip(points, along, strict=True):
        count = int(displacement.shape[lead + axis])
        if np.array_equal(own, np.arange(count)):
            continue
        order = [*range(lead + axis), *range(lead + axis + 1, lead + n), lead + axis]
        back = [*range(lead + axis), lead + n - 1, *range(lead + axis, lead + n - 1)]
        one_of_each = algebra.constant(np.eye(count)[:, own], displacement)
        displacement = algebra.reordered(
            algebra.product(algebra.reordered(displacement, tuple(order)), one_of_each), tuple(back)
        )
    if along == tuple(range(n)):
        return displacement
    return algebra.reordered(displacement, (*range(lead), *(lead + axis for axis in along)))


def _at_voxels(bridge: Bridge, deformation: DeformationParts, to_frame: Floats, output: Shape) -> Array:
    """Compute the displacement of each output voxel, in voxels of the frame: (B..., n, M_0, ...)."""
    n = len(output)
    voxels = np.stack(np.meshgrid(*map(np.arange, output), indexing="ij"), -1).reshape(-1, n)
    places = voxels @ to_frame[:n, :n].T + to_frame[:n, n]
    displacement = deformation.displacement
    batch = tuple(int(size) for size in displacement.shape[: -n - 1])
    f = bridge.small_array("f", places.reshape(*(1,) * len(batch), -1, n), displacement)
    f = bridge.algebra(displacement).converted(f, displacement)
    moved = Positions.of(deformation.shape, bridge, displacement, f).evaluate(0)
    algebra = bridge.algebra(moved)
    return algebra.reshaped(algebra.transposed(moved), (*batch, n, *output))


def _mixed(bridge: Bridge, displacement: Array, linear: Floats) -> Array:
    """Apply a linear map to displacements."""
    n = len(linear)
    if np.array_equal(linear, np.eye(n)):
        return displacement
    algebra = bridge.algebra(displacement)
    shape = tuple(int(size) for size in displacement.shape)
    flat = algebra.reshaped(displacement, (*shape[:-n], math.prod(shape[-n:])))
    return algebra.reshaped(algebra.product(algebra.constant(linear, displacement), flat), shape)
