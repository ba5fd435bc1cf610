"""NumPy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..._errors import counted
from .image import DTYPES, Image, Shape

NAME = "a NumPy array"
HOLDS = f"one of {', '.join(DTYPES)}"
COMMON: frozenset[str] = frozenset()


def holds(dtype: str, shape: Shape) -> bool:
    """Return whether a file can store an array."""
    return dtype in DTYPES


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file."""
    with path.open("rb") as file:  # not numpy.load, which would also look for archives and pickles
        array = np.lib.format.read_array(file, allow_pickle=False)
        if rest := len(file.read()):
            raise ValueError(f"{counted(rest, 'byte follows', 'bytes follow')} the array, expected none")
    return Image(array, tuple(range(array.ndim)))


def write(path: Path, image: Image) -> None:
    """Write a file."""
    np.save(path, image.array, allow_pickle=False)
