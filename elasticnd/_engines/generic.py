"""The deformation in plain array operations, for devices that no other engine serves.

All shapes and options are known before any value is, and no value decides what is computed: the function can be traced
and compiled, and frameworks can differentiate it themselves, in both modes and to any order.

`xp` is a namespace of the array API standard. These of its names are used: the types ``float32``, ``float64``,
``int32`` and ``int64``; ``abs``, ``asarray``, ``astype``, ``concat``, ``floor``, ``full``, ``linalg.inv``, ``matmul``,
``permute_dims``, ``reshape``, ``stack``, ``sum``, ``take`` (indices of one axis, ``axis=`` given), ``where`` and
``zeros``; of arrays ``dtype``, ``shape``, the operators and basic indexing. Python numbers join arrays in operators and
in ``where``.

Positions are in double precision where the image, the control points or the matrix are, in single precision elsewhere.
Then they are rounded to some 6e-8 of the displacement; with a matrix, rotation or zoom, of the position itself. Values
are off by as much times the slope of the spline. Images are computed in double precision where positions are and the
core does so too. Products of matrices must be computed in the precision of their factors: where a framework has a
faster and coarser way, as on TPUs, the caller is to turn it off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _dtypes
from .._geometry import Mode, padding_of
from .._spec import DeformSpec, ImageSpec, Shape

Array = Any  # of the namespace
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Position = tuple[Any, Array]  # a voxel and a displacement from there

_GRID_ORDER = 3  # of the spline through the displacements of the control points


def sample(
    xp: Any,
    spec: DeformSpec,
    image: Array,
    points: Array,
    affine: Array | None,
    *,
    change: Array | None = None,
    linear: bool = False,
) -> Array:
    """Deform one image of real numbers; if `linear`, nothing comes from beyond its border.

    `points` has the shape ``spec.points_shape``, `affine` is the forward map ``[M | t]``, one or one per batch item;
    `change`, of its shape, is added to the inverse map.
    """
    (options,) = spec.images
    output_shape = spec.output_shape(options)
    if 0 in output_shape:
        return xp.zeros(output_shape, dtype=image.dtype)
    double = any(array is not None and array.dtype == xp.float64 for array in (image, points, affine))
    dtype = xp.float64 if double else xp.float32
    positions = _positions(xp, spec, points, _inverse_map(xp, spec, affine, change, dtype), dtype)
    values = _in_core_order(xp, spec, options, image)
    if options.order > 0:
        wide = _dtypes.arithmetic(options.dtype, options.order, spec.axes) == "float64"
        values = xp.astype(values, xp.float64 if double and wide else xp.float32)
    beyond: Any = 0 if linear else options.cval
    values = _interpolated(xp, spec, options, values, positions, beyond)
    limits = _dtypes.integer_limits(options.dtype)
    if limits is None:
        values = xp.astype(values, image.dtype)
    elif options.order > 0:
        values = _as_integers(xp, values, limits, image.dtype)
    return _in_image_order(xp, options, values, output_shape, len(spec.batch))


def displace(xp: Any, spec: DeformSpec, points: Array) -> Array:
    """Evaluate the displacement at every voxel."""
    return xp.reshape(_field(xp, spec, points, points.dtype), spec.field_shape)


# ---- layout ----------------------------------------------------------------------------------------------------------


def _core_axes(image: ImageSpec, batch_axes: int) -> Shape:
    channels = [k for k in range(batch_axes, len(image.shape)) if k not in image.axes]
    return (*channels, *range(batch_axes), *image.axes)


def _in_core_order(xp: Any, spec: DeformSpec, options: ImageSpec, image: Array) -> Array:
    """Give (channels, items, deformed axes ...)."""
    ordered = xp.permute_dims(image, _core_axes(options, len(spec.batch)))
    return xp.reshape(ordered, (-1, math.prod(spec.batch), *spec.extent))


def _in_image_order(xp: Any, options: ImageSpec, values: Array, output_shape: Shape, batch_axes: int) -> Array:
    axes = _core_axes(options, batch_axes)
    ordered = xp.reshape(values, tuple(output_shape[axis] for axis in axes))
    return xp.permute_dims(ordered, tuple(axes.index(axis) for axis in range(len(axes))))


def _next_axis_last(xp: Any, array: Array) -> Array:
    """Move the first deformed axis behind the others: after all of them had their turn, the order is as before."""
    return xp.permute_dims(array, (0, 1, *range(3, len(array.shape)), 2))


# ---- positions -------------------------------------------------------------------------------------------------------


def _positions(xp: Any, spec: DeformSpec, points: Array, inverse: Array | None, dtype: Any) -> list[Position]:
    """Tell where the voxels of the output lie in the image, along each axis.

    As a voxel and a displacement from there, (items, M_0, ...): their sum would lose what single precision can tell.
    """
    field = _field(xp, spec, points, dtype)
    displacements = [field[:, k, ...] for k in range(spec.axes)]
    voxels = [
        xp.reshape(xp.asarray(np.arange(extent), dtype=dtype), (-1, *(1,) * (spec.axes - 1 - k)))
        for k, extent in enumerate(spec.output)
    ]
    if inverse is None:
        return [(voxel + start, moved) for voxel, start, moved in zip(voxels, spec.crop, displacements, strict=True)]
    return [
        (start, _transformed(xp, inverse[:, k, ...], voxels) + displacements[k]) for k, start in enumerate(spec.crop)
    ]


def _field(xp: Any, spec: DeformSpec, points: Array, dtype: Any) -> Array:
    """Give the displacement of every voxel, (items, n, M_0, ...)."""
    field = xp.reshape(xp.astype(points, dtype), (-1, spec.axes, *spec.points))
    for size in zip(spec.extent, spec.points, spec.crop, spec.output, strict=True):
        field = xp.matmul(_next_axis_last(xp, field), xp.asarray(_grid_matrix(*size), dtype=dtype))
    return field


@lru_cache(maxsize=64)
def _grid_matrix(extent: int, points: int, start: int, output: int) -> Floats:
    """Give the matrix from the control values of one axis to the displacements of its voxels, (points, output)."""
    voxels = np.arange(start, start + output)
    places = voxels * (points - 1) / max(extent - 1, 1)
    cells = np.floor(places)
    values: Floats = np.zeros((points, output))
    for tap, weight in enumerate(_spline_weights(_GRID_ORDER, places - cells)):
        coefficients = _folded(cells.astype(int) - _GRID_ORDER // 2 + tap, points, Mode.MIRROR)
        np.add.at(values, (coefficients, np.arange(output)), weight)
    values = _filtered(np, np.eye(points), np.arange(points), Mode.MIRROR, _GRID_ORDER) @ values
    values /= values.sum(axis=0)  # one control point moves every voxel alike, to the last bit
    return values


def _inverse_map(xp: Any, spec: DeformSpec, affine: Array | None, change: Array | None, dtype: Any) -> Array | None:
    """Give the map from output to image but for crop and displacement: [M | t] of each item, or of all."""
    matrix = spec.inverse_rotation_and_zoom
    fixed = None if matrix is None else xp.asarray(np.array([matrix]), dtype=dtype)
    if affine is None:
        return fixed
    forward = xp.reshape(xp.astype(affine, dtype), (-1, spec.axes, spec.axes + 1))
    linear = xp.linalg.inv(forward[:, :, :-1])
    offset = -xp.matmul(linear, forward[:, :, -1:])
    if fixed is not None:
        linear = xp.matmul(fixed[:, :, :-1], linear)
        offset = xp.matmul(fixed[:, :, :-1], offset) + fixed[:, :, -1:]
    inverse = xp.concat([linear, offset], axis=2)
    return inverse if change is None else inverse + xp.reshape(xp.astype(change, dtype), forward.shape)


def _transformed(xp: Any, line: Array, voxels: Sequence[Array]) -> Array:
    """Apply one row of the maps, (items, n + 1)."""
    factors = [xp.reshape(line[:, k], (-1, *(1,) * len(voxels))) for k in range(len(voxels) + 1)]
    return sum((factor * voxel for factor, voxel in zip(factors, voxels, strict=False)), start=factors[-1])


# ---- splines ---------------------------------------------------------------------------------------------------------


def _spline_weights(order: int, place: Any) -> list[Any]:
    """Give the weights of the order + 1 coefficients that reach a place in its knot span, by de Boor's recursion."""
    weights: list[Any] = [1.0]
    for degree in range(1, order + 1):
        lower = [weight / degree for weight in weights]
        weights = [
            (1 - place) * lower[0],
            *((place + (degree - tap)) * lower[tap - 1] + (tap + 1 - place) * lower[tap] for tap in range(1, degree)),
            place * lower[-1],
        ]
    return weights


def _knot_shift(order: int) -> float:
    """Knots lie on the voxels for odd orders, between them for even ones."""
    return 0.0 if order % 2 else 0.5


_BLOCK = 128  # coefficients that are computed together
_MARGIN = 48  # samples beyond the block that they depend on: farther ones count for less than 1e-17


def _block_filter(order: int, block: int) -> Floats:
    """Give the matrix from samples to the coefficients of a spline that passes through them."""
    period = 4 * _MARGIN  # far enough for the response to have faded
    samples_of_spline = np.zeros(period)
    for tap, weight in enumerate(_spline_weights(order, _knot_shift(order))):
        samples_of_spline[tap - order // 2] = weight
    response = np.fft.irfft(1 / np.fft.rfft(samples_of_spline), period)
    distance = np.arange(block + 2 * _MARGIN)[:, None] - _MARGIN - np.arange(block)
    matrix: Floats = np.where(abs(distance) <= _MARGIN, response[distance % period], 0.0)
    return matrix


def _filtered(xp: Any, samples: Array, source: Indices, mode: Mode, order: int) -> Array:
    """Turn the samples ``source`` of the last axis into coefficients; `mode` says how they go on.

    By blocks with their surroundings, so that the work grows with the length and not with its square.
    """
    blocks = -(-len(source) // _BLOCK)
    block = -(-len(source) // blocks)
    near = np.arange(blocks)[:, None] * block + np.arange(-_MARGIN, block + _MARGIN)
    surroundings = _taken(xp, samples, source[_folded(near.ravel(), len(source), mode)])
    lead = tuple(samples.shape[:-1])
    surroundings = xp.reshape(surroundings, (*lead, blocks, block + 2 * _MARGIN))
    coefficients = xp.matmul(surroundings, xp.asarray(_block_filter(order, block), dtype=samples.dtype))
    return xp.reshape(coefficients, (*lead, blocks * block))[..., : len(source)]


# ---- borders ---------------------------------------------------------------------------------------------------------


def _folded(index: Indices, extent: int, mode: Mode) -> Indices:
    """Give the sample that stands for each index; modes without one of their own go on as `mirror` does."""
    if mode == Mode.NEAREST:
        return np.clip(index, 0, extent - 1)
    if mode == Mode.GRID_WRAP:
        return index % extent
    if mode == Mode.REFLECT:
        return np.minimum(index % (2 * extent), (-1 - index) % (2 * extent))
    period = max(2 * (extent - 1), 1)
    return np.minimum(index % period, -index % period)


def _border_reach(order: int) -> int:
    """Count the voxels beyond the border from which on no coefficient of the image is in reach."""
    return order // 2 + 1


def _border_width(order: int) -> int:
    """Count the coefficients beyond the border that a stencil at a folded position can reach."""
    return order // 2 + _border_reach(order)


def _taken(xp: Any, array: Array, index: Indices) -> Array:
    return xp.take(array, xp.asarray(index.astype(np.int32)), axis=-1)


def _surrounded(xp: Any, array: Array, width: int, value: float) -> Array:
    """Put `width` times `value` before and behind the last axis."""
    border = xp.full((*array.shape[:-1], width), value, dtype=array.dtype)
    return xp.concat([border, array, border], axis=-1)


def _coefficients(xp: Any, image: ImageSpec, values: Array, beyond: float) -> Array:
    """Give the spline's coefficients, with those beyond the border, from (channels, items, deformed axes ...)."""
    padding = padding_of(image.order, image.mode, image.prefilter)
    width = _border_width(image.order)
    for _ in image.axes:
        values = _next_axis_last(xp, values)
        if image.mode == Mode.GRID_CONSTANT and padding:
            values = _surrounded(xp, values, padding, beyond)
            source = np.arange(values.shape[-1])
        else:
            source = _folded(np.arange(-padding, values.shape[-1] + padding), values.shape[-1], Mode.NEAREST)
        if image.prefilter and image.order > 1:
            extension = Mode.REFLECT if image.mode == Mode.NEAREST else image.mode
            values = _filtered(xp, values, source, extension, image.order)
        if image.mode == Mode.GRID_CONSTANT:
            values = _surrounded(xp, values, width, beyond)
        else:
            values = _taken(xp, values, _folded(np.arange(-width, len(source) + width), len(source), image.mode))
    return values


def _clamped(xp: Any, x: Array, low: float, high: float) -> Array:
    """Bring into the limits; with slope 1 on them, which minimum and maximum do not promise."""
    return xp.where(x < low, low, xp.where(x > high, high, x))


def _fold(xp: Any, x: Array, last: int, reach: int, mode: Mode) -> tuple[Any, Any]:
    """Give sign and shift that bring positions into [0, last] or near it: sign * x + shift."""
    if mode in (Mode.NEAREST, Mode.GRID_CONSTANT):
        below, above = xp.astype(x < -reach, x.dtype), xp.astype(x > last + reach, x.dtype)
        return 1 - below - above, (last + reach) * above - reach * below
    if mode == Mode.GRID_WRAP:
        return 1, -(last + 1) * xp.floor(x / (last + 1))
    if mode == Mode.CONSTANT or last == 0:
        return int(mode == Mode.CONSTANT), 0
    if mode == Mode.WRAP:
        # The period is one voxel short; a negative multiple of it lands on the last voxel.
        forward, back = last * (xp.floor(-x / last) + 1), -last * xp.floor(x / last)
        return 1, xp.where(x < 0, forward, xp.where(x > last, back, 0.0))
    edge = 0.5 if mode == Mode.REFLECT else 0.0
    turn = 2 * last + 4 * edge
    passed = turn * xp.floor((x + edge) / turn)
    mirrored = xp.astype(x - passed > last + edge, x.dtype)
    sign = 1 - 2 * mirrored
    return sign, (2 * last + 2 * edge) * mirrored - sign * passed


# ---- sampling --------------------------------------------------------------------------------------------------------


def _stencil(xp: Any, position: Position, extent: int, order: int, mode: Mode) -> tuple[Array, Array, Array]:
    """Give the first coefficient of an axis that counts, the place in its knot span, and if there is a position."""
    voxel, moved = position
    last = extent - 1
    width = _border_width(order)
    # Beyond this, numbers have no fraction, and a folded position means nothing.
    far = 2.0**52 if moved.dtype == xp.float64 else 2.0**23
    x = voxel + moved
    if mode == Mode.CONSTANT:
        exists = (x >= 0) & (x <= last)
    else:
        exists = (x >= 0) | (x < 0) if mode == Mode.NEAREST else xp.abs(x) < far
    moved = xp.where(exists, _clamped(xp, moved, -far, far), 0.0)
    sign, shift = _fold(xp, voxel + moved, last, _border_reach(order), mode)
    if order == 0:
        # A tie is one of the rounded sum, so that rounding errors of the displacement do not decide it.
        first, place = xp.floor(sign * (voxel + moved) + shift + _knot_shift(order)), moved
    else:
        knot = sign * moved + _knot_shift(order)
        steps = xp.floor(knot)
        first, place = sign * voxel + shift + steps - order // 2, knot - steps
    # The last position that reaches the coefficients is the end of their last knot span, not the start of one more.
    # Besides, rounding errors of far positions must not lead beyond them.
    kept = _clamped(xp, first, -width, last + width - order)
    return kept + width, place + (first - kept), exists


def _interpolated(
    xp: Any, spec: DeformSpec, image: ImageSpec, values: Array, positions: Sequence[Position], beyond: float
) -> Array:
    """Give the spline's value at each position, (channels, voxels of all items)."""
    coefficients = _coefficients(xp, image, values, beyond)
    items, *box = coefficients.shape[1:]
    strides = [math.prod(box[k + 1 :]) for k in range(len(box))]
    integer = xp.int32 if items * math.prod(box) < 2**31 else xp.int64
    offset = xp.asarray(np.reshape(np.arange(items) * math.prod(box), (-1, *(1,) * len(box))), dtype=integer)
    everywhere = True
    weights = []
    padding = padding_of(image.order, image.mode, image.prefilter)
    for (voxel, moved), extent, stride in zip(positions, spec.extent, strides, strict=True):
        first, place, exists = _stencil(xp, (voxel + padding, moved), extent + 2 * padding, image.order, image.mode)
        offset = offset + xp.astype(first, integer) * stride
        everywhere = exists & everywhere
        if image.order > 0:  # order 0 multiplies nothing, so that every element survives
            place = xp.reshape(xp.astype(place, values.dtype), (-1,))
            weights.append(xp.stack(_spline_weights(image.order, place)))
    flat = xp.reshape(coefficients, (coefficients.shape[0], -1))
    sums = _stencil_sum(xp, flat, xp.reshape(offset, (-1,)), weights, strides)
    has_fill = image.mode in (Mode.CONSTANT, Mode.GRID_CONSTANT) or not _dtypes.is_inexact(image.dtype)
    fill = xp.full((), beyond if has_fill else math.nan, dtype=values.dtype)
    return xp.where(xp.reshape(everywhere, (-1,)), sums, fill)


_GATHERED_AXES = 2  # at one go: more would take more memory, fewer make programs that are slow to compile


def _stencil_sum(xp: Any, flat: Array, offset: Array, weights: Sequence[Array], strides: Sequence[int]) -> Array:
    """Sum the weighted coefficients under each voxel's stencil; `weights` are (taps, voxels) for each axis left."""
    if len(weights) > _GATHERED_AXES:
        total = 0
        for tap in range(weights[0].shape[0]):
            inner = _stencil_sum(xp, flat, offset + tap * strides[0], weights[1:], strides[1:])
            total = total + inner * weights[0][tap, ...]
        return total
    taps = tuple(weight.shape[0] for weight in weights)
    steps = np.tensordot(strides, np.indices(taps), 1) if taps else np.zeros(())
    places = offset + xp.asarray(steps[..., None], dtype=offset.dtype)
    values = xp.reshape(xp.take(flat, xp.reshape(places, (-1,)), axis=1), (flat.shape[0], *taps, -1))
    for weight in reversed(weights):
        values = xp.sum(values * weight, axis=-2)
    return values


def _as_integers(xp: Any, values: Array, limits: tuple[int, int], dtype: Any) -> Array:
    """Round half away from zero and saturate."""
    low, high = limits
    whole = xp.floor(xp.abs(values))
    whole = xp.where(xp.abs(values) - whole >= 0.5, whole + 1, whole)
    whole = xp.where(values < 0, -whole, whole)
    # The limits themselves may be no floats.
    above, below = whole >= float(high), whole <= float(low)
    kept = xp.astype(xp.where(above | below, 0.0, whole), dtype)
    kept = xp.where(below, xp.full((), low, dtype=dtype), kept)
    return xp.where(above, xp.full((), high, dtype=dtype), kept)
