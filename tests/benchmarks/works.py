"""The works to time: the rows of the table, and the data of each row."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

import elasticnd


@dataclass(frozen=True)
class Work:
    """One row of the table."""

    name: str
    shape: tuple[int, ...]  # extents of the deformed axes
    dtype: str = "float32"
    order: int = 3
    task: str = "deform"  # or "image gradient", "all gradients", "image and labels"
    mode: str = "mirror"
    points: int = 3
    channels: int = 0  # on an axis after the deformed ones; 0: no such axis
    batch: int = 0  # number of images, each with its own grid; 0: no batch axis
    crop: int = 0  # extent of the patch in the middle; 0: the whole image

    @cached_property
    def voxels(self) -> int:
        """The number of voxels in the output."""
        one = self.crop ** len(self.shape) if self.crop else int(np.prod(self.shape))
        return one * max(1, self.channels) * max(1, self.batch)

    @property
    def axis(self) -> tuple[int, ...] | None:
        """The axes to deform; None for all."""
        start = 1 if self.batch else 0
        return tuple(range(start, start + len(self.shape))) if self.batch or self.channels else None

    @property
    def patch(self) -> tuple[slice, ...] | None:
        """The patch to compute; None for the whole image."""
        if not self.crop:
            return None
        starts = [(extent - self.crop) // 2 for extent in self.shape]
        return tuple(slice(start, start + self.crop) for start in starts)


@dataclass
class Data:
    """The arrays of a work."""

    work: Work
    image: Any = field(init=False)
    displacement: Any = field(init=False)

    def __post_init__(self) -> None:
        """Draw the arrays, which are the same in every run."""
        work = self.work
        rng = np.random.default_rng(0)
        shape = (work.batch,) * bool(work.batch) + work.shape + (work.channels,) * bool(work.channels)
        scale = 255 if np.issubdtype(np.dtype(work.dtype), np.integer) else 1
        self.image = (scale * rng.random(shape, dtype=np.float32)).astype(work.dtype)
        batch = (work.batch,) * bool(work.batch)
        self.displacement = elasticnd.random_displacement(
            work.points, 5, ndim=len(work.shape), batch_shape=batch, rng=rng
        )

    @cached_property
    def labels(self) -> Any:
        """A label from 0 to 3 for each voxel, as uint8."""
        return (4 * np.random.default_rng(1).random(self.work.shape)).astype(np.uint8)

    @cached_property
    def coordinates(self) -> Any:
        """The position at which each voxel samples the image, which some peers expect as an argument."""
        dense = elasticnd.dense_displacement(self.displacement, self.work.shape, crop=self.work.patch)
        indices = np.indices(self.work.shape, dtype=np.float64)
        return dense + (indices if self.work.patch is None else indices[(slice(None), *self.work.patch)])


_CUBE = Work("128³ float32, order 3", (128,) * 3)
_SQUARE = Work("512² float32, order 3", (512,) * 2)
TABLE = (
    _CUBE,
    replace(_CUBE, name="128³ float32, order 1", order=1),
    replace(_CUBE, name="128³ float32, order 0", order=0),
    replace(_CUBE, name="128³ uint8, order 0", order=0, dtype="uint8"),
    replace(_CUBE, name="128³ float64, order 3", dtype="float64"),
    replace(_CUBE, name="128³ float32, order 3, gradient of the image", task="image gradient"),
    replace(_CUBE, name="128³ float32, order 3, gradients of image and grid", task="all gradients"),
    replace(_CUBE, name="128³ float32 at order 3 and its labels at order 0", task="image and labels"),
    replace(_CUBE, name="128³ float32 at order 1 and its labels at order 0", order=1, task="image and labels"),
    _SQUARE,
    replace(_SQUARE, name="512² float32, order 1", order=1),
    replace(_SQUARE, name="512² uint8, order 1", order=1, dtype="uint8"),
    replace(_SQUARE, name="512² × 3 uint8, order 1", order=1, dtype="uint8", channels=3),
    replace(_SQUARE, name="512² uint8, order 0", order=0, dtype="uint8"),
    replace(_SQUARE, name="512² × 3 uint8, order 0", order=0, dtype="uint8", channels=3),
    replace(_SQUARE, name="512² uint8, order 3", dtype="uint8"),
    replace(_SQUARE, name="512² × 3 uint8, order 3", dtype="uint8", channels=3),
    replace(
        _SQUARE,
        name="512² × 3 uint8 at order 1 and its labels at order 0",
        order=1,
        dtype="uint8",
        channels=3,
        task="image and labels",
    ),
    # 3 points over 128 or 512 voxels suit elasticnd: the cells of the control grid end where blocks of vectors end.
    replace(_SQUARE, name="500² float32, order 1, 17 control points", shape=(500,) * 2, order=1, points=17),
    replace(
        _SQUARE,
        name="500² × 3 uint8, order 1, 17 control points",
        shape=(500,) * 2,
        order=1,
        points=17,
        dtype="uint8",
        channels=3,
    ),
    replace(_CUBE, name="100³ float32, order 1, 5 control points", shape=(100,) * 3, order=1, points=5),
    replace(_CUBE, name="100³ float32, order 3, 5 control points", shape=(100,) * 3, points=5),
    replace(_SQUARE, name="one image of 128² float32, order 3", shape=(128,) * 2),
    replace(_SQUARE, name="32 images of 128² float32, order 3", shape=(128,) * 2, batch=32),
    replace(_CUBE, name="64³ float32, order 3", shape=(64,) * 3),
    replace(_CUBE, name="64³ out of 512³ float32, order 3", shape=(512,) * 3, crop=64),
    *(
        replace(_CUBE, name=f"128³ float32, order 3, {mode}", mode=mode)
        for mode in ("nearest", "reflect", "wrap", "constant")
    ),
    replace(_CUBE, name="128³ float32, order 3, 33 control points", points=33),
    replace(_CUBE, name="32⁴ float32, order 3", shape=(32,) * 4),
    replace(_CUBE, name="10⁷ float32, order 3", shape=(10**7,)),
    replace(_CUBE, name="16² float32, order 3", shape=(16,) * 2),
)
SIZES = tuple(
    replace(_CUBE, name=f"{extent}³ float32, order 3", shape=(extent,) * 3) for extent in (32, 64, 128, 256, 512)
)
ORDERS = tuple(replace(_CUBE, name=f"128³ float32, order {order}", order=order) for order in range(6))
