"""Times elasticnd beside what else is installed: elasticdeform and SciPy. Prints a table in Markdown.

    python tests/benchmarks/compare.py [--repeats 7]

All programs get the same data in one run: a control grid of 3 points per axis, sigma 5, border mode mirror. SciPy's
map_coordinates gets the coordinates for nothing: they are computed outside of its time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import elasticnd

try:
    import elasticdeform
except ImportError:
    elasticdeform = None
try:
    from scipy import ndimage
except ImportError:
    ndimage = None


class Work(NamedTuple):
    """One row of the table."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    order: int
    gradient: bool = False


WORK = (
    Work("128³ float32, order 3", (128,) * 3, "float32", 3),
    Work("128³ float32, order 1", (128,) * 3, "float32", 1),
    Work("128³ uint8 labels, order 0", (128,) * 3, "uint8", 0),
    Work("128³ float64, order 3", (128,) * 3, "float64", 3),
    Work("128³ float32, order 3, gradient of the image", (128,) * 3, "float32", 3, gradient=True),
    Work("512² float32, order 3", (512,) * 2, "float32", 3),
)


def median(function: Callable[[], object], repeats: int) -> float:
    """Give the median of the seconds that a call takes, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def contestants(work: Work) -> dict[str, Callable[[], object]]:
    """Give the programs that can do the work, by the heads of their columns."""
    rng = np.random.default_rng(0)
    image = (255 * rng.random(work.shape)).astype(work.dtype)
    displacement = elasticnd.random_displacement(3, 5, ndim=image.ndim, rng=rng)
    arguments = {"order": work.order, "mode": "mirror"}
    name = "deform_grid_gradient" if work.gradient else "deform_grid"

    def ours(threads: int) -> Callable[[], object]:
        def run() -> object:
            with elasticnd.num_threads(threads):
                return getattr(elasticnd, name)(image, displacement, **arguments)

        return run

    programs: dict[str, Callable[[], object]] = {}
    if elasticdeform is not None:
        programs["elasticdeform"] = lambda: getattr(elasticdeform, name)(image, displacement, **arguments)
    if ndimage is not None and not work.gradient:
        coordinates = elasticnd.dense_displacement(displacement, image.shape) + np.indices(image.shape)
        programs["SciPy"] = lambda: ndimage.map_coordinates(image, coordinates, **arguments)
    available = elasticnd.get_num_threads()
    for threads in (1, 2, 4, 8, 16):
        if threads <= available:
            programs[f"elasticnd, {threads} thread{'s' if threads > 1 else ''}"] = ours(threads)
    return programs


def main() -> None:
    """Run all work and print the table."""
    parser = argparse.ArgumentParser(description="Times elasticnd beside elasticdeform and SciPy.")
    parser.add_argument("--repeats", type=int, default=7, help="counted calls of each program (default 7)")
    repeats = parser.parse_args().repeats
    table = []
    for work in tqdm(WORK):
        seconds = {name: median(run, repeats) for name, run in contestants(work).items()}
        slowest = seconds.get("elasticdeform")
        cells = {
            name: f"{1e3 * value:.1f} ms" + (f" ({slowest / value:.0f} ×)" if slowest and "elasticnd" in name else "")
            for name, value in seconds.items()
        }
        table.append((work.name, cells))
    heads = list(dict.fromkeys(name for _, cells in table for name in cells))
    print("| work |", " | ".join(heads), "|")
    print("| --- |", " | ".join("---:" for _ in heads), "|")
    for name, cells in table:
        print(f"| {name} |", " | ".join(cells.get(head, "-") for head in heads), "|")


if __name__ == "__main__":
    main()
