"""Zarr arrays, and images of OME-Zarr: read and written whole, or by chunks, for images larger than memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...._errors import CommandError
from ..image import DTYPES, Image, Shape
from .arrays import NAME, create_array, create_like, existing_node, open_array
from .axes import corresponding, space_of
from .levels import OpenLevel, open_levels, placement, store
from .metadata import first_stranger, own_names, read_node
from .ome import axes_of_array, names_around

__all__ = [
    "COMMON",
    "HOLDS",
    "NAME",
    "OpenLevel",
    "check_replaceable",
    "corresponding",
    "holds",
    "open_levels",
    "placement",
    "read",
    "store",
    "write",
]

HOLDS = f"one of {', '.join(DTYPES)}"
COMMON: frozenset[str] = frozenset()


def holds(dtype: str, shape: Shape) -> bool:
    """Return whether a file can hold an array."""
    return dtype in DTYPES


def read(path: Path, order: int, keep: bool) -> Image:
    """Read all of an array."""
    array = open_array(path)
    node = existing_node(path)
    axes = space_of(axes_of_array(node), array.ndim)
    own, lost = tuple(own_names(node)), names_around(node)
    return Image(np.asarray(array[...]), axes, own=own, lost=lost, kept=path if keep else None)


def write(path: Path, image: Image) -> None:
    """Write an array whole."""
    if image.kept is None:
        target = create_array(path, image.array.shape, image.array.dtype)
    else:
        target = create_like(path, image.kept)
    # By another thread, which ends also after an interrupt before the file is removed.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(target.__setitem__, ..., image.array).result()


def check_replaceable(path: Path) -> None:
    """Reject an output that would replace anything but an array."""
    try:
        node = read_node(path)
    except CommandError:
        node = None
    if node is None or not node.is_array:
        raise CommandError(f"OUT: {path} is there and is not a Zarr array, expected a new name or {NAME}")
    stranger = first_stranger(node)
    if stranger is not None:
        raise CommandError(f"OUT: {path} holds {stranger}, which is not part of the Zarr array, expected a new name")
