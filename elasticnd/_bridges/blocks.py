"""A call divided into blocks: the part of the image that each output block reads, and its computation.

The part follows from the control grid alone, before anything is computed. From a part of the image, the core computes a
block of the output bit for bit as it computes the whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import _dtypes
from .._autodiff import compute
from .._autodiff.operators import Operands, Operator, TransformArrays
from .._config import sharing_threads
from .._errors import reject_value
from .._floating_point import in_default_state
from .._spec import DeformSpec, Shape, Window
from .._types import DType, NumpyArray

Array: TypeAlias = NumpyArray
Chunks = tuple[tuple[int, ...], ...]  # extents of the chunks along each axis
Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Call:
    """What all blocks of a call share; the call is for one image."""

    spec: DeformSpec
    transform: TransformArrays
    dtype: DType  # of the image
    chunks: Chunks  # of the image

    def bounds(self) -> list[list[int]]:
        """Return where the image's chunks begin along each deformed axis, and where the last one ends."""
        return [_starts(self.chunks[axis]) for axis in self.spec.images[0].axes]

    def transform_of(self, items: Slices) -> TransformArrays:
        """Return displacement and matrix of some batch items."""
        displacement, *affine = self.transform
        return displacement[items], *(one[items] if self.spec.affine_batched else one for one in affine)


@dataclass(frozen=True)
class Block:
    """One block of the output."""

    start: Shape  # in the output
    shape: Shape
    items: Slices  # of the batch
    window: Window  # of the frame
    roi: Window  # part of the image that is read
    chunks: Window  # chunks of the image that are read: index of the first and count, along each deformed axis

    @property
    def reads_nothing(self) -> bool:
        """Whether no voxel of the image is read."""
        return self.roi.shape[0] == 0


@dataclass(frozen=True)
class Overlap:
    """Where a part of an image overlaps one of its chunks."""

    in_part: Slices
    in_chunk: Slices


# ---- cutting ---------------------------------------------------------------------------------------------------------


def output_chunks(spec: DeformSpec, chunks: Chunks) -> Chunks:
    """Divide the patch where the image is divided. Along other voxels, repeat the image's largest chunk."""
    result = list(chunks)
    for axis, start, extent in zip(spec.images[0].axes, *spec.window, strict=True):
        if spec.frame is not None:
            size = max(chunks[axis])
            result[axis] = tuple(min(size, extent - first) for first in range(0, extent, size)) or (0,)
            continue
        bounds = np.clip(_starts(chunks[axis]), start, start + extent)
        result[axis] = tuple(int(size) for size in np.diff(bounds) if size) or (0,)
    return tuple(result)


def image_chunks(spec: DeformSpec, chunks: Chunks) -> Chunks:
    """Divide the image like its patch, with one chunk before and after it: the inverse of `output_chunks`."""
    result = list(chunks)
    sizes = zip(spec.images[0].axes, *spec.window, spec.extent, strict=True)
    for axis, start, length, extent in sizes:
        result[axis] = tuple(size for size in (start, *chunks[axis], extent - start - length) if size) or (0,)
    return tuple(result)


def cut(call: Call, chunks: Chunks) -> Iterator[tuple[Shape, Block]]:
    """Yield the index and the description of each output block, divided by `chunks`."""
    (options,) = call.spec.images
    starts = list(map(_starts, chunks))
    others = [k for k in range(len(chunks)) if k not in options.axes]  # the batch axes, then channels
    order = (*others, *options.axes)
    places = [order.index(k) for k in range(len(chunks))]
    deformed = _numbers(chunks, options.axes)
    outputs = np.array(
        [[(starts[k][n], chunks[k][n]) for k, n in zip(options.axes, number, strict=True)] for number in deformed]
    )
    offset = np.array([(start, 0) for start in call.spec.window.start])
    windows = [_window(block + offset) for block in outputs]
    batch_axes = len(call.spec.batch)
    sources: dict[Shape, list[tuple[Window, Window]]] = {}  # shared by all channels
    for number in _numbers(chunks, others):
        of_batch = number[:batch_axes]
        items = tuple(slice(starts[k][n], starts[k][n + 1]) for k, n in enumerate(of_batch))
        if of_batch not in sources:
            sources[of_batch] = _find_sources(call, outputs, items)
        for of_deformed, window, (roi, read) in zip(deformed, windows, sources[of_batch], strict=True):
            in_order = (*number, *of_deformed)
            index = tuple(in_order[place] for place in places)
            start = tuple(starts[k][n] for k, n in enumerate(index))
            shape = tuple(chunks[k][n] for k, n in enumerate(index))
            yield index, Block(start, shape, items, window, roi, read)


def _starts(sizes: Sequence[int]) -> list[int]:
    return list(itertools.accumulate(sizes, initial=0))


def _numbers(chunks: Chunks, axes: Sequence[int]) -> list[Shape]:
    return list(itertools.product(*(range(len(chunks[k])) for k in axes)))


def _find_sources(call: Call, outputs: NDArray[np.int64], items: Slices) -> list[tuple[Window, Window]]:
    """Find the voxels and chunks of the image that each block of the patch reads, for some batch items."""
    voxels = compute.source_voxels(call.spec, outputs, call.transform_of(items))
    chunks = np.empty_like(voxels)
    for axis, bounds in enumerate(call.bounds()):
        start, extent = voxels[:, axis].T
        chunks[:, axis, 0] = np.searchsorted(bounds, start, "right") - 1
        chunks[:, axis, 1] = np.searchsorted(bounds, start + extent, "left") - chunks[:, axis, 0]
    chunks[voxels[..., 1] == 0] = 0
    return list(zip(map(_window, voxels), map(_window, chunks), strict=True))


def _window(box: NDArray[np.int64]) -> Window:
    start, shape = box.T.tolist()
    return Window(tuple(start), tuple(shape))


def chunks_read(call: Call, index: Shape, block: Block) -> list[Shape]:
    """Return the indices of the image chunks that a block reads, in C order of the deformed axes."""
    ranges = [range(first, first + count) for first, count in zip(*block.chunks, strict=True)]
    numbers = []
    for along in itertools.product(*ranges):
        number = list(index)
        for axis, n in zip(call.spec.images[0].axes, along, strict=True):
            number[axis] = n
        numbers.append(tuple(number))
    return numbers


def overlaps(call: Call, block: Block) -> list[Overlap]:
    """Return where the part of the image that a block reads overlaps the chunks of `chunks_read`."""
    along = []
    for bounds, start, extent, first, count in zip(call.bounds(), *block.roi, *block.chunks, strict=True):
        own = []
        for n in range(first, first + count):
            low, high = max(bounds[n], start), min(bounds[n + 1], start + extent)
            own.append((slice(low - start, high - start), slice(low - bounds[n], high - bounds[n])))
        along.append(own)
    found = []
    for places in itertools.product(*along):
        in_part, in_chunk = [slice(None)] * len(block.shape), [slice(None)] * len(block.shape)
        for axis, (of_part, of_chunk) in zip(call.spec.images[0].axes, places, strict=True):
            in_part[axis], in_chunk[axis] = of_part, of_chunk
        found.append(Overlap(tuple(in_part), tuple(in_chunk)))
    return found


# ---- computing -------------------------------------------------------------------------------------------------------


class StoredArray(Protocol):
    """An array of which any part can be read."""

    def __getitem__(self, place: Slices, /) -> Array:
        """Read a part."""


# The source of a block's image: the chunks that it reads, or a stored array.
Source: TypeAlias = list[Array] | StoredArray


@in_default_state
def deform(call: Call, block: Block, source: Source) -> Array:
    """Compute a block of the output."""
    spec = _spec_of(call, block)
    image = _read(call, block, spec, source)
    with sharing_threads():
        operands = Operands(image=image, transform=call.transform_of(block.items))
        (result,) = compute.apply(Operator(spec, "sample"), spec, operands)
    return result


@in_default_state
def adjoint(call: Call, block: Block, gradient: Array, source: Source | None) -> list[Array]:
    """Compute the gradient of the part that a block reads; with a source, also of displacement and inverse map."""
    spec = _spec_of(call, block)
    operator = Operator(spec, "sample_adjoint", wants_image=True, wants_transform=source is not None)
    image = None if source is None else _read(call, block, spec, source)
    with sharing_threads():
        return compute.apply(operator, spec, Operands(gradient, image, call.transform_of(block.items)))


@in_default_state
def converted(array: Array, dtype: DType) -> Array:
    """Convert to a dtype; values that it cannot hold become infinite."""
    return array.astype(dtype, copy=False)


@in_default_state
def sum_parts(shape: Shape, dtype: DType, overlaps: list[Overlap], gradients: list[list[Array]]) -> Array:
    """Sum the gradients of parts of an image over one of its chunks."""
    total: Array = np.zeros(shape, np.float32 if dtype.itemsize < 4 else dtype)  # 16-bit types lose small terms
    for overlap, (of_part, *_) in zip(overlaps, gradients, strict=True):
        total[overlap.in_chunk] += of_part[overlap.in_part]
    return total.astype(dtype, copy=False)


def fill_value(call: Call) -> np.generic:
    """Return the value of blocks that read nothing, rounded as in the core."""
    spec = call.spec
    native = _dtypes.native(call.dtype)
    if spec.images[0].is_complex:
        return native.type(complex(*spec.images[0].cval))  # type: ignore[misc]
    job = compute.plan_of(spec).job
    if spec.images[0].order > 0 and job["compute_dtype"] == _dtypes.CODES["float32"] and native.itemsize < 4:
        rounded = np.float32(job["cval"])
        return np.frombuffer(_dtypes.element(rounded, spec.images[0].dtype), native)[0]
    return job["cval_element"][: native.itemsize].view(native)[0]


def _spec_of(call: Call, block: Block) -> DeformSpec:
    axes = call.spec.images[0].axes
    shape = list(block.shape)
    for axis, extent in zip(axes, block.roi.shape, strict=True):
        shape[axis] = extent
    return call.spec.for_window(block.window, block.roi, tuple(shape))


def _read(call: Call, block: Block, spec: DeformSpec, source: Source) -> Array:
    """Read the part of the image that a block needs. Each chunk is released once it is copied."""
    shape = spec.images[0].shape
    if not isinstance(source, list):
        return _checked(call, np.asarray(source[_place(call, block)]), shape)
    places = overlaps(call, block)
    if len(places) == 1:
        return _checked(call, source.pop()[places[0].in_chunk], shape)
    part: Array = np.empty(shape, call.dtype)
    source.reverse()
    for place in places:
        target = part[place.in_part]
        target[...] = _checked(call, source.pop()[place.in_chunk], target.shape)
    return part


def _checked(call: Call, array: Array, shape: Shape) -> Array:
    """Check that an array has the dtype and shape that the lazy array promised."""
    if array.dtype != call.dtype or array.shape != shape:
        promised = f"{call.dtype} and {shape}, as declared by the dask array"
        reject_value("X", f"blocks of {array.dtype} and shape {array.shape}", promised)
    return array


def _place(call: Call, block: Block) -> Slices:
    """Return the slices of the image that a block reads."""
    # Output and image are the same along the axes that are not deformed.
    place = [slice(start, start + extent) for start, extent in zip(block.start, block.shape, strict=True)]
    for axis, part in zip(call.spec.images[0].axes, block.roi.slices, strict=True):
        place[axis] = part
    return tuple(place)
