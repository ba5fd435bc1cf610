"""Drawing with matplotlib: the bent lines of the control grid, its arrows, changes of volume, and folds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import need
from .._types import Floats
from .lattice import Grid, Lattice, Plane, cell_means, grid_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._deformation.evaluation import Evaluation

ROWS_COLOUR = "#ffd60a"
COLUMNS_COLOUR = "#00e5ff"
FOLD_COLOUR = "#e5004f"
OUTSIDE_COLOUR = "#e9e6df"

_OCTAVES = 2  # of volume that colours distinguish, on both sides of 1
_MARGIN = 0.05  # of the extent, around the drawing


def plot(deformation: Evaluation, plane: Plane, ax: Axes | None) -> Axes:
    """Draw a picture in input coordinates, with a colour bar if it is a new figure."""
    is_new = ax is None
    if ax is None:
        ax = need("matplotlib.pyplot", "demo", "Deformation.plot").subplots(layout="constrained")[1]
    grid = grid_of(deformation, plane, relative=True)
    rows, columns = (deformation.shape[axis] for axis in plane.axes)
    mesh = draw_volumes(ax, grid.lattice)
    draw_frame(ax, rows, columns)
    draw_lines(ax, grid.lattice.source, grid)
    draw_folds(ax, grid.lattice, grid.lattice.source)
    for at, source in grid.points():
        draw_arrow(ax, at, source, grid, shrink=3)
        draw_point(ax, source, grid)
    ax.set_aspect("equal")
    ax.set_facecolor(OUTSIDE_COLOUR)
    _show_all(ax, grid.lattice.source, rows, columns)
    ax.set_ylabel(f"axis {plane.axes[0]}, voxels")
    ax.set_xlabel(f"axis {plane.axes[1]}, voxels")
    if is_new:
        add_bar(ax.figure.colorbar(mesh, ax=ax, shrink=0.8))
    return ax


def octaves(volume: Floats) -> Floats:
    """Convert volume ratios to colour values: logarithms, masked where undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.ma.masked_invalid(-np.log2(volume))


def draw_volumes(ax: Axes, lattice: Lattice) -> Any:
    """Colour the bent cells of a lattice by the change of their volume."""
    limits = {"vmin": -_OCTAVES, "vmax": _OCTAVES}
    return ax.pcolormesh(*lattice.source[::-1], octaves(cell_means(lattice.volume)), cmap="BrBG", **limits, zorder=1)


def add_bar(bar: Any) -> None:
    """Label a colour bar of octaves with ratios."""
    ticks = range(-_OCTAVES, _OCTAVES + 1)
    bar.set_ticks(list(ticks), labels=[f"× {2**tick}" if tick >= 0 else f"/ {2**-tick}" for tick in ticks])
    bar.set_label("volume of the content")


def draw_frame(ax: Axes, rows: int, columns: int) -> None:
    """Draw the border of the input."""
    y, x = [-0.5, -0.5, rows - 0.5, rows - 0.5, -0.5], [-0.5, columns - 0.5, columns - 0.5, -0.5, -0.5]
    ax.plot(x, y, color="black", lw=1, ls="--", alpha=0.6, zorder=2)


def draw_lines(ax: Axes, where: Floats, grid: Grid) -> None:
    """Draw the lines of the control grid at the places of a lattice."""
    lines = grid.lines
    width = min(2.0, 12 / max(len(own.control) for own in lines))
    for axis, colour in enumerate((ROWS_COLOUR, COLUMNS_COLOUR)):
        for index in lines[axis].between:
            y, x = np.take(where, index, axis=axis + 1)
            ax.plot(x, y, color=colour, lw=0.7, alpha=0.6)
    for axis, colour in enumerate((ROWS_COLOUR, COLUMNS_COLOUR)):
        for index in lines[axis].control:
            y, x = np.take(where, index, axis=axis + 1)
            ax.plot(x, y, color="black", lw=1.7 * width, alpha=0.5, solid_capstyle="round")
            ax.plot(x, y, color=colour, lw=width, solid_capstyle="round")


def draw_folds(ax: Axes, lattice: Lattice, where: Floats) -> None:
    """Draw the outlines of the folded areas at the places of a lattice."""
    if lattice.volume.min() <= 0 < lattice.volume.max():
        ax.contour(where[1], where[0], lattice.volume, levels=[0], colors=[FOLD_COLOUR], linewidths=2.5, zorder=3)


def draw_point(ax: Axes, place: Floats, grid: Grid) -> None:
    """Draw a control point."""
    y, x = place
    size, edge = (6, 1) if grid.is_coarse else (3, 0.5)
    ax.plot(x, y, "o", color="white", markeredgecolor="black", markersize=size, markeredgewidth=edge, zorder=5)


def draw_arrow(ax: Axes, start: Floats, stop: Floats, grid: Grid, shrink: float) -> None:
    """Draw a displacement as a white arrow, with a dark outline that shows on any background and a shortened end."""
    if not grid.is_coarse:
        ax.plot([start[1], stop[1]], [start[0], stop[0]], color="white", lw=0.8, zorder=4)
        return
    effects = importlib.import_module("matplotlib.patheffects")
    style = {
        "arrowstyle": "-|>,head_width=0.3,head_length=0.5",
        "color": "white",
        "lw": 1.8,
        "shrinkA": 0,
        "shrinkB": shrink,
        "path_effects": [effects.withStroke(linewidth=4.2, foreground="black")],
    }
    ax.annotate("", stop[::-1], start[::-1], arrowprops=style, zorder=4)
    ax.plot(start[1], start[0], "o", color="white", markeredgecolor="black", markersize=6, zorder=4)


def _show_all(ax: Axes, where: Floats, rows: int, columns: int) -> None:
    """Set the limits to what is drawn, with rows downwards."""
    limits = []
    for places, extent in zip(where, (rows, columns), strict=True):
        margin = _MARGIN * extent + 0.5
        limits.append((min(0, places.min()) - margin, max(extent - 1, places.max()) + margin))
    (top, bottom), (left, right) = limits
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
