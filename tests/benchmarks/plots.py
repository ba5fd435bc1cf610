"""Pictures of the results: time per voxel against size, order and number of threads."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

STYLE = Path(__file__).parents[2] / "docs" / "pages.mplstyle"  # the style of all pictures in the documentation

Series = dict[str, list[tuple[float, float]]]  # name: (x, nanoseconds per voxel)


def series(results: Iterable[dict[str, Any]], key: str) -> Series:
    """Collect the points of every program against one property of the works."""
    lines: Series = {}
    for result in results:
        for name, measured in result["programs"].items():
            point = (result[key], 1e9 * measured["median"] / result["voxels"])
            lines.setdefault(name, []).append(point)
    return lines


def draw(lines: Series, label: str, path: Path, *, ticks: list[float]) -> None:
    """Draw the time per voxel on a logarithmic scale."""
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter, NullLocator, ScalarFormatter

    with style.context(STYLE):
        figure = Figure(figsize=(6.4, 3.6))
        axes = figure.subplots()
        for name, points in lines.items():
            x, y = zip(*sorted(points), strict=True)
            ours = name.startswith("elasticnd")
            axes.plot(x, y, marker="o", markersize=4, linewidth=2 if ours else 1.2, label=name, zorder=2 if ours else 1)
        axes.set_yscale("log")
        if max(ticks) > 16:
            axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))  # if there are few major ticks
        axes.set_xlabel(label)
        axes.set_ylabel("nanoseconds per voxel")
        axes.grid(visible=True, which="major")
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, metadata={"Date": None})
