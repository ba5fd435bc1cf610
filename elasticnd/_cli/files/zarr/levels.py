"""Inputs that are deformed by chunks: arrays, or all levels of OME-Zarr images and their labels."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...._errors import CommandError, counted
from ..image import Image
from . import blocks
from .arrays import create_like, existing_node, open_array
from .axes import corresponding, space_of
from .metadata import array_paths
from .ome import Level, axes_of_array, levels_with_labels, names_around

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OpenLevel:
    """An array to deform, alone or with the other arrays of its image."""

    level: Level
    image: Image  # of a dask array


def open_levels(path: Path, axes: Sequence[int] | None, chunks: Sequence[int] | None) -> list[OpenLevel]:
    """Open an array, or all levels of an image, divided into the blocks to compute."""
    node = existing_node(path)
    levels = [Level("", axes_of_array(node))] if node.is_array else levels_with_labels(node)
    if levels is None:
        names = ", ".join(array_paths(path)) or "none"
        raise CommandError(
            f"IN: {path} is a Zarr group without an OME-Zarr image, expected one or an array, as {path}/NAME; "
            f"it has the arrays {names}"
        )
    opened: list[OpenLevel] = []
    for level in levels:
        array = open_array(path / level.path)
        _check_axes(path, level, array.ndim)
        own = space_of(level.axes, array.ndim)
        chosen = own if axes is None else corresponding(axes, levels[0].axes, level.axes)
        lost = names_around(node) if node.is_array else ()
        image = Image(blocks.lazy(array, chosen, chunks), own, lost=lost, kept=path / level.path)
        opened.append(OpenLevel(level, image))
    return opened


def _check_axes(path: Path, level: Level, ndim: int) -> None:
    """Check that an array has the axes that its image describes."""
    for numbers in (level.spacing, level.axes if level.path else None):
        if numbers is not None and len(numbers) != ndim:
            described = counted(len(numbers), "axis", "axes")
            raise CommandError(f"IN: {path} describes {described}, but {level.path} has {ndim}")


def placement(
    first: OpenLevel, axes: Sequence[int], other: OpenLevel, own_axes: Sequence[int]
) -> tuple[Floats, Floats]:
    """Return factor and offset: voxel o of a level lies on voxel factor * o + offset of the first level.

    They come from the metadata or else from the extents, as if both levels covered the same part of space.
    """
    spacings = _along(axes, first.level.spacing), _along(own_axes, other.level.spacing)
    origins = _along(axes, first.level.origin), _along(own_axes, other.level.origin)
    if spacings[0] is not None and spacings[1] is not None and origins[0] is not None and origins[1] is not None:
        return spacings[1] / spacings[0], (origins[1] - origins[0]) / spacings[0]
    extents = [np.array([one.image.array.shape[k] for k in of]) for one, of in ((first, axes), (other, own_axes))]
    factor = extents[0] / np.maximum(extents[1], 1)
    return factor, (factor - 1) / 2


def _along(axes: Sequence[int], numbers: tuple[float, ...] | None) -> Floats | None:
    return None if numbers is None else np.array([numbers[axis] for axis in axes])


def store(
    sources: Sequence[Path],
    places: Sequence[Path],
    images: Sequence[Sequence[OpenLevel]],
    progress: AbstractContextManager[object],
) -> None:
    """Compute images block by block into new arrays, in groups that otherwise equal their sources."""
    arrays, targets = [], []
    for source, place, levels in zip(sources, places, images, strict=True):
        if levels[0].level.path:
            _copy_all_but(source, place, {source / one.level.path for one in levels})
        for one in levels:
            arrays.append(one.image.array)
            targets.append(create_like(place / one.level.path, one.image.kept))
    blocks.store(arrays, targets, progress)


def _copy_all_but(source: Path, target: Path, left_out: Collection[Path]) -> None:
    """Copy a folder and its contents, except for some folders."""
    for parent, folders, files in os.walk(source):
        folders[:] = [name for name in folders if Path(parent, name) not in left_out]
        inside = Path(parent).relative_to(source)
        (target / inside).mkdir(exist_ok=True)
        for path in [Path(parent, name) for name in folders + files]:
            if path.is_dir() and path.is_symlink():
                raise CommandError(f"IN: {path} is a link to a folder, expected a folder or a file")
            if not path.is_dir() and not path.is_file():
                raise CommandError(f"IN: {path} is not a file, expected only folders and files")
        for name in files:
            shutil.copyfile(Path(parent, name), target / inside / name)
