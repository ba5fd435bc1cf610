"""What hosts that work on tensors of PyTorch share: its global generator, inverses, and warnings of what folds lose."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from .._bridges import torch as _bridge  # noqa: F401 - loaded with the transform: workers that are forked have it then
from .._types import Order
from ..deformation import Deformation
from .draws import Drawn, Source


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


def undo(drawn: Drawn, image: torch.Tensor, order: Order, mode: str, cval: Any) -> torch.Tensor:
    """Return an image as before a deformation of its last axes; what a patch does not hold is `cval`."""
    n = drawn.deformation.ndim
    whole = image
    if image.shape[-n:] != drawn.deformation.shape:
        whole = image.new_full((*image.shape[:-n], *drawn.deformation.shape), cval)
        whole[(..., *drawn.window.slices)] = image
    if drawn.is_identity:
        return whole
    return _inverse(drawn.deformation).apply(whole, order, mode, cval, axis=tuple(range(-n, 0)))


def _inverse(deformation: Deformation) -> Deformation:
    """Invert a deformation at all voxels: the result has a control point for each of them."""
    voxels = np.stack(np.meshgrid(*map(np.arange, deformation.shape), indexing="ij"), -1).astype(np.float64)
    moved = deformation.move_points(voxels)
    warn_of_lost("voxels", moved)
    return Deformation(np.moveaxis(moved.points - voxels, -1, 0), deformation.shape)
