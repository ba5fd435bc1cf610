"""An image between two files, and what a format must provide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..._dtypes import SUPPORTED
from ..._types import NumpyArray

Shape = tuple[int, ...]

# No format here stores bfloat16.
DTYPES = tuple(name for name in SUPPORTED if name != "bfloat16")

_NOT_SPACE = (
    *("c", "ch", "channel", "channels", "band", "bands", "wavelength", "s", "sample", "samples", "rgb", "rgba"),
    *("t", "time", "frame", "frames", "date"),
)

# Metadata that several formats can store beside the elements: the names in `Image.common`.
PROFILE = "colour profile"  # the bytes of an ICC profile
RESOLUTION = "resolution"  # pixels per metre, along columns and rows

ALPHA = "alpha"  # opacity; the colours are not premultiplied


@dataclass(frozen=True)
class Samples:
    """What the numbers of a pixel mean."""

    colour: str | None = None  # grey, RGB, palette, CMYK, ...; None if unknown
    axis: int | None = None  # the axis of the samples of a pixel
    extra: tuple[str, ...] = ()  # meanings of the samples after the colour
    palette: NumpyArray | None = None  # the colours of the numbers: uint16 of shape (colours, 3)
    inverted: bool = False  # whether 0 is white


@dataclass(frozen=True)
class Image:
    """The contents of a file."""

    array: Any  # a NumPy array; a dask array if a file is deformed chunk by chunk
    axes: Shape | None  # axes to deform by default; None if they would be a guess
    samples: Samples = Samples()
    scale: tuple[float, float] = (1.0, 0.0)  # an element x stands for the value scale[0] * x + scale[1]
    limits: tuple[int, int] | None = None  # the smallest and the largest element, if not those of the type
    common: Mapping[str, Any] = field(default_factory=dict)  # metadata that other formats can store
    own: Sequence[str] = ()  # names of metadata that only this format can store
    lost: Sequence[str] = ()  # names of metadata that the output will lack
    to_world: NumpyArray | None = None  # index-to-world matrix of the first three axes, (4, 4), if known
    kept: Any = None  # further data for an output of the same format


class Format(Protocol):
    """A module that reads and writes one file format."""

    NAME: str  # with an article
    HOLDS: str  # description of what its files can store
    COMMON: frozenset[str]  # the names of `Image.common` that its files can store

    def holds(self, dtype: str, shape: Shape) -> bool:
        """Return whether a file can store an array whose last axis holds the samples of a pixel."""

    def read(self, path: Path, order: int, keep: bool) -> Image:
        """Read a file that will be deformed with a spline of this order; `keep`: the format stays the same."""

    def write(self, path: Path, image: Image) -> None:
        """Write a new file."""


def spatial_axes(names: Sequence[str | None]) -> Shape:
    """Choose the deformed axes by their names: neither channels nor time."""
    return tuple(k for k, name in enumerate(names) if name is None or name.lower() not in _NOT_SPACE)
