"""The bridge for dask: lazy results, every block of which names the blocks of the image that it reads, and no more."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import NDArray

from .. import _dtypes
from .._compat import dask as compat
from .._dtypes import name_of
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, Shape
from . import blocks, contract, eager
from .blocks import Call, Chunks

Array = NDArray[Any]
Lazy = Any  # a dask array
Graph = dict[Any, Any]

_SUMMANDS = 16  # gradients of the control grid that one task adds

is_deferred = contract.is_deferred
deferred = contract.deferred
# Control grids are NumPy's, since they decide what is read; so is what is computed from them alone.
dense = eager.dense
evaluate = eager.evaluate
algebra = eager.algebra
values = eager.values


def info(array: Any) -> ArrayInfo:
    return ArrayInfo(array.shape, name_of(array.dtype))


def engine_name(array: Lazy) -> tuple[str, str]:
    return "cpu", "the core computes it later, block by block"


def check(argument: str, image: Lazy, first: Lazy) -> None:
    """Refuse blocks that are not of NumPy, or whose extents nobody knows."""
    meta = compat.meta_of(image)
    if not isinstance(meta, np.ndarray) or isinstance(meta, np.ma.MaskedArray):
        reject_type(argument, image, f"one of NumPy arrays without a mask, not of {type(meta).__name__}")
    if any(math.isnan(extent) for extent in image.shape):
        reject_value(argument, f"shape {image.shape}", "an array whose shape is known: call compute_chunk_sizes()")


def small_array(argument: str, value: Any, like: Any = None) -> Array:
    """Take a control grid or a matrix: an array of NumPy, or nested lists of numbers."""
    if isinstance(value, da.Array):
        reject_type(argument, value, "a NumPy array, for it decides what is read: call compute() on it")
    return eager.small_array(argument, value)


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Lazy, rng: Any) -> Array:
    """Draw displacements of control points, as NumPy does."""
    return eager.random_normal(shape, scale, None, rng)


# ---- the deformation -------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Lazy], displacement: Array, affine: Array | None) -> list[Lazy]:
    """Deform images, once it is asked for."""
    return [
        _deformed(spec.only(options), image, displacement, affine)
        for options, image in zip(spec.images, images, strict=True)
    ]


def _deformed(spec: DeformSpec, image: Lazy, displacement: Array, affine: Array | None) -> Lazy:
    call = Call(spec, displacement.copy(), _copied(affine), image.dtype, image.chunks)
    chunks = blocks.output_chunks(spec, image.chunks)
    dtype = _dtypes.native(image.dtype)
    shape = spec.output_shape(spec.images[0])
    if 0 in shape:
        return da.empty(shape, dtype=dtype, chunks=chunks)
    token = tokenize(image.name, spec, call.displacement, call.affine)
    name, shared = f"deform-{token}", f"deformation-{token}"
    graph: Graph = {shared: call}
    fill = blocks.fill_value(call)
    stored = _stored(image)
    for index, block in blocks.cut(call, chunks):
        if block.reads_nothing:
            graph[(name, *index)] = (np.full, block.shape, fill, dtype)
        else:
            read = stored or _keys(image, blocks.chunks_read(call, index, block))
            graph[(name, *index)] = (blocks.deform, shared, block, read)
    return _array(_with_layer(name, graph, [image]), name, chunks, dtype)


def _keys(image: Lazy, numbers: list[Shape]) -> list[Any]:
    return [(image.name, *number) for number in numbers]


def _stored(image: Lazy) -> str | None:
    """Name the task that is a stored array, if an image is that array as `dask.array.from_array` takes it.

    Then each block reads its own part of it. Whole chunks, read once for all blocks around, would wait in memory for
    the last of these: of a large image, for a long time.
    """
    return compat.stored_array_key(image)


def _with_layer(name: str, graph: Graph, sources: Sequence[Lazy]) -> HighLevelGraph:
    """Add a layer of tasks that need those of some arrays, or the stored arrays behind them."""
    layers = HighLevelGraph.from_collections(name, graph, dependencies=sources)
    stored = {original for original in map(_stored, sources) if original}
    return HighLevelGraph(layers.layers, {**layers.dependencies, name: layers.dependencies[name] | stored})


def _copied(array: Array | None) -> Array | None:
    """Keep what the caller may change before the result is computed."""
    return None if array is None else array.copy()


# ---- gradients -------------------------------------------------------------------------------------------------------


def image_vjp(spec: DeformSpec, gradients: Sequence[Lazy], displacement: Array, affine: Array | None) -> list[Lazy]:
    """Pull gradients of the outputs back to the images, once it is asked for."""
    return [
        _pulled(spec.only(options), gradient, None, displacement, affine)[0]
        for options, gradient in zip(spec.images, gradients, strict=True)
    ]


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Lazy | None],
    images: Sequence[Lazy],
    displacement: Array,
    affine: Array | None,
) -> tuple[list[Lazy | None], Lazy, Lazy | None]:
    """Pull gradients of the outputs back to images, control grid and affine matrix, once it is asked for."""
    transform = [array for array in (displacement, affine) if array is not None]
    totals = [da.zeros(array.shape) for array in transform]
    of_images: list[Lazy | None] = []
    for options, gradient, image in zip(spec.images, gradients, images, strict=True):
        if gradient is None:
            of_images.append(None)
            continue
        # Summed in double precision, whatever the types are in which the gradients shall come.
        of_image, *of_transform = _pulled(
            spec.only(options), gradient, image, *(array.astype(float) for array in transform)
        )
        of_images.append(of_image)
        totals = [total + part for total, part in zip(totals, of_transform, strict=True)]
    results = [total.astype(eager.gradient_dtype(array)) for total, array in zip(totals, transform, strict=True)]
    return of_images, results[0], results[1] if affine is not None else None


def _pulled(
    spec: DeformSpec, gradient: Lazy, image: Lazy | None, displacement: Array, affine: Array | None = None
) -> list[Lazy]:
    """Pull one gradient back: to the image and, if that is given, to control grid and matrix."""
    image_chunks = blocks.image_chunks(spec, gradient.chunks) if image is None else image.chunks
    chunks = blocks.output_chunks(spec, image_chunks)
    sources = [gradient.rechunk(chunks)] if image is None else [gradient.rechunk(chunks), image]
    dtype = _dtypes.native(sources[-1].dtype)
    call = Call(spec, displacement.copy(), _copied(affine), dtype if image is None else image.dtype, image_chunks)
    token = tokenize("gradients", *(source.name for source in sources), spec, call.displacement, call.affine)
    name, shared = f"pull-{token}", f"deformation-{token}"
    graph: Graph = {shared: call}
    met: dict[Shape, list[tuple[blocks.Overlap, Any]]] = {}  # for each chunk of the image, what of it was read
    of_items: dict[Shape, list[Any]] = {}
    for index, block in () if 0 in spec.output_shape(spec.images[0]) else blocks.cut(call, chunks):
        if block.reads_nothing:  # and so, nothing depends on how far outside it lies
            continue
        key = (name, *index)
        numbers = blocks.chunks_read(call, index, block)
        read = None if image is None else _stored(image) or _keys(image, numbers)
        graph[key] = (blocks.pull, shared, block, (sources[0].name, *index), read)
        for number, overlap in zip(numbers, blocks.overlaps(call, block), strict=True):
            met.setdefault(number, []).append((overlap, key))
        of_items.setdefault(index[: len(spec.batch)], []).append(key)
    layers = _with_layer(name, graph, sources)

    sums: Graph = {}
    of_image = f"image-gradient-{token}"
    for index in itertools.product(*(range(len(sizes)) for sizes in image_chunks)):
        shape = tuple(image_chunks[k][n] for k, n in enumerate(index))
        places, keys = [place for place, _ in met.get(index, [])], [key for _, key in met.get(index, [])]
        sums[(of_image, *index)] = (blocks.sum_parts, shape, dtype, places, keys)
    results = [_next_layer(layers, name, of_image, sums, image_chunks, dtype)]
    if image is not None:
        for slot, array in enumerate((displacement, affine), 1):
            if array is not None:
                batched = slot == 1 or spec.affine_batched
                batch = image_chunks[: len(spec.batch)] if batched else ()
                results.append(_summed(layers, name, f"motion-gradient-{slot}-{token}", array, batch, of_items, slot))
    return results


def _summed(
    layers: HighLevelGraph,
    pulled: str,
    name: str,
    like: Array,
    batch: Chunks,
    of_items: dict[Shape, list[Any]],
    slot: int,
) -> Lazy:
    """Add what the blocks pull back to control grid or matrix, for each chunk of batch items by itself."""
    rest = like.ndim - len(batch)
    graph: Graph = {}
    for number in itertools.product(*(range(len(sizes)) for sizes in batch)):
        keys = [key for items, keys in of_items.items() if items[: len(batch)] == number for key in keys]
        shape = (*(batch[k][n] for k, n in enumerate(number)), *like.shape[len(batch) :])
        terms: list[Any] = [(operator.getitem, key, slot) for key in keys] or [(np.zeros, shape)]
        for level in itertools.count():
            if len(terms) <= _SUMMANDS:
                break
            groups = [terms[first : first + _SUMMANDS] for first in range(0, len(terms), _SUMMANDS)]
            terms = [(f"{name}-{level}", *number, place) for place in range(len(groups))]
            graph.update((term, (sum, group)) for term, group in zip(terms, groups, strict=True))
        graph[(name, *number, *(0,) * rest)] = (sum, terms)
    chunks = (*batch, *((extent,) for extent in like.shape[len(batch) :]))
    return _next_layer(layers, pulled, name, graph, chunks, np.dtype(np.float64))


def _next_layer(
    layers: HighLevelGraph, after: str, name: str, graph: Graph, chunks: Chunks, dtype: np.dtype[Any]
) -> Lazy:
    """Make an array of a layer of tasks that need only those of another one."""
    together = HighLevelGraph({**layers.layers, name: graph}, {**layers.dependencies, name: {after}})
    return _array(together, name, chunks, dtype)


def _array(layers: HighLevelGraph, name: str, chunks: Chunks, dtype: np.dtype[Any]) -> Lazy:
    make: Any = da.Array
    return make(layers, name, chunks, meta=np.empty((0,) * len(chunks), dtype))
