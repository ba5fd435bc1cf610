"""Invert the map of a deformation at points, by a fixed number of damped Newton steps for each point."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..._spec import MovementSpec
from ..._types import ArrayNamespace
from .axes import Array
from .evaluation import evaluate
from .matrices import determinant, inverse

_STEPS = 12
_SINGULAR = 1e-9  # below this volume ratio, the Jacobian gives no step


class _State(NamedTuple):
    """Positions and the map there, with the axes (batch..., count, n, n); extents may be 1."""

    position: Array
    difference: Array  # from the source to the target
    size: Array  # squared norm of the difference
    jacobian: Array


def move_points(
    xp: ArrayNamespace, spec: MovementSpec, points: Array, inverse_map: Array | None, targets: Array
) -> Array:
    """Return position, residual, volume ratio, and whether the search converged: (batch..., count, n + 3).

    The number of steps is fixed. A step that brings no improvement changes nothing, and the next one is half as long.
    """
    dtype = xp.asarray(np.zeros(())).dtype  # the widest floats available
    points, targets = xp.astype(points, dtype), xp.astype(targets, dtype)
    n = spec.axes
    affine = np.eye(n, n + 1) if inverse_map is None else inverse_map
    affine = xp.asarray(affine, dtype=dtype) if inverse_map is None else xp.astype(affine, dtype)
    linear = affine[..., None, :, :n]
    forward = inverse(xp, linear)
    forward_volume = determinant(xp, forward)
    targets = targets[..., None]

    def at(position: Array) -> _State:
        flat = position[..., 0]
        field = evaluate(xp, spec, points, flat, 0)[..., None]
        difference = xp.matmul(linear, position) + affine[..., None, :, n:] + field - targets
        size = xp.sum(difference * difference, axis=-2)[..., None]
        return _State(position, difference, size, linear + evaluate(xp, spec, points, flat, 1))

    state = at(xp.matmul(forward, targets - affine[..., None, :, n:]))
    factor = 1 + 0 * state.size
    for _ in range(_STEPS):
        ratio = (determinant(xp, state.jacobian) * forward_volume)[..., None, None]
        matrix = xp.where(xp.abs(ratio) > _SINGULAR, state.jacobian, linear)
        step = _shortened(xp, spec, xp.matmul(inverse(xp, matrix), state.difference))
        trial = at(state.position - factor * step)
        is_nearer = trial.size < state.size
        state = _State(*(xp.where(is_nearer, new, old) for new, old in zip(trial, state, strict=True)))
        factor = xp.where(is_nearer, xp.where(factor < 0.5, 2 * factor, 1 + 0 * factor), factor / 2)
    ratio = (determinant(xp, state.jacobian) * forward_volume)[..., None]
    residual = state.size[..., 0] ** 0.5
    converged = xp.astype(residual <= spec.tolerance, dtype)
    return xp.concat([state.position[..., 0], residual, ratio, converged], axis=-1)


def _shortened(xp: ArrayNamespace, spec: MovementSpec, step: Array) -> Array:
    """Shorten steps so that none is longer than the control-point spacing along any axis."""
    longest = 1 + 0 * step[..., :1, :]
    for k, (extent, count) in enumerate(zip(spec.extent, spec.grid_shape, strict=True)):
        cells = xp.abs(step[..., k : k + 1, :]) * ((count - 1) / max(extent - 1, 1))
        longest = xp.where(cells > longest, cells, longest)
    return step / longest
