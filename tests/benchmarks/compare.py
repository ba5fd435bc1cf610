"""Compares the speed of elasticnd with every installed peer, and prints a table in Markdown.

``--json`` also writes all measurements, and ``--plots`` draws pictures of the time per voxel. The peers are
elasticdeform, SciPy, torch, OpenCV, Albumentations, SimpleITK, torch-interpol, MONAI, TorchIO, torchvision and
batchgeneratorsv2. For three of them, elasticnd's own transforms are timed as well. The report ends with the peers that
were left out, and why.

The programs do not all do the same work. Some expect coordinates: they get precomputed ones, whereas elasticnd computes
them. Those for augmentation interpolate linearly and draw displacement fields in their own way. OpenCV's cubic kernel
has no prefilter.

The programs are timed in turn. Ratios compare the shortest times, because medians vary when the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import peers
import plots
from measure import measure
from tqdm import tqdm
from works import ORDERS, SIZES, TABLE, Data, Work

import elasticnd

_PEERS = ("elasticdeform", "numpy", "scipy", "torch", "opencv-python-headless", "SimpleITK", "torch-interpol", "monai")
_MORE_PEERS = ("torchio", "torchvision", "batchgeneratorsv2", "albumentations")


def run(works: Iterable[Work], threads: tuple[int, ...], seconds: float, only: str = "") -> list[dict[str, Any]]:
    """Time every work with every program."""
    results = []
    for work in tqdm(list(works), unit="work"):
        programs = measure(peers.calls(Data(work), threads, only), seconds)
        results.append(
            {
                "work": work.name,
                "voxels": work.voxels,
                "extent": work.shape[0],
                "order": work.order,
                "programs": {name: measured._asdict() for name, measured in programs.items()},
            }
        )
    return results


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{1e3 * seconds:.0f} ms"


def median(measured: dict[str, Any]) -> str:
    """Return the median of the times and their spread, as text."""
    spread = (measured["high"] - measured["low"]) / 2 / measured["median"]
    return f"{_milliseconds(measured['median'])} ± {100 * spread:.0f} %"


def times(programs: dict[str, Any], name: str, reference: str) -> str:
    """Return the shortest time as a multiple of the reference's, as text; empty without a reference."""
    if reference not in programs:
        return ""
    return f"{programs[name]['minimum'] / programs[reference]['minimum']:.3g}"


def _threads_of(name: str) -> str:
    """Return the end of a program's name, which says how many threads it uses."""
    return name[name.rindex(",") :] if name.endswith(("thread", "threads")) else ", 1 thread"


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return a table of the results, with a row for each work and program."""
    lines = [
        "| work | program | median | shortest | times elasticdeform's | times elasticnd's | peak memory |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        programs = result["programs"]
        for name, measured in programs.items():
            memory = "" if measured["memory"] is None else f"{measured['memory'] / 2**20:.0f} MiB"
            cells = (
                result["work"],
                name,
                median(measured),
                _milliseconds(measured["minimum"]),
                times(programs, name, "elasticdeform"),
                times(programs, name, "elasticnd" + _threads_of(name)),
                memory,
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Return the names and versions of the programs that were timed."""
    found = {"elasticnd": metadata.version("elasticnd"), "python": platform.python_version()}
    for name in (*_PEERS, *_MORE_PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def draw_all(folder: Path, threads: tuple[int, ...], seconds: float, only: str) -> None:
    """Time the works that the pictures show, and draw the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    one = threads[:1]
    sizes = run(SIZES, threads, seconds, only)
    extents = sorted({result["extent"] for result in sizes})
    plots.draw(
        plots.series(sizes, "extent"),
        "voxels along each of three axes, order 3",
        folder / "speed_size.svg",
        ticks=extents,
    )
    orders = run(ORDERS, one, seconds, only)
    plots.draw(plots.series(orders, "order"), "order, 128³ float32", folder / "speed_order.svg", ticks=list(range(6)))
    counts = range(1, max(threads) + 1)
    lines: plots.Series = {}
    for count in tqdm(counts, unit="thread"):
        for result in run((work for work in ORDERS if work.order in (0, 1, 3)), (count,), seconds, "elasticnd"):
            measured = next(iter(result["programs"].values()))
            lines.setdefault(f"elasticnd, order {result['order']}", []).append(
                (count, 1e9 * measured["median"] / result["voxels"])
            )
    plots.draw(lines, "threads, 128³ float32", folder / "speed_threads.svg", ticks=list(counts))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--works", default="", help="only works whose name contains this text")
    parser.add_argument("--programs", default="", help="only programs whose name matches this regular expression")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="approximate time for each program and work (default 3)"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plots", type=Path, help="draw pictures in this folder instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # peers issue warnings
    available = elasticnd.get_num_threads()
    threads = (1, available) if available > 1 else (1,)
    if arguments.plots:
        draw_all(arguments.plots, threads, arguments.seconds, arguments.programs)
        return
    results = run(
        (work for work in TABLE if arguments.works in work.name), threads, arguments.seconds, arguments.programs
    )
    if arguments.json:
        report = {"versions": versions(), "processor": platform.processor() or platform.machine(), "results": results}
        arguments.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(results))
    for name, reason in sorted(peers.missing.items()):
        print(f"left out: {name}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
