"""The picture of the demo: how it is read, how it is deformed, and where the map folds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import _api, _extras
from .._affine import inverse_rotation_and_zoom
from .._errors import CommandError, one_line

Array = NDArray[Any]
Floats = NDArray[np.float64]

RELATIVE_SIGMA = 0.09  # of the shorter side: bends a picture of any size visibly, and folds it here and there
LARGEST_LATTICE = 1024  # samples per side of the map; the field is smooth, so that more would show nothing new
OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes that are read as RGB


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    image: str | None
    sigma: Sequence[float] | None
    points: Sequence[float]
    order: int
    seed: int
    rotate: float | None
    zoom: float | None
    out: str


class Lattice(NamedTuple):
    """Where a lattice of output pixels takes its values from."""

    steps: tuple[float, float]  # between its samples, in pixels
    at: Floats  # (2, rows, columns): output pixel o
    source: Floats  # the same shape: o + d(o), rotated and zoomed


@dataclass(frozen=True)
class Deformed:
    """A picture, what became of it, and the map between the two."""

    name: str
    picture: Array
    result: Array
    displacement: Floats
    sigma: tuple[float, float]
    linear: Floats | None  # rotation and zoom as [M | t]
    seconds: float

    @property
    def shape(self) -> tuple[int, int]:
        """Give the extent of the picture, without its channels."""
        return self.picture.shape[0], self.picture.shape[1]

    @property
    def points(self) -> tuple[int, int]:
        """Count the control points along each axis."""
        return self.displacement.shape[1], self.displacement.shape[2]

    def lattice(self, extent: tuple[int, int]) -> Lattice:
        """Evaluate the map on so many pixels, spread evenly from the first to the last."""
        field = _api.dense_displacement(self.displacement, extent)
        steps = [(length - 1) / (count - 1) for length, count in zip(self.shape, extent, strict=True)]
        at = np.indices(extent) * np.reshape(steps, (2, 1, 1))
        straight = at
        if self.linear is not None:
            straight = np.tensordot(self.linear[:, :2], at, 1) + self.linear[:, 2].reshape(2, 1, 1)
        return Lattice((steps[0], steps[1]), at, straight + field)


def load_picture(path: str | None) -> tuple[str, Array]:
    """Read a picture, (rows, columns) or (rows, columns, channels), and name it."""
    if path is None:
        return "scikit-image's photograph of a cat", need("skimage.data").cat()
    reader = need("imageio.v3")
    if not Path(path).is_file():
        raise CommandError(f"IMAGE: there is no file {path}")
    try:
        mode = reader.immeta(path, plugin="pillow", index=0).get("mode")
        as_rgb = {"mode": "RGB"} if mode in OTHER_COLOURS else {}
        picture = np.asarray(reader.imread(path, plugin="pillow", index=0, rotate=True, **as_rgb))
    except Exception as error:  # every format has errors of its own
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
    displacement = _api.random_displacement([int(p) for p in points], sigma, ndim=2, rng=options.seed)
    linear = inverse_rotation_and_zoom(options.rotate, options.zoom, picture.shape[:2])
    start = time.perf_counter()
    result = _api.deform_grid(
        picture, displacement, order=options.order, axis=(0, 1), rotate=options.rotate, zoom=options.zoom
    )
    seconds = time.perf_counter() - start
    return Deformed(name, picture, result, displacement, (sigma[0], sigma[1]), linear, seconds)


def jacobian_determinant(done: Deformed) -> Floats:
    """Tell how much area of the original a pixel of the result covers; not positive where the map folds."""
    return determinant_of(done.lattice(at_most(done.shape)))


def determinant_of(lattice: Lattice) -> Floats:
    """Differentiate the map on a lattice."""
    (dyy, dyx), (dxy, dxx) = (np.gradient(component, *lattice.steps) for component in lattice.source)
    determinant: Floats = dyy * dxx - dyx * dxy
    return determinant


def need(module: str) -> Any:
    """Import one of the demo's own libraries."""
    return _extras.need(module, "demo", "the demo")


def at_most(shape: tuple[int, int]) -> tuple[int, int]:
    return min(shape[0], LARGEST_LATTICE), min(shape[1], LARGEST_LATTICE)


def by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
