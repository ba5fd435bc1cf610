"""Times elasticnd beside every peer that is installed. Prints a table in Markdown.

With ``--json`` it writes all that was measured, with ``--plots`` pictures of the time per voxel. Peers: elasticdeform,
SciPy, torch, OpenCV, Albumentations, SimpleITK, torch-interpol, MONAI, TorchIO, torchvision, batchgeneratorsv2; beside
them elasticnd's own transforms for three of these. At the end it names
those that are left out, with the reason. They do not all do the same: those that want coordinates get them, which
elasticnd computes; those for augmentation interpolate linearly, with fields of their own; OpenCV's cubic kernel has no
prefilter. Programs take turns, and ratios are those of the shortest times: medians swing where others compute too.
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
    """Do all works with all programs."""
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
    """Write the median of the times with their spread."""
    spread = (measured["high"] - measured["low"]) / 2 / measured["median"]
    return f"{_milliseconds(measured['median'])} ± {100 * spread:.0f} %"


def times(programs: dict[str, Any], name: str, reference: str) -> str:
    """Write the shortest time as a multiple of the reference's; nothing where there is none."""
    if reference not in programs:
        return ""
    return f"{programs[name]['minimum'] / programs[reference]['minimum']:.3g}"


def _threads_of(name: str) -> str:
    """Give the end of a program's name that says how many threads it has."""
    return name[name.rindex(",") :] if name.endswith(("thread", "threads")) else ", 1 thread"


def table(results: Sequence[dict[str, Any]]) -> str:
    """Write the results as a table, a line for every work and program."""
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
    """Name what was timed."""
    found = {"elasticnd": metadata.version("elasticnd"), "python": platform.python_version()}
    for name in (*_PEERS, *_MORE_PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def draw_all(folder: Path, threads: tuple[int, ...], seconds: float, only: str) -> None:
    """Time what the pictures show, and draw them."""
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
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--works", default="", help="only the works whose name holds this text")
    parser.add_argument("--programs", default="", help="only the programs whose name fits this regular expression")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each program and work, about (default 3)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--plots", type=Path, help="draw pictures into this folder instead")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # of the peers
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
