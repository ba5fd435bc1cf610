"""An image between two files, and what a format must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..._dtypes import SUPPORTED
from ..._types import NumpyArray

Shape = tuple[int, ...]

# Files of no format here hold bfloat16.
DTYPES = tuple(name for name in SUPPORTED if name != "bfloat16")

_NOT_SPACE = (
    *("c", "ch", "channel", "channels", "band", "bands", "wavelength", "s", "sample", "samples", "rgb", "rgba"),
    *("t", "time", "frame", "frames", "date"),
)

# What files of several formats say beside the elements: the names in `Image.common`.
PROFILE = "colour profile"  # the bytes of an ICC profile
RESOLUTION = "resolution"  # pixels per metre, along columns and rows

ALPHA = "alpha"  # opacity; the colours are not multiplied with it


@dataclass(frozen=True)
class Samples:
    """What the numbers of a pixel mean."""

    colour: str | None = None  # grey, RGB, palette, CMYK, ...; None if the file does not say
    axis: int | None = None  # that along which a pixel has several samples
    extra: tuple[str, ...] = ()  # what the samples beyond the colour are
    palette: NumpyArray | None = None  # the colours that the numbers stand for: uint16 of shape (colours, 3)
    inverted: bool = False  # whether 0 is white


@dataclass(frozen=True)
class Image:
    """What a file holds."""

    array: Any  # of NumPy; of dask, where a file is deformed chunk by chunk
    axes: Shape | None  # what is deformed if no axes are asked for; None if that would be a guess
    samples: Samples = Samples()
    scale: tuple[float, float] = (1.0, 0.0)  # an element x stands for the value scale[0] * x + scale[1]
    limits: tuple[int, int] | None = None  # the least and the largest element, if the type has others
    common: Mapping[str, Any] = field(default_factory=dict)  # what the file says that other formats can say
    own: Sequence[str] = ()  # names of what the file says that only its format can
    lost: Sequence[str] = ()  # names of what the file says that the output will not
    to_world: NumpyArray | None = None  # the index-to-world matrix of the first three axes, (4, 4), if the file says it
    kept: Any = None  # what the file says beside, for another of its format


class Format(Protocol):
    """A module that reads and writes files of one format."""

    NAME: str  # with an article
    HOLDS: str  # what its files can hold, in words
    COMMON: frozenset[str]  # which names of `Image.common` its files can say

    def holds(self, dtype: str, shape: Shape) -> bool:
        """Return whether a file can hold an array, the samples of a pixel along its last axis."""

    def read(self, path: Path, order: int, keep: bool) -> Image:
        """Read a file that will be deformed with a spline of this order, and kept in its format or not."""

    def write(self, path: Path, image: Image) -> None:
        """Write a new file."""


def spatial_axes(names: Sequence[str | None]) -> Shape:
    """Choose the axes that are deformed by their names: neither channels nor time."""
    return tuple(k for k, name in enumerate(names) if name is None or name.lower() not in _NOT_SPACE)
