"""The control grid, prepared for the kernels that visit voxels, and its gradient."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _core
from ..._job import Job, make_job
from ..._modes import Continuation
from ..._spec import Frame, Window
from .coefficients import Source, filtered
from .devices import Stream, device, keeping_memory, launching_on, namespace
from .launches import FLOAT64, kernel_axes, launch, launch_flat

if TYPE_CHECKING:
    from ..._spec import Shape

Array = Any  # of CuPy

_GRID_ORDER = 3
_SMALL_GRID = 64  # control points along an axis that one block can filter at a time
# The kept tables take at most 42 MB: 40 bytes for each output index.
_LONGEST_KEPT_TABLE = 16384  # outputs along all axes
_KEPT_TABLES = 64
_FILTER_THREADS, _FILTER_STRIDE = _core.launch["filter_threads"], _core.launch["filter_stride"]


class Tables(NamedTuple):
    """The weights of the control grid for each output index, and its cell."""

    weights: Array | None
    cells: Array | None


def extended(points: int) -> int:
    """Return the number of coefficients along an axis of the control grid, including one more at each end."""
    return max(points + 2, 4)


def grid_coefficients(displacement: Array, job: Job, items: int) -> Array:
    axes = int(job["axes"])
    shape: Shape = tuple(job["grid_shape"][:axes].tolist())
    field = namespace().empty((items * axes, *map(extended, shape)), np.float64)
    if max(shape) <= _SMALL_GRID:
        if items:
            rows = max(shape) + 2 * _core.block_margin(_GRID_ORDER, FLOAT64)
            shared = rows * _FILTER_STRIDE * np.dtype(np.float64).itemsize
            kernel = f"grid_coefficients<{kernel_axes(axes)}>"
            launch(kernel, (items * axes,), _FILTER_THREADS, job, displacement, field, shared=shared)
        return field
    values = Source(displacement.reshape(items * axes, *shape), FLOAT64)
    coefficients = filtered(values, FLOAT64, shape, _GRID_ORDER, Continuation.MIRRORED)
    launch_flat("extend_grid", field.size, job, np.int64(items * axes), coefficients, field)
    return field


def points_gradient(field: Array, points: Shape, into: Array | None = None) -> Array:
    """Convert a gradient of the coefficients, (items, axes, extended points ...), into that of the control points."""
    lead = field.shape[:2]
    is_filtered = max(points) > 1
    for axis, extent in enumerate(points):
        rest = tuple(map(extended, points[axis + 1 :]))
        is_result = not is_filtered and axis == len(points) - 1
        to: Array = into if is_result else None
        if to is None:
            to = namespace().empty((*lead, *points[: axis + 1], *rest), np.float64)
        outer = math.prod((*lead, *points[:axis]))
        launch_flat("fold_grid", to.size, np.int64(outer), np.int64(extent), np.int64(math.prod(rest)), field, to)
        field = to
    source, samples = Source(field, FLOAT64), Continuation.MIRRORED
    return filtered(source, FLOAT64, points, _GRID_ORDER, samples, transposed=True, overwrites=True, into=into)


def _rows_of(job: Job) -> tuple[Frame, Shape, Window]:
    """Return what the weights of the control grid depend on."""
    axes = int(job["axes"])
    names = ("frame", "frame_start", "frame_step", "grid_shape", "start", "output")
    frame, frame_start, frame_step, points, start, output = (tuple(job[name][:axes].tolist()) for name in names)
    return Frame(frame, frame_start, frame_step), points, Window(start, output)


def tables_of(job: Job, kernel_axes: int) -> Tables:
    """Return the weights of the control grid. If the tables are empty, kernels compute the weights for each voxel."""
    output = job["output"][: int(job["axes"])].tolist()
    if 0 in output:
        return Tables(None, None)
    if sum(output) > _LONGEST_KEPT_TABLE:
        return _tabulate(*_rows_of(job)) if kernel_axes > 1 else Tables(None, None)
    here = device()
    return kept_tables(*_rows_of(job), here.stream()) if here.keeps_tables else _tabulate(*_rows_of(job))


def _tabulate(frame: Frame, points: Shape, window: Window) -> Tables:
    size = sum(window.shape)
    weights = namespace().empty((size, 4), np.float64)
    cells = namespace().empty(size, np.int64)
    job = make_job(image=frame.extent, grid_shape=points, start=window.start, output=window.shape, frame=frame)
    launch_flat("tabulate", size, job, np.int64(size), weights, cells)
    return Tables(weights, cells)


# Each stream has its own tables, since another stream would have to wait for them. When tables are dropped, the same
# stream reuses their memory, after the kernels that still read them.
@lru_cache(maxsize=_KEPT_TABLES)
def kept_tables(frame: Frame, points: Shape, window: Window, stream: Stream) -> Tables:
    """Tabulate the weights of the control grid, which all calls with these extents share."""
    with launching_on(None), keeping_memory():  # even if the call is only planned
        return _tabulate(frame, points, window)
