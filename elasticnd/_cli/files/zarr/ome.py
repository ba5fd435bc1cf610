"""OME-Zarr images: groups whose arrays are one image at several resolutions, with axes and voxel sizes.

Versions 0.1 to 0.5, https://ngff.openmicroscopy.org; 0.4 and earlier are Zarr 2, 0.5 is Zarr 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ...._errors import CommandError
from .axes import Axis, named_axes
from .metadata import Node, read_node

_FIVE_AXES = ("t", "c", "z", "y", "x")  # before version 0.3, whose metadata do not name the axes


@dataclass(frozen=True)
class Level:
    """An array of an image. Voxel i along an axis lies at spacing * i + origin, in the unit of the image."""

    path: str  # within the group; empty for an array on its own
    axes: Sequence[Axis] | None  # if the file describes them
    spacing: tuple[float, ...] | None = None  # of every axis, if the file has it
    origin: tuple[float, ...] | None = None
    is_labels: bool = False


def levels_of_image(node: Node) -> list[Level] | None:
    """Return the arrays of an image group, finest first; None if the group is not an image."""
    images = _of_ome(node).get("multiscales")
    if node.is_array or images is None:
        return None
    _check(node, isinstance(images, list) and len(images) == 1, "multiscales", "a list of one image")
    (image,) = images
    _check(node, isinstance(image, dict), "multiscales", "a list of objects")
    datasets = image.get("datasets")
    usable = isinstance(datasets, list) and datasets and all(isinstance(one, dict) for one in datasets)
    _check(node, usable, "datasets", "a list of arrays")
    axes = _axes(node, image.get("axes"))
    levels = [_level(node, dataset, image, axes) for dataset in datasets]
    _check(node, len({level.path for level in levels}) == len(levels), "datasets", "each array once")
    return levels


def levels_with_labels(node: Node) -> list[Level] | None:
    """Return the arrays of an image, followed by the arrays of the label images in its group."""
    levels = levels_of_image(node)
    if levels is None:
        return None
    for path in _label_groups(node):
        labels = read_node(node.path / path)
        of_labels = None if labels is None else levels_of_image(labels)
        if of_labels is None:
            raise CommandError(f"cannot read the OME-Zarr metadata of {node.path}: {path} is not an image")
        levels += [replace(level, path=f"{path}/{level.path}", is_labels=True) for level in of_labels]
    return levels


def _label_groups(node: Node) -> list[str]:
    """Return the paths of the label images within an image's group."""
    labels = read_node(node.path / "labels")
    if labels is None:
        return []
    names = _of_ome(labels).get("labels", [])
    _check(labels, isinstance(names, list), "labels", "a list of names")
    return [f"labels/{_inner_path(labels, name)}" for name in names]


def axes_of_array(array: Node) -> Sequence[Axis] | None:
    """Return an array's axes from its image or its own metadata; None if they are not described."""
    level = _level_of_array(array)
    return named_axes(array) if level is None else level.axes


def names_around(array: Node) -> tuple[str, ...]:
    """List metadata that an array has only in its group, such as voxel sizes, and loses on its own."""
    return () if _level_of_array(array) is None else ("metadata of OME",)


def _level_of_array(array: Node) -> Level | None:
    """Return an array as a level of the image in its group, if there is one."""
    path = array.path.absolute()
    for folder in path.parents:
        node = read_node(folder)
        for level in [] if node is None else levels_of_image(node) or []:
            if folder / level.path == path:
                return level
    return None


def _axes_of_old(array: Node) -> list[Axis] | None:
    shape = array.document.get("shape")
    is_old = array.version == 2 and isinstance(shape, list) and len(shape) == len(_FIVE_AXES)
    return [Axis(name) for name in _FIVE_AXES] if is_old else None


def _axes(node: Node, axes: object) -> list[Axis] | None:
    if axes is None:
        return None
    listed = axes if isinstance(axes, list) else []
    _check(node, listed, "axes", "a list")
    described = [{"name": axis} if isinstance(axis, str) else axis for axis in listed]  # version 0.3 lists names alone
    for axis in described:
        known = isinstance(axis, dict) and isinstance(axis.get("name"), str)
        _check(node, known and isinstance(axis.get("type", ""), str), "axes", "objects with the strings name and type")
    return [Axis(axis["name"], axis.get("type")) for axis in described]


def _level(node: Node, dataset: dict[str, Any], image: dict[str, Any], axes: list[Axis] | None) -> Level:
    path = _inner_path(node, dataset.get("path"))
    transforms = dataset.get("coordinateTransformations")
    if axes is None:
        array = read_node(node.path / path)
        axes = None if array is None else named_axes(array) or _axes_of_old(array)
    spacing, origin = _placed(node, transforms or [], None, None)
    spacing, origin = _placed(node, image.get("coordinateTransformations") or [], spacing, origin)
    if transforms is None or spacing is None:
        return Level(path, axes)
    return Level(path, axes, spacing, origin or (0.0,) * len(spacing))


def _placed(
    node: Node, transforms: object, spacing: tuple[float, ...] | None, origin: tuple[float, ...] | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Apply transformations to the positions of voxels."""
    what = "coordinateTransformations"
    listed = transforms if isinstance(transforms, list) else []
    _check(node, listed is transforms and all(isinstance(one, dict) for one in listed), what, "a list")
    for transform in listed:
        kind = str(transform.get("type"))
        if kind == "identity":
            continue
        _check(node, kind in ("scale", "translation"), what, "of type scale or translation")
        numbers = _numbers(node, transform.get(kind), kind)
        if kind == "scale":
            _check(node, min(numbers) > 0, "scale", "positive numbers")
            spacing = _combined(node, spacing, numbers, lambda a, b: a * b)
            origin = None if origin is None else _combined(node, origin, numbers, lambda a, b: a * b)
        else:
            origin = _combined(node, origin, numbers, lambda a, b: a + b)
    return spacing, origin


def _combined(
    node: Node, first: tuple[float, ...] | None, second: tuple[float, ...], by: Callable[[float, float], float]
) -> tuple[float, ...]:
    if first is None:
        return second
    _check(node, len(first) == len(second), "coordinateTransformations", "as many numbers in each")
    return tuple(by(a, b) for a, b in zip(first, second, strict=True))


def _numbers(node: Node, numbers: object, what: str) -> tuple[float, ...]:
    listed = numbers if isinstance(numbers, list) else []
    usable = listed and all(isinstance(one, (int, float)) and math.isfinite(one) for one in listed)
    _check(node, usable, what, "a list of finite numbers")
    return tuple(map(float, listed))


def _inner_path(node: Node, path: object) -> str:
    """Check that a path does not leave the group, because outputs are written there."""
    text = path if isinstance(path, str) else ""
    parts = PurePosixPath(text).parts
    inside = parts and not {"/", ".."} & set(parts) and not {"\\", ":", "\0"} & set(text)
    _check(node, inside, "path", "the name of an array within the group")
    return "/".join(parts)


def _of_ome(node: Node) -> dict[str, Any]:
    """Return the OME metadata, which have their own key in version 0.5."""
    inner = node.attributes.get("ome")
    return inner if isinstance(inner, dict) else node.attributes


def _check(node: Node, holds: object, what: str, accepted: str) -> None:
    if not holds:
        raise CommandError(f"cannot read the OME-Zarr metadata of {node.path}: {what}: expected {accepted}")
