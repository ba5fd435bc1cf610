"""Compares elasticnd on a CUDA device with CuPy's map_coordinates and PyTorch's grid_sample.

The other two get precomputed coordinates. The result is a table in Markdown. It also contains the time that the device
needs to move the bytes of the image, which each pass reads once and writes once. Calls are queued behind a kernel that
keeps the device busy, so that the device never waits for the host. They use several images in turn, so that no image
is still in a cache.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cupy
import numpy as np
from cupyx.scipy import ndimage
from tqdm import tqdm

import elasticnd

POINTS = 5
SIGMA = 4.0
QUEUED = 20  # number of calls between two events
CACHE = 200e6  # bytes, more than any L2 cache holds
SPIN = cupy.RawKernel(
    """extern "C" __global__ void spin(long long count) {
        for (long long start = clock64(); clock64() - start < count;) ;
    }""",
    "spin",
)


class Work(NamedTuple):
    """A call to time, and the number of bytes that it must move."""

    call: Callable[[], object]
    size: int = 0


def device_time(call: Callable[[], object], repeat: int) -> float:
    """Return the median time of a call on the device, in seconds; timing starts once the host has queued all calls."""
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()
    ahead = 2 * QUEUED * host_time(call, 3)
    cycles = int(ahead * 1e3 * cupy.cuda.runtime.deviceGetAttribute(cupy.cuda.runtime.cudaDevAttrClockRate, 0))
    times = []
    for _ in range(repeat):
        SPIN((1,), (1,), (np.int64(cycles),))
        begin.record()
        for _ in range(QUEUED):
            call()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / QUEUED)
    return statistics.median(times)


def host_time(call: Callable[[], object], repeat: int) -> float:
    """Return the median time until a call returns to the host, in seconds."""
    times = []
    for _ in range(repeat + 3):
        cupy.cuda.get_current_stream().synchronize()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def in_turn(function: Callable[..., object], array: cupy.ndarray) -> Callable[[], object]:
    """Return a callable that applies the function to copies of an array in turn."""
    copies = itertools.cycle([array.copy() for _ in range(max(1, round(CACHE / array.nbytes)))])
    return lambda: function(next(copies))


def works(extent: int) -> dict[str, Work]:
    """Return the calls to time, the first of which copies the image."""
    rng = np.random.default_rng(0)
    volume = cupy.asarray(rng.random((extent,) * 3, dtype=np.float32))
    grid = cupy.asarray(elasticnd.random_displacement(POINTS, SIGMA, ndim=3, rng=0))
    batch = cupy.asarray(rng.random((32, 3, 2 * extent, 2 * extent), dtype=np.float32))
    grids = cupy.asarray(rng.normal(0, SIGMA, (32, 2, POINTS, POINTS)))
    small, small_grid = volume[:16, :16, 0].copy(), grid[:2, :, :, 0].copy()

    def deform(order: int) -> Callable[[cupy.ndarray], object]:
        return lambda image: elasticnd.deform_grid(image, grid, order, mode="mirror")

    def gradients(image: cupy.ndarray) -> object:
        return elasticnd.deform_grid_vjp(image, image, grid, 3, mode="mirror")

    def deform_batch(order: int) -> Callable[[cupy.ndarray], object]:
        return lambda images: elasticnd.deform_grid(images, grids, order, axis=(2, 3), mode="mirror")

    name, batched = f"{extent}³ float32", f"batch 32 x 3 x {2 * extent}²"
    return {
        f"copy of {name}": Work(in_turn(cupy.ndarray.copy, volume), 2 * volume.nbytes),
        f"{name}, order 3": Work(in_turn(deform(3), volume), 8 * volume.nbytes),
        f"{name}, order 1": Work(in_turn(deform(1), volume), 2 * volume.nbytes),
        f"{name}, order 3, gradients": Work(in_turn(gradients, volume), 18 * volume.nbytes),
        "copy of the batch": Work(in_turn(cupy.ndarray.copy, batch), 2 * batch.nbytes),
        f"{batched}, order 1": Work(in_turn(deform_batch(1), batch), 2 * batch.nbytes),
        f"{batched}, order 3": Work(in_turn(deform_batch(3), batch), 6 * batch.nbytes),
        "16 x 16 float32, order 3": Work(lambda: elasticnd.deform_grid(small, small_grid, 3, mode="mirror")),
        **by_map_coordinates(volume, grid),
        **by_torch(volume, grid),
        **by_jax(volume, grid),
    }


def coordinates(volume: cupy.ndarray, grid: cupy.ndarray) -> cupy.ndarray:
    """Return the position of each voxel in the form that other programs expect."""
    field = elasticnd.dense_displacement(grid, volume.shape)
    return (field + cupy.indices(volume.shape, dtype=cupy.float64)).astype(cupy.float32)


def by_map_coordinates(volume: cupy.ndarray, grid: cupy.ndarray) -> dict[str, Work]:
    """Return the calls of CuPy with precomputed coordinates."""
    places = coordinates(volume, grid)

    def call(order: int) -> Work:
        sample = in_turn(lambda image: ndimage.map_coordinates(image, places, order=order, mode="mirror"), volume)
        return Work(sample)

    return {f"cupyx map_coordinates, order {order}": call(order) for order in (1, 3)}


def by_torch(volume: cupy.ndarray, grid: cupy.ndarray) -> dict[str, Work]:
    """Return the calls of PyTorch with precomputed coordinates and of elasticnd with tensors; none without PyTorch."""
    try:
        import torch
    except ImportError:
        return {}
    places = cupy.ascontiguousarray(cupy.moveaxis(coordinates(volume, grid)[::-1], 0, -1))
    scaled = torch.from_dlpack(places)[None] * (2 / (volume.shape[0] - 1)) - 1
    displacement = torch.from_dlpack(grid)

    def on_stream(function: Callable[..., object]) -> Callable[[], object]:
        stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr)

        def call(image: cupy.ndarray) -> object:
            with torch.cuda.stream(stream):
                return function(torch.from_dlpack(image))

        return in_turn(call, volume)

    def sample(image: torch.Tensor) -> object:
        return torch.nn.functional.grid_sample(image[None, None], scaled, padding_mode="reflection", align_corners=True)

    def gradients(image: torch.Tensor) -> object:
        tensors = image.clone().requires_grad_(), displacement.clone().requires_grad_()
        return elasticnd.deform_grid(*tensors, 3, "mirror").sum().backward()

    def deform(image: torch.Tensor) -> object:
        return elasticnd.deform_grid(image, displacement, 3, "mirror")

    return {
        "torch grid_sample, order 1": Work(on_stream(sample)),
        "PyTorch tensors, order 3": Work(on_stream(deform), 8 * volume.nbytes),
        "PyTorch tensors, order 3, with backward": Work(on_stream(gradients), 26 * volume.nbytes),
    }


def by_jax(volume: cupy.ndarray, grid: cupy.ndarray) -> dict[str, Work]:
    """Return the calls of elasticnd in JAX programs, timed on the host because XLA uses its own streams."""
    try:
        import jax
    except ImportError:
        return {}
    arrays: Sequence[jax.Array] = [jax.numpy.asarray(cupy.asnumpy(array)) for array in (volume, grid)]
    deform = jax.jit(lambda x, d: elasticnd.deform_grid(x, d, 3, "mirror"))
    return {"JAX program, order 3 (host)": Work(lambda: deform(*arrays).block_until_ready())}


def main() -> None:
    """Time all calls, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--extent", type=int, default=256, help="voxels along each axis of the volume (default 256)")
    parser.add_argument("--repeat", type=int, default=7, help=f"times that {QUEUED} calls are queued (default 7)")
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
        lines.append(f"| {work} | {1e3 * taken:.3f} ms | {ratio} | {1e6 * host_time(call, 20):.0f} µs |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
