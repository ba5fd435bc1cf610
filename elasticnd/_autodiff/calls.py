"""The calls of the public functions as applications of operators, written once for all frameworks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _affine
from .._spec import DeformSpec, EvaluationSpec, MovementSpec
from .._types import Array
from . import compute
from .framework import Framework, FrameworkOps, ReadValues
from .operators import Operands, Operator, TransformArrays, image_operators
from .rules import inverse_map_vjp

Gradients = tuple[list[Array | None], Array, Array | None]  # with respect to images, displacement and affine matrix


def deform(
    framework: Framework, spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array]:
    """Deform images."""
    other = framework.delegate(images, (displacement, affine))
    if other is not None:
        inner, sources, (displacement, affine) = other
        return list(map(framework.restored, deform(inner, spec, sources, displacement, affine), images))
    transform = transform_of(framework.values, displacement, affine)
    return [
        framework.apply(operator, Operands(None, image, transform))[0]
        for operator, image in zip(image_operators(spec, "sample"), images, strict=True)
    ]


def image_vjp(
    framework: Framework, spec: DeformSpec, gradients: Sequence[Array], displacement: Array, affine: Array | None
) -> list[Array]:
    """Compute the gradients with respect to the images from those with respect to the outputs."""
    other = framework.delegate(gradients, (displacement, affine))
    if other is not None:
        inner, sources, (displacement, affine) = other
        return list(map(framework.restored, image_vjp(inner, spec, sources, displacement, affine), gradients))
    transform = transform_of(framework.values, displacement, affine)
    return [
        framework.apply(operator, Operands(gradient, None, transform))[0]
        for operator, gradient in zip(image_operators(spec, "sample_adjoint", True), gradients, strict=True)
    ]


def vjp(
    framework: Framework,
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> Gradients:
    """Compute the gradients of images, displacement and affine matrix from those of the outputs.

    The gradient of a complex image combines those of its components.
    """
    other = framework.delegate((*images, *gradients), (displacement, affine))
    if other is not None:
        inner, arrays, (displacement, affine) = other
        sources, weights = arrays[: len(images)], arrays[len(images) :]
        of_images, of_displacement, of_affine = vjp(inner, spec, weights, sources, displacement, affine)
        back = [None if one is None else framework.restored(one, images[0]) for one in (*of_images, of_affine)]
        return back[:-1], framework.restored(of_displacement, images[0]), back[-1]
    ops = framework.algebra(images[0])
    transform = transform_of(framework.values, displacement, affine)
    of_images = []
    totals: Sequence[Array] | None = None
    operators = image_operators(spec, "sample_adjoint", True, True)
    for operator, image, gradient in zip(operators, images, gradients, strict=True):
        if gradient is None:
            of_images.append(None)
            continue
        operands = Operands(ops.converted(gradient, image), image, transform)
        of_image, *partials = framework.apply(operator, operands)
        of_images.append(of_image)
        totals = partials if totals is None else [one + other for one, other in zip(totals, partials, strict=True)]
    if totals is None:
        return of_images, ops.zeros_like(displacement), None if affine is None else ops.zeros_like(affine)
    of_displacement = ops.converted(totals[0], displacement)
    if affine is None:
        return of_images, of_displacement, None
    matrix = ops.converted(transform[1], totals[1])
    of_matrix = inverse_map_vjp(ops, matrix, spec.inverse_rotation_zoom_linear, totals[1])
    return of_images, of_displacement, _with_last_row(ops, ops.converted(of_matrix, affine), affine)


def _with_last_row(ops: FrameworkOps, of_matrix: Array, affine: Array) -> Array:
    """Append the zero gradient of a constant last row (0, ..., 0, 1), if the matrix has one."""
    rows = of_matrix.shape[-2]
    if affine.shape[-2] == rows:
        return of_matrix
    return ops.joined(of_matrix, ops.zeros_like(affine[..., rows:, :]), axis=-2)


def field(framework: Framework, spec: DeformSpec, displacement: Array) -> Array:
    """Compute the displacement of every voxel."""
    other = framework.delegate((), (displacement,))
    if other is not None:
        inner, _, (own,) = other
        return framework.restored(field(inner, spec, own), displacement)
    return framework.apply(Operator(spec, "displace"), Operands(transform=(displacement,)))[0]


def evaluate(framework: Framework, spec: EvaluationSpec, order: int, displacement: Array, positions: Array) -> Array:
    """Compute all derivatives of the displacement, of one order, at positions."""
    other = framework.delegate((), (positions, displacement))
    if other is not None:
        inner, _, (own, of_points) = other
        return framework.restored(evaluate(inner, spec, order, of_points, own), positions)
    operands = Operands(transform=(displacement,), positions=positions)
    return framework.apply(Operator(spec, "evaluate", order=order), operands)[0]


def search(
    framework: Framework,
    verb: str,
    spec: MovementSpec,
    displacement: Array,
    inverse_map: Array | None,
    positions: Array,
) -> Array:
    """Search for positions in the output, without derivatives."""
    given = (positions, displacement) if inverse_map is None else (positions, displacement, inverse_map)
    positions, *transform = map(framework.algebra(positions).without_gradient, given)
    return framework.apply(Operator(spec, verb), Operands(transform=tuple(transform), positions=positions))[0]


def source_box(framework: Framework, spec: DeformSpec, displacement: Array, affine: Array | None) -> tuple[slice, ...]:
    """Find the part of the image that is read for the patch, from NumPy arrays."""
    transform = transform_of(framework.values, displacement, affine)
    if 0 in spec.window.shape:
        return (slice(0, 0),) * spec.axes
    patch = np.array([[(0, extent) for extent in spec.window.shape]])
    (box,) = compute.source_voxels(spec, patch, transform).tolist()
    return tuple(slice(start, start + extent) for start, extent in box)


def transform_of(read_values: ReadValues, displacement: Array, affine: Array | None) -> TransformArrays:
    """Return displacement and matrix, (..., n, n + 1). Check the matrix if its values can be read."""
    if affine is None:
        return (displacement,)
    axes = int(affine.shape[-1]) - 1
    values = read_values(affine, wait=False)
    if values is not None:
        _affine.check_affine_values(values, axes)
    return displacement, affine[..., :axes, :]
