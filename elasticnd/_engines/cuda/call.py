"""A call: the arguments that all kernels for its voxels share, and how they are launched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ..._job import make_job
from ..contract import Transform
from .control_grid import extended, grid_coefficients, points_gradient, tables_of
from .devices import Grid, Stream, device, keeping_memory, launching_on, namespace
from .launches import C_TYPES, kernel_axes, launch, launch_flat

if TYPE_CHECKING:
    from ..._job import Job
    from ..._spec import Shape
    from .coefficients import Source

Array = Any  # of CuPy

_TILE_THREADS = _core.launch["tile_threads"]
_MATRIX_THREADS = 32
_MATRIX_BYTES = 2 * 8 * _core.max_axes * (_core.max_axes + 1)  # of shared memory per thread, to invert matrices
# The limits of indices in kernels for one, two and three axes: see `voxel_kernel_axes`.
_LONGEST_AXIS = 2**29
_LARGEST_STRIDE = 2**31 - 1
_MOST_BLOCKS = 65535  # along the second and third axis of a launch
_LONGEST_TABLE = 2**22
_ENOUGH_BLOCKS = 512  # to keep any device busy
LARGEST_SUMS = 8_000_000  # numbers in all partial sums together
_STORAGE = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}


class Call:
    """The arguments that all kernels of a call share: the job, the coefficients of the control grid, and the maps."""

    def __init__(self, job: Job, items: int, channels: int, field: Array | None, maps: Array | None = None) -> None:
        self.job, self.items, self.channels = job, items, channels
        self.field, self.inverse_maps = field, maps
        self.dtype, self.compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
        axes = int(job["axes"])
        self.axes = axes
        self.output: Shape = tuple(job["output"][:axes].tolist())
        self.grid_shape: Shape = tuple(job["grid_shape"][:axes].tolist())
        self.kernel_axes = voxel_kernel_axes(job, items * channels)
        one_map = axes * (axes + 1)
        self.map_size = one_map if maps is not None and maps.size > one_map else 0
        inner, second, third = _core.tiles[self.kernel_axes]
        self.tiles = -(-self.output[-1] // inner)
        steps = (*(1,) * max(0, axes - 3), *((third,) if axes > 2 else ()), *((second,) if axes > 1 else ()))
        rows = [-(-m // step) for m, step in zip(self.output[:-1], steps, strict=True)]
        # Blocks along x, which also hold the items, and along y and z.
        self.row_blocks: Grid = (items, *rows[::-1]) if self.kernel_axes else (items * math.prod(rows),)
        self.sections, self.section = self._sections(inner)
        self.blocks: Grid = (self.row_blocks[0] * self.tiles, *self.row_blocks[1:])
        self.tables = tables_of(job, self.kernel_axes)

    def _sections(self, inner: int) -> tuple[int, int]:
        """Return the number of sections into which rows are divided for sums, and their length.

        There is one section, unless there are too few rows to keep a device busy. The number is the same on all
        devices.
        """
        numbers = self.items * self.axes * math.prod(self.output[:-1]) * extended(self.grid_shape[-1])
        most = min(self.tiles, _ENOUGH_BLOCKS // max(1, math.prod(self.row_blocks)), LARGEST_SUMS // max(1, numbers))
        tiles = -(-self.tiles // max(1, most))
        return max(1, -(-self.tiles // max(1, tiles))), max(1, tiles) * inner

    @property
    def section_blocks(self) -> Grid:
        """The blocks of a kernel that walks along sections of rows."""
        return (self.row_blocks[0] * self.sections, *self.row_blocks[1:])

    @property
    def cut(self) -> tuple[Any, ...]:
        return np.int64(self.sections), np.int64(self.section)

    @classmethod
    def of(cls, job: Job, output_shape: Shape, transform: Transform) -> Call:
        axes, batch_axes = int(job["axes"]), int(job["batch_axes"])
        items = math.prod(output_shape[:batch_axes])
        channels = math.prod(output_shape[batch_axes : len(output_shape) - axes])
        field = grid_coefficients(transform.displacement, job, items)
        return cls(job, items, channels, field, _maps(job, transform.affine))

    @classmethod
    def of_field(cls, job: Job, displacement: Array | None, shape: Shape) -> Call:
        items = math.prod(shape[: int(job["batch_axes"])])
        field = None if displacement is None else grid_coefficients(displacement, job, items)
        return cls(job, items, 1, field)

    def with_job(self, job: Job) -> Call:
        """Return the call with another job, for other derivatives."""
        if job is self.job:
            return self
        other = object.__new__(Call)
        other.__dict__.update(self.__dict__, job=job)
        return other

    def parts(self, most: int) -> Iterator[tuple[slice, Call]]:
        """Yield groups of at most `most` items, and the call for each group."""
        if self.items <= most:
            yield slice(0, self.items), self
            return
        for first in range(0, self.items, most):
            items = slice(first, min(first + most, self.items))
            field = None if self.field is None else self.field[items.start * self.axes : items.stop * self.axes]
            maps = self.inverse_maps
            if maps is not None and self.map_size:
                maps = maps[items]
            yield items, Call(self.job, items.stop - items.start, self.channels, field, maps)

    def launch(self, kernel: str, grid: Grid, *arguments: Any) -> None:
        """Launch a kernel that visits voxels, unless there are none."""
        if all(grid):
            launch(kernel, grid, _TILE_THREADS, self.job, *arguments)

    @property
    def transform(self) -> tuple[Any, ...]:
        return self.field, *self.tables, self.inverse_maps, np.int64(self.map_size)

    @property
    def planes(self) -> tuple[Any, ...]:
        return np.int64(self.tiles), np.int64(self.channels)

    @property
    def order(self) -> int:
        return int(self.job["order"])

    @property
    def is_derived(self) -> bool:
        return bool(self.job["derivative"].any())

    def sample(self, source: Source, target: Array, target_dtype: int) -> None:
        kernel = (
            f"sample<{source.dtype}, {target_dtype}, {C_TYPES[self.compute_dtype]}, {self.order}, {self.kernel_axes}, "
            f"{str(self.is_derived).lower()}>"
        )
        self.launch(kernel, self.blocks, *self.transform, *self.planes, source.array, target)

    def copy(self, source: Array, target: Array) -> None:
        kernel = f"copy<{_STORAGE[source.dtype.itemsize]}, {self.kernel_axes}>"
        self.launch(kernel, self.blocks, *self.transform, *self.planes, source, target)

    def elect(self, source: Array, target: Array) -> None:
        kernel = f"elect<{self.dtype}, {self.kernel_axes}>"
        self.launch(kernel, self.blocks, *self.transform, *self.planes, source, target)

    def displace(self, target: Array) -> None:
        kernel = f"displace<{self.kernel_axes}>"
        self.launch(kernel, self.blocks, self.field, *self.tables, np.int64(self.tiles), target)

    def rows(self) -> Array:
        """Return zeros to which each section of a row of voxels adds its part of the control grid's gradient."""
        shape = (self.items, self.sections, self.axes, *self.output[:-1], extended(self.grid_shape[-1]))
        return namespace().zeros(shape, np.float64)

    def displacement_gradient(self, rows: Array, into: Array) -> None:
        """Convert these sums into the gradient of the control points, (items, axes, points ...)."""
        rows = over_sections(rows)
        for axis in range(self.axes - 2, -1, -1):
            outer = self.items * self.axes * math.prod(self.output[:axis])
            inner = math.prod(map(extended, self.grid_shape[axis + 1 :]))
            widths = map(extended, self.grid_shape[axis:])
            to = namespace().empty((self.items, self.axes, *self.output[:axis], *widths), np.float64)
            sizes = np.int32(axis), np.int64(outer), np.int64(inner)
            launch_flat("contract_adjoint", to.size, self.job, *self.tables, *sizes, rows, to)
            rows = to
        points_gradient(rows, self.grid_shape, into)


def over_sections(sums: Array) -> Array:
    """Add the sums of all sections, (items, sections, ...)."""
    items, sections, *rest = sums.shape
    if sections == 1:
        return sums.reshape(items, *rest)
    total = namespace().empty((items, *rest), np.float64)
    sizes = np.int64(items), np.int64(sections), np.int64(math.prod(rest))
    launch_flat("add_sections", total.size, *sizes, sums, total)
    return total


def voxel_kernel_axes(job: Job, planes: int) -> int:
    """Return the number of axes that voxel kernels are compiled for: 0 if an index needs more than 32 bits.

    It depends on the whole image, even if only a part is computed, so that the part has the same values. It depends on
    the output only if that is larger than the image.
    """
    axes = int(job["axes"])
    if axes > 3:
        return 0
    image = np.maximum(job["image"] + 2 * int(job["padding"]), job["start"] + job["output"])[:axes].tolist()
    fits = planes <= _LARGEST_STRIDE and sum(image) <= (_LONGEST_TABLE if axes > 1 else _LONGEST_AXIS)
    for extents in (image, [extended(points) for points in job["grid_shape"][:axes].tolist()]):
        fits &= max(math.prod(extents[1:]), math.prod(extents[:-1])) <= _LARGEST_STRIDE
        fits &= max(extents) <= _LONGEST_AXIS
    for extent, step in zip(image[-2::-1], _core.tiles[axes][1:], strict=False):
        fits &= extent <= step * _MOST_BLOCKS
    return axes if fits else 0


def _maps(job: Job, affine: Array | None) -> Array | None:
    """Return the maps from output index to image index."""
    axes = int(job["axes"])
    one_map = axes * (axes + 1)
    if affine is not None:
        return _inverted(job, affine, affine.size // one_map)
    if not job["rotates"]:
        return None
    here = device()
    rotation = tuple(job["inverse_rotation_zoom"][:one_map].tolist())
    return kept_map(axes, rotation, here.stream()) if here.keeps_tables else _inverted(job, None, 1)


def _inverted(job: Job, affine: Array | None, count: int) -> Array:
    axes = int(job["axes"])
    maps = namespace().empty((count, axes, axes + 1), np.float64)
    if count:
        kernel = f"invert<{kernel_axes(axes)}>"
        blocks = (-(-count // _MATRIX_THREADS),)
        shared = 0 if axes < 4 else _MATRIX_THREADS * _MATRIX_BYTES
        launch(kernel, blocks, _MATRIX_THREADS, job, np.int64(count), affine, maps, shared=shared)
    return maps


@lru_cache(maxsize=64)
def kept_map(axes: int, rotation: tuple[float, ...], stream: Stream) -> Array:
    """Return the map of rotation and zoom, kept like tables: see `control_grid`."""
    one = (1,) * axes
    with launching_on(None), keeping_memory():
        return _inverted(make_job(image=one, grid_shape=one, inverse_rotation_zoom=(rotation,)), None, 1)
