"""Deforms a volume from one Zarr store into another, block by block, and reports time, peak memory and bytes read.

The volume is the MNI152 brain, resampled to the requested number of gibibytes. The program requires elasticnd's extras
`dask`, `files` and `bench`, and nilearn.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from dask.diagnostics import ProgressBar
from measure import peak_memory, resident_peak
from nilearn.datasets import load_mni152_template
from scipy import ndimage
from tqdm import tqdm

import elasticnd

CHUNK = 64  # voxels along each axis of a chunk in the stores
MIB = 2**20


class Counted:
    """A stored array that counts the voxels read from it, and the chunks that contain them."""

    def __init__(self, array: zarr.Array) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.asked = self.read = 0

    def __getitem__(self, place: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Read a box."""
        voxels = self.array[place]
        inside = [part.indices(extent)[:2] for part, extent in zip(place, self.shape, strict=True)]
        chunks = math.prod(-(-stop // CHUNK) - start // CHUNK for start, stop in inside if stop > start)
        self.asked += voxels.nbytes
        self.read += chunks * CHUNK**self.ndim * self.dtype.itemsize
        return voxels


def make_volume(path: Path, gibibytes: float) -> zarr.Array:
    """Write the brain, magnified to the given size, unless an earlier run has written it."""
    brain = load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    factor = (gibibytes * 2**30 / brain.nbytes) ** (1 / brain.ndim)
    shape = tuple(math.ceil(extent * factor) for extent in brain.shape)
    if path.exists():
        found = zarr.open_array(path, mode="r")
        if found.shape == shape:
            return found
    volume = zarr.create_array(path, shape=shape, chunks=(CHUNK,) * 3, dtype="float32", overwrite=True)
    for start in tqdm(range(0, shape[0], CHUNK), desc="making the volume", unit="slab"):
        slab = (min(CHUNK, shape[0] - start), *shape[1:])
        offset = (start / factor, 0, 0)
        volume[start : start + slab[0]] = ndimage.affine_transform(
            brain, np.full(3, 1 / factor), offset, slab, order=1, mode="nearest"
        )
    return volume


def needed_bytes(volume: Counted, displacement: np.ndarray[Any, Any], block: int, order: int) -> int:
    """Sum the bytes of the source boxes of all blocks."""
    starts = [range(0, extent, block) for extent in volume.shape]
    total = 0
    for corner in np.array(np.meshgrid(*starts, indexing="ij")).reshape(3, -1).T.tolist():
        crop = [slice(start, min(start + block, extent)) for start, extent in zip(corner, volume.shape, strict=True)]
        box = elasticnd.source_box(displacement, volume.shape, crop, order, dtype="float32")
        total += math.prod(part.stop - part.start for part in box) * volume.dtype.itemsize
    return total


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the stores; it needs space for twice the volume")
    parser.add_argument("--gib", type=float, default=4, help="size of the volume (default: %(default)s)")
    parser.add_argument(
        "--block", type=int, default=256, help="voxels along each axis of a block (default: %(default)s)"
    )
    parser.add_argument("--order", type=int, default=3, help="spline order (default: %(default)s)")
    parser.add_argument(
        "--sigma",
        type=float,
        default=12,
        help="standard deviation of the displacements in voxels (default: %(default)s)",
    )
    parser.add_argument("--points", type=int, default=8, help="control points along each axis (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="number of blocks at a time (default: %(default)s)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    volume = Counted(make_volume(options.folder / "volume.zarr", options.gib))
    displacement = elasticnd.random_displacement(options.points, options.sigma, ndim=3, rng=0)
    target = zarr.create_array(
        options.folder / "deformed.zarr", shape=volume.shape, chunks=(CHUNK,) * 3, dtype="float32", overwrite=True
    )
    # Blocks run one at a time, so each uses all threads of the core.
    dask.config.set(scheduler="threads" if options.workers > 1 else "synchronous", num_workers=options.workers)

    def deform() -> None:
        image = da.from_array(volume, chunks=options.block, name=False)
        with ProgressBar():
            da.store(elasticnd.deform_grid(image, displacement, options.order), target, lock=False)

    start = time.perf_counter()
    growth = peak_memory(deform)
    seconds = time.perf_counter() - start
    size = math.prod(volume.shape) * volume.dtype.itemsize
    needed = needed_bytes(volume, displacement, options.block, options.order)
    rows = {
        "volume": f"{' x '.join(map(str, volume.shape))}, {size / MIB:.0f} MiB",
        "time": f"{seconds:.0f} s, {seconds / math.prod(volume.shape) * 1e9:.1f} ns per voxel",
        "peak memory": "unknown" if growth is None else f"{resident_peak() / MIB:.0f} MiB",
        "needed": f"{needed / MIB:.0f} MiB, {needed / size:.1f} x the volume",
        "asked for": f"{volume.asked / MIB:.0f} MiB, {volume.asked / needed:.2f} x what was needed",
        "read": f"{volume.read / MIB:.0f} MiB, {volume.read / needed:.2f} x what was needed",
    }
    for name, value in rows.items():
        print(f"{name + ':':<14}{value}")


if __name__ == "__main__":
    main()
