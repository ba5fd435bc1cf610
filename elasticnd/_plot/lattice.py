"""The map of a deformation on a lattice of positions in a plane, and the lines of its control grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._coerce import as_indices, as_numbers
from .._errors import or_several, reject_value
from .._types import Floats

if TYPE_CHECKING:
    from .._deformation.evaluation import Evaluation

_MOST_LINES = 33  # along one axis: of larger control grids, this many lines are drawn, evenly spread
_MOST_NUMBERED = 6  # control points per side that leave room for finer lines between them
_PER_CELL = 4  # parts into which finer lines divide a cell of the control grid
_SAMPLES = 24  # such parts along one axis, or one in each cell if there are more cells: the field is smooth


class Plane(NamedTuple):
    """A plane through the frame, along two of its axes."""

    axes: tuple[int, int]  # rows and columns
    at: tuple[float, ...]  # a position in the plane, (n,)


class Lattice(NamedTuple):
    """Evenly spread positions in a plane, and where they take their values from, as rows and columns."""

    at: Floats  # (2, rows, columns)
    source: Floats  # of the same shape
    volume: Floats  # det J, or r, (rows, columns): zero or negative where the mapping folds


class Lines(NamedTuple):
    """The lines of the control grid along one axis, as indices into a lattice."""

    control: list[int]
    between: list[int]


def cell_means(volume: Floats) -> Floats:
    """Compute the mean of the corners of each cell of a lattice."""
    return (volume[1:, 1:] + volume[:-1, 1:] + volume[1:, :-1] + volume[:-1, :-1]) / 4


class Grid(NamedTuple):
    """A lattice that contains the lines of the control grid."""

    lattice: Lattice
    lines: tuple[Lines, Lines]
    is_coarse: bool  # whether there is room for finer lines between those of the control grid

    def points(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield each crossing of lines, and where it takes its value from."""
        for i in self.lines[0].control:
            for j in self.lines[1].control:
                yield self.lattice.at[:, i, j], self.lattice.source[:, i, j]


def plane_of(shape: Sequence[int], axes: object, at: object) -> Plane:
    """Check the arguments of `plot` for a frame."""
    n = len(shape)
    accepted = f"two different axes of the frame, from {-n} to {n - 1}"
    if n < 2:
        reject_value("shape", f"{n} axis", "at least two, for rows and columns")
    chosen = as_indices("axes", axes, accepted)
    if len(chosen) != 2 or any(not -n <= axis < n for axis in chosen) or (chosen[0] - chosen[1]) % n == 0:
        reject_value("axes", chosen, accepted)
    rows, columns = (axis % n for axis in chosen)
    position = [(extent - 1) / 2 for extent in shape]
    others = [axis for axis in range(n) if axis not in (rows, columns)]
    if at is not None:
        places = as_numbers("at", at, len(others), or_several("a position in voxels", len(others)))
        for axis, place in zip(others, places, strict=True):
            position[axis] = place
    return Plane((rows, columns), tuple(position))


def lattice_of(deformation: Evaluation, plane: Plane, extent: Sequence[int], *, relative: bool = False) -> Lattice:
    """Evaluate the map at evenly spread positions from the first voxels to the last; `relative` requests r."""
    lengths = [deformation.shape[axis] for axis in plane.axes]
    ranges = [np.linspace(0, length - 1, count) for length, count in zip(lengths, extent, strict=True)]
    at = np.stack(np.meshgrid(*ranges, indexing="ij"))
    positions = np.empty((*extent, deformation.ndim))
    positions[:] = plane.at
    positions[..., plane.axes] = np.moveaxis(at, 0, -1)
    source = np.moveaxis(deformation.source_points(positions)[..., plane.axes], -1, 0)
    return Lattice(at, source, deformation.jacobian_determinant(positions, relative=relative))


def grid_of(
    deformation: Evaluation,
    plane: Plane,
    *,
    relative: bool = False,
    most_lines: int = _MOST_LINES,
    samples: int = _SAMPLES,
) -> Grid:
    """Evaluate the map on a lattice that contains every control point, and find the lines in it."""
    counts = [deformation.grid_shape[axis] for axis in plane.axes]
    is_coarse = max(counts) <= _MOST_NUMBERED
    extent, lines = [], []
    for count in counts:
        cells = max(min(count, most_lines) - 1, 1)
        per_cell = _PER_CELL * max(1, samples // cells)
        extent.append(cells * per_cell + 1)
        # A single control point has no place of its own: its displacement applies everywhere.
        control = list(range(0, extent[-1], per_cell)) if count > 1 else [per_cell // 2]
        fine = range(0, extent[-1], per_cell // _PER_CELL) if is_coarse else range(0)
        lines.append(Lines(control, [k for k in fine if k not in control]))
    return Grid(lattice_of(deformation, plane, extent, relative=relative), (lines[0], lines[1]), is_coarse)
