"""What hosts that work on tensors of PyTorch share: its global generator, and what is lost in folds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from .._bridges import torch as _bridge  # noqa: F401 - loaded with the transform: workers that are forked have it then
from .draws import Source


def torch_source() -> Source:
    """Return PyTorch's global generator as a source."""
    return Source(
        lambda shape: torch.randn(shape, dtype=torch.float64).numpy(),
        lambda shape: torch.rand(shape, dtype=torch.float64).numpy(),
    )


def warn_of_lost(what: str, moved: Any) -> None:
    """Warn where points or boxes that were moved did not converge, as happens in folds."""
    if not moved.converged.all():
        lost, worst = int(np.sum(~moved.converged)), float(np.nanmax(moved.residual))
        warnings.warn(
            f"the deformation folds: {lost} of {moved.converged.size} {what} have no place, with a residual of up to "
            f"{worst:.2g} voxels; fold='scale' avoids this",
            stacklevel=4,
        )
