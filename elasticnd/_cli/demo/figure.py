"""The figure of the demo: the picture, its deformation, the grid with its bent lines, and where the map folds."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..._plot import axes
from ..._plot.axes import COLUMNS_COLOUR, FOLD_COLOUR, OUTSIDE_COLOUR, ROWS_COLOUR
from ..._plot.lattice import Grid, grid_of
from .picture import Array, Deformed, Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LARGEST_DRAWN = 1200  # pixels on the longer side of a picture in the figure

ABOVE_PANEL = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
INK = "#22252b"
SOFT_INK = "#5d626c"
NUMBER_RADIUS = 7  # of the numbers at control points, in points

PANEL_WIDTH = 5.0
GAP = 0.35
TITLE_HEIGHT = 0.72
HEAD_HEIGHT = 0.75
BAR_HEIGHT = 0.6
HIGHEST_PANEL = 10.0
LEAST_LOWER_HEIGHT = 3.9  # room for the explanation


def draw(figures: ModuleType, done: Deformed, determinant: Floats) -> Figure:
    """Draw the whole figure: two rows of three panels."""
    grid = grid_of(done.deformation, done.plane)
    view = view_of(grid.lattice.source, done)
    upper = min(PANEL_WIDTH * done.shape[0] / done.shape[1], HIGHEST_PANEL)
    lower = min(PANEL_WIDTH * (view.bottom - view.top) / (view.right - view.left), HIGHEST_PANEL)
    height = HEAD_HEIGHT + upper + BAR_HEIGHT + max(lower, LEAST_LOWER_HEIGHT) + 2 * TITLE_HEIGHT + GAP
    width = 3 * PANEL_WIDTH + 4 * GAP
    figure = figures.Figure(figsize=(width, height))

    def panel(column: int, top: float, panel_height: float) -> Axes:
        left = GAP + column * (PANEL_WIDTH + GAP)
        bottom = height - top - panel_height
        return figure.add_axes((left / width, bottom / height, PANEL_WIDTH / width, panel_height / height))

    figure.text(
        GAP / width,
        1 - 0.62 / height,
        "Elastic deformation with a grid of random displacements",
        size=21,
        weight="bold",
        color=INK,
    )
    first = HEAD_HEIGHT + TITLE_HEIGHT
    second = first + upper + BAR_HEIGHT + TITLE_HEIGHT
    ax = panel(0, first, upper)
    show_picture(ax, done.picture, done)
    title(ax, "1  The original", done.name)
    ax = panel(1, first, upper)
    show_picture(ax, done.result, done)
    title(ax, "2  The result", empty_note(done))
    draw_scale(panel(2, first, upper), panel(2, first + upper + 0.14, 0.12), done, determinant)
    draw_bent_grid(panel(0, second, lower), done, grid, view)
    draw_straight_grid(panel(1, second, lower), done, grid, view)
    draw_explanation(panel(2, second, max(lower, LEAST_LOWER_HEIGHT)), done, grid)
    return figure


def title(ax: Axes, head: str, text: str) -> None:
    """Draw the title of a panel, and a line that explains it."""
    ax.annotate(head, (0, 1), (0, 23), **ABOVE_PANEL, size=14, weight="bold", color=INK)
    ax.annotate(text, (0, 1), (0, 6), **ABOVE_PANEL, size=11, color=SOFT_INK)


def empty_note(done: Deformed) -> str:
    """Return a note on the appearance of places that show nothing of the original."""
    clear = done.picture.ndim == 3 and done.picture.shape[2] in (2, 4)
    black = "Black" if value_range(done.picture)[0] == 0 else "Value 0"
    return f"{'Transparent' if clear else black}: from beyond the border of the original"


def bare(ax: Axes) -> None:
    """Remove ticks and frame from a panel."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


class View(NamedTuple):
    """A part of the plane of the pictures, in pixels; rows count downwards."""

    left: float
    right: float
    bottom: float
    top: float


def picture_view(done: Deformed) -> View:
    """Return the limits that the picture fills: the centres of pixels are whole numbers."""
    return View(-0.5, done.shape[1] - 0.5, done.shape[0] - 0.5, -0.5)


def show_picture(ax: Axes, picture: Array, done: Deformed) -> None:
    """Show a picture in pixel coordinates."""
    step = -(-max(done.shape) // LARGEST_DRAWN)
    shown = as_shown(picture[::step, ::step], *value_range(done.picture))
    ax.set_anchor("NW")
    ax.imshow(shown, extent=picture_view(done), cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
    bare(ax)


def value_range(picture: Array) -> tuple[float, float]:
    """Return the values drawn as black and white."""
    if picture.dtype == np.uint8:
        return 0, 255
    finite = picture[np.isfinite(picture)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0, 1)


def as_shown(picture: Array, low: float, high: float) -> Floats:
    """Scale to [0, 1], and convert every picture to grey, RGB or RGBA."""
    shown = (picture.astype(np.float64) - low) / ((high - low) or 1)
    shown = np.clip(np.nan_to_num(shown), 0, 1)
    if shown.ndim == 3 and shown.shape[2] <= 2:  # grey, and perhaps alpha
        shown = np.concatenate([shown[..., :1]] * 3 + [shown[..., 1:]], axis=2)
    return shown


def draw_point(ax: Axes, place: Floats, number: int, grid: Grid) -> None:
    """Draw a control point, with its number where there is room."""
    if not grid.is_coarse:
        axes.draw_point(ax, place, grid)
        return
    y, x = place
    ax.plot(x, y, "o", color="white", markeredgecolor="black", markersize=2 * NUMBER_RADIUS + 1, zorder=5)
    style = {"size": 8.5, "weight": "bold", "color": "black", "ha": "center", "va": "center_baseline"}
    ax.text(x, y, str(number), **style, zorder=6)


def draw_bent_grid(ax: Axes, done: Deformed, grid: Grid, view: View) -> None:
    """Draw the original with the bent lines, from which the result takes its values."""
    show_picture(ax, done.picture, done)
    axes.draw_lines(ax, grid.lattice.source, grid)
    axes.draw_folds(ax, grid.lattice, grid.lattice.source)
    for number, (at, source) in enumerate(grid.points(), start=1):
        axes.draw_arrow(ax, at, source, grid, NUMBER_RADIUS)
        draw_point(ax, source, number, grid)
    show_view(ax, view)
    title(
        ax,
        "4  Where the result is sampled in the original",
        "The control grid, moved by its displacements: bent lines",
    )


def draw_straight_grid(ax: Axes, done: Deformed, grid: Grid, view: View) -> None:
    """Draw the result with the straight lines of the control grid."""
    show_picture(ax, done.result, done)
    axes.draw_lines(ax, grid.lattice.at, grid)
    axes.draw_folds(ax, grid.lattice, grid.lattice.at)
    for number, (at, _) in enumerate(grid.points(), start=1):
        draw_point(ax, at, number, grid)
    show_view(ax, view)
    title(ax, "5  The control grid on the result", "Each straight line shows what lies under its bent counterpart in 4")


def view_of(places: Floats, done: Deformed) -> View:
    """Choose a view that contains the picture and all places, up to half the picture beyond its border."""
    limits = []
    for along, length in zip(places, done.shape, strict=True):
        low = min(max(float(along.min()), -0.5 * length), 0.0)
        high = max(min(float(along.max()), 1.5 * length), length - 1.0)
        limits.append((low - 0.05 * length, high + 0.05 * length))
    (top, bottom), (left, right) = limits
    return View(left, right, bottom, top)


def show_view(ax: Axes, view: View) -> None:
    """Limit the axes to this part of the plane."""
    ax.set_xlim(view.left, view.right)
    ax.set_ylim(view.bottom, view.top)
    ax.set_facecolor(OUTSIDE_COLOUR)


def draw_scale(ax: Axes, ax_of_bar: Axes, done: Deformed, determinant: Floats) -> None:
    """Draw how much the result is magnified, and where the map folds."""
    shown = ax.imshow(axes.octaves(determinant), extent=picture_view(done), cmap="BrBG", vmin=-2, vmax=2)
    folded = determinant <= 0
    if folded.any():
        y, x = (np.linspace(0, n - 1, k) for n, k in zip(done.shape, determinant.shape, strict=True))
        ax.contourf(x, y, determinant, levels=[-np.inf, 0], colors=[FOLD_COLOUR])
    bare(ax)
    bar = ax.figure.colorbar(shown, cax=ax_of_bar, orientation="horizontal", ticks=[-2, -1, 0, 1, 2])
    bar.ax.set_xticklabels(["area / 4", "area / 2", "same area", "area × 2", "area × 4"], color=SOFT_INK, size=10)
    for label, side in zip(bar.ax.get_xticklabels(), ("left", *["center"] * 3, "right"), strict=True):
        label.set_horizontalalignment(side)
    bar.outline.set_visible(False)
    share = f"Red: the map folds, in {folded.mean():.1%} of the result" if folded.any() else "The map folds nowhere"
    title(ax, "3  How the result is stretched", share)


EXPLANATION = """\
Every pixel of the result takes its value from another place in
the original. The displacement says how far away that place is.
It is drawn at random at the control points, and interpolated
smoothly between them.{also}

So pictures 4 and 5 show the same content {somewhere},
and along each line."""


def draw_explanation(ax: Axes, done: Deformed, grid: Grid) -> None:
    """Draw a legend of what the panels show, in words and samples."""
    ax.axis("off")
    lines = importlib.import_module("matplotlib.lines")
    patches = importlib.import_module("matplotlib.patches")
    rim = {"markeredgecolor": "black"}
    samples = [
        (lines.Line2D([], [], color="white", marker="o", markersize=13, lw=0, **rim), "control point"),
        (lines.Line2D([], [], color=ROWS_COLOUR, lw=3.5), "row of control points"),
        (lines.Line2D([], [], color=COLUMNS_COLOUR, lw=3.5), "column of control points"),
        (
            lines.Line2D([], [], color="white", marker="o", markersize=6, lw=0, **rim),
            "start of an arrow, the displacement: from the control\npoint's place to the place it takes its value from",
        ),
        (patches.Patch(color=OUTSIDE_COLOUR), "beyond the border of the original"),
        (
            patches.Patch(color=FOLD_COLOUR),
            "fold: the lines cross over themselves, so content\n"
            "appears several times, mirrored inside (Jacobian\n"
            "determinant of the map zero or negative)",
        ),
    ]
    also = "" if done.deformation.affine is None else "\nPlaces and arrows are rotated or zoomed as well."
    somewhere = f"at number {max(np.prod(done.points) // 2 - 1, 1)}" if grid.is_coarse else "at a control point"
    text = EXPLANATION.format(also=also, somewhere=somewhere)
    ax.annotate(text, (0, 1), (0, 6), **{**ABOVE_PANEL, "va": "top"}, size=11.5, color=INK)
    ax.legend(
        *zip(*samples, strict=True),
        loc="upper left",
        bbox_to_anchor=(-0.02, 1 - 1.65 / (ax.get_position().height * ax.figure.get_figheight())),
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        labelspacing=0.6,
    )
    ax.annotate("How to read it", (0, 1), (0, 23), **ABOVE_PANEL, size=14, weight="bold", color=INK)
