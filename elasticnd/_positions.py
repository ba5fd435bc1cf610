"""Positions at which a deformation is evaluated, in the framework of their arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._autodiff import calls
from ._autodiff.framework import LinearAlgebra
from ._bridges.contract import Bridge
from ._check import check_real
from ._engines.generic.matrices import MOST_ROWS, by_formula, entries_of
from ._errors import reject_value
from ._spec import EvaluationSpec, Shape, Window
from ._types import Array


class Positions(NamedTuple):
    """Positions on the control grids of a deformation, all in one framework."""

    bridge: Bridge
    spec: EvaluationSpec
    points: Array  # displacements of the control points
    positions: Array  # (B..., count, n)
    lead: Shape  # shape of the positions, without batch axes and components
    window: Window = Window((), ())  # if not empty, the positions are its voxels

    @classmethod
    def of(cls, frame: Shape, bridge: Bridge, points: Array, positions: Array, argument: str = "f") -> Positions:
        """Check the positions of an argument, (B..., ..., n), and flatten them for each batch item."""
        n = len(frame)
        *batch_axes, _ = (int(extent) for extent in points.shape[:-n])
        batch = tuple(batch_axes)
        info = bridge.info(positions)
        shape = info.shape
        fits = len(shape) > len(batch) and shape[-1] == n
        if not fits or any(own not in (1, size) for own, size in zip(shape, batch, strict=False)):
            leading = "".join(f"{size}, " for size in batch)
            reject_value(argument, f"shape {shape}", f"({leading}..., {n}), the components last")
        check_real(argument, info)
        lead = shape[len(batch) : -1]
        count = math.prod(lead)
        algebra = bridge.algebra(positions)
        positions = algebra.reshaped(positions, (*shape[: len(batch)], count, n))
        if shape[: len(batch)] != batch:
            positions = algebra.broadcast(positions, (*batch, count, n))
        grid_shape = tuple(int(extent) for extent in points.shape[-n:])
        spec = EvaluationSpec(batch, frame, grid_shape, count)
        return cls(bridge, spec, algebra.converted(points, positions), positions, lead)

    def evaluate(self, order: int) -> Array:
        """Compute all derivatives of the displacement, of one order."""
        return calls.evaluate(self.bridge, self.spec, order, self.points, self.positions)

    def mapped(self, inverse_map: Array | None) -> Array:
        """Compute where the positions are sampled, under an inverse affine map and the displacement."""
        moved = self.evaluate(0)
        if inverse_map is None:
            return self.positions + moved
        algebra = self.bridge.algebra(self.positions)
        turned = algebra.product(self.positions, algebra.transposed(inverse_map[..., :-1]))
        return turned + algebra.transposed(inverse_map[..., -1:]) + moved

    def reshaped(self, values: Array, tail: Shape) -> Array:
        """Reshape values to the shape of the original positions, with further axes `tail`."""
        shape = (*self.spec.batch, *self.lead, self.spec.axes, *tail)
        return self.bridge.algebra(values).reshaped(values, shape)


def determinant(algebra: LinearAlgebra, matrices: Array) -> Array:
    """Compute the determinants of (..., n, n), by formula for up to three axes."""
    return by_formula(entries_of(matrices)) if matrices.shape[-1] <= MOST_ROWS else algebra.determinant(matrices)
