"""Plans: the recorded launches of a call, repeated with other arrays.

A plan is made by the same code, which then runs on arrays without memory and on a device that records launches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .devices import Grid, Stream, device, launching_on
from .scratch import Region, Scratch

if TYPE_CHECKING:
    from ..._job import Job
    from ..._spec import Shape

Array = Any  # of CuPy

_SCRATCH = 0  # the slot of scratch memory; the slots of the given arrays follow


class _Pointer(NamedTuple):
    slot: int
    offset: int


class _PlannedArray:
    """An array in C order, given or in scratch memory."""

    flags = SimpleNamespace(c_contiguous=True)

    def __init__(self, pointer: _Pointer, shape: Shape, dtype: np.dtype[Any], region: Region | None = None) -> None:
        self.pointer, self.shape, self.dtype, self._region = pointer, shape, dtype, region

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> _PlannedArray:
        return _PlannedArray(self.pointer, shape, self.dtype, self._region)

    def view(self, dtype: Any) -> _PlannedArray:
        """Return the bits as another type of the same size."""
        return _PlannedArray(self.pointer, self.shape, np.dtype(dtype), self._region)

    def __getitem__(self, items: slice) -> _PlannedArray:
        """Return some items along the first axis."""
        start, stop, _ = items.indices(self.shape[0])
        shape = (stop - start, *self.shape[1:])
        offset = self.pointer.offset + start * math.prod(self.shape[1:]) * self.dtype.itemsize
        return _PlannedArray(self.pointer._replace(offset=offset), shape, self.dtype, self._region)


class _Launch(NamedTuple):
    """A launch, and which of its arguments are pointers."""

    kernel: str
    grid: Grid
    threads: int
    arguments: tuple[Any, ...]
    pointers: tuple[tuple[int, _Pointer], ...]
    shared: int


class _Clearing(NamedTuple):
    """Memory to be set to zero."""

    pointer: _Pointer
    size: int


class _Recorder:
    """A device that records its work. Without a stream, it does not depend on any device."""

    def __init__(self, stream: Stream | None) -> None:
        self.keeps_tables = stream is not None
        self._stream: Any = stream
        self.xp: Any = SimpleNamespace(empty=self._empty, zeros=self._zeros, ascontiguousarray=lambda array: array)
        self.scratch = Scratch()
        self.steps: list[_Launch | _Clearing] = []
        self.kept: list[Array] = []  # other arrays that the steps read, kept alive here

    def _empty(self, shape: Shape | int, dtype: Any) -> _PlannedArray:
        shape, dtype = (shape,) if isinstance(shape, int) else shape, np.dtype(dtype)
        region = Region(self.scratch, math.prod(shape) * dtype.itemsize)
        return _PlannedArray(_Pointer(_SCRATCH, region.begin), shape, dtype, region)

    def _zeros(self, shape: Shape, dtype: Any) -> _PlannedArray:
        array = self._empty(shape, dtype)
        self.clear(array.pointer, array.size * array.dtype.itemsize)
        return array

    def stream(self) -> Stream:
        own: Stream = self._stream
        return own

    def holding(self, array: Array) -> AbstractContextManager[Any]:
        return nullcontext()

    def address(self, array: Array) -> Any:
        if isinstance(array, _PlannedArray):
            return array.pointer
        self.kept.append(array)
        with launching_on(None):
            return device().address(array)

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        pointers = tuple((k, value) for k, value in enumerate(arguments) if isinstance(value, _Pointer))
        self.steps.append(_Launch(kernel, grid, threads, tuple(arguments), pointers, shared))

    def clear(self, address: _Pointer, size: int) -> None:
        self.steps.append(_Clearing(address, size))


class Plan:
    """The launches of a call."""

    def __init__(self, recorder: _Recorder) -> None:
        self.scratch, self.steps, self.kept = recorder.scratch.size, tuple(recorder.steps), recorder.kept

    def run(self, arrays: Sequence[Array | None]) -> None:
        """Launch with these arrays, in C order."""
        here = device()
        scratch = here.xp.empty(self.scratch, np.uint8)
        places = [0 if array is None else int(here.address(array)) for array in (scratch, *arrays)]
        for step in self.steps:
            if type(step) is _Launch:
                kernel, grid, threads, arguments, pointers, shared = step
                own = list(arguments)
                for k, (slot, offset) in pointers:
                    own[k] = np.uint64(places[slot] + offset)
                here.launch(kernel, grid, threads, own, shared)
            elif isinstance(step, _Clearing):
                here.clear(places[step.pointer.slot] + step.pointer.offset, step.size)


class _Same:
    """A key that compares jobs by identity, and keeps its job alive."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __hash__(self) -> int:
        return id(self.job)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.job is self.job


Compute = Callable[["Job", Sequence[Array]], None]  # on arrays in C order, some of which may be None
Kind = tuple["Shape", "np.dtype[Any]"]


def run_planned(compute: Compute, job: Job, arrays: Sequence[Array | None]) -> None:
    """Repeat the launches recorded for these shapes and dtypes; arrays in another order are computed without a plan."""
    if not all([array is None or array.flags.c_contiguous for array in arrays]):
        compute(job, arrays)
        return
    kinds = tuple([None if array is None else (array.shape, array.dtype) for array in arrays])
    here = device()
    plan_of(compute, _Same(job), kinds, here.stream() if here.keeps_tables else None).run(arrays)


def scratch_of(compute: Compute, job: Job, kinds: Sequence[Kind | None]) -> int:
    """Return how many bytes `run_planned` needs at most, besides arrays of these shapes and dtypes."""
    return plan_of(compute, _Same(job), tuple(kinds), None).scratch


@lru_cache(maxsize=64)  # each may keep a table
def plan_of(compute: Compute, job: _Same, kinds: Sequence[Kind | None], stream: Stream | None) -> Plan:
    """Return the plan for arrays of these shapes and dtypes; without a stream, it keeps nothing on a device."""
    arrays = [None if kind is None else _PlannedArray(_Pointer(slot, 0), *kind) for slot, kind in enumerate(kinds, 1)]
    recorder = _Recorder(stream)
    with launching_on(recorder):
        compute(job.job, arrays)
    return Plan(recorder)
