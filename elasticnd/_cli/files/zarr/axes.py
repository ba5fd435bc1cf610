"""The axes of a Zarr array, from the dimension names of the format or of xarray and GDAL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...._errors import CommandError
from ..image import Shape, spatial_axes
from .metadata import Node

# Up to this many axes without names can all be spatial.
_SPACE = 3


class Axis(NamedTuple):
    """An axis as a file describes it."""

    name: str | None
    type: str | None = None  # in OME-Zarr: space, time, channel, or another

    @property
    def is_space(self) -> bool:
        """Whether the axis is deformed. The type decides, since names can be anything."""
        return bool(spatial_axes([self.name])) if self.type is None else self.type == "space"


def named_axes(node: Node) -> list[Axis] | None:
    """Return the axes by the array's own names; None without names."""
    for names in (node.document.get("dimension_names"), node.attributes.get("_ARRAY_DIMENSIONS")):
        if isinstance(names, list) and any(isinstance(name, str) for name in names):
            return [Axis(name if isinstance(name, str) else None) for name in names]
    return None


def space_of(axes: Sequence[Axis] | None, ndim: int) -> Shape | None:
    """Choose the axes of an array to deform; None if the choice would be a guess."""
    if axes is None:
        axes = [Axis(None)] * ndim
    if len(axes) != ndim:  # the metadata are not those of this array
        return None
    space = tuple(k for k, axis in enumerate(axes) if axis.is_space)
    if len(space) > _SPACE and any(axes[k].type is None for k in space):
        return None
    return space


def corresponding(chosen: Sequence[int], first: Sequence[Axis] | None, other: Sequence[Axis] | None) -> Shape:
    """Find the chosen axes of one array in another; by their names if the axes of the two differ."""
    if first is None or other is None or len(first) == len(other):
        return tuple(chosen)
    names = [axis.name for axis in other]
    wanted = [first[axis].name for axis in chosen]
    if None in wanted or not set(wanted) <= set(names):
        raise CommandError(f"--axis: got axes named {wanted}, expected some of {names}, the axes of the labels")
    return tuple(names.index(name) for name in wanted)
