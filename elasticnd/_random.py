"""Random displacements of control points."""

from __future__ import annotations

import numpy as np

from ._bridges.contract import Bridge
from ._coerce import as_indices, is_sequence
from ._errors import reject_type, reject_value
from ._spec import Shape
from ._types import Array, Floats, Seed

_Scale = tuple[float, ...]  # standard deviation of each component, in voxels


def draw(bridge: Bridge, batch: Shape, grid_shape: Shape, scale: _Scale, like: Array, rng: Seed) -> Array:
    """Draw displacements, (batch..., n, p_0, ...), for the image `like`, with its framework's generators or a seed."""
    normal = bridge.standard_normal((*batch, len(grid_shape), *grid_shape), len(batch), like, rng)
    if normal is None:
        return draw_with_numpy(batch, grid_shape, scale, rng)
    return normal * bridge.algebra(normal).constant(_along_components(scale), normal)


def draw_with_numpy(batch: Shape, grid_shape: Shape, scale: _Scale, rng: Seed) -> Floats:
    """Draw displacements with NumPy."""
    normal = _generator(rng).standard_normal((*batch, len(grid_shape), *grid_shape))
    normal *= _along_components(scale)
    return normal


def _generator(rng: Seed) -> np.random.Generator:
    accepted = "None, a non-negative seed or a sequence of them, a SeedSequence, a BitGenerator or a Generator"
    if is_sequence(rng):  # NumPy would search it for numbers, without end if it contains itself
        rng = as_indices("rng", np.asarray(rng).ravel().tolist() if isinstance(rng, np.ndarray) else rng, accepted)
    try:
        return np.random.default_rng(rng)  # type: ignore[arg-type]
    except TypeError:
        reject_type("rng", rng, accepted)
    except ValueError:
        reject_value("rng", rng, accepted)


def _along_components(scale: _Scale) -> Floats:
    return np.reshape(scale, (-1, *(1,) * len(scale)))
