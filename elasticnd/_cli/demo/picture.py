"""The picture of the demo: reading it, deforming it, and finding where the map folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._errors import CommandError, one_line
from ..._plot.lattice import Plane, lattice_of, plane_of
from ...deformation import Deformation
from .. import extras

Array = NDArray[Any]
Floats = NDArray[np.float64]

RELATIVE_SIGMA = 0.09  # of the shorter side: visibly bends a picture of any size, and folds it here and there
LARGEST_LATTICE = 1024  # samples per side of the map; the field is smooth, so more would show nothing new
OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes that are read as RGB


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    image: str | None
    sigma: Sequence[float] | None
    points: Sequence[float]
    order: int
    seed: int
    rotate: float | None
    zoom: float | None
    out: str


@dataclass(frozen=True)
class Deformed:
    """A picture, its deformed version, and the map between them."""

    name: str
    picture: Array
    result: Array
    deformation: Deformation
    sigma: tuple[float, float]
    seconds: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of the picture, without its channels."""
        return self.deformation.shape

    @property
    def points(self) -> tuple[int, ...]:
        """The number of control points along each axis."""
        return self.deformation.grid_shape

    @property
    def plane(self) -> Plane:
        """The plane of the picture."""
        return plane_of(self.shape, (0, 1), None)

    def determinant(self) -> Floats:
        """Compute the determinant of the Jacobian on a lattice, (rows, columns)."""
        return lattice_of(self.deformation, self.plane, at_most(self.shape)).volume


def load_picture(path: str | None) -> tuple[str, Array]:
    """Read a picture, (rows, columns) or (rows, columns, channels), and name it."""
    if path is None:
        return "scikit-image's photograph of a cat", need("skimage.data").cat()
    reader = need("imageio.v3")
    if not Path(path).is_file():
        raise CommandError(f"IMAGE: {path} does not exist")
    try:
        mode = reader.immeta(path, plugin="pillow", index=0).get("mode")
        as_rgb = {"mode": "RGB"} if mode in OTHER_COLOURS else {}
        picture = np.asarray(reader.imread(path, plugin="pillow", index=0, rotate=True, **as_rgb))
    except Exception as error:  # every format has its own errors
        raise CommandError(f"IMAGE: cannot read {path} as a picture: {one_line(error)}") from None
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] > 4):
        raise CommandError(f"IMAGE: {path} has shape {picture.shape}, expected a grey, RGB or RGBA picture")
    if min(picture.shape[:2]) < 2:
        raise CommandError(f"IMAGE: {path} has shape {picture.shape}, expected at least 2 x 2 pixels")
    return Path(path).name, picture


def deform(name: str, picture: Array, options: Options) -> Deformed:
    """Deform a picture with random displacements."""
    sigma = options.sigma or [RELATIVE_SIGMA * min(picture.shape[:2])]
    sigma, points = (both * 2 if len(both) == 1 else both for both in (list(sigma), list(options.points)))
    deformation = Deformation.random(
        picture.shape[:2],
        sigma,
        [int(p) for p in points],
        rng=options.seed,
        rotate=options.rotate,
        zoom=options.zoom,
    )
    start = time.perf_counter()
    result = deformation.apply(picture, order=options.order, axis=(0, 1))
    seconds = time.perf_counter() - start
    return Deformed(name, picture, result, deformation, (sigma[0], sigma[1]), seconds)


def need(module: str) -> ModuleType:
    """Import one of the demo's own libraries."""
    return extras.need(module, "demo", "the demo")


def at_most(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(extent, LARGEST_LATTICE) for extent in shape)


def by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
