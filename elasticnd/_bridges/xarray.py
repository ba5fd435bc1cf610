"""The bridge for labelled arrays of xarray: what they hold goes to the bridge of that; names and labels are kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, PointsSpec

Labelled = Any  # a DataArray


def _inner(array: Any, argument: str = "X") -> ModuleType:
    from .._routes import bridge_of  # noqa: PLC0415 - which has found this bridge for the labels

    return bridge_of(argument, _plain(array))


def axis_numbers(images: Sequence[Labelled], axis: Any) -> Any:
    """Replace the names of dimensions by their numbers: in one sequence for all images, or in one for each."""
    if axis is None or not isinstance(axis, (str, list, tuple)):
        return axis
    if isinstance(axis, str):
        axis = (axis,)
    if any(isinstance(part, (list, tuple)) for part in axis):
        return [_numbers(images[min(k, len(images) - 1)], part) for k, part in enumerate(axis)]
    if not any(isinstance(part, str) for part in axis):
        return axis
    own = [_numbers(image, axis) for image in images]
    return own[0] if len(own) == 1 else own


def _numbers(image: Labelled, axis: Any) -> Any:
    if not isinstance(axis, (list, tuple)):
        return axis
    for name in axis:
        if isinstance(name, str) and name not in image.dims:
            reject_value("axis", repr(name), f"names among {', '.join(map(repr, image.dims))}")
    return tuple(image.dims.index(name) if isinstance(name, str) else name for name in axis)


# ---- as every bridge -------------------------------------------------------------------------------------------------


def info(array: Labelled) -> ArrayInfo:
    """Tell shape and dtype, also of an array without labels."""
    found: ArrayInfo = _inner(array).info(_plain(array))
    return found


def engine_name(array: Labelled) -> tuple[str, str]:
    """Name the engine that computes, and say why."""
    name: tuple[str, str] = _inner(array).engine_name(array.data)
    return name


def check(argument: str, image: Labelled, first: Labelled) -> None:
    """Refuse what holds arrays of several libraries."""
    if _inner(image, argument) is not _inner(first, argument):
        reject_type(
            argument, image.data, f"an array of the same library as the first image, {type(first.data).__module__}"
        )
    _inner(image).check(argument, image.data, first.data)


def is_deferred(arrays: Sequence[Any]) -> bool:
    """Shapes are known."""
    return False


def small_array(argument: str, value: Any, like: Labelled | None = None) -> Any:
    """Take a control grid or a matrix, labelled or not."""
    value = _plain(value)
    if like is None:
        return _inner(value, argument).small_array(argument, value)
    return _inner(like).small_array(argument, value, like.data)


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Labelled, rng: Any) -> Any:
    """Draw displacements of control points."""
    return _inner(like).random_normal(shape, scale, like.data, rng)


def forward(spec: DeformSpec, images: Sequence[Labelled], displacement: Any, affine: Any) -> list[Labelled]:
    """Deform images; coordinates and attributes stay, of a patch those of its voxels."""
    results = _inner(images[0]).forward(spec, [image.data for image in images], displacement, affine)
    return [
        _patch_of(image, spec, options.axes).copy(data=result)
        for image, options, result in zip(images, spec.images, results, strict=True)
    ]


def _patch_of(image: Labelled, spec: DeformSpec, axes: Sequence[int]) -> Labelled:
    return image.isel({image.dims[axis]: part for axis, part in zip(axes, spec.window.slices, strict=True)})


def image_vjp(spec: DeformSpec, gradients: Sequence[Labelled], displacement: Any, affine: Any) -> list[Any]:
    """Pull gradients of the outputs back to the images; they have the labels only where nothing was cropped."""
    results = _inner(gradients[0]).image_vjp(spec, [_plain(gradient) for gradient in gradients], displacement, affine)
    return [_labelled(result, gradient) for result, gradient in zip(results, gradients, strict=True)]


def vjp(
    spec: DeformSpec, gradients: Sequence[Any], images: Sequence[Labelled], displacement: Any, affine: Any
) -> tuple[list[Any], Any, Any]:
    """Pull gradients of the outputs back to images, control grid and affine matrix."""
    weights, sources = [_plain(gradient) for gradient in gradients], [image.data for image in images]
    of_images, of_displacement, of_affine = _inner(images[0]).vjp(spec, weights, sources, displacement, affine)
    labelled = [_labelled(result, image) for result, image in zip(of_images, images, strict=True)]
    return labelled, of_displacement, of_affine


def dense(spec: DeformSpec, displacement: Any) -> Any:
    """Evaluate the displacement at every voxel; the axes of the result are those of no image, and have no names."""
    return _inner(displacement, "displacement").dense(spec, displacement)


def evaluate(spec: PointsSpec, order: int, displacement: Any, positions: Any) -> Any:
    """Compute all derivatives of one order of the displacement at positions; the result has no labels."""
    return _inner(positions, "f").evaluate(spec, order, displacement, positions)


def algebra(array: Any) -> Any:
    """Return the linear algebra of the array's library."""
    return _inner(array).algebra(_plain(array))


def values(array: Any) -> Any:
    """Return the values of an array; None while it is traced."""
    return _inner(array).values(_plain(array))


def _labelled(result: Any, like: Labelled) -> Any:
    return like.copy(data=result) if result is not None and result.shape == like.shape else result


def _plain(array: Any) -> Any:
    return array.data if hasattr(array, "dims") and hasattr(array, "data") else array
