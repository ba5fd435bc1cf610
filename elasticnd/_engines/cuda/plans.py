"""Plans: the launches of a call that is small, and like an earlier one, with other arrays.

To plan is to do the same as ever on arrays that only have a shape, on a device that notes launches down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..contract import Transform
from .devices import Grid, Stream, device, launching_on

if TYPE_CHECKING:
    from ..._job import Job
    from ..._spec import Shape

Array = Any  # of CuPy

_MOST_SCRATCH = 1 << 20  # bytes: a plan uses none of its memory twice, which is no matter where there is little of it
_ALIGNMENT = 256
_SCRATCH = 0  # the slot of scratch memory, before those of the arrays that are given


class _Pointer(NamedTuple):
    slot: int
    offset: int


class _PlannedArray:
    """An array in C order, given or in scratch memory."""

    flags = SimpleNamespace(c_contiguous=True)

    def __init__(self, pointer: _Pointer, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.pointer, self.shape, self.dtype = pointer, shape, dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def reshape(self, *shape: int) -> _PlannedArray:
        return _PlannedArray(self.pointer, shape, self.dtype)

    def view(self, dtype: Any) -> _PlannedArray:
        """Return the bits as another type of that size."""
        return _PlannedArray(self.pointer, self.shape, np.dtype(dtype))


class _Step(NamedTuple):
    """A launch, and which of its arguments are pointers."""

    kernel: str
    grid: Grid
    threads: int
    arguments: tuple[Any, ...]
    pointers: tuple[tuple[int, _Pointer], ...]
    shared: int


class _Recorder:
    """A device that notes down what it is to do; what lies on a real one already stays there."""

    def __init__(self) -> None:
        self.real = device()
        self.xp: Any = SimpleNamespace(empty=self._empty, ascontiguousarray=lambda array: array)
        self.scratch = 0
        self.steps: list[_Step] = []
        self.kept: list[Array] = []  # what the steps read besides, which must not go away

    def _empty(self, shape: Shape | int, dtype: Any) -> _PlannedArray:
        shape = (shape,) if isinstance(shape, int) else shape
        array = _PlannedArray(_Pointer(_SCRATCH, self.scratch), shape, np.dtype(dtype))
        self.scratch += -(-array.size * array.dtype.itemsize // _ALIGNMENT) * _ALIGNMENT
        return array

    def stream(self) -> Stream:
        return self.real.stream()

    def holding(self, array: Array) -> AbstractContextManager[Any]:
        return nullcontext()

    def address(self, array: Array) -> Any:
        if isinstance(array, _PlannedArray):
            return array.pointer
        self.kept.append(array)
        return self.real.address(array)

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        pointers = tuple((k, value) for k, value in enumerate(arguments) if isinstance(value, _Pointer))
        self.steps.append(_Step(kernel, grid, threads, tuple(arguments), pointers, shared))


class Plan:
    """The launches of a call."""

    def __init__(self, recorder: _Recorder) -> None:
        self.scratch, self.steps, self.kept = recorder.scratch, recorder.steps, recorder.kept

    def run(self, arrays: Sequence[Array]) -> None:
        """Launch for these arrays, in C order."""
        here = device()
        scratch = here.xp.empty(self.scratch, np.uint8)
        places = [int(here.address(array)) for array in (scratch, *arrays)]
        for kernel, grid, threads, arguments, pointers, shared in self.steps:
            own = list(arguments)
            for k, (slot, offset) in pointers:
                own[k] = np.uint64(places[slot] + offset)
            here.launch(kernel, grid, threads, own, shared)


Sample = Callable[["Job", Sequence[Array], Transform, Sequence[Array]], None]


class _Same:
    """A job as a key: that very object, which is kept as long as the key is."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __hash__(self) -> int:
        return id(self.job)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.job is self.job


def plan_of(sample: Sample, job: Job, images: Sequence[Array], transform: Transform, output: Array) -> Plan | None:
    """Return the plan of sampling images that are all alike; None where it is not small."""
    affine = None if transform.affine is None else transform.affine.shape
    image, displacement = images[0], transform.displacement
    shapes = len(images), image.shape, output.shape, displacement.shape, affine
    return _planned(sample, _Same(job), *shapes, image.dtype, device().stream())


@lru_cache(maxsize=64)  # each may keep a table
def _planned(
    sample: Sample,
    key: _Same,
    count: int,
    image: Shape,
    output: Shape,
    displacement: Shape,
    affine: Shape | None,
    dtype: np.dtype[Any],
    stream: Stream,
) -> Plan | None:
    floats = np.dtype(np.float64)
    shapes = [(displacement, floats), *(() if affine is None else ((affine, floats),))]
    shapes += [(shape, dtype) for shape in (image, output) for _ in range(count)]
    arrays = [_PlannedArray(_Pointer(slot, 0), *own) for slot, own in enumerate(shapes, 1)]
    recorder = _Recorder()
    with launching_on(recorder):
        images, outputs = arrays[-2 * count : -count], arrays[-count:]
        sample(key.job, images, Transform(arrays[0], None if affine is None else arrays[1]), outputs)
    return Plan(recorder) if recorder.scratch <= _MOST_SCRATCH else None
