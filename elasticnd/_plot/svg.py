"""The small SVG picture of a deformation that notebooks show: the bent lines of its grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .._types import Floats
from .lattice import Grid, cell_means, grid_of, plane_of

if TYPE_CHECKING:
    from .._deformation.evaluation import Evaluation

_LONGER_SIDE = 240  # pixels
_SHORTEST_SIDE = 24
_INSET = 2
_MOST_LINES = 9
_SAMPLES = 8
_LINE, _FINE_LINE, _BORDER, _FOLD = "#1f6fb5", "#a9c8e4", "#8a8f98", "#e5004f"


def picture_of(deformation: Evaluation) -> str | None:
    """Draw the lines of the control grid where they lie in the input; return None if there is nothing to draw."""
    if deformation.ndim == 1:
        return None
    grid = grid_of(
        deformation,
        plane_of(deformation.shape, (-2, -1), None),
        relative=True,
        most_lines=_MOST_LINES,
        samples=_SAMPLES,
    )
    source = grid.lattice.source
    if not np.all(np.isfinite(source)):
        return None
    rows, columns = np.array(deformation.shape[-2:]) - 0.5
    low = np.minimum(source.min((1, 2)), -0.5)
    high = np.maximum(source.max((1, 2)), (rows, columns))
    size = np.maximum(_LONGER_SIDE * (high - low) / (high - low).max(), _SHORTEST_SIDE).round()
    scale = (size - 2 * _INSET) / (high - low)

    def drawn(points: Floats) -> str:
        """Format points, (..., rows and columns), as pixels along columns and rows."""
        pixels = (points - low) * scale + _INSET
        return " ".join(f"{x:.1f},{y:.1f}" for y, x in pixels.tolist())

    border = np.array([[-0.5, -0.5], [-0.5, columns], [rows, columns], [rows, -0.5]])
    shapes = [f'<polygon points="{drawn(border)}" stroke="{_BORDER}" stroke-dasharray="4 3"/>']
    for fine in (True, False):
        style = f'stroke="{_FINE_LINE if fine else _LINE}" stroke-width="{0.7 if fine else 1.5}"'
        shapes += [f'<polyline points="{drawn(line)}" {style}/>' for line in _lines(grid, fine)]
    folds = "".join(f"M{drawn(cell)}Z" for cell in _folded_cells(grid))
    if folds:
        shapes.append(f'<path d="{folds}" fill="{_FOLD}"/>')
    height, width = size
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" fill="none">'
    return f"{svg}{''.join(shapes)}</svg>"


def _lines(grid: Grid, fine: bool) -> Iterator[Floats]:
    for axis, own in enumerate(grid.lines):
        for index in own.between if fine else own.control:
            yield np.take(grid.lattice.source, index, axis=axis + 1).T


def _folded_cells(grid: Grid) -> Iterator[Floats]:
    """Yield the corners of the folded lattice cells, in the input."""
    source = grid.lattice.source
    for i, j in np.argwhere(cell_means(grid.lattice.volume) <= 0).tolist():
        yield source[:, [i, i, i + 1, i + 1], [j, j + 1, j + 1, j]].T
