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
from typing import Any, NamedTuple

from ... import _dtypes
from ..._geometry import Mode
from ..._spec import DeformSpec
from . import axes, positions, splines, stencils
from .axes import Array


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
    precision = _precision(xp, spec, image, points, affine)
    values = axes.in_core_order(xp, spec, options, image)
    if options.order > 0:
        values = xp.astype(values, precision.values)
    reached = _stencils(xp, spec, points, affine, change, precision)
    beyond: Any = 0 if linear else options.cval
    flat = _flat(xp, splines.coefficients(xp, options, values, beyond))
    sums = stencils.stencil_sum(xp, flat, reached.offset, reached.weights(xp), reached.strides)
    has_fill = options.mode in (Mode.CONSTANT, Mode.GRID_CONSTANT) or not _dtypes.is_inexact(options.dtype)
    fill = xp.full((), beyond if has_fill else math.nan, dtype=values.dtype)
    values = xp.where(reached.exists, sums, fill)
    limits = _dtypes.integer_limits(options.dtype)
    if limits is None:
        values = xp.astype(values, image.dtype)
    elif options.order > 0:
        values = _as_integers(xp, values, limits, image.dtype)
    return axes.in_image_order(xp, options, values, output_shape, len(spec.batch))


def displace(xp: Any, spec: DeformSpec, points: Array) -> Array:
    """Evaluate the displacement at every voxel."""
    return xp.reshape(positions.field(xp, spec, points, points.dtype), spec.field_shape)


class _Precision(NamedTuple):
    """The dtypes of a computation."""

    positions: Any
    values: Any


def _precision(xp: Any, spec: DeformSpec, image: Array, points: Array, affine: Array | None) -> _Precision:
    (options,) = spec.images
    double = any(array is not None and array.dtype == xp.float64 for array in (image, points, affine))
    wide = double and _dtypes.arithmetic(options.dtype, options.order, spec.axes) == "float64"
    return _Precision(xp.float64 if double else xp.float32, xp.float64 if wide else xp.float32)


def _stencils(
    xp: Any, spec: DeformSpec, points: Array, affine: Array | None, change: Array | None, precision: _Precision
) -> stencils.Stencils:
    inverse = positions.inverse_map(xp, spec, affine, change, precision.positions)
    found = positions.positions(xp, spec, points, inverse, precision.positions)
    return stencils.stencils(xp, spec, spec.images[0], found, precision.values)


def _flat(xp: Any, array: Array) -> Array:
    """Give (channels, all else)."""
    return xp.reshape(array, (array.shape[0], -1))


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
