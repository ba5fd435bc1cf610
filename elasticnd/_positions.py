"""Positions at which a deformation is evaluated, in the framework of their arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

from ._autodiff import calls
from ._autodiff.framework import LinearAlgebra
from ._bridges.contract import Bridge
from ._check import check_real
from ._errors import reject_value
from ._spec import EvaluationSpec, Shape, Window
from ._types import Array


class Positions(NamedTuple):
    """Positions on the control grids of a deformation, in one framework."""

    bridge: Bridge
    spec: EvaluationSpec
    points: Array  # displacements of the control points
    positions: Array  # (B..., count, n)
    lead: Shape  # shape of the positions, without batch axes and components
    window: Window = Window((), ())  # whose voxels they are

    @classmethod
    def of(cls, frame: Shape, bridge: Bridge, points: Array, positions: Array) -> Positions:
        """Check positions, (B..., ..., n), and reshape them to one axis for all that are of a batch item."""
        n = len(frame)
        *batch_axes, _ = (int(extent) for extent in points.shape[:-n])
        batch = tuple(batch_axes)
        info = bridge.info(positions)
        shape = info.shape
        fits = len(shape) > len(batch) and shape[-1] == n
        if not fits or any(own not in (1, size) for own, size in zip(shape, batch, strict=False)):
            leading = "".join(f"{size}, " for size in batch)
            reject_value("f", f"shape {shape}", f"({leading}..., {n}), the components last")
        check_real("f", info)
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
        """Compute all derivatives of one order of the displacement."""
        return calls.evaluate(self.bridge, self.spec, order, self.points, self.positions)

    def reshaped(self, values: Array, tail: Shape) -> Array:
        """Reshape values to the shape in which the positions came, with as many axes more."""
        shape = (*self.spec.batch, *self.lead, self.spec.axes, *tail)
        return self.bridge.algebra(values).reshaped(values, shape)


def determinant(algebra: LinearAlgebra, matrices: Array) -> Array:
    """Compute determinants of (..., n, n): of up to three axes by their formula."""
    n = matrices.shape[-1]
    if n > 3:
        return algebra.determinant(matrices)
    entry = [[matrices[..., i, j] for j in range(n)] for i in range(n)]
    if n == 1:
        return entry[0][0]

    def minor(rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        (i, k), (j, l) = rows, columns
        return entry[i][j] * entry[k][l] - entry[i][l] * entry[k][j]

    if n == 2:
        return minor((0, 1), (0, 1))
    return (
        entry[0][0] * minor((1, 2), (1, 2)) - entry[0][1] * minor((1, 2), (0, 2)) + entry[0][2] * minor((1, 2), (0, 1))
    )
