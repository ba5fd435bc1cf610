"""The engine for arrays of CuPy: launches of the CUDA kernels on the current device and stream.

Nothing here waits for the device, and nothing is copied to the host. No coordinates are stored: a kernel evaluates the
control grid for the voxels that it visits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _core, _dtypes
from .._config import is_deterministic
from .._job import Job, make_job, with_derivative
from .._limits import check_coefficients
from .._modes import Continuation, Mode
from .contract import Transform
from .kernels import CupyDevice, Device, Grid

if TYPE_CHECKING:
    from types import ModuleType

    from .._spec import Shape

Array = Any  # of CuPy

_THREADS, _TILE_THREADS = _core.launch["flat_threads"], _core.launch["tile_threads"]
_FILTER_THREADS, _EVALUATION_THREADS = _core.launch["filter_threads"], _core.launch["evaluation_threads"]
_FILTER_LINES, _FILTER_LENGTH = _core.launch["filter_lines"], _core.launch["filter_length"]
_FILTER_STRIDE = _core.launch["filter_stride"]
_EVALUATION_PARTS = 512  # of the sums of an adjoint ...
_LARGEST_SUMS = 8_000_000  # ... which have at most so many numbers
_GRID_ORDER = 3
_FEWEST_ACROSS = 8  # lines side by side in memory that the prefilter loads row by row
_SMALL_GRID = 64  # control points along an axis that one block can filter at a time
_MATRIX_THREADS = 32
_MATRIX_BYTES = 2 * 8 * _core.max_axes * (_core.max_axes + 1)  # of shared memory that a thread inverts many axes in
_LONGEST_KEPT_TABLE = 65536  # outputs along all axes
# What kernels for one, two and three axes can count: see _kernel_axes.
_LONGEST_AXIS = 2**29
_LARGEST_STRIDE = 2**31 - 1
_MOST_BLOCKS = 65535  # along the second and third axis of a launch
_LONGEST_TABLE = 2**22
_NOTHING = np.uint64(0)
_FLOAT32, _FLOAT64 = _dtypes.CODES["float32"], _dtypes.CODES["float64"]
_C_TYPES = {_FLOAT32: "float", _FLOAT64: "double"}
_NUMPY_TYPES: dict[int, np.dtype[Any]] = {_FLOAT32: np.dtype(np.float32), _FLOAT64: np.dtype(np.float64)}
_STORAGE = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}


@lru_cache(maxsize=1)
def device() -> Device:
    """Return the place where kernels run."""
    return CupyDevice()


def namespace() -> ModuleType:
    return device().xp


def holding(array: Array) -> AbstractContextManager[Any]:
    return device().holding(array)


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    return namespace().empty(shape, dtype)


# ---- verbs -----------------------------------------------------------------------------------------------------------


def sample(job: Job, images: Sequence[Array], transform: Transform, outputs: Sequence[Array]) -> None:
    call = _Call.of(job, outputs[0].shape, transform)
    for image, output in zip(images, outputs, strict=True):
        _sample(call, image, transform, output)


def _sample(call: _Call, image: Array, transform: Transform, output: Array) -> None:
    job = call.job
    target = _contiguous_like(output)
    if transform.tangents:
        source = _source(job, image)
        shape = (call.items, call.channels, *call.output)
        total = namespace().zeros(shape, _NUMPY_TYPES[call.compute_dtype])
        part = namespace().empty(shape, total.dtype)
        for derived, factor in _partial_derivatives(call, transform):
            call.with_job(derived).sample(source, part, call.compute_dtype)
            total += (factor * part).astype(total.dtype)
        _store(total, call.compute_dtype, target, call.dtype)
    elif call.order == 0 and not call.is_derived:
        call.copy(_contiguous(image), target)
    else:
        call.sample(_source(job, image), target, call.dtype)
    _give(target, output)


def sample_adjoint(
    job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None
) -> tuple[Array, Array | None] | None:
    call = _Call.of(job, gradient.shape, transform)
    source = None if image is None else _source(job, image)
    target = None if image_gradient is None else _Target(call)
    sums = None if source is None else _TransformSums(call, transform.affine is not None)
    for derived, values, code in _weighted(call, gradient, transform):
        own = call.with_job(derived)
        if target is not None:
            target.add(own, values, code)
        if sums is not None and source is not None:
            sums.add(own, source, values, code)
    if target is not None:
        result = _contiguous_like(image_gradient)
        _source_adjoint(job, target.total(), result)
        _give(result, image_gradient)
    return None if sums is None else sums.total()


def displace(job: Job, displacement: Array, output: Array) -> None:
    call = _Call.of_field(job, displacement, output.shape)
    target = _contiguous_like(output)
    call.displace(target)
    _give(target, output)


def displace_adjoint(job: Job, gradient: Array, output: Array) -> None:
    call = _Call.of_field(job, None, gradient.shape)
    rows = call.rows()
    call.launch(f"displace_adjoint<{call.kernel_axes}>", call.row_blocks, call.tables, _contiguous(gradient), rows)
    output[...] = call.displacement_gradient(rows).reshape(output.shape)


def evaluate(job: Job, displacement: Array, positions: Array) -> Array:
    items, count, axes = positions.shape
    derivatives = axes ** int(job["evaluation_order"])
    values = namespace().empty((items, count, axes, derivatives), np.float64)
    if values.size:
        field = _grid_coefficients(displacement, job, items)
        sizes = np.int64(items * count), np.int64(count), np.int64(derivatives)
        kernel = f"evaluate<{_kernel_axes(axes)}>"
        blocks = -(-items * count // _EVALUATION_THREADS)
        _launch(kernel, (blocks,), _EVALUATION_THREADS, job, *sizes, field, _contiguous(positions), values)
    return values


def evaluate_adjoint(job: Job, gradient: Array, positions: Array) -> Array:
    items, count, axes = positions.shape
    points = tuple(job["grid_shape"][:axes].tolist())
    if not gradient.size:
        return namespace().zeros((items, axes, *points), np.float64)
    widths = tuple(map(_extended, points))
    # As many parts as there are to be sums, which do not depend on the device.
    parts = max(1, min(_EVALUATION_PARTS, _LARGEST_SUMS // (axes * math.prod(widths))))
    together = -(-count // parts)
    parts = -(-count // together)
    sums = namespace().zeros((items, parts, axes, *widths), np.float64)
    sizes = np.int64(count), np.int64(together), np.int64(axes ** int(job["evaluation_order"]))
    kernel = f"evaluate_adjoint<{_kernel_axes(axes)}>"
    arguments = (*sizes, _contiguous(gradient), _contiguous(positions), sums)
    _launch(kernel, (items * parts,), _EVALUATION_THREADS, job, *arguments)
    return _points_gradient(sums.sum(axis=1), points)


# ---- a call ----------------------------------------------------------------------------------------------------------


class _Source(NamedTuple):
    """Coefficients, or the image itself: planes in C order, and their element type."""

    array: Array
    dtype: int


class _Tables(NamedTuple):
    """The weights of the control grid for each output index, and its cell."""

    weights: Array | None
    cells: Array | None


class _Call:
    """What all kernels of a call take: the job, the coefficients of the control grid, and the maps."""

    def __init__(self, job: Job, items: int, channels: int, field: Array | None, maps: Array | None = None) -> None:
        self.job, self.items, self.channels = job, items, channels
        self.field, self.inverse_maps = field, maps
        self.dtype, self.compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
        axes = int(job["axes"])
        self.axes = axes
        self.output: Shape = tuple(job["output"][:axes].tolist())
        self.grid_shape: Shape = tuple(job["grid_shape"][:axes].tolist())
        self.kernel_axes = _voxel_kernel_axes(job, items * channels)
        one_map = axes * (axes + 1)
        self.map_size = one_map if maps is not None and maps.size > one_map else 0
        inner, second, third = _core.tiles[self.kernel_axes]
        self.tiles = -(-self.output[-1] // inner)
        steps = (*(1,) * max(0, axes - 3), *((third,) if axes > 2 else ()), *((second,) if axes > 1 else ()))
        rows = [-(-m // step) for m, step in zip(self.output[:-1], steps, strict=True)]
        # Blocks along x, which hold the items besides, and along y and z.
        self.row_blocks: Grid = (items, *rows[::-1]) if self.kernel_axes else (items * math.prod(rows),)
        self.blocks: Grid = (self.row_blocks[0] * self.tiles, *self.row_blocks[1:])
        self.tables = _tables_of(job, self.kernel_axes)

    @classmethod
    def of(cls, job: Job, output_shape: Shape, transform: Transform) -> _Call:
        axes, batch_axes = int(job["axes"]), int(job["batch_axes"])
        items = math.prod(output_shape[:batch_axes])
        channels = math.prod(output_shape[batch_axes : len(output_shape) - axes])
        field = _grid_coefficients(transform.displacement, job, items)
        return cls(job, items, channels, field, _maps(job, transform.affine))

    @classmethod
    def of_field(cls, job: Job, displacement: Array | None, shape: Shape) -> _Call:
        items = math.prod(shape[: int(job["batch_axes"])])
        field = None if displacement is None else _grid_coefficients(displacement, job, items)
        return cls(job, items, 1, field)

    def with_job(self, job: Job) -> _Call:
        """Return the same call with other derivatives."""
        if job is self.job:
            return self
        other = object.__new__(_Call)
        other.__dict__.update(self.__dict__, job=job)
        return other

    def launch(self, kernel: str, grid: Grid, *arguments: Any) -> None:
        """Launch a kernel that visits voxels, unless there are none."""
        if all(grid):
            _launch(kernel, grid, _TILE_THREADS, self.job, *arguments)

    @property
    def transform(self) -> tuple[Any, ...]:
        return self.field, self.tables, self.inverse_maps, np.int64(self.map_size)

    @property
    def planes(self) -> tuple[Any, ...]:
        return np.int64(self.tiles), np.int64(self.channels)

    @property
    def order(self) -> int:
        return int(self.job["order"])

    @property
    def is_derived(self) -> bool:
        return bool(self.job["derivative"].any())

    def sample(self, source: _Source, target: Array, target_dtype: int) -> None:
        kernel = (
            f"sample<{source.dtype}, {target_dtype}, {_C_TYPES[self.compute_dtype]}, {self.order}, {self.kernel_axes}, "
            f"{str(self.is_derived).lower()}>"
        )
        self.launch(kernel, self.blocks, *self.transform, *self.planes, source.array, target)

    def copy(self, source: Array, target: Array) -> None:
        kernel = f"copy<{_STORAGE[source.dtype.itemsize]}, {self.kernel_axes}>"
        self.launch(kernel, self.blocks, *self.transform, *self.planes, source, target)

    def displace(self, target: Array) -> None:
        kernel = f"displace<{self.kernel_axes}>"
        self.launch(kernel, self.blocks, self.field, self.tables, np.int64(self.tiles), target)

    def rows(self) -> Array:
        """Return zeros for the sums that each row of voxels adds to the control grid."""
        return namespace().zeros((self.items, self.axes, *self.output[:-1], _extended(self.grid_shape[-1])), np.float64)

    def displacement_gradient(self, rows: Array) -> Array:
        """Convert these sums into the gradient of the control points, (items, axes, points ...)."""
        for axis in range(self.axes - 2, -1, -1):
            outer = self.items * self.axes * math.prod(self.output[:axis])
            inner = math.prod(map(_extended, self.grid_shape[axis + 1 :]))
            widths = map(_extended, self.grid_shape[axis:])
            to = namespace().empty((self.items, self.axes, *self.output[:axis], *widths), np.float64)
            sizes = np.int32(axis), np.int64(outer), np.int64(inner)
            _launch_flat("contract_adjoint", to.size, self.job, self.tables, *sizes, rows, to)
            rows = to
        return _points_gradient(rows, self.grid_shape)


def _points_gradient(field: Array, points: Shape) -> Array:
    """Convert a gradient of the coefficients, (items, axes, extended points ...), into that of the control points."""
    lead = field.shape[:2]
    for axis, extent in enumerate(points):
        rest = tuple(map(_extended, points[axis + 1 :]))
        to = namespace().empty((*lead, *points[: axis + 1], *rest), np.float64)
        outer = math.prod((*lead, *points[:axis]))
        _launch_flat("fold_grid", to.size, np.int64(outer), np.int64(extent), np.int64(math.prod(rest)), field, to)
        field = to
    return _filtered(_Source(field, _FLOAT64), _FLOAT64, points, _GRID_ORDER, Continuation.MIRRORED, transposed=True)


def _kernel_axes(axes: int) -> int:
    """Return for how many axes a kernel is compiled: 0 for four and more."""
    return axes if axes < 4 else 0


def _voxel_kernel_axes(job: Job, planes: int) -> int:
    """Return for how many axes the kernels that visit voxels are compiled: 0 where 32 bits do not hold an index.

    That depends on the image and not on the part of it that is computed, which is to have the same values.
    """
    axes = int(job["axes"])
    if axes > 3:
        return 0
    image = (job["image"][:axes] + 2 * int(job["padding"])).tolist()
    fits = planes <= _LARGEST_STRIDE and sum(image) <= (_LONGEST_TABLE if axes > 1 else _LONGEST_AXIS)
    for extents in (image, [_extended(points) for points in job["grid_shape"][:axes].tolist()]):
        fits &= max(math.prod(extents[1:]), math.prod(extents[:-1])) <= _LARGEST_STRIDE
        fits &= max(extents) <= _LONGEST_AXIS
    for extent, step in zip(image[-2::-1], _core.tiles[axes][1:], strict=False):
        fits &= extent <= step * _MOST_BLOCKS
    return axes if fits else 0


def _extended(points: int) -> int:
    """Return the number of coefficients of an axis of the control grid, with one more on every side."""
    return max(points + 2, 4)


def _grid_coefficients(displacement: Array, job: Job, items: int) -> Array:
    axes = int(job["axes"])
    shape: Shape = tuple(job["grid_shape"][:axes].tolist())
    field = namespace().empty((items * axes, *map(_extended, shape)), np.float64)
    if max(shape) <= _SMALL_GRID:
        if items:
            rows = max(shape) + 2 * _core.block_margin(_GRID_ORDER, _FLOAT64)
            shared = rows * _FILTER_STRIDE * np.dtype(np.float64).itemsize
            kernel = f"grid_coefficients<{_kernel_axes(axes)}>"
            _launch(kernel, (items * axes,), _FILTER_THREADS, job, displacement, field, shared=shared)
        return field
    values = _Source(displacement.reshape(items * axes, *shape), _FLOAT64)
    coefficients = _filtered(values, _FLOAT64, shape, _GRID_ORDER, Continuation.MIRRORED)
    _launch_flat("extend_grid", field.size, job, np.int64(items * axes), coefficients, field)
    return field


def _extents(job: Job) -> tuple[Shape, Shape, Shape, Shape]:
    axes = int(job["axes"])
    names = ("image", "grid_shape", "start", "output")
    image, points, start, output = (tuple(job[name][:axes].tolist()) for name in names)
    return image, points, start, output


def _tables_of(job: Job, kernel_axes: int) -> _Tables:
    """Return the weights of the control grid; where none are made, kernels compute them for each voxel."""
    output = job["output"][: int(job["axes"])].tolist()
    if 0 in output:
        return _Tables(None, None)
    if sum(output) <= _LONGEST_KEPT_TABLE:
        return _kept_tables(*_extents(job), device().stream())
    return _tabulate(*_extents(job)) if kernel_axes > 1 else _Tables(None, None)


def _tabulate(image: Shape, points: Shape, start: Shape, output: Shape) -> _Tables:
    size = sum(output)
    weights = namespace().empty((size, 4), np.float64)
    cells = namespace().empty(size, np.int64)
    job = make_job(image=image, grid_shape=points, start=start, output=output)
    _launch_flat("tabulate", size, job, np.int64(size), weights, cells)
    return _Tables(weights, cells)


# What is kept is kept for a stream: others would have to wait for it, and when it is dropped, its memory is used again
# by the same stream, behind the kernels that still read it.
@lru_cache(maxsize=256)
def _kept_tables(image: Shape, points: Shape, start: Shape, output: Shape, stream: tuple[int, int]) -> _Tables:
    """Tabulate the weights of the control grid: they are those of every call of these extents."""
    return _tabulate(image, points, start, output)


def _maps(job: Job, affine: Array | None) -> Array | None:
    """Return the maps from output index to image index."""
    axes = int(job["axes"])
    one_map = axes * (axes + 1)
    if affine is None:
        if not job["rotates"]:
            return None
        return _constant(job["inverse_rotation_zoom"][:one_map].tobytes(), device().stream())
    maps = namespace().empty(affine.size, np.float64)
    count = affine.size // one_map
    if count:
        kernel = f"invert<{_kernel_axes(axes)}>"
        shared = 0 if axes < 4 else _MATRIX_THREADS * _MATRIX_BYTES
        _launch(
            kernel, (-(-count // _MATRIX_THREADS),), _MATRIX_THREADS, job, np.int64(count), affine, maps, shared=shared
        )
    return maps


@lru_cache(maxsize=256)
def _constant(values: bytes, stream: tuple[int, int]) -> Array:
    return namespace().asarray(np.frombuffer(values, np.float64))


# ---- coefficients ----------------------------------------------------------------------------------------------------


def _source(job: Job, image: Array) -> _Source:
    """Return what is sampled: the coefficients of the image, or the image itself where there is nothing to filter."""
    dtype, compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
    source = _Source(_contiguous(image), dtype)
    if not (job["filtered"] and job["order"] > 1):
        return source
    axes = int(job["axes"])
    padding = int(job["padding"])
    check_coefficients(job["image"][:axes].tolist(), padding)
    extents: Shape = tuple((job["image"][:axes] + 2 * padding).tolist())
    if padding:
        padded = namespace().empty((*image.shape[: image.ndim - axes], *extents), _NUMPY_TYPES[compute_dtype])
        planes = np.int64(math.prod(image.shape[: image.ndim - axes]))
        _launch_flat(f"pad<{dtype}, {_C_TYPES[compute_dtype]}>", padded.size, job, planes, source.array, padded)
        source = _Source(padded, compute_dtype)
    filtered = _filtered(source, compute_dtype, extents, int(job["order"]), _samples(job))
    return source if filtered is source.array else _Source(filtered, compute_dtype)


def _samples(job: Job) -> Continuation:
    """Return how the samples go on beyond the border under the prefilter."""
    return Mode(int(job["mode"])).traits.samples


def _filtered(
    source: _Source,
    compute_dtype: int,
    extents: Shape,
    order: int,
    samples: Continuation,
    *,
    transposed: bool = False,
    into: Array | None = None,
) -> Array:
    """Filter along the last axes, of these extents; the array itself where none is longer than one sample.

    The last pass writes to `into`, if it is given.
    """
    planes = source.array.size // max(1, math.prod(extents))
    passes = [axis for axis, extent in enumerate(extents) if extent > 1 and source.array.size]
    for axis in passes:
        extent = extents[axis]
        outer, inner = planes * math.prod(extents[:axis]), math.prod(extents[axis + 1 :])
        is_last = into is not None and axis == passes[-1]
        to = into if is_last else namespace().empty(source.array.shape, _NUMPY_TYPES[compute_dtype])
        blocks = -(-outer * inner // _FILTER_LINES) * -(-extent // _FILTER_LENGTH)
        # Whether neighbours in memory lie along the axis, or almost.
        switches = ", ".join(str(switch).lower() for switch in (transposed, inner < _FEWEST_ACROSS))
        kernel = f"filter<{source.dtype}, {_C_TYPES[compute_dtype]}, {order}, {switches}>"
        sizes = (np.int64(outer), np.int64(extent), np.int64(inner))
        _launch(kernel, (blocks,), _FILTER_LINES, np.int32(samples), *sizes, source.array, to)
        source = _Source(to, compute_dtype)
    return source.array


def _source_adjoint(job: Job, coefficients: Array, output: Array) -> None:
    """Apply the transpose of `_source`."""
    axes = int(job["axes"])
    dtype, compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
    extents: Shape = tuple(job["image"][:axes].tolist())
    padding = int(job["padding"])
    if job["filtered"] and job["order"] > 1:
        padded = tuple(extent + 2 * padding for extent in extents)
        source = _Source(coefficients, compute_dtype)
        # Where nothing is left to do, the last pass writes the result.
        into = output if not padding and compute_dtype == dtype else None
        order = int(job["order"])
        coefficients = _filtered(source, compute_dtype, padded, order, _samples(job), transposed=True, into=into)
        if coefficients is output:
            return
    lead = coefficients.shape[: coefficients.ndim - axes]
    for axis in range(axes if padding else 0):
        rest = tuple(extent + 2 * padding for extent in extents[axis + 1 :])
        outer, inner = math.prod((*lead, *extents[:axis])), math.prod(rest)
        to = namespace().empty((*lead, *extents[: axis + 1], *rest), coefficients.dtype)
        sizes = (np.int64(outer), np.int64(extents[axis]), np.int64(inner))
        settings = (np.int32(job["mode"]), np.int32(padding), *sizes)
        _launch_flat(f"pad_adjoint<{_C_TYPES[compute_dtype]}>", to.size, *settings, coefficients, to)
        coefficients = to
    _store(coefficients, compute_dtype, output, dtype)


def _store(values: Array, compute_dtype: int, output: Array, dtype: int) -> None:
    if compute_dtype == dtype:
        output[...] = values.reshape(output.shape)
    else:
        kernel = f"store<{dtype}, {_C_TYPES[compute_dtype]}>"
        _launch_flat(kernel, output.size, np.int64(output.size), values, output)


def prefilter(job: Job, image: Array) -> Array:
    source = _source(job, image)
    return _loaded(source.array, source.dtype, int(job["compute_dtype"]))


def prefilter_adjoint(job: Job, coefficients: Array, output: Array) -> None:
    result = _contiguous_like(output)
    _source_adjoint(job, namespace().ascontiguousarray(coefficients), result)
    _give(result, output)


# ---- gradients -------------------------------------------------------------------------------------------------------


class _Target:
    """The gradient of the coefficients, added up by atomic operations: in an order of chance, or in integers."""

    def __init__(self, call: _Call) -> None:
        xp = namespace()
        image = call.job["image"][: call.axes]
        padding = int(call.job["padding"])
        check_coefficients(image.tolist(), padding)
        padded = (image + 2 * padding).tolist()
        self.compute_dtype = call.compute_dtype
        self.sum = xp.zeros((call.items * call.channels, *padded), _NUMPY_TYPES[self.compute_dtype])
        self.integers: Array | None = None
        self.scale: Array | None = None
        self.adds_integers = is_deterministic()

    def add(self, call: _Call, values: Array, dtype: int) -> None:
        """Add the gradient of one output."""
        if self.adds_integers:
            self._begin(values, dtype)
        kernel = (
            f"splat_image<{dtype}, {_C_TYPES[self.compute_dtype]}, {call.order}, {call.kernel_axes}, "
            f"{str(call.is_derived).lower()}, {str(self.adds_integers).lower()}>"
        )
        target = (self.sum, self.integers, np.int64(self.sum.size), self.scale)
        call.launch(kernel, call.blocks, *call.transform, *call.planes, values, *target)
        if self.adds_integers:
            kernel = f"add_from_fixed<{_C_TYPES[self.compute_dtype]}>"
            _launch_flat(kernel, self.sum.size, self.integers, np.int64(self.sum.size), self.scale, self.sum)

    def _begin(self, values: Array, dtype: int) -> None:
        xp = namespace()
        limbs = 2 if self.compute_dtype == _FLOAT64 else 1
        self.integers = xp.zeros((limbs, self.sum.size), np.uint64)
        numbers = _loaded(values, dtype, self.compute_dtype)
        size = xp.where(xp.isfinite(numbers), xp.abs(numbers), 0).max().astype(np.float64)
        # A power of two, so that scaling rounds nothing; derivatives of splines can pass their coefficients by 2^6.
        exponent = xp.clip(xp.ceil(xp.log2(xp.maximum(size, 1e-300))) + 1, -900, 900)
        self.scale = xp.exp2(-exponent).reshape(1)

    def total(self) -> Array:
        return self.sum


class _TransformSums:
    """The gradients of control points and inverse maps, per item."""

    def __init__(self, call: _Call, with_affine: bool) -> None:
        self.call = call
        self.rows = call.rows()
        shape = (call.items, call.axes, *call.output[:-1], 2)
        self.moments = namespace().zeros(shape, np.float64) if with_affine else None

    def add(self, call: _Call, source: _Source, values: Array, dtype: int) -> None:
        """Add the gradient of one output."""
        types = f"{source.dtype}, {dtype}, {_C_TYPES[call.compute_dtype]}"
        derived = str(call.is_derived).lower()
        kernel = f"splat_transform<{types}, {call.order}, {call.kernel_axes}, {derived}>"
        arguments = (np.int64(call.channels), source.array, values, self.rows, self.moments)
        call.launch(kernel, call.row_blocks, *call.transform, *arguments)

    def total(self) -> tuple[Array, Array | None]:
        return self.call.displacement_gradient(self.rows), None if self.moments is None else self._affine(self.moments)

    def _affine(self, moments: Array) -> Array:
        xp, axes = namespace(), self.call.axes
        rows = tuple(range(2, axes + 1))
        result = xp.empty((self.call.items, axes, axes + 1), np.float64)
        for k, extent in enumerate(self.call.output[:-1]):
            index = _from_origin(self.call.job, k, extent)
            result[..., k] = (moments[..., 0] * index.reshape(-1, *(1,) * (axes - 2 - k))).sum(rows)
        result[..., axes - 1] = moments[..., 1].sum(rows)
        result[..., axes] = moments[..., 0].sum(rows)
        return result


def _weighted(call: _Call, gradient: Array, transform: Transform) -> Iterator[tuple[Job, Array, int]]:
    """Yield the gradient of the output, and that of each partial derivative which the tangents ask for."""
    if not transform.tangents:
        yield call.job, _contiguous(gradient), call.dtype
        return
    numbers = _loaded(_contiguous(gradient), call.dtype, call.compute_dtype).reshape(
        call.items, call.channels, *call.output
    )
    for job, factor in _partial_derivatives(call, transform):
        yield job, namespace().ascontiguousarray((factor * numbers).astype(numbers.dtype)), call.compute_dtype


def _loaded(values: Array, dtype: int, compute_dtype: int) -> Array:
    """Return elements in the compute dtype."""
    if dtype == compute_dtype:
        return values
    numbers = namespace().empty(values.shape, _NUMPY_TYPES[compute_dtype])
    _launch_flat(f"load<{dtype}, {_C_TYPES[compute_dtype]}>", values.size, np.int64(values.size), values, numbers)
    return numbers


def _partial_derivatives(call: _Call, transform: Transform) -> Iterator[tuple[Job, Array]]:
    """Yield the partial derivatives that make up the one along the tangents, and the factor of each voxel.

    Factors are the products of the tangents' components, summed by how often they stand for each axis.
    """
    fields = [_tangent_field(call, *tangent) for tangent in transform.tangents]
    sums: dict[tuple[int, ...], Array] = {}
    for axis_of in itertools.product(range(call.axes), repeat=len(fields)):
        derivative = [int(count) for count in call.job["derivative"][: call.axes]]
        for axis in axis_of:
            derivative[axis] += 1
        if max(derivative) > call.order:
            continue
        factor = fields[0][:, axis_of[0]]
        for field, axis in zip(fields[1:], axis_of[1:], strict=True):
            factor = factor * field[:, axis]
        key = tuple(derivative)
        sums[key] = sums[key] + factor if key in sums else factor
    for key, factor in sums.items():
        yield with_derivative(call.job, key), factor[:, None]


def _tangent_field(call: _Call, displacement: Array, affine: Array | None) -> Array:
    """Return a tangent as a displacement of each voxel, (items, axes, outputs)."""
    xp = namespace()
    shape = (call.items, call.axes, *call.output)
    field = xp.empty(shape, np.float64)
    own = _Call(call.job, call.items, 1, _grid_coefficients(displacement, call.job, call.items))
    own.displace(field)
    if affine is not None:
        change = affine.reshape(-1, call.axes, call.axes + 1, *(1,) * call.axes)
        field += change[:, :, call.axes]
        for k, extent in enumerate(call.output):
            index = _from_origin(call.job, k, extent)
            field += change[:, :, k] * index.reshape(-1, *(1,) * (call.axes - 1 - k))
    return field


def _from_origin(job: Job, axis: int, extent: int) -> Array:
    """Return the indices that affine maps take for the output voxels along an axis."""
    start = float(job["start"][axis] - job["origin"][axis])
    return start + namespace().arange(extent, dtype=np.float64)


# ---- arrays and launches ---------------------------------------------------------------------------------------------


def _contiguous(array: Array) -> Array:
    """Return an array in C order; elements of types that NumPy has not, as their bits."""
    return namespace().ascontiguousarray(_raw(array))


def _raw(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.kind == "V" else array


def _contiguous_like(output: Array) -> Array:
    """Return the output, or where its elements do not lie in C order, a place for them."""
    raw = _raw(output)
    return raw if raw.flags.c_contiguous else namespace().empty(raw.shape, raw.dtype)


def _give(result: Array, output: Array) -> None:
    raw = _raw(output)
    if result is not raw and not raw.flags.c_contiguous:
        raw[...] = result


def _launch_flat(kernel: str, size: int, *arguments: Any) -> None:
    """Launch a kernel with one thread for each number, unless there are none."""
    if size:
        _launch(kernel, (-(-size // _THREADS),), _THREADS, *arguments)


def _launch(kernel: str, grid: Grid, threads: int, *arguments: Any, shared: int = 0) -> None:
    device().launch(kernel, grid, threads, list(_passed(arguments)), shared)


def _passed(arguments: Sequence[Any]) -> Iterator[Any]:
    """Yield numbers, structures and addresses of arguments."""
    for argument in arguments:
        if isinstance(argument, _Tables):
            yield from _passed(argument)
        elif argument is None:
            yield _NOTHING
        elif isinstance(argument, np.generic) or (isinstance(argument, np.ndarray) and argument.ndim == 0):
            yield argument
        else:
            yield np.uint64(device().address(argument))
