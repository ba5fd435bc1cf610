"""Limits of the engines: on axes, orders, and coefficients in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ._errors import reject_value

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_AXES = 8
MAX_ORDER = 5
LABELS: Final = "labels"  # the order of label images: votes with the weights of order 1
MOST_COEFFICIENTS = 2**26  # of an image that is mostly border, if an engine holds all of them


def check_coefficients(extents: Sequence[int], padding: int) -> None:
    """Raise a ValueError if small extents along many axes would become too many coefficients to hold.

    Every axis has `padding` more coefficients at each end. The CPU engine holds only those that it reads.
    """
    count = math.prod(extent + 2 * padding for extent in extents)
    if count > MOST_COEFFICIENTS and count > 64 * math.prod(extents):
        reject_value(
            "X",
            f"{tuple(extents)} deformed voxels, which the border mode extends to {count} spline coefficients",
            f"at most {MOST_COEFFICIENTS}, except for NumPy arrays: use another mode, a lower order or fewer axes",
        )
