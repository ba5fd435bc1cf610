"""The bridge for arrays that hold their values and record no gradients: NumPy and CuPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .. import _affine, _dtypes
from .._autodiff import compute, operators
from .._autodiff.operators import Operands, Operator, TransformArrays
from .._autodiff.rules import inverse_map_vjp
from .._coerce import as_indices, is_sequence
from .._dtypes import name_of
from .._engines import engine_of, is_cupy
from .._errors import describe, reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec
from .._types import DType, Seed, Unchecked
from . import contract
from .operations import LinearAlgebra

Array = NDArray[Any]

is_deferred = contract.is_deferred
deferred = contract.deferred


def info(array: Array) -> ArrayInfo:
    return ArrayInfo(array.shape, name_of(array.dtype))


def small_array(argument: str, value: Unchecked, like: Any = None) -> Array:
    """Take a control grid or a matrix: an array, or nested lists of numbers. One on the host goes with any image."""
    if type(value) is np.ndarray and (like is None or type(like) is np.ndarray):
        return value
    if is_cupy(value if like is None else like):
        return _on_device(argument, value, like)
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return np.asarray(value)
    if not isinstance(value, (list, tuple)) or _has_masks(value):
        reject_type(argument, value, "a NumPy array or nested lists of numbers")
    try:
        array = np.asarray(value)
    except ValueError:
        reject_value(argument, "nested lists of different lengths", "an array or nested lists of numbers")
    except (TypeError, RuntimeError):  # of a library whose arrays are in the lists
        reject_type(argument, value, "a NumPy array or nested lists of numbers")
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    return array


def _on_device(argument: str, value: Unchecked, like: Any) -> Any:
    if is_cupy(value):
        if like is not None and value.device != like.device:
            reject_value(argument, f"an array on CUDA device {value.device.id}", f"one on device {like.device.id}")
        return value
    array = small_array(argument, value)
    if argument == "affine" and array.ndim > 1 and array.dtype.kind in "fiu":
        _affine.checked_affine(array, array.shape[-1] - 1)
    with like.device:
        return engine_of(like).namespace().asarray(array)


def engine_name(array: Any) -> tuple[str, str]:
    if is_cupy(array):
        return "cuda", f"an array on CUDA device {array.device.id}"
    return "cpu", "an array in the host's memory"


def check(argument: str, image: Array, first: Array) -> None:
    """Refuse images of NumPy and CuPy in one call, and on several devices."""
    if is_cupy(image) != is_cupy(first):
        reject_value(argument, describe(image), f"an array of the same library as the first image, {describe(first)}")
    if is_cupy(image) and image.device != first.device:
        reject_value(argument, f"an array on CUDA device {image.device.id}", f"one on device {first.device.id}")


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Any, rng: Seed) -> NDArray[np.float64]:
    if is_cupy(like) and isinstance(rng, engine_of(like).namespace().random.Generator):
        return rng.standard_normal(tuple(shape)) * engine_of(like).namespace().asarray(scale).reshape(
            -1, *(1,) * len(scale)
        )
    accepted = "None, a seed that is not negative or a sequence of them, a SeedSequence, a BitGenerator or a Generator"
    if is_sequence(rng):  # in whose parts NumPy would search for numbers, without end if it holds itself
        rng = as_indices("rng", np.asarray(rng).ravel().tolist() if isinstance(rng, np.ndarray) else rng, accepted)
    try:
        generator = np.random.default_rng(rng)
    except TypeError:
        reject_type("rng", rng, accepted)
    except ValueError:
        reject_value("rng", rng, accepted)
    normal = generator.standard_normal(tuple(shape))
    normal *= np.reshape(scale, (-1, *(1,) * len(scale)))
    return normal


def _has_masks(value: Unchecked) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_masks, value))
    return isinstance(value, np.ma.MaskedArray)


def forward(spec: DeformSpec, images: Sequence[Array], displacement: Array, affine: Array | None) -> list[Array]:
    with engine_of(images[0]).holding(images[0]):
        return deform(spec, images, _transform(spec, displacement, affine))


def deform(spec: DeformSpec, images: Sequence[Array], transform: TransformArrays) -> list[Array]:
    """Deform images; the affine matrix of the transform is checked."""
    first = spec.images[0]
    if len(images) > 1 and not first.is_complex and spec.images.count(first) == len(images):
        return compute.sample_all(compute.plan_of(spec.only(first)), images, *transform)
    results = []
    for array, parts in zip(images, operators.real_components(spec), strict=True):
        if len(parts) == 1:
            results.append(compute.sample(parts[0], array, transform))
            continue
        output = engine_of(array).empty(parts[0].output_shape(parts[0].images[0]), _dtypes.native(array.dtype))
        for part, source, target in zip(parts, _parts(array), _parts(output), strict=True):
            compute.sample(part, source, transform, target)
        results.append(output)
    return results


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Array | None], displacement: Array, affine: Array | None
) -> list[Array | None]:
    nothing = [None] * len(gradients)
    with engine_of(displacement).holding(displacement):
        transform = _transform(spec, displacement, affine)
        return [result for result, _ in _pulled(spec, gradients, nothing, transform)]


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    with engine_of(displacement).holding(displacement):
        return _vjp(spec, gradients, images, displacement, affine)


def _vjp(
    spec: DeformSpec,
    gradients: Sequence[Array | None],
    images: Sequence[Array],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Array | None], Array, Array | None]:
    transform = _transform(spec, displacement, affine)
    xp = engine_of(displacement).namespace()
    of_images = []
    of_transform = [xp.zeros(array.shape) for array in transform]
    for result, parts in _pulled(spec, gradients, images, transform):
        of_images.append(result)
        for part in parts:
            for total, summand in zip(of_transform, part, strict=True):
                total += summand
    of_displacement = of_transform[0].astype(gradient_dtype(displacement), copy=False)
    if affine is None:
        return of_images, of_displacement, None
    algebra = LinearAlgebra(array_api_compat.array_namespace(transform[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN go on, as everywhere
        of_matrix = inverse_map_vjp(algebra, transform[1], spec.inverse_rotation_zoom_linear, of_transform[1])
    of_affine = xp.zeros(affine.shape, gradient_dtype(affine))
    of_affine[..., : spec.axes, :] = of_matrix
    return of_images, of_displacement, of_affine


def source_voxels(
    spec: DeformSpec, blocks: NDArray[np.int64], displacement: Array, affine: Array | None
) -> NDArray[np.int64]:
    """Find what of the image is read for blocks of the patch: first voxel and extent, (blocks, axes, 2) as `blocks`."""
    return compute.source_voxels(spec, blocks, _transform(spec, displacement, affine))


def source_box(spec: DeformSpec, displacement: Array, affine: Array | None) -> tuple[slice, ...]:
    """Find what of the image is read for the patch."""
    if 0 in spec.window.shape:
        return (slice(0, 0),) * spec.axes
    patch = np.array([[(0, extent) for extent in spec.window.shape]])
    (box,) = source_voxels(spec, patch, displacement, affine).tolist()
    return tuple(slice(start, start + extent) for start, extent in box)


def dense(spec: DeformSpec, displacement: Array) -> Array:
    with engine_of(displacement).holding(displacement):
        return compute.run(Operator(spec, "displace"), spec, Operands(transform=(displacement,)))[0]


def evaluate(spec: EvaluationSpec, order: int, displacement: Array, positions: Array) -> Array:
    with engine_of(displacement).holding(displacement):
        operands = Operands(transform=(displacement,), positions=positions)
        return compute.run(Operator(spec, "evaluate", order=order), spec, operands)[0]


def algebra(array: Array) -> LinearAlgebra:
    return LinearAlgebra(array_api_compat.array_namespace(array))


def values(array: Array) -> Array:
    """Return the values of an array in the host's memory."""
    return array if isinstance(array, np.ndarray) else array.get()


def _transform(spec: DeformSpec, displacement: Array, affine: Array | None) -> TransformArrays:
    if affine is None:
        return (displacement,)
    # Values on a device are not looked at: that would wait for them. Without an inverse, no voxel has a position.
    if is_cupy(affine):
        matrix = engine_of(affine).namespace().asarray(affine[..., : spec.axes, :], dtype=np.float64)
    else:
        matrix = _affine.checked_affine(affine, spec.axes)
    return (displacement, matrix)


def _pulled(
    spec: DeformSpec, gradients: Sequence[Array | None], images: Sequence[Array | None], transform: TransformArrays
) -> list[tuple[Array | None, list[list[Array]]]]:
    """Pull each gradient back to its image; of images that are given, to the transform too, by component."""
    results: list[tuple[Array | None, list[list[Array]]]] = []
    for parts, image, gradient in zip(operators.real_components(spec), images, gradients, strict=True):
        if gradient is None:
            results.append((None, []))
            continue
        dtype = _dtypes.native((gradient if image is None else image).dtype)
        target = engine_of(gradient).empty(parts[0].images[0].shape, dtype)
        pulled = (_converted(gradient, dtype), target, target if image is None else image)
        of_transform = []
        columns = [(array,) for array in pulled] if len(parts) == 1 else map(_parts, pulled)
        for part, part_gradient, part_target, part_image in zip(parts, *columns, strict=True):
            operator = Operator(part, "sample_adjoint", wants_image=True, wants_transform=image is not None)
            operands = Operands(part_gradient, part_image if image is not None else None, transform)
            of_transform.append(compute.run(operator, part, operands, part_target)[1:])
        results.append((target, of_transform))
    return results


def _parts(array: Array) -> tuple[Array, Array]:
    return array.real, array.imag


def _converted(array: Array, dtype: DType) -> Array:
    with np.errstate(over="ignore"):  # infinity, as for every value that a type cannot hold
        return array.astype(dtype, copy=False)


def gradient_dtype(array: Array) -> DType:
    """Give the dtype of the gradient of a control grid or a matrix."""
    dtype = _dtypes.native(array.dtype)
    return np.dtype(np.float64) if dtype.kind in "iu" else dtype
