"""Boxes and points of hosts that count from the edges of pixels, where elasticnd counts from their centres."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._errors import warn

EDGE = 0.5  # what a host's numbers are larger by


def warn_of_lost(what: str, residual: Any, converged: Any) -> None:
    """Warn where points or boxes that were moved did not converge, as happens in folds."""
    if not np.all(converged):
        lost, worst = int(np.sum(~converged)), float(np.nanmax(residual))
        warn(
            f"the deformation folds: {lost} of {converged.size} {what} have no place, with a residual of up to "
            f"{worst:.2g} voxels; fold='scale' avoids this"
        )
