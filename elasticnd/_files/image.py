"""An image between two files, and what a format must be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .._dtypes import SUPPORTED

Shape = tuple[int, ...]

# Files of no format here hold bfloat16.
DTYPES = tuple(name for name in SUPPORTED if name != "bfloat16")

_NOT_SPACE = ("c", "channel", "channels", "s", "sample", "samples", "t", "time")


@dataclass(frozen=True)
class Image:
    """What a file holds."""

    array: Any  # of NumPy; of dask, where a file is deformed chunk by chunk
    axes: Shape  # what is deformed if no axes are asked for
    colours: bool = False  # whether the last axis is that of the colours
    scale: tuple[float, float] = (1.0, 0.0)  # an element x stands for the value scale[0] * x + scale[1]
    kept: Any = None  # what the file says beside, for another of its format


class Format(Protocol):
    """A module that reads and writes files of one format."""

    NAME: str  # with an article
    HOLDS: str  # what its files can hold, in words

    def holds(self, dtype: str, shape: Shape) -> bool:
        """Tell whether a file can hold an array."""

    def read(self, path: Path, order: int, keep: bool) -> Image:
        """Read a file that will be deformed with a spline of this order, and kept in its format or not."""

    def write(self, path: Path, image: Image) -> None:
        """Write a new file."""


def spatial_axes(names: Sequence[str | None]) -> Shape:
    """Choose the axes that are deformed by their names: neither channels nor time."""
    return tuple(k for k, name in enumerate(names) if name is None or name.lower() not in _NOT_SPACE)
