"""The numbers that a kernel needs, laid out as cpp/include/elasticnd/geometry.hpp has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import reject_value
from ._modes import Mode, padding_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AXES = 8
MAX_ORDER = 5


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
    order: int = 0,
    mode: Mode = Mode.CONSTANT,
    prefilter: bool = False,
    fill: float = 0.0,
    beyond: float = 0.0,
) -> Geometry:
    """Lay out the numbers of one image; the box is the whole image with its padding.

    Where no image is read, as for the displacement alone, `order`, `mode` and `prefilter` mean nothing.
    """
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
