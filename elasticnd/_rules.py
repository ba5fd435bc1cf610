"""The deformation and its derivatives, composed of an engine's verbs. The chain rule stands here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _affine, _dtypes
from ._engines import Job
from ._engines import cpu as engine
from ._geometry import Mode, make_geometry
from ._spec import DeformSpec, ImageSpec, Shape

Array = NDArray[Any]
Floats = NDArray[np.float64]


class Field(NamedTuple):
    """Where the voxels go: the displacements of the control points, and the inverse affine, if there is one."""

    points: Floats
    affine: Floats | None


class Gradients(NamedTuple):
    """The gradients that `deform_grid_vjp` returns.

    Attributes
    ----------
    image : numpy.ndarray, or list or tuple of them
        With respect to the image, or to each of several; None for those whose output has no gradient.
    displacement : numpy.ndarray
        With respect to the control points.
    affine : numpy.ndarray or None
        With respect to the affine matrix, if there is one.
    """

    image: Any
    displacement: Any
    affine: Any


def forward(spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None) -> list[Array]:
    """Deform images."""
    field = _field(spec, displacement, affine)
    return [_deform(plan, array, field) for plan, array in zip(_plans(spec), images, strict=True)]


def dense(spec: DeformSpec, displacement: Array, shape: Shape) -> Floats:
    """Evaluate the displacement at every voxel."""
    output: Floats = engine.empty(shape, np.dtype(np.float64))
    if output.size:
        geometry = make_geometry(
            image=spec.extent,
            points=spec.points,
            crop=spec.crop,
            output=spec.output,
            order=0,
            mode=Mode.NEAREST,
            prefilter=False,
        )
        engine.displace(_as_float64(displacement), geometry, output, batch_axes=len(spec.batch))
    return output


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Array | None], displacement: Array, affine: Array | None
) -> list[Array | None]:
    """Pull gradients of the outputs back to the images."""
    field = _field(spec, displacement, affine)
    results: list[Array | None] = []
    for plan, image, gradient in zip(_plans(spec), spec.images, gradients, strict=True):
        result = None if gradient is None else _new_gradient(image, gradient.dtype)
        if gradient is not None and result is not None:
            _pull(plan, None, gradient, field, result)
        results.append(result)
    return results


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    """Pull gradients of the outputs back to images, control grid and affine matrix."""
    field = _field(spec, displacement, affine)
    n = spec.axes
    of_points = np.zeros((*spec.batch, n, *spec.points))
    of_inverse = np.zeros((*spec.batch, n, n + 1))
    of_images: list[Array | None] = []
    for plan, image, array, gradient in zip(_plans(spec), spec.images, images, gradients, strict=True):
        result = None if gradient is None else _new_gradient(image, array.dtype)
        if gradient is not None and result is not None:
            sloped = None if image.order == 0 else array  # steps have no slope
            for points_part, inverse_part in _pull(plan, sloped, gradient, field, result):
                of_points += points_part
                if inverse_part is not None:
                    of_inverse += inverse_part.reshape(of_inverse.shape)
        of_images.append(result)
    of_displacement = of_points.astype(_gradient_dtype(displacement), copy=False)
    return of_images, of_displacement, None if affine is None else _pull_to_affine(spec, affine, of_inverse)


# ---- one image -----------------------------------------------------------------------------------------------------


def _deform(plan: _Plan, array: Array, field: Field) -> Array:
    output = engine.empty(plan.output_shape, _native(array.dtype))
    if output.size == 0:
        return output
    for job, source, target in _real_parts(plan, array, output):
        engine.sample(job, source, field.points, field.affine, target)
    return output


def _new_gradient(image: ImageSpec, dtype: np.dtype[Any]) -> Array:
    return engine.empty(image.shape, _native(dtype))


def _pull(
    plan: _Plan, array: Array | None, gradient: Array, field: Field, result: Array
) -> list[tuple[Floats, Floats | None]]:
    """Write the gradient of an image to `result`; given the image, return those of points and inverse map as well."""
    if result.size == 0 or gradient.size == 0:
        result[...] = 0
        return []
    fields = []
    arrays = [_converted(gradient, result.dtype), result, *([] if array is None else [array])]
    for job, pulled, target, *source in _real_parts(plan, *arrays):
        image = source[0] if source else None
        of_field = engine.scatter(job, pulled, image, field.points, field.affine, target)
        if of_field is not None:
            fields.append(of_field)
    return fields


def _real_parts(plan: _Plan, *arrays: Array) -> Iterator[tuple[Any, ...]]:
    """Give a job, and for it the arrays with their axes as an engine wants them.

    Complex images are taken as real and imaginary part: every verb is linear over the real numbers.
    """
    if plan.core_axes is not None:
        arrays = tuple(array.transpose(plan.core_axes) for array in arrays)
    if len(plan.jobs) == 1:
        yield plan.jobs[0], *arrays
    else:
        yield plan.jobs[0], *(array.real for array in arrays)
        yield plan.jobs[1], *(array.imag for array in arrays)


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # infinity, as for every value that a type cannot hold
        return array.astype(dtype, copy=False)


# ---- plans ---------------------------------------------------------------------------------------------------------


class _Plan(NamedTuple):
    """How one image goes through an engine."""

    output_shape: Shape
    core_axes: Shape | None  # batch, channels, deformed axes; None if the image has them in this order
    jobs: tuple[Job, ...]  # one, or two for real and imaginary part


@lru_cache(maxsize=256)
def _plans(spec: DeformSpec) -> tuple[_Plan, ...]:
    return tuple(_plan(spec, image) for image in spec.images)


def _plan(spec: DeformSpec, image: ImageSpec) -> _Plan:
    axes = spec.core_axes(image)
    parts = range(2 if image.dtype in _dtypes.COMPLEX_PARTS else 1)
    return _Plan(
        spec.output_shape(image),
        None if axes == tuple(range(len(axes))) else axes,
        tuple(_job(spec, image, part) for part in parts),
    )


def _job(spec: DeformSpec, image: ImageSpec, part: int) -> Job:
    beyond = image.cval[part] if isinstance(image.cval, tuple) else image.cval
    # Where there is no position: NaN in the modes that have no constant, where the type has it.
    constant = image.mode in (Mode.CONSTANT, Mode.GRID_CONSTANT) or not _dtypes.is_inexact(image.dtype)
    fill = beyond if constant else np.nan
    name = _dtypes.real_part(image.dtype)
    with np.errstate(over="ignore"):  # infinity, as for every value that a type cannot hold
        fill_element = np.asarray(fill).astype(_dtypes.by_name(name)).tobytes()
    geometry = make_geometry(
        image=spec.extent,
        points=spec.points,
        crop=spec.crop,
        output=spec.output,
        order=image.order,
        mode=image.mode,
        prefilter=image.prefilter,
        fill=fill,
        beyond=beyond,
    )
    return Job(
        geometry=geometry,
        batch_axes=len(spec.batch),
        dtype=_dtypes.CODES[name],
        arithmetic=_dtypes.CODES[_dtypes.arithmetic(name, image.order, spec.axes)],
        filtered=image.prefilter,
        fill=fill_element,
    )


# ---- the field -----------------------------------------------------------------------------------------------------


def _as_float64(array: Array) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float64)


def _field(spec: DeformSpec, displacement: Array, affine: Array | None) -> Field:
    return Field(_as_float64(displacement), _inverse_map(spec, affine))


def _inverse_map(spec: DeformSpec, affine: Array | None) -> Floats | None:
    fixed = _fixed_map(spec)
    if affine is None:
        return fixed
    inverse = _affine.inverted(_affine.checked_affine(affine, spec.axes))
    return np.ascontiguousarray(inverse if fixed is None else _affine.composed(inverse, fixed))


def _fixed_map(spec: DeformSpec) -> Floats | None:
    matrix = spec.inverse_rotation_and_zoom
    return None if matrix is None else np.array(matrix)


def _pull_to_affine(spec: DeformSpec, affine: Array, of_inverse: Floats) -> Array:
    matrix = _affine.checked_affine(affine, spec.axes)
    if not spec.affine_batched:
        of_inverse = of_inverse.reshape(-1, *of_inverse.shape[-2:]).sum(axis=0)
    gradient = np.zeros(affine.shape, _gradient_dtype(affine))
    gradient[..., : spec.axes, :] = _affine.inverse_gradient(matrix, _fixed_map(spec), of_inverse)
    return gradient


def _gradient_dtype(array: Array) -> np.dtype[Any]:
    dtype = _native(array.dtype)
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype
