"""The deformation in plain array operations, for devices that no other engine supports.

All shapes and options are known before any value, and no value decides what is computed. Frameworks can therefore trace
and compile the functions, and differentiate them, in both modes and to any order.

`xp` is a namespace of the array API standard. Only these names are used:

- the types ``float32``, ``float64``, ``int32`` and ``int64``;
- ``abs``, ``asarray``, ``astype``, ``concat``, ``floor``, ``full``, ``matmul``, ``permute_dims``, ``reshape``,
  ``stack``, ``sum``, ``take`` (indices of one axis, with ``axis=``), ``where`` and ``zeros``;
- for matrices ``linalg.inv`` or, without that extension, ``argmax``;
- of arrays ``dtype``, ``shape``, the operators and basic indexing.

Operators and ``where`` must accept Python numbers. ``asarray``, ``full`` and ``zeros`` create arrays on the device of
the others. `sample_adjoint`, for libraries that do not find derivatives themselves, also uses ``argsort``, ``bool`` and
``searchsorted``.

Positions are in double precision if the image, the control points or the matrix are, and in single precision otherwise.
Single precision rounds them to about 6e-8 of the displacement or, with a matrix, rotation or zoom, of the position
itself. The error of a value is this error times the slope of the spline. Images are computed in double precision if
positions are, and if the core would use it too. Matrix products must be computed in the precision of their factors:
where a framework has a faster and coarser way, as on TPUs, the caller must turn it off.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ... import _dtypes
from ..._spec import DeformSpec, EvaluationSpec, MovementSpec
from ..._types import ArrayNamespace, FrameworkDType
from . import axes, evaluation, few_voxels, positions, splines, stencils, votes
from . import points as points_
from .axes import Array
from .matrices import inverse as inverse
from .splat import splat_stencils


def sample(
    xp: ArrayNamespace,
    spec: DeformSpec,
    image: Array,
    points: Array,
    affine: Array | None,
    *,
    tangent: Array | None = None,
    homogeneous: bool = False,
) -> Array:
    """Deform one image of real numbers. If `homogeneous`, it is zero beyond its border.

    `points` has the shape ``spec.displacement_shape``. `affine` is the forward map ``[M | t]``, one or one per batch
    item; `tangent`, of the same shape, is added to the inverse map.
    """
    (options,) = spec.images
    output_shape = spec.output_shape(options)
    if 0 in output_shape:
        return xp.zeros(output_shape, dtype=image.dtype)
    precision = _precision(xp, spec, image, points, affine)
    values = axes.in_core_order(xp, spec, options, image)
    if options.votes and options.dtype == "bool":
        values = xp.astype(values, xp.int32)  # the standard has no comparisons of booleans
    elif options.order > 0 and not options.votes:
        values = xp.astype(values, precision.values)
    reached = _stencils(xp, spec, points, affine, tangent, precision)
    border_value: Any = 0 if homogeneous else options.cval
    flat = _flat(xp, splines.coefficients(xp, options, values, border_value))
    if options.votes:
        sampled = votes.winners(xp, flat, reached, _dtypes.is_inexact(options.dtype))
    else:
        sampled = stencils.stencil_sum(xp, flat, reached.offset, reached.weights(xp), reached.strides)
    has_fill = options.votes or options.mode.traits.has_constant or not _dtypes.is_inexact(options.dtype)
    fill = xp.full((), border_value if has_fill else math.nan, dtype=values.dtype)
    values = xp.where(reached.exists, sampled, fill)
    limits = _dtypes.integer_limits(options.dtype)
    if limits is None or options.votes:
        values = xp.astype(values, image.dtype)
    elif options.order > 0:
        values = _as_integers(xp, values, limits, image.dtype)
    return axes.in_image_order(xp, options, values, output_shape, len(spec.batch))


def sample_adjoint(
    xp: ArrayNamespace,
    spec: DeformSpec,
    gradient: Array,
    image: Array | None,
    points: Array,
    affine: Array | None,
    *,
    wants_image: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of image, control points and inverse map from the gradient of `sample`'s output.

    The gradient of the image has the dtype of `gradient`. The others have the dtype of positions, and are computed only
    if there is an `image`; the gradient of the map also needs an `affine`.
    """
    (options,) = spec.images
    precision = _precision(xp, spec, gradient, points, affine)
    if 0 in spec.output_shape(options):
        return _zeros(xp, spec, gradient, image, precision, wants_image)
    weighted = xp.astype(axes.in_core_order(xp, spec, options, gradient), precision.values)
    reached = _stencils(xp, spec, points, affine, None, precision)
    weighted = xp.where(reached.exists, _flat(xp, weighted), 0.0)
    of_image = of_points = of_map = None
    if wants_image:
        of_image = _image_gradient(xp, spec, reached, weighted, gradient.dtype)
    if image is not None:
        values = xp.astype(axes.in_core_order(xp, spec, options, image), precision.values)
        moved = _position_gradient(xp, spec, reached, weighted, values, precision.positions)
        of_points = positions.field_adjoint(xp, spec, moved)
        of_map = None if affine is None else positions.inverse_of_affine_adjoint(xp, spec, moved)
    return of_image, of_points, of_map


def displace(xp: ArrayNamespace, spec: DeformSpec, points: Array) -> Array:
    """Evaluate the displacement at every voxel."""
    return xp.reshape(positions.field(xp, spec, points, points.dtype), spec.field_shape)


def evaluate(xp: ArrayNamespace, spec: EvaluationSpec, points: Array, positions: Array, order: int) -> Array:
    """Evaluate all derivatives of the displacement, of one order, at positions, in the dtype of these."""
    return evaluation.evaluate(xp, spec, points, positions, order)


def move_points(
    xp: ArrayNamespace, spec: MovementSpec, points: Array, inverse_map: Array | None, targets: Array
) -> Array:
    """Search for the positions whose sources are targets, in the dtype of the targets."""
    return xp.astype(points_.move_points(xp, spec, points, inverse_map, targets), targets.dtype)


class _Precision(NamedTuple):
    """The dtypes of a computation."""

    positions: FrameworkDType
    values: FrameworkDType


def _precision(xp: ArrayNamespace, spec: DeformSpec, image: Array, points: Array, affine: Array | None) -> _Precision:
    (options,) = spec.images
    double = any(array is not None and array.dtype == xp.float64 for array in (image, points, affine))
    wide = double and _dtypes.compute_dtype(options.dtype, options.order, spec.axes) == "float64"
    return _Precision(xp.float64 if double else xp.float32, xp.float64 if wide else xp.float32)


def _stencils(
    xp: ArrayNamespace,
    spec: DeformSpec,
    points: Array,
    affine: Array | None,
    tangent: Array | None,
    precision: _Precision,
) -> stencils.Stencils:
    inverse = positions.inverse_of_affine(xp, spec, affine, tangent, precision.positions)
    found = positions.positions(xp, spec, points, inverse, precision.positions)
    return stencils.stencils(xp, spec, spec.images[0], found, precision.values)


def _flat(xp: ArrayNamespace, array: Array) -> Array:
    """Reshape to (channels, all else)."""
    return xp.reshape(array, (array.shape[0], -1))


def _image_gradient(
    xp: ArrayNamespace, spec: DeformSpec, reached: stencils.Stencils, weighted: Array, dtype: FrameworkDType
) -> Array:
    (options,) = spec.images
    if few_voxels.is_worth(options, spec.window.shape):
        gradient_image = few_voxels.image_gradient(xp, options, reached, weighted, math.prod(spec.batch))
    else:
        flat = splat_stencils(xp, reached, weighted)
        box = xp.reshape(flat, (flat.shape[0], -1, *splines.box_of(options)))
        gradient_image = splines.coefficients_adjoint(xp, options, box)
    gradient_image = xp.astype(gradient_image, dtype)
    return axes.in_image_order(xp, options, gradient_image, options.shape, len(spec.batch))


def _position_gradient(
    xp: ArrayNamespace,
    spec: DeformSpec,
    reached: stencils.Stencils,
    weighted: Array,
    values: Array,
    dtype: FrameworkDType,
) -> Array:
    """Compute the gradient with respect to the positions of the voxels, (items, n, M_0, ...)."""
    (options,) = spec.images
    shape = (-1, spec.axes, *spec.window.shape)
    if options.order == 0:  # steps have no slope
        return xp.zeros((math.prod(spec.batch), *shape[1:]), dtype=dtype)
    border_value: Any = options.cval
    flat = _flat(xp, splines.coefficients(xp, options, values, border_value))
    parts = []
    for axis, slope in enumerate(reached.slopes):
        derivative = stencils.stencil_sum(xp, flat, reached.offset, reached.weights(xp, axis), reached.strides)
        part = xp.sum(xp.astype(weighted * derivative, dtype), axis=0) * slope
        parts.append(xp.reshape(xp.where(reached.exists, part, 0.0), (-1, *spec.window.shape)))
    return xp.stack(parts, axis=1)


def _zeros(
    xp: ArrayNamespace, spec: DeformSpec, gradient: Array, image: Array | None, precision: _Precision, wants_image: bool
) -> tuple[Array | None, Array | None, Array | None]:
    (options,) = spec.images
    matrix = (*(spec.batch if spec.affine_batched else ()), spec.axes, spec.axes + 1)
    return (
        xp.zeros(options.shape, dtype=gradient.dtype) if wants_image else None,
        None if image is None else xp.zeros(spec.displacement_shape, dtype=precision.positions),
        xp.zeros(matrix, dtype=precision.positions) if image is not None and spec.has_affine else None,
    )


def _as_integers(xp: ArrayNamespace, values: Array, limits: tuple[int, int], dtype: FrameworkDType) -> Array:
    """Round half away from zero and saturate."""
    low, high = limits
    whole = xp.floor(xp.abs(values))
    whole = xp.where(xp.abs(values) - whole >= 0.5, whole + 1, whole)
    whole = xp.where(values < 0, -whole, whole)
    # The limits themselves may not be representable as floats.
    above, below = whole >= float(high), whole <= float(low)
    kept = xp.astype(xp.where(above | below, 0.0, whole), dtype)
    kept = xp.where(below, xp.full((), low, dtype=dtype), kept)
    return xp.where(above, xp.full((), high, dtype=dtype), kept)
