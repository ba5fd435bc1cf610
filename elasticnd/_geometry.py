"""The numbers that a kernel needs, laid out as cpp/include/elasticnd/geometry.hpp has them."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import reject_value

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AXES = 8
MAX_ORDER = 5


class Mode(enum.IntEnum):
    """Border modes, numbered as in cpp/include/elasticnd/boundary.hpp and named as in scipy.ndimage."""

    CONSTANT = 0
    NEAREST = 1
    REFLECT = 2
    MIRROR = 3
    WRAP = 4
    GRID_CONSTANT = 5
    GRID_WRAP = 6


MODES = {
    "constant": Mode.CONSTANT,
    "nearest": Mode.NEAREST,
    "reflect": Mode.REFLECT,
    "mirror": Mode.MIRROR,
    "wrap": Mode.WRAP,
    "grid-constant": Mode.GRID_CONSTANT,
    "grid-mirror": Mode.REFLECT,
    "grid-wrap": Mode.GRID_WRAP,
}

GEOMETRY = np.dtype(
    [
        ("axes", np.int32),
        ("order", np.int32),
        ("mode", np.int32),
        ("padding", np.int32),
        ("derivative", np.int32, MAX_AXES),
        ("image", np.int64, MAX_AXES),
        ("points", np.int64, MAX_AXES),
        ("start", np.int64, MAX_AXES),
        ("output", np.int64, MAX_AXES),
        ("origin", np.int64, MAX_AXES),
        ("box_start", np.int64, MAX_AXES),
        ("box_extent", np.int64, MAX_AXES),
        ("fill", np.float64),
        ("beyond", np.float64),
    ],
    align=True,
)

Geometry = np.ndarray[Any, np.dtype[np.void]]

PADDING = 12  # of nearest and grid-constant, whose prefilter has no exact start at the border


def padding_of(order: int, mode: Mode, prefilter: bool) -> int:
    """Count the voxels by which the image is continued on each side before it is filtered, as SciPy does."""
    padded = prefilter and order > 1 and mode in (Mode.NEAREST, Mode.GRID_CONSTANT)
    return PADDING if padded else 0


MOST_COEFFICIENTS = 2**26  # of an image that is mostly border, where an engine holds all of them


def check_coefficients(extents: Sequence[int], beyond: int) -> None:
    """Raise a ValueError where small extents along many axes become too many coefficients to hold them all.

    `beyond` of them continue the image at each end of every axis. The CPU engine holds those that are read.
    """
    count = math.prod(extent + 2 * beyond for extent in extents)
    if count > MOST_COEFFICIENTS and count > 64 * math.prod(extents):
        reject_value(
            "X",
            f"{tuple(extents)} deformed voxels, which the border mode continues to {count} spline coefficients",
            f"at most {MOST_COEFFICIENTS}, except for NumPy arrays: another mode, a lower order, fewer axes",
        )


def make_geometry(
    *,
    image: Sequence[int],
    points: Sequence[int],
    start: Sequence[int],
    output: Sequence[int],
    origin: Sequence[int] = (),
    order: int,
    mode: Mode,
    prefilter: bool,
    fill: float = 0.0,
    beyond: float = 0.0,
) -> Geometry:
    """Lay out the numbers of one image; the box is the whole image with its padding."""
    axes = len(image)
    padding = padding_of(order, mode, prefilter)
    geometry = np.zeros((), GEOMETRY)
    for name, value in (("axes", axes), ("order", order), ("mode", mode), ("padding", padding)):
        geometry[name] = value
    for name, values in (("image", image), ("points", points), ("start", start), ("output", output)):
        geometry[name][:axes] = values
    geometry["origin"][: len(origin)] = origin
    geometry["box_extent"][:axes] = [extent + 2 * padding for extent in image]
    geometry["fill"] = fill
    geometry["beyond"] = beyond
    return geometry


def with_derivative(geometry: Geometry, derivative: Sequence[int]) -> Geometry:
    """Copy a geometry for the spline differentiated so often along each axis; nothing comes from outside then."""
    derived = geometry.copy()
    derived["derivative"][: len(derivative)] = derivative
    derived["fill"] = 0.0
    return derived
