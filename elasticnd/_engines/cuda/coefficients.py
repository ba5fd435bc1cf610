"""The prefilter and its transpose: the coefficients that kernels sample, and their gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ... import _core
from ..._limits import check_coefficients
from ..._modes import Continuation, Mode
from .devices import namespace
from .launches import C_TYPES, NUMPY_TYPES, contiguous, launch, launch_flat

if TYPE_CHECKING:
    from ..._job import Job
    from ..._spec import Shape

Array = Any  # of CuPy

_FILTER_LINES, _FILTER_LENGTH = _core.launch["filter_lines"], _core.launch["filter_length"]
_FEWEST_ACROSS = 8  # adjacent lines in memory; with fewer, the prefilter loads along the lines


class Source(NamedTuple):
    """Coefficients, or the image itself: planes in C order, and their element type."""

    array: Array
    dtype: int


def has_filter(job: Job) -> bool:
    """Return whether the image is filtered."""
    return bool(job["filtered"] and job["order"] > 1)


def source_of(job: Job, image: Array) -> Source:
    """Return what is sampled: the coefficients of the image, or the image itself where there is nothing to filter."""
    dtype, compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
    source = Source(contiguous(image), dtype)
    if not has_filter(job):
        return source
    axes = int(job["axes"])
    padding = int(job["padding"])
    check_coefficients(job["image"][:axes].tolist(), padding)
    extents: Shape = tuple((job["image"][:axes] + 2 * padding).tolist())
    if padding:
        padded = namespace().empty((*image.shape[: image.ndim - axes], *extents), NUMPY_TYPES[compute_dtype])
        planes = np.int64(math.prod(image.shape[: image.ndim - axes]))
        launch_flat(f"pad<{dtype}, {C_TYPES[compute_dtype]}>", padded.size, job, planes, source.array, padded)
        source = Source(padded, compute_dtype)
    coefficients = filtered(source, compute_dtype, extents, int(job["order"]), _samples(job))
    return source if coefficients is source.array else Source(coefficients, compute_dtype)


def _samples(job: Job) -> Continuation:
    """Return the continuation of the samples in the prefilter."""
    return Mode(int(job["mode"])).traits.samples


def passes_of(job: Job) -> int:
    """Return how many passes the prefilter takes: one along each axis that is longer than one sample."""
    axes = int(job["axes"])
    extents = job["image"][:axes] + 2 * int(job["padding"])
    return int((extents > 1).sum()) if has_filter(job) else 0


def filtered(
    source: Source,
    compute_dtype: int,
    extents: Shape,
    order: int,
    samples: Continuation,
    *,
    transposed: bool = False,
    overwrites: bool = False,
    into: Array | None = None,
) -> Array:
    """Filter along the last axes, which have these extents. If all are 1, return the array itself.

    The last pass writes to `into`, if it is given. A pass cannot write to the memory that it reads, so passes alternate
    between two places. These include `into` and, if it `overwrites` the source, the memory of the source.
    """
    planes = source.array.size // max(1, math.prod(extents))
    passes = [axis for axis, extent in enumerate(extents) if extent > 1 and source.array.size]
    spare: Array | None = None
    for turn, axis in enumerate(passes):
        extent = extents[axis]
        outer, inner = planes * math.prod(extents[:axis]), math.prod(extents[axis + 1 :])
        is_turn_of_result = into is not None and source.array is not into and (len(passes) - turn) % 2 == 1
        to: Array = into if is_turn_of_result else spare
        if to is None:
            to = namespace().empty(source.array.shape, NUMPY_TYPES[compute_dtype])
        blocks = -(-outer * inner // _FILTER_LINES) * -(-extent // _FILTER_LENGTH)
        # The last switch: whether samples along the axis are adjacent in memory, or almost.
        switches = ", ".join(str(switch).lower() for switch in (transposed, inner < _FEWEST_ACROSS))
        kernel = f"filter<{source.dtype}, {C_TYPES[compute_dtype]}, {order}, {switches}>"
        sizes = (np.int64(outer), np.int64(extent), np.int64(inner))
        launch(kernel, (blocks,), _FILTER_LINES, np.int32(samples), *sizes, source.array, to)
        if (turn or overwrites) and source.array is not into:
            spare = source.array
        source = Source(to, compute_dtype)
    return source.array


def source_adjoint(job: Job, coefficients: Array, output: Array, *, overwrites: bool = False) -> None:
    """Apply the transpose of `source_of`. It takes less memory if it `overwrites` the coefficients."""
    axes = int(job["axes"])
    dtype, compute_dtype = int(job["dtype"]), int(job["compute_dtype"])
    extents: Shape = tuple(job["image"][:axes].tolist())
    padding = int(job["padding"])
    if has_filter(job):
        padded = tuple(extent + 2 * padding for extent in extents)
        source = Source(coefficients, compute_dtype)
        # If nothing is to be done after the last pass, it writes the result.
        into = output if not padding and compute_dtype == dtype else None
        order = int(job["order"])
        coefficients = filtered(
            source, compute_dtype, padded, order, _samples(job), transposed=True, overwrites=overwrites, into=into
        )
        if coefficients is output:
            return
    lead = coefficients.shape[: coefficients.ndim - axes]
    for axis in range(axes if padding else 0):
        rest = tuple(extent + 2 * padding for extent in extents[axis + 1 :])
        outer, inner = math.prod((*lead, *extents[:axis])), math.prod(rest)
        to = namespace().empty((*lead, *extents[: axis + 1], *rest), coefficients.dtype)
        sizes = (np.int64(outer), np.int64(extents[axis]), np.int64(inner))
        settings = (np.int32(job["mode"]), np.int32(padding), *sizes)
        launch_flat(f"pad_adjoint<{C_TYPES[compute_dtype]}>", to.size, *settings, coefficients, to)
        coefficients = to
    store(coefficients, compute_dtype, output, dtype)


def store(values: Array, compute_dtype: int, output: Array, dtype: int) -> None:
    kernel = f"store<{dtype}, {C_TYPES[compute_dtype]}>"
    launch_flat(kernel, output.size, np.int64(output.size), values, output)


def loaded(values: Array, dtype: int, compute_dtype: int) -> Array:
    """Return elements in the compute dtype."""
    if dtype == compute_dtype:
        return values
    numbers = namespace().empty(values.shape, NUMPY_TYPES[compute_dtype])
    launch_flat(f"load<{dtype}, {C_TYPES[compute_dtype]}>", values.size, np.int64(values.size), values, numbers)
    return numbers
