"""Boxes and points of hosts whose coordinates start at the edges of pixels; elasticnd's start at their centres."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._errors import warn

EDGE = 0.5  # the host's coordinates minus elasticnd's


def warn_of_lost(what: str, residual: Any, converged: Any) -> None:
    """Warn if moved points or boxes did not converge, as happens in folds."""
    if not np.all(converged):
        lost, worst = int(np.sum(~converged)), float(np.nanmax(residual))
        warn(
            f"the deformation folds: {lost} of {converged.size} {what} {'was' if lost == 1 else 'were'} not found, "
            f"with a residual of up to {worst:.2g} voxels; fold='scale' avoids this"
        )
