"""Labelled arrays of xarray: calls remove the labels of their arrays, and restore them on the results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._errors import describe, reject_value
from ._types import Array, Axes

Labelled = Any  # a DataArray


def is_labelled(array: Array) -> bool:
    """Return whether an array is an xarray DataArray, which requires xarray to be imported."""
    if type(array) is np.ndarray:
        return False
    xarray = sys.modules.get("xarray")
    return xarray is not None and isinstance(array, getattr(xarray, "DataArray", ()))


def unlabelled(array: Array) -> Array:
    """Return the data of a labelled array; return anything else as it is."""
    return array.data if is_labelled(array) else array


def unlabelled_beside(image: Array, array: Array) -> Array:
    """Return the data of an array that is labelled like its image; labels are not accepted beside other images."""
    return unlabelled(array) if is_labelled(image) else array


def check_alike(names: Sequence[str], arrays: Sequence[Array]) -> None:
    """Check that all arrays are labelled, or none is."""
    first = is_labelled(arrays[0])
    for name, array in zip(names[1:], arrays[1:], strict=True):
        if is_labelled(array) != first:
            reject_value(name, describe(array), f"an array of the same library as {names[0]}, {describe(arrays[0])}")


def axis_numbers(images: Sequence[Array], axis: Axes | None) -> Axes | None:
    """Replace dimension names by axis numbers, in one sequence for all images or in one for each."""
    if not isinstance(axis, (str, list, tuple)) or not is_labelled(images[0]):
        return axis
    if isinstance(axis, str):
        axis = (axis,)
    if any(isinstance(part, (list, tuple)) for part in axis):
        return [_numbers(images[min(k, len(images) - 1)], part) for k, part in enumerate(axis)]
    if not any(isinstance(part, str) for part in axis):
        return axis
    own = [_numbers(image, axis) for image in images]
    return own[0] if len(own) == 1 else own


def _numbers(image: Array, axis: Axes) -> Any:
    if not isinstance(axis, (list, tuple)):
        return axis
    for name in axis:
        if isinstance(name, str) and name not in image.dims:
            reject_value("axis", repr(name), f"names among {', '.join(map(repr, image.dims))}")
    return tuple(image.dims.index(name) if isinstance(name, str) else name for name in axis)


def patch_of(image: Labelled, axes: Sequence[int] | None, crop: Sequence[slice] | None) -> Labelled:
    """Return the part of a labelled image whose labels the output has."""
    if crop is None:
        return image
    axes = range(image.ndim - len(crop), image.ndim) if axes is None else axes
    return image.isel({image.dims[axis]: part for axis, part in zip(axes, crop, strict=True)})


def labelled_elsewhere(result: Array, image: Labelled, axes: Sequence[int], patch: Labelled | None) -> Labelled:
    """Return a result with the labels of a patch or, without one, the labels of the image except along some axes."""
    if patch is not None:
        return labelled_like(result, patch)
    moved = {image.dims[axis] for axis in axes}
    kept = {name: values for name, values in image.coords.items() if not moved.intersection(values.dims)}
    return type(image)(result, kept, image.dims, image.name, image.attrs)


def labelled_like(result: Array, array: Array) -> Array:
    """Return a result with the labels of an array, if it has labels and they fit."""
    fits = is_labelled(array) and result is not None and result.shape == array.shape
    return array.copy(data=result) if fits else result
