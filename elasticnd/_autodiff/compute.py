"""Operators on arrays with values: the verbs of the engines, and the plans that these use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _dtypes
from .._engines import Floats, Transform, cpu, engine_of, searches
from .._floating_point import in_default_state
from .._job import Job, evaluation_job, field_job, job_of
from .._spec import DeformSpec, EvaluationSpec, MovementSpec, Shape
from .operators import (
    ADJOINT,
    SEARCHES,
    Operands,
    Operator,
    TransformArrays,
    apply_by_component,
    component_specs,
    result_shapes,
)

Array = NDArray[Any]

_FLOAT64 = np.dtype(np.float64)


def apply(operator: Operator, spec: Any, operands: Operands, into: Array | None = None) -> list[Array]:
    """Apply an operator. Image-like results are written to `into` if given; gradients of transforms are float64."""
    if operator.takes_positions:
        return [(_search if operator.verb in SEARCHES else _evaluate)(spec, operator, operands)]
    if operator.verb in ADJOINT:
        if operator.verb == "displace":
            return [_displace(spec, operands.transform[0])]
        return [_displace_adjoint(spec, operands.gradient)]
    if spec.images[0].is_complex:
        return _apply_to_complex(operator, spec, operands, into)
    plan = plan_of(spec, operator.homogeneous)
    transform = _transform(operands.transform, operands.tangents)
    if operator.verb == "sample":
        return _sample(plan, [operands.image], transform, None if into is None else [into])
    return _sample_adjoint(operator, spec, plan, operands, transform, into)


# The same, for frameworks that call it in a floating-point state of their own.
run = in_default_state(apply)


def _apply_to_complex(operator: Operator, spec: DeformSpec, operands: Operands, into: Array | None) -> list[Array]:
    """Apply an operator to the components of complex arrays, read and written in place."""
    if into is None and (operator.verb == "sample" or operator.wants_image):
        like = operands.image if operator.verb == "sample" else operands.gradient
        into = engine_of(like).empty(result_shapes(operator, spec)[0], _dtypes.native(like.dtype))
    targets = (None, None) if into is None else _components(into)

    def apply_to_component(k: int, own: Operands) -> list[Array]:
        return apply(operator, component_specs(spec)[k], own, targets[k])

    return apply_by_component(apply_to_component, _components, lambda *_: into, operator, operands)


def _components(array: Array) -> tuple[Array, Array]:
    return array.real, array.imag


def sample_all(plan: Plan, images: Sequence[Array], displacement: Array) -> list[Array]:
    """Deform images that share a plan, so that positions are computed once for all of them."""
    return _sample(plan, images, Transform(_as_float64(displacement)), None)


def _transform(transform: TransformArrays, tangents: tuple[TransformArrays, ...]) -> Transform:
    affine = _as_float64(transform[1]) if len(transform) > 1 else None
    return Transform(_as_float64(transform[0]), affine, tuple(map(_as_tangent, tangents)))


def _sample(plan: Plan, images: Sequence[Array], transform: Transform, outputs: list[Array] | None) -> list[Array]:
    engine = engine_of(images[0])
    if outputs is None:
        outputs = engine.empties(len(images), plan.output_shape, _dtypes.native(images[0].dtype))
    if outputs[0].size:
        engine.sample(plan.job, plan.all_in_core_order(images), transform, plan.all_in_core_order(outputs))
    return outputs


def _sample_adjoint(
    operator: Operator, spec: DeformSpec, plan: Plan, operands: Operands, transform: Transform, into: Array | None
) -> list[Array]:
    gradient: Array = operands.gradient
    engine = engine_of(gradient)
    results: list[Array] = []
    if operator.wants_image:
        results.append(engine.empty(spec.images[0].shape, _dtypes.native(gradient.dtype)) if into is None else into)
        if spec.roi is not None:  # not all of its voxels may be reached
            results[0][...] = 0
    # Order 0 has no slope.
    sloped = operator.wants_transform and spec.images[0].order > 0
    gradients: tuple[Floats, Floats | None] | None = None
    if gradient.size and (sloped or (results and results[0].size)):
        gradients = engine.sample_adjoint(
            plan.job,
            plan.in_core_order(gradient),
            plan.in_core_order(operands.image) if sloped else None,
            transform,
            plan.in_core_order(results[0]) if results else None,
        )
    elif results:
        results[0][...] = 0
    if operator.wants_transform:
        shapes = result_shapes(operator, spec)[len(results) :]
        parts = [None] * len(shapes) if gradients is None else list(gradients)[: len(shapes)]
        results += [
            engine.namespace().zeros(shape) if part is None else _summed(part, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ]
    return results


def _summed(per_item: Floats, shape: Shape) -> Floats:
    """Sum over the items that share an array."""
    if per_item.size == math.prod(shape):
        return per_item.reshape(shape)
    total: Floats = per_item.reshape(-1, *shape).sum(axis=0)
    return total


def _displace(spec: DeformSpec, displacement: Array) -> Floats:
    engine = engine_of(displacement)
    output: Floats = engine.empty(spec.field_shape, np.dtype(np.float64))
    if output.size:
        engine.displace(field_job(spec), _as_float64(displacement), output)
    return output


def _displace_adjoint(spec: DeformSpec, gradient: Array) -> Floats:
    engine = engine_of(gradient)
    result: Floats = engine.namespace().zeros(spec.displacement_shape)
    if gradient.size:
        engine.displace_adjoint(field_job(spec), _as_float64(gradient), result)
    return result


def _evaluate(spec: EvaluationSpec, operator: Operator, operands: Operands) -> Floats:
    engine = engine_of(operands.positions)
    job, items = evaluation_job(spec, operator.order), math.prod(spec.batch)
    positions = _as_float64(operands.positions).reshape(items, spec.count, spec.axes)
    if operator.verb == "evaluate":
        displacement = _as_float64(operands.transform[0]).reshape(items, spec.axes, *spec.grid_shape)
        values: Floats = engine.evaluate(job, displacement, positions)
        return values.reshape(spec.values_shape(operator.order))
    gradient = _as_float64(operands.gradient).reshape(items, spec.count, spec.axes, -1)
    result: Floats = engine.evaluate_adjoint(job, gradient, positions)
    return result.reshape(spec.displacement_shape)


def _search(spec: MovementSpec, operator: Operator, operands: Operands) -> Floats:
    """Search on the host, wherever the arrays are, because each point takes a different number of steps."""
    displacement, *inverse_maps, positions = (
        _on_host(_as_float64(array)) for array in (*operands.transform, operands.positions)
    )
    inverse_map = inverse_maps[0] if inverse_maps else None
    job = evaluation_job(spec, 0)
    found = searches.SEARCH[operator.verb](job, spec, displacement, inverse_map, positions)
    if isinstance(operands.positions, np.ndarray):
        return found
    on_device: Floats = engine_of(operands.positions).namespace().asarray(found)
    return on_device


def _on_host(array: Array) -> Floats:
    values: Floats = array if isinstance(array, np.ndarray) else array.get()
    return values


def source_voxels(spec: DeformSpec, blocks: NDArray[np.int64], transform: TransformArrays) -> NDArray[np.int64]:
    """Find the parts of the image that blocks of the patch read: first voxel and extent along each axis.

    Both arrays are (blocks, axes, 2). The extents are 0 where no voxel is read.
    """
    plan = plan_of(component_specs(spec)[0])
    return cpu.source_voxels(plan.job, blocks, _transform(transform, ()))


def _as_float64(array: Array) -> Floats:
    if array.dtype == _FLOAT64 and array.flags.c_contiguous:
        return array
    contiguous: Floats = engine_of(array).namespace().ascontiguousarray(array, dtype=np.float64)
    return contiguous


def _as_tangent(tangent: TransformArrays) -> tuple[Floats, Floats | None]:
    return _as_float64(tangent[0]), _as_float64(tangent[1]) if len(tangent) > 1 else None


# ---- plans -----------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """How an engine computes an image of real numbers."""

    job: Job
    output_shape: Shape
    core_axes: Shape | None  # batch, channels, deformed axes; None if the image already has this order

    def in_core_order(self, array: Array) -> Array:
        """Return an image-like array with its axes in the engine's order."""
        return array if self.core_axes is None else array.transpose(self.core_axes)

    def all_in_core_order(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """Return several arrays in this order."""
        return arrays if self.core_axes is None else [array.transpose(self.core_axes) for array in arrays]


@lru_cache(maxsize=512)
def plan_of(spec: DeformSpec, homogeneous: bool = False) -> Plan:
    """Return the plan for the single image of a specification."""
    (image,) = spec.images
    axes = spec.core_axes(image)
    return Plan(job_of(spec, homogeneous), spec.output_shape(image), None if axes == tuple(range(len(axes))) else axes)
