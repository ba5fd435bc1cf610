"""The bridge for dask: lazy results, whose blocks depend only on the image blocks that they read."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import TypeAlias

import dask.array as da
import numpy as np
from array_api_compat import numpy as xnp
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.typing import Key

from .. import _dtypes
from .._autodiff.operators import Operands, Operator, TransformArrays
from .._compat import dask as compat
from .._dtypes import name_of
from .._errors import reject_type, reject_value
from .._spec import ArrayInfo, DeformSpec, Shape
from .._types import Array, DType, Seed
from . import blocks, contract, eager
from .array_api import FrameworkOps
from .blocks import Call, Chunks

Lazy: TypeAlias = Array  # a dask array; dask's own annotations are incomplete
Graph: TypeAlias = dict[Key, object]

_TERMS = 16  # gradients of the control grid that one task adds up

is_recorded = contract.is_recorded
record = contract.record
delegate = contract.delegate
restored = contract.restored
values = eager.values  # NumPy values, which decide what is read


def info(array: Lazy) -> ArrayInfo:
    return ArrayInfo(array.shape, name_of(array.dtype))


def engine_name(array: Lazy) -> tuple[str, str]:
    return "cpu", "the core computes it later, block by block"


def check(argument: str, image: Lazy, first: Lazy) -> None:
    """Check that blocks are NumPy arrays without masks, and that their extents are known."""
    meta = compat.meta_of(image)
    if not isinstance(meta, np.ndarray) or isinstance(meta, np.ma.MaskedArray):
        reject_type(
            argument, image, f"a dask array whose chunks are NumPy arrays without masks, not {type(meta).__name__}"
        )
    if any(math.isnan(extent) for extent in image.shape):
        reject_value(argument, f"shape {image.shape}", "an array whose shape is known: call compute_chunk_sizes()")


def small_array(argument: str, value: object, like: Lazy | None = None) -> Array:
    """Convert a control grid or a matrix to a NumPy array, from a NumPy array or nested lists of numbers."""
    if isinstance(value, da.Array):
        reject_type(argument, value, "a NumPy array, since it decides what is read: call compute() on it")
    return eager.small_array(argument, value)


def standard_normal(shape: Shape, batch_axes: int, like: Lazy, rng: Seed) -> None:
    """Return None, so that NumPy draws."""


def apply(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator; the results of operators on images are lazy."""
    if operator.verb == "sample":
        return [_deformed(operator.call, operands.image, operands.transform)]
    if operator.verb == "sample_adjoint":
        return _adjoint(operator.call, operands.gradient, operands.image, operands.transform)
    return eager.apply(operator, operands)


def algebra(array: Array) -> FrameworkOps:
    return _OPS if isinstance(array, da.Array) else eager.algebra(array)


class _Ops(FrameworkOps):
    """Operations on NumPy arrays and lazy ones."""

    def zeros_like(self, array: Array) -> Lazy:
        """Return zeros of the same shape and dtype."""
        return da.zeros(array.shape, dtype=array.dtype)

    def converted(self, array: Array, like: Array) -> Array:
        """Convert to the dtype of `like`."""
        if isinstance(array, np.ndarray):
            return eager.algebra(array).converted(array, like)
        dtype = _dtypes.native(like.dtype)
        return array if array.dtype == dtype else array.map_blocks(blocks.converted, dtype, dtype=dtype)

    def product(self, left: Array, right: Array) -> Lazy:
        """Multiply matrices."""
        result: Lazy = left @ right
        return result

    def transposed(self, matrices: Array) -> Array:
        """Swap the last two axes."""
        return matrices.swapaxes(-1, -2)

    def joined(self, left: Array, right: Array, axis: int = -1) -> Lazy:
        """Concatenate along an axis that is not divided into chunks."""
        whole: Lazy = da.concatenate([left, right], axis).rechunk({axis: -1})
        return whole


_OPS = _Ops(xnp, apply)


# ---- the deformation -------------------------------------------------------------------------------------------------


def _deformed(spec: DeformSpec, image: Lazy, transform: TransformArrays) -> Lazy:
    call = Call(spec, _copied(transform), image.dtype, image.chunks)
    chunks = blocks.output_chunks(spec, image.chunks)
    dtype = _dtypes.native(image.dtype)
    shape = spec.output_shape(spec.images[0])
    if 0 in shape:
        return da.empty(shape, dtype=dtype, chunks=chunks)
    token = tokenize(image.name, spec, call.transform)
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


def _keys(image: Lazy, numbers: list[Shape]) -> list[object]:
    return [(image.name, *number) for number in numbers]


def _stored(image: Lazy) -> str | None:
    """Return the key of the stored array from which `dask.array.from_array` made an image, if it did.

    Each block then reads its own part of the stored array. If whole chunks were read, each would stay in
    memory until the last block that needs it is computed: for a large image, a long time.
    """
    return compat.stored_array_key(image)


def _with_layer(name: str, graph: Graph, sources: Sequence[Lazy]) -> HighLevelGraph:
    """Add a layer of tasks that depend on the tasks of some arrays, or on the stored arrays behind them."""
    layers = HighLevelGraph.from_collections(name, graph, dependencies=sources)
    stored = {original for original in map(_stored, sources) if original}
    return HighLevelGraph(layers.layers, {**layers.dependencies, name: layers.dependencies[name] | stored})


def _copied(transform: TransformArrays) -> TransformArrays:
    """Copy what the caller may change before the result is computed."""
    return tuple(array.copy() for array in transform)


# ---- gradients -------------------------------------------------------------------------------------------------------


def _adjoint(spec: DeformSpec, gradient: Lazy, image: Lazy | None, transform: TransformArrays) -> list[Lazy]:
    """Compute the gradient of the image and, if an image is given, of displacement and inverse map."""
    image_chunks = blocks.image_chunks(spec, gradient.chunks) if image is None else image.chunks
    chunks = blocks.output_chunks(spec, image_chunks)
    sources = [gradient.rechunk(chunks)] if image is None else [gradient.rechunk(chunks), image]
    dtype = _dtypes.native(sources[-1].dtype)
    call = Call(spec, _copied(transform), dtype if image is None else image.dtype, image_chunks)
    token = tokenize("gradients", *(source.name for source in sources), spec, call.transform)
    name, shared = f"adjoint-{token}", f"deformation-{token}"
    graph: Graph = {shared: call}
    met: dict[Shape, list[tuple[blocks.Overlap, Key]]] = {}  # for each chunk of the image, the parts that were read
    of_items: dict[Shape, list[Key]] = {}
    for index, block in () if 0 in spec.output_shape(spec.images[0]) else blocks.cut(call, chunks):
        if block.reads_nothing:  # so its gradients are zero
            continue
        key: Key = (name, *index)
        numbers = blocks.chunks_read(call, index, block)
        read = None if image is None else _stored(image) or _keys(image, numbers)
        graph[key] = (blocks.adjoint, shared, block, (sources[0].name, *index), read)
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
        for slot, array in enumerate(transform, 1):
            batched = slot == 1 or spec.affine_batched
            batch = image_chunks[: len(spec.batch)] if batched else ()
            results.append(_summed(layers, name, f"transform-gradient-{slot}-{token}", array, batch, of_items, slot))
    return results


def _summed(
    layers: HighLevelGraph,
    adjoint: str,
    name: str,
    like: Array,
    batch: Chunks,
    of_items: dict[Shape, list[Key]],
    slot: int,
) -> Lazy:
    """Sum the gradients of displacement or inverse map over the blocks, separately for each chunk of batch items."""
    rest = like.ndim - len(batch)
    graph: Graph = {}
    for number in itertools.product(*(range(len(sizes)) for sizes in batch)):
        keys = [key for items, keys in of_items.items() if items[: len(batch)] == number for key in keys]
        shape = (*(batch[k][n] for k, n in enumerate(number)), *like.shape[len(batch) :])
        terms: list[object] = [(operator.getitem, key, slot) for key in keys] or [(np.zeros, shape)]
        for level in itertools.count():
            if len(terms) <= _TERMS:
                break
            groups = [terms[first : first + _TERMS] for first in range(0, len(terms), _TERMS)]
            sums: list[Key] = [(f"{name}-{level}", *number, place) for place in range(len(groups))]
            graph.update((key, (sum, group)) for key, group in zip(sums, groups, strict=True))
            terms = list(sums)
        graph[(name, *number, *(0,) * rest)] = (sum, terms)
    chunks = (*batch, *((extent,) for extent in like.shape[len(batch) :]))
    return _next_layer(layers, adjoint, name, graph, chunks, np.dtype(np.float64))


def _next_layer(layers: HighLevelGraph, after: str, name: str, graph: Graph, chunks: Chunks, dtype: DType) -> Lazy:
    """Return an array for a layer of tasks that only depend on another layer."""
    together = HighLevelGraph({**layers.layers, name: graph}, {**layers.dependencies, name: {after}})
    return _array(together, name, chunks, dtype)


def _array(layers: HighLevelGraph, name: str, chunks: Chunks, dtype: DType) -> Lazy:
    lazy: Lazy = da.Array(layers, name, chunks, meta=np.empty((0,) * len(chunks), dtype))
    return lazy
