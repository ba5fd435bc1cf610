"""The operators that every derivative of the deformation is made of, and what they are on arrays that hold values.

Write ``T(g, x; v_1 ... v_r; u)`` for the sum over the output of ``g`` times the derivative, along directions
``v_1 ... v_r``, of the spline of the image ``x`` at the positions of the motion ``u``. It is linear in ``g``, in ``x``
and in each direction. An operator is what ``T`` is multiplied with in one of its slots:

``sample``
    in ``g``: the image's values, or their derivative along the directions
``scatter``
    in ``x``: the gradient of the image; in one direction more: the gradient of the motion; one of these or both

Besides, there are ``displace``, from control points to the displacement of every voxel, and ``evaluate``, from control
points to all derivatives of one order of the displacement at given positions, with their transposes
``displace_adjoint`` and ``evaluate_adjoint``.

A motion, and so a direction, is one or two arrays: control points, and an affine matrix if there is one. Of the
matrix, motions hold the forward map, directions a change of the inverse map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from . import _dtypes
from ._engines import Floats, Job, Motion, cpu, engine_of
from ._floating_point import in_default_state
from ._geometry import make_geometry
from ._spec import DeformSpec, ImageSpec, PointsSpec, Shape

Array = NDArray[Any]
Pair = tuple[Any, ...]  # (points,) or (points, affine)


_FLOAT64 = np.dtype(np.float64)
ADJOINT = {"displace": "displace_adjoint", "displace_adjoint": "displace"}
EVALUATION = {"evaluate": "evaluate_adjoint", "evaluate_adjoint": "evaluate"}  # each with its transpose in the points


class Operator(NamedTuple):
    """One of the operators, for one image of real numbers."""

    # A specification, or, where shapes are not known yet, what will make one: with `has_affine` and `fixed_linear` too.
    call: Any
    verb: str
    directions: int = 0
    linear: bool = False  # in the image: nothing comes from beyond its border
    wants_image: bool = False  # results of scatter: the gradient of the image ...
    wants_motion: bool = False  # ... and the gradients of the control points and the inverse map
    order: int = 0  # of the derivatives that an evaluation is of; its `call` is a `PointsSpec`

    @property
    def takes_gradient(self) -> bool:
        """Whether a gradient of the output is an operand."""
        return self.verb in ("scatter", "displace_adjoint", "evaluate_adjoint")

    @property
    def takes_image(self) -> bool:
        """Whether the image is an operand."""
        return self.verb == "sample" or self.wants_motion

    @property
    def takes_positions(self) -> bool:
        """Whether positions are an operand."""
        return self.verb in EVALUATION

    @property
    def motion_size(self) -> int:
        """Count the arrays of a motion."""
        return 2 if self.call.has_affine else 1

    def more(self, directions: int) -> Operator:
        """Give the operator with so many directions more."""
        return self._replace(directions=self.directions + directions)


class Operands(NamedTuple):
    """The arrays that an operator takes."""

    gradient: Any = None  # of the output
    image: Any = None
    motion: Pair = ()
    directions: tuple[Pair, ...] = ()
    positions: Any = None  # of an evaluation


def flattened(operator: Operator, operands: Operands) -> list[Any]:
    """Give the operands that the operator takes, or one thing for each, one after the other."""
    flat = [operands.gradient] if operator.takes_gradient else []
    if operator.takes_image:
        flat.append(operands.image)
    if operator.takes_positions:
        flat.append(operands.positions)
    for pair in (operands.motion, *operands.directions):
        flat += pair
    return flat


def structured(operator: Operator, flat: Sequence[Any]) -> Operands:
    """Undo `flattened`."""
    rest = list(flat)
    gradient = rest.pop(0) if operator.takes_gradient else None
    image = rest.pop(0) if operator.takes_image else None
    positions = rest.pop(0) if operator.takes_positions else None
    size = operator.motion_size
    pairs = [tuple(rest[k : k + size]) for k in range(0, len(rest), size)]
    return Operands(gradient, image, pairs[0] if pairs else (), tuple(pairs[1:]), positions)


def result_shapes(operator: Operator, spec: Any) -> list[Shape]:
    """Give the shapes of the results."""
    if operator.verb == "evaluate":
        return [spec.values_shape(operator.order)]
    if operator.verb == "evaluate_adjoint":
        return [spec.points_shape]
    if operator.verb == "displace":
        return [spec.field_shape]
    if operator.verb == "displace_adjoint":
        return [spec.points_shape]
    (image,) = spec.images
    if operator.verb == "sample":
        return [spec.output_shape(image)]
    shapes = [image.shape] if operator.wants_image else []
    if operator.wants_motion:
        shapes.append(spec.points_shape)
        if spec.has_affine:
            shapes.append((*(spec.batch if spec.affine_batched else ()), spec.axes, spec.axes + 1))
    return shapes


def likes(operator: Operator, operands: Operands) -> list[Any]:
    """Give, for each result, an operand of the same dtype."""
    if operator.verb == "scatter":
        motion = operands.motion if operator.wants_motion else ()
        return [operands.gradient, *motion] if operator.wants_image else list(motion)
    if operator.verb == "sample":
        return [operands.image]
    if operator.verb in EVALUATION:
        return [operands.positions]
    return [*operands.motion] if operator.verb == "displace" else [operands.gradient]


@lru_cache(maxsize=256)
def real_parts(spec: DeformSpec) -> tuple[tuple[DeformSpec, ...], ...]:
    """Split a specification into one per image of real numbers: of complex images, real and imaginary part."""
    return tuple(
        tuple(spec.only(image.real_part(part)) for part in range(2 if image.is_complex else 1)) for image in spec.images
    )


# ---- on arrays that hold values --------------------------------------------------------------------------------------


@in_default_state
def run(operator: Operator, spec: Any, operands: Operands, into: Array | None = None) -> list[Array]:
    """Apply an operator. What is image-like goes to `into`, if it is given; gradients of motions are float64."""
    if operator.verb in EVALUATION:
        return [_evaluate(spec, operator, operands)]
    if operator.verb in ADJOINT:
        return [_displace(spec, operands.motion[0]) if operands.motion else _displace_adjoint(spec, operands.gradient)]
    plan = plan_of(spec, operator.linear)
    motion = _motion(plan, operands.motion, operands.directions)
    if operator.verb == "sample":
        return [_sample(plan, operands.image, motion, into)]
    return _scatter(operator, spec, plan, operands, motion, into)


def sample(spec: DeformSpec, image: Array, motion: Pair, into: Array | None = None) -> Array:
    """Apply the operator `sample` without directions: the deformation itself, by the shortest way."""
    plan = plan_of(spec)
    return _sample(plan, image, _motion(plan, motion, ()), into)


def _motion(plan: Plan, motion: Pair, directions: tuple[Pair, ...]) -> Motion:
    affine = _as_float64(motion[1]) if len(motion) > 1 else None
    return Motion(_as_float64(motion[0]), affine, plan.fixed, tuple(map(_as_direction, directions)))


def _sample(plan: Plan, image: Array, motion: Motion, output: Array | None) -> Array:
    engine = engine_of(image)
    if output is None:
        output = engine.empty(plan.output_shape, native(image.dtype))
    if output.size:
        engine.sample(plan.job, plan.in_core_order(image), motion, plan.in_core_order(output))
    return output


def _scatter(
    operator: Operator, spec: DeformSpec, plan: Plan, operands: Operands, motion: Motion, into: Array | None
) -> list[Array]:
    gradient: Array = operands.gradient
    engine = engine_of(gradient)
    results: list[Array] = []
    if operator.wants_image:
        results.append(engine.empty(spec.images[0].shape, native(gradient.dtype)) if into is None else into)
        if spec.roi is not None:  # of which perhaps not all is reached
            results[0][...] = 0
    # Steps have no slope.
    sloped = operator.wants_motion and spec.images[0].order > 0
    fields: tuple[Floats, Floats | None] | None = None
    if gradient.size and (sloped or (results and results[0].size)):
        fields = engine.scatter(
            plan.job,
            plan.in_core_order(gradient),
            plan.in_core_order(operands.image) if sloped else None,
            motion,
            plan.in_core_order(results[0]) if results else None,
        )
    elif results:
        results[0][...] = 0
    if operator.wants_motion:
        shapes = result_shapes(operator, spec)[len(results) :]
        parts = [None] * len(shapes) if fields is None else list(fields)[: len(shapes)]
        results += [
            engine.namespace().zeros(shape) if part is None else _summed(part, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
    return results


def _summed(per_item: Floats, shape: Shape) -> Floats:
    """Sum over the items what they share."""
    if per_item.size == math.prod(shape):
        return per_item.reshape(shape)
    total: Floats = per_item.reshape(-1, *shape).sum(axis=0)
    return total


def _displace(spec: DeformSpec, points: Array) -> Floats:
    engine = engine_of(points)
    output: Floats = engine.empty(spec.field_shape, np.dtype(np.float64))
    if output.size:
        engine.displace(_as_float64(points), field_geometry(spec), output, batch_axes=len(spec.batch))
    return output


def _displace_adjoint(spec: DeformSpec, gradient: Array) -> Floats:
    engine = engine_of(gradient)
    points = engine.namespace().zeros(spec.points_shape)
    if not gradient.size:
        return cast("Floats", points)
    pulled: Floats = engine.displace_adjoint(
        _as_float64(gradient), field_geometry(spec), points, batch_axes=len(spec.batch)
    )
    return pulled


def _evaluate(spec: PointsSpec, operator: Operator, operands: Operands) -> Floats:
    engine = engine_of(operands.positions)
    geometry, items = points_geometry(spec), math.prod(spec.batch)
    positions = _as_float64(operands.positions).reshape(items, spec.count, spec.axes)
    if operator.verb == "evaluate":
        points = _as_float64(operands.motion[0]).reshape(items, spec.axes, *spec.points)
        values: Floats = engine.evaluate(geometry, points, positions, operator.order)
        return values.reshape(spec.values_shape(operator.order))
    gradient = _as_float64(operands.gradient).reshape(items, spec.count, spec.axes, -1)
    pulled: Floats = engine.evaluate_adjoint(geometry, gradient, positions, operator.order)
    return pulled.reshape(spec.points_shape)


def source_voxels(spec: DeformSpec, blocks: NDArray[np.int64], motion: Pair) -> NDArray[np.int64]:
    """Find what of the image is read for blocks of the patch: first voxel and extent along each axis.

    Both are (blocks, axes, 2). Where no voxel matters, the extents are 0.
    """
    plan = plan_of(real_parts(spec)[0][0])
    return cpu.source_voxels(plan.job, blocks, _motion(plan, motion, ()))


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype in the byte order of this machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _as_float64(array: Array) -> Floats:
    if array.dtype == _FLOAT64 and array.flags.c_contiguous:
        return array
    contiguous: Floats = engine_of(array).namespace().ascontiguousarray(array, dtype=np.float64)
    return contiguous


def _as_direction(pair: Pair) -> tuple[Floats, Floats | None]:
    return _as_float64(pair[0]), _as_float64(pair[1]) if len(pair) > 1 else None


# ---- plans -----------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How an image of real numbers goes through an engine."""

    job: Job
    output_shape: Shape
    core_axes: Shape | None  # batch, channels, deformed axes; None if the image has them in this order
    fixed: Floats | None  # the inverse of rotation and zoom

    def in_core_order(self, array: Array) -> Array:
        """Give an image-like array with its axes as engines want them."""
        return array if self.core_axes is None else array.transpose(self.core_axes)


@lru_cache(maxsize=512)
def plan_of(spec: DeformSpec, linear: bool = False) -> Plan:
    """Plan for the one image of a specification."""
    (image,) = spec.images
    axes = spec.core_axes(image)
    fixed = spec.inverse_rotation_and_zoom
    return Plan(
        _job(spec, image, linear),
        spec.output_shape(image),
        None if axes == tuple(range(len(axes))) else axes,
        None if fixed is None else np.array(fixed),
    )


def _job(spec: DeformSpec, image: ImageSpec, linear: bool) -> Job:
    beyond: Any = 0 if linear else image.cval
    # Where there is no position: NaN in the modes that have no constant, where the type has it.
    constant = image.mode.traits.has_constant or not _dtypes.is_inexact(image.dtype)
    fill = beyond if constant else np.nan
    geometry = make_geometry(
        image=spec.extent,
        points=spec.points,
        start=spec.window.start,
        output=spec.window.shape,
        origin=spec.origin,
        order=image.order,
        mode=image.mode,
        prefilter=image.prefilter,
        fill=fill,
        beyond=beyond,
    )
    return Job(
        geometry=geometry,
        batch_axes=len(spec.batch),
        dtype=_dtypes.CODES[image.dtype],
        arithmetic=_dtypes.CODES[_dtypes.arithmetic(image.dtype, image.order, spec.axes)],
        filtered=image.prefilter,
        fill=_dtypes.element(fill, image.dtype),
        held=None if spec.roi is None else tuple(zip(spec.roi.start, spec.roi.shape, strict=True)),
    )


def field_geometry(spec: DeformSpec) -> Any:
    """Lay out the numbers for the displacement alone."""
    return make_geometry(
        image=spec.extent,
        points=spec.points,
        start=spec.window.start,
        output=spec.window.shape,
    )


@lru_cache(maxsize=64)
def points_geometry(spec: PointsSpec) -> Any:
    """Lay out the numbers for positions on the control grid."""
    nowhere = (0,) * spec.axes
    return make_geometry(
        image=spec.extent,
        points=spec.points,
        start=nowhere,
        output=nowhere,
    )
