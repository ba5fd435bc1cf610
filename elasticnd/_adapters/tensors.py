"""Shared by hosts that work on PyTorch tensors: the global generator, and inverses."""

from __future__ import annotations

from typing import Any

import torch

from .._bridges import torch as _bridge  # noqa: F401 - so that forked workers have it already
from .._chains import Inverse
from .._types import Array, Order
from .draws import Drawn, Source
from .edges import warn_of_lost


def torch_source() -> Source:
    """Return PyTorch's global generator as a source."""
    return Source(
        lambda shape: torch.randn(shape, dtype=torch.float64).numpy(),
        lambda shape: torch.rand(shape, dtype=torch.float64).numpy(),
    )


def undo(drawn: Drawn, image: torch.Tensor, order: Order, mode: str, cval: Any) -> torch.Tensor:
    """Return an image as it was before a deformation of its last axes; voxels missing from a patch are `cval`."""
    n = drawn.deformation.ndim
    whole = image
    if image.shape[-n:] != drawn.deformation.shape:
        whole = image.new_full((*image.shape[:-n], *drawn.deformation.shape), cval)
        whole[(..., *drawn.window.slices)] = image
    if drawn.is_identity:
        return whole
    return _Inverse(drawn.deformation).apply(whole, order, mode, cval, axis=tuple(range(-n, 0)))


class _Inverse(Inverse):
    """The inverse of a deformation, with a warning about positions that were not found."""

    def source_points(self, f: Array) -> Array:
        moved = self._search(f)
        warn_of_lost("voxels", moved.residual, moved.converged)
        return moved.points
