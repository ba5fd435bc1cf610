"""The deformation and its derivatives, composed of an engine's verbs. The chain rule stands here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _affine, _dtypes
from ._engines import cpu as engine
from ._geometry import Geometry, Mode, make_geometry
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
    return [_deform(spec, image, array, field) for image, array in zip(spec.images, images, strict=True)]


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
    for image, gradient in zip(spec.images, gradients, strict=True):
        result = None if gradient is None else _new_gradient(image, gradient.dtype)
        if gradient is not None and result is not None:
            _pull(spec, image, None, gradient, field, result)
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
    for image, array, gradient in zip(spec.images, images, gradients, strict=True):
        result = None if gradient is None else _new_gradient(image, array.dtype)
        if gradient is not None and result is not None:
            for points_part, inverse_part in _pull(spec, image, array, gradient, field, result):
                of_points += points_part
                of_inverse += inverse_part.reshape(of_inverse.shape)
        of_images.append(result)
    of_displacement = of_points.astype(_gradient_dtype(displacement), copy=False)
    return of_images, of_displacement, None if affine is None else _pull_to_affine(spec, affine, of_inverse)


# ---- one image -----------------------------------------------------------------------------------------------------


def _deform(spec: DeformSpec, image: ImageSpec, array: Array, field: Field) -> Array:
    output = engine.empty(spec.output_shape(image), _native(array.dtype))
    if output.size == 0:
        return output
    for part, (source, target) in enumerate(_real_parts(image, array, output)):
        engine.sample(
            _to_core(spec, image, source),
            _geometry(spec, image, part),
            field.points,
            field.affine,
            _to_core(spec, image, target),
            batch_axes=len(spec.batch),
            filtered=image.prefilter,
            fill=_fill_element(image, part, target.dtype),
        )
    return output


def _new_gradient(image: ImageSpec, dtype: np.dtype[Any]) -> Array:
    return engine.empty(image.shape, _native(dtype))


def _pull(
    spec: DeformSpec, image: ImageSpec, array: Array | None, gradient: Array, field: Field, result: Array
) -> list[tuple[Floats, Floats]]:
    """Write the gradient of an image to `result`; given the image, return those of points and inverse map as well."""
    if result.size == 0 or gradient.size == 0:
        result[...] = 0
        return []
    if image.order == 0:  # steps have no slope
        array = None
    fields = []
    arrays = [_converted(gradient, result.dtype), result, *([] if array is None else [array])]
    for part, (pulled, target, *source) in enumerate(_real_parts(image, *arrays)):
        of_field = engine.scatter(
            _to_core(spec, image, pulled),
            _geometry(spec, image, part),
            _to_core(spec, image, source[0]) if source else None,
            field.points,
            field.affine,
            _to_core(spec, image, target),
            batch_axes=len(spec.batch),
            filtered=image.prefilter,
        )
        if of_field is not None:
            fields.append(of_field)
    return fields


def _real_parts(image: ImageSpec, *arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Take real images whole, complex ones as real and imaginary part: every verb is linear over the reals."""
    if image.dtype in _dtypes.COMPLEX_PARTS:
        yield tuple(array.real for array in arrays)
        yield tuple(array.imag for array in arrays)
    else:
        yield arrays


def _to_core(spec: DeformSpec, image: ImageSpec, array: Array) -> Array:
    return array.transpose(spec.core_axes(image))


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def _converted(array: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # infinity, as for every value that a type cannot hold
        return array.astype(dtype, copy=False)


# ---- geometry ------------------------------------------------------------------------------------------------------


def _cval_part(image: ImageSpec, part: int) -> int | float:
    return image.cval[part] if isinstance(image.cval, tuple) else image.cval


def _fill(image: ImageSpec, part: int) -> int | float:
    """Give the value where there is no position: NaN in the modes that have no constant, where the type has it."""
    constant = image.mode in (Mode.CONSTANT, Mode.GRID_CONSTANT) or not _dtypes.is_inexact(image.dtype)
    return _cval_part(image, part) if constant else np.nan


@lru_cache(maxsize=256)
def _fill_element(image: ImageSpec, part: int, dtype: np.dtype[Any]) -> bytes:
    with np.errstate(over="ignore"):  # infinity, as for every value that a type cannot hold
        return np.asarray(_fill(image, part)).astype(dtype).tobytes()


@lru_cache(maxsize=256)
def _geometry(spec: DeformSpec, image: ImageSpec, part: int) -> Geometry:
    return make_geometry(
        image=spec.extent,
        points=spec.points,
        crop=spec.crop,
        output=spec.output,
        order=image.order,
        mode=image.mode,
        prefilter=image.prefilter,
        fill=_fill(image, part),
        beyond=_cval_part(image, part),
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
