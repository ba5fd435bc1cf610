"""Zarr arrays and OME-Zarr images: read and written whole, or by chunks if they are larger than memory."""

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
    """Return whether a file can store an array."""
    return dtype in DTYPES


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a whole array."""
    array = open_array(path)
    node = existing_node(path)
    axes = space_of(axes_of_array(node), array.ndim)
    own, lost = tuple(own_names(node)), names_around(node)
    return Image(np.asarray(array[...]), axes, own=own, lost=lost, kept=path if keep else None)


def write(path: Path, image: Image) -> None:
    """Write a whole array."""
    if image.kept is None:
        target = create_array(path, image.array.shape, image.array.dtype)
    else:
        target = create_like(path, image.kept)
    # In another thread, which ends before the file is removed, even after an interrupt.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(target.__setitem__, ..., image.array).result()


def check_replaceable(path: Path) -> None:
    """Reject an output that would replace anything except an array."""
    try:
        node = read_node(path)
    except CommandError:
        node = None
    if node is None or not node.is_array:
        raise CommandError(f"OUT: {path} exists and is not a Zarr array, expected a new name or {NAME}")
    stranger = first_stranger(node)
    if stranger is not None:
        raise CommandError(f"OUT: {path} holds {stranger}, which is not part of the Zarr array, expected a new name")
