"""Searches in the output for what is known of the image, on the host: results have no derivatives."""

from __future__ import annotations

import math

import numpy as np

from .._job import Job
from .._spec import MovementSpec
from . import cpu
from .contract import Floats


def move_points(
    job: Job, spec: MovementSpec, displacement: Floats, inverse_map: Floats | None, targets: Floats
) -> Floats:
    """Search for points: position, residual, ratio of volumes, and whether it converged, along the last axis."""
    items, n = math.prod(spec.batch), spec.axes
    found, residual, ratio = cpu.move_points(
        job,
        displacement.reshape(items, n, *spec.grid_shape),
        None if inverse_map is None else inverse_map.reshape(-1, n, n + 1),
        targets.reshape(items, -1, n),
        spec.tolerance,
    )
    together = np.concatenate([found, np.stack([residual, ratio, residual <= spec.tolerance], -1)], -1)
    return together.reshape(*targets.shape[:-1], n + 3)


SEARCH = {"move_points": move_points}
