"""Random numbers of PyTorch's global generator, which its data loader seeds for each worker."""

from __future__ import annotations

import torch

from .._bridges import torch as _bridge  # noqa: F401 - loaded with the transform: workers that are forked have it then
from .draws import Source


def torch_source() -> Source:
    """Return PyTorch's global generator as a source."""
    return Source(
        lambda shape: torch.randn(shape, dtype=torch.float64).numpy(),
        lambda shape: torch.rand(shape, dtype=torch.float64).numpy(),
    )
