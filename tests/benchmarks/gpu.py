"""Times elasticnd on a CUDA device beside CuPy's map_coordinates and PyTorch's grid_sample, which get the coordinates.

Prints a table in Markdown, with the time that the device takes to move the bytes: those of the image, once in and once
out for each pass over it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import cupy
import numpy as np
from cupyx.scipy import ndimage
from tqdm import tqdm

import elasticnd

POINTS = 5
SIGMA = 4.0


def device_time(call: Callable[[], object], repeat: int) -> float:
    """Give the median time of a call on the device, in seconds."""
    times = []
    for _ in range(repeat + 3):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return statistics.median(times[3:])


def host_time(call: Callable[[], object], repeat: int) -> float:
    """Give the median time in which a call returns to the host, in seconds."""
    times = []
    for _ in range(repeat + 3):
        cupy.cuda.get_current_stream().synchronize()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def works(extent: int) -> dict[str, tuple[Callable[[], object], int]]:
    """Give the calls to time, and the bytes that each has to move."""
    rng = np.random.default_rng(0)
    volume = cupy.asarray(rng.random((extent,) * 3, dtype=np.float32))
    grid = cupy.asarray(elasticnd.random_displacement(POINTS, SIGMA, ndim=3, rng=0))
    batch = cupy.asarray(rng.random((32, 3, 2 * extent, 2 * extent), dtype=np.float32))
    grids = cupy.asarray(rng.normal(0, SIGMA, (32, 2, POINTS, POINTS)))
    small = volume[:16, :16, 0].copy()
    small_grid = grid[:2, :, :, 0].copy()
    options = {"mode": "mirror"}

    def deform(order: int) -> Callable[[], object]:
        return lambda: elasticnd.deform_grid(volume, grid, order, **options)

    def pull() -> object:
        return elasticnd.deform_grid_vjp(volume, volume, grid, 3, **options)

    def deform_batch(order: int) -> Callable[[], object]:
        return lambda: elasticnd.deform_grid(batch, grids, order, axis=(2, 3), **options)

    name = f"{extent}³ float32"
    return {
        f"copy of {name}": (volume.copy, 2 * volume.nbytes),
        f"{name}, order 3": (deform(3), 8 * volume.nbytes),
        f"{name}, order 1": (deform(1), 2 * volume.nbytes),
        f"{name}, order 3, gradients": (pull, 18 * volume.nbytes),
        "copy of the batch": (batch.copy, 2 * batch.nbytes),
        f"batch 32 x 3 x {2 * extent}², order 1": (deform_batch(1), 2 * batch.nbytes),
        f"batch 32 x 3 x {2 * extent}², order 3": (deform_batch(3), 6 * batch.nbytes),
        "16 x 16 float32, order 3": (lambda: elasticnd.deform_grid(small, small_grid, 3, **options), 0),
        **peers(volume, grid),
    }


def peers(volume: cupy.ndarray, grid: cupy.ndarray) -> dict[str, tuple[Callable[[], object], int]]:
    """Give what other programs do with coordinates that they are handed."""
    extent = volume.shape[0]
    field = elasticnd.dense_displacement(grid, volume.shape)
    coordinates = field + cupy.indices(volume.shape, dtype=cupy.float64)
    narrow = coordinates.astype(cupy.float32)
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for order in (1, 3):
        found[f"cupyx map_coordinates, order {order}"] = (
            lambda order=order: ndimage.map_coordinates(volume, narrow, order=order, mode="mirror"),
            0,
        )
    try:
        import torch
    except ImportError:
        return found
    image = torch.from_dlpack(volume)[None, None]
    scaled = (
        torch.from_dlpack(cupy.ascontiguousarray(cupy.moveaxis(narrow[::-1], 0, -1)))[None] * (2 / (extent - 1)) - 1
    )
    found["torch grid_sample, order 1"] = (
        lambda: torch.nn.functional.grid_sample(image, scaled, padding_mode="reflection", align_corners=True),
        0,
    )
    return found


def main() -> None:
    """Time everything in one run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--extent", type=int, default=256, help="of the volume along each axis (default 256)")
    parser.add_argument("--repeat", type=int, default=30, help="times that each call is made (default 30)")
    arguments = parser.parse_args()
    calls = works(arguments.extent)
    (copy, moved), *_ = calls.values()
    bandwidth = moved / device_time(copy, arguments.repeat)
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    lines = [
        f"{name}, CuPy {cupy.__version__}: a copy moves {bandwidth / 1e12:.2f} TB/s",
        "",
        "| work | time | times the bytes' own time | host time |",
        "| --- | ---: | ---: | ---: |",
    ]
    for work, (call, size) in tqdm(calls.items(), unit="work"):
        taken = device_time(call, arguments.repeat)
        ratio = f"{taken * bandwidth / size:.2f}" if size else ""
        lines.append(f"| {work} | {1e3 * taken:.3f} ms | {ratio} | {1e6 * host_time(call, arguments.repeat):.0f} µs |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
