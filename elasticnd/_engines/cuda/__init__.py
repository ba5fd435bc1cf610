"""The engine for CuPy arrays: launches of the CUDA kernels on the current device and stream.

Nothing here waits for the device, and nothing is copied to the host. No coordinates are stored: a kernel evaluates the
control grid for the voxels that it visits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ..._config import is_deterministic
from ..._job import Job
from ..contract import Transform
from .call import LARGEST_SUMS, Call, over_sections
from .coefficients import has_filter, loaded, source_adjoint, source_of, store
from .control_grid import extended, grid_coefficients, points_gradient
from .devices import device, namespace
from .gradients import ImageGradient, TransformSums
from .launches import NUMPY_TYPES, contiguous, contiguous_like, copy_back, kernel_axes, launch
from .plans import Kind, run_planned, scratch_of
from .tangents import partial_derivatives, weighted

if TYPE_CHECKING:
    from ..._spec import Shape

Array = Any  # of CuPy

__all__ = [
    "displace",
    "displace_adjoint",
    "empties",
    "empty",
    "evaluate",
    "evaluate_adjoint",
    "holding",
    "namespace",
    "prefilter",
    "prefilter_adjoint",
    "sample",
    "sample_adjoint",
    "scratch_of_adjoint",
    "scratch_of_evaluation",
    "scratch_of_field",
    "scratch_of_sample",
]

_EVALUATION_THREADS = _core.launch["evaluation_threads"]
_BYTES_TOGETHER = 1 << 24  # of coefficients: two passes of the prefilter stay in the cache of a large device
_EVALUATION_PARTS = 512  # into which the sums of an adjoint are divided
_FLOAT64 = np.dtype(np.float64)


def holding(array: Array) -> AbstractContextManager[Any]:
    return device().holding(array)


def empty(shape: Shape, dtype: np.dtype[Any]) -> Array:
    return namespace().empty(shape, dtype)


def empties(count: int, shape: Shape, dtype: np.dtype[Any]) -> list[Array]:
    return [empty(shape, dtype) for _ in range(count)]


def sample(job: Job, images: Sequence[Array], transform: Transform, outputs: Sequence[Array]) -> None:
    if transform.tangents:
        _sample_all(job, images, transform, outputs)
    else:
        run_planned(_sample_flat, job, (transform.displacement, transform.affine, *images, *outputs))


def scratch_of_sample(job: Job, transform: Sequence[Shape], image: Kind, output: Kind) -> int:
    """Return how many bytes of scratch memory `sample` needs, for one image in C order, without tangents."""
    return scratch_of(_sample_flat, job, (*_transform_kinds(transform), image, output))


def _transform_kinds(transform: Sequence[Shape]) -> tuple[Kind | None, Kind | None]:
    displacement, *affine = [(shape, _FLOAT64) for shape in transform]
    return displacement, affine[0] if affine else None


def _sample_flat(job: Job, arrays: Sequence[Array]) -> None:
    displacement, affine, *rest = arrays
    images, outputs = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    _sample_all(job, images, Transform(displacement, affine), outputs)


def _sample_all(job: Job, images: Sequence[Array], transform: Transform, outputs: Sequence[Array]) -> None:
    call = Call.of(job, outputs[0].shape, transform)
    for image, output in zip(images, outputs, strict=True):
        _sample(call, image, transform, output)


def _sample(call: Call, image: Array, transform: Transform, output: Array) -> None:
    job = call.job
    target = contiguous_like(output)
    if transform.tangents:
        source = source_of(job, image)
        shape = (call.items, call.channels, *call.output)
        total = namespace().zeros(shape, NUMPY_TYPES[call.compute_dtype])
        part = namespace().empty(shape, total.dtype)
        for derived, factor in partial_derivatives(call, transform):
            call.with_job(derived).sample(source, part, call.compute_dtype)
            total += (factor * part).astype(total.dtype)
        store(total, call.compute_dtype, target, call.dtype)
    elif job["votes"]:
        call.elect(contiguous(image), target)
    elif call.order == 0 and not call.is_derived:
        call.copy(contiguous(image), target)
    elif has_filter(job):
        _filter_and_sample(call, contiguous(image), target)
    else:
        call.sample(source_of(job, image), target, call.dtype)
    copy_back(target, output)


def _filter_and_sample(call: Call, image: Array, target: Array) -> None:
    """Filter and sample some items at a time: their coefficients take less memory, and may stay in the cache."""
    planes = call.items, call.channels
    images, targets = image.reshape(*planes, *image.shape[-call.axes :]), target.reshape(*planes, *call.output)
    coefficients = NUMPY_TYPES[call.compute_dtype].itemsize * math.prod(images.shape[1:])
    for items, part in call.parts(max(1, _BYTES_TOGETHER // max(1, coefficients))):
        part.sample(source_of(call.job, images[items]), targets[items], call.dtype)


def sample_adjoint(
    job: Job, gradient: Array, image: Array | None, transform: Transform, image_gradient: Array | None
) -> tuple[Array, Array | None] | None:
    sums = None if image is None else _transform_gradients(job, gradient, transform)
    arrays = (gradient, image, image_gradient, *(sums or (None, None)))
    if transform.tangents or is_deterministic():
        _adjoint(job, transform, *arrays, in_integers=is_deterministic())
    else:
        run_planned(_adjoint_flat, job, (transform.displacement, transform.affine, *arrays))
    return sums


def scratch_of_adjoint(
    job: Job, gradient: Kind, image: Kind | None, transform: Sequence[Shape], image_gradient: Kind | None
) -> int:
    """Return how many bytes of scratch memory `sample_adjoint` needs if it sums floats, not integers."""
    shapes: list[Shape | None] = [None, None]
    if image is not None:
        shapes = [*_gradient_shapes(job, gradient[0])][: len(transform)] + [None] * (2 - len(transform))
    sums = [None if shape is None else (shape, _FLOAT64) for shape in shapes]
    return scratch_of(_adjoint_flat, job, (*_transform_kinds(transform), gradient, image, image_gradient, *sums))


def _gradient_shapes(job: Job, output: Shape) -> tuple[Shape, Shape]:
    """Return the shapes of the gradients of control points and inverse maps, per item."""
    axes = int(job["axes"])
    items = math.prod(output[: int(job["batch_axes"])])
    return (items, axes, *job["grid_shape"][:axes].tolist()), (items, axes, axes + 1)


def _transform_gradients(job: Job, gradient: Array, transform: Transform) -> tuple[Array, Array | None]:
    of_displacement, of_affine = _gradient_shapes(job, gradient.shape)
    return empty(of_displacement, _FLOAT64), None if transform.affine is None else empty(of_affine, _FLOAT64)


def _adjoint_flat(job: Job, arrays: Sequence[Array]) -> None:
    displacement, affine, *rest = arrays
    _adjoint(job, Transform(displacement, affine), *rest, in_integers=False)


def _adjoint(
    job: Job,
    transform: Transform,
    gradient: Array,
    image: Array | None,
    image_gradient: Array | None,
    of_displacement: Array | None,
    of_affine: Array | None,
    *,
    in_integers: bool,
) -> None:
    call = Call.of(job, gradient.shape, transform)
    source = None if image is None else source_of(job, image)
    result = None if image_gradient is None else contiguous_like(image_gradient)
    target = None if result is None else ImageGradient(call, result, in_integers)
    sums = None if source is None else TransformSums(call, transform.affine is not None)
    for derived, values, code in weighted(call, gradient, transform):
        own = call.with_job(derived)
        if target is not None:
            target.add(own, values, code)
        if sums is not None and source is not None:
            sums.add(own, source, values, code)
    del source  # the transpose of the prefilter can reuse its memory
    if target is not None:
        target.finish(job, result)
        copy_back(result, image_gradient)
    if sums is not None:
        sums.finish(of_displacement, of_affine)


def displace(job: Job, displacement: Array, output: Array) -> None:
    run_planned(_displace_flat, job, (displacement, output))


def _displace_flat(job: Job, arrays: Sequence[Array]) -> None:
    displacement, output = arrays
    call = Call.of_field(job, displacement, output.shape)
    target = contiguous_like(output)
    call.displace(target)
    copy_back(target, output)


def displace_adjoint(job: Job, gradient: Array, output: Array) -> None:
    run_planned(_displace_adjoint_flat, job, (gradient, output))


def _displace_adjoint_flat(job: Job, arrays: Sequence[Array]) -> None:
    gradient, output = arrays
    call = Call.of_field(job, None, gradient.shape)
    rows = call.rows()
    kernel = f"displace_adjoint<{call.kernel_axes}>"
    call.launch(kernel, call.section_blocks, *call.tables, *call.cut, contiguous(gradient), rows)
    target = contiguous_like(output)
    call.displacement_gradient(rows, target)
    copy_back(target, output)


def scratch_of_field(job: Job, verb: str, given: Shape, output: Shape) -> int:
    """Return how many bytes of scratch memory `displace` or `displace_adjoint` needs, for arrays in C order."""
    flat = _displace_flat if verb == "displace" else _displace_adjoint_flat
    return scratch_of(flat, job, ((given, _FLOAT64), (output, _FLOAT64)))


def evaluate(job: Job, displacement: Array, positions: Array) -> Array:
    items, count, axes = positions.shape
    values = empty((items, count, axes, axes ** int(job["evaluation_order"])), _FLOAT64)
    if values.size:
        run_planned(_evaluate_flat, job, (displacement, positions, values))
    return values


def _evaluate_flat(job: Job, arrays: Sequence[Array]) -> None:
    displacement, positions, values = arrays
    items, count, axes, derivatives = values.shape
    field = grid_coefficients(displacement, job, items)
    sizes = np.int64(items * count), np.int64(count), np.int64(derivatives)
    kernel = f"evaluate<{kernel_axes(axes)}>"
    blocks = -(-items * count // _EVALUATION_THREADS)
    launch(kernel, (blocks,), _EVALUATION_THREADS, job, *sizes, field, contiguous(positions), values)


def evaluate_adjoint(job: Job, gradient: Array, positions: Array) -> Array:
    items, _, axes = positions.shape
    shape = (items, axes, *job["grid_shape"][:axes].tolist())
    if not gradient.size:
        return namespace().zeros(shape, np.float64)
    result = empty(shape, _FLOAT64)
    run_planned(_evaluate_adjoint_flat, job, (gradient, positions, result))
    return result


def _evaluate_adjoint_flat(job: Job, arrays: Sequence[Array]) -> None:
    gradient, positions, result = arrays
    items, count, axes = positions.shape
    points = result.shape[2:]
    widths = tuple(map(extended, points))
    # Results do not depend on the device, because the number of partial sums does not.
    parts = max(1, min(_EVALUATION_PARTS, LARGEST_SUMS // (axes * math.prod(widths))))
    together = -(-count // parts)
    parts = -(-count // together)
    sums = namespace().zeros((items, parts, axes, *widths), np.float64)
    sizes = np.int64(count), np.int64(together), np.int64(axes ** int(job["evaluation_order"]))
    kernel = f"evaluate_adjoint<{kernel_axes(axes)}>"
    arguments = (*sizes, contiguous(gradient), contiguous(positions), sums)
    launch(kernel, (items * parts,), _EVALUATION_THREADS, job, *arguments)
    points_gradient(over_sections(sums), points, result)


def scratch_of_evaluation(job: Job, verb: str, items: int, count: int) -> int:
    """Return how many bytes of scratch memory `evaluate` or `evaluate_adjoint` needs."""
    axes = int(job["axes"])
    displacement = (items, axes, *job["grid_shape"][:axes].tolist())
    values, positions = (items, count, axes, axes ** int(job["evaluation_order"])), (items, count, axes)
    shapes = (displacement, positions, values) if verb == "evaluate" else (values, positions, displacement)
    flat = _evaluate_flat if verb == "evaluate" else _evaluate_adjoint_flat
    return scratch_of(flat, job, [(shape, _FLOAT64) for shape in shapes])


def prefilter(job: Job, image: Array) -> Array:
    source = source_of(job, image)
    return loaded(source.array, source.dtype, int(job["compute_dtype"]))


def prefilter_adjoint(job: Job, coefficients: Array, output: Array) -> None:
    result = contiguous_like(output)
    source_adjoint(job, namespace().ascontiguousarray(coefficients), result)
    copy_back(result, output)
