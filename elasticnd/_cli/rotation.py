"""The option --rotate: angles, in planes of two axes if there are more."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import TypeAlias

from .._errors import CommandError, counted

# Degrees in the plane of two deformed axes; without a plane, in the only one.
Rotation: TypeAlias = tuple[tuple[int, int] | None, float]


def rotation_of(text: str) -> Rotation:
    """Read an angle, or a plane and its angle."""
    found = re.fullmatch(r"(?:(-?\d{1,9}),(-?\d{1,9}):)?([^,:]+)", text)
    try:
        degrees = float(found[3] if found else "nan")
    except ValueError:
        degrees = math.nan
    if found is None or not math.isfinite(degrees):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected degrees, or a plane of two axes and degrees: 1,2:10")
    return None if found[1] is None else (int(found[1]), int(found[2])), degrees


def planes_of(rotations: Sequence[Rotation] | None, ndim: int) -> dict[tuple[int, int], float] | None:
    """Return the planes of rotations and their angles, in order."""
    if rotations is None:
        return None
    angles: dict[tuple[int, int], float] = {}
    for plane, degrees in rotations:
        got = f"{degrees:g}" if plane is None else f"{plane[0]},{plane[1]}:{degrees:g}"
        first, second = plane or (0, 1)
        all_axes = counted(ndim, "deformed axis", "deformed axes")
        if plane is None and ndim != 2:
            example = f"{max(ndim - 2, 0)},{max(ndim - 1, 1)}:{got}"
            _reject(f"{got} for {all_axes}", f"a plane of two of them and its angle, such as {example}")
        if not (-ndim <= first < ndim and -ndim <= second < ndim) or first % ndim == second % ndim:
            _reject(f"{got} for {all_axes}", f"a plane of two different ones, numbered from 0 to {ndim - 1}")
        if {(first % ndim, second % ndim), (second % ndim, first % ndim)} & set(angles):
            _reject(got, "each plane once")
        angles[first % ndim, second % ndim] = degrees
    return angles


def _reject(got: str, accepted: str) -> None:
    raise CommandError(f"--rotate: got {got}, expected {accepted}")
