"""What the engines are made for: so many axes, such orders, and so many coefficients at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ._errors import reject_value

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AXES = 8
MAX_ORDER = 5
LABELS: Final = "labels"  # the order of label images: votes by the weights of order 1
MOST_COEFFICIENTS = 2**26  # of an image that is mostly border, where an engine holds all of them


def check_coefficients(extents: Sequence[int], padding: int) -> None:
    """Raise a ValueError where small extents along many axes become too many coefficients to hold them all.

    `padding` of them continue the image at each end of every axis. The CPU engine holds those that are read.
    """
    count = math.prod(extent + 2 * padding for extent in extents)
    if count > MOST_COEFFICIENTS and count > 64 * math.prod(extents):
        reject_value(
            "X",
            f"{tuple(extents)} deformed voxels, which the border mode continues to {count} spline coefficients",
            f"at most {MOST_COEFFICIENTS}, except for NumPy arrays: another mode, a lower order, fewer axes",
        )
