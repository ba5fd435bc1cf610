"""The device that the engine launches kernels on, CuPy's current one, and other libraries' ways to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from .compile import FUNCTIONS, NAMESPACE, OPTIONS, file_of, source

Grid = tuple[int, ...]  # blocks along x, y and z


# What lies in scratch memory, and in tables that are kept, would be used again before the graph runs.
CAPTURED = "elasticnd cannot be captured in a CUDA graph: call it before or after the capture"
_NEVER_CAPTURED = (0, 1)  # the default stream that all threads share
_STREAM_OF_THREAD = 2  # the pointer by which CUDA means the default stream of whatever thread asks


class Stream(NamedTuple):
    """A stream, as what is kept for it is found: work on it is done in the order in which it was asked for."""

    device: int
    pointer: int
    thread: int  # of the default streams that threads have of their own


class Device(Protocol):
    """What the engine needs of the place where kernels run."""

    xp: ModuleType  # makes arrays

    def stream(self) -> Stream:
        """Return which stream is current."""

    def holding(self, array: Any) -> AbstractContextManager[Any]:
        """Make the device of an array current, while in the context."""

    def address(self, array: Any) -> Any:
        """Return where an array begins, as a kernel takes it."""

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        """Run a kernel; arguments are NumPy numbers, structures, and addresses."""


class CupyDevice:
    """The current device of CuPy, and its current stream."""

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415 - whoever has an array for it has imported it, or asks for it

        self.xp = cupy
        self._kernels: dict[tuple[str, int], Any] = {}
        self._modules: dict[tuple[tuple[str, ...], int], Any] = {}

    def stream(self) -> Stream:
        """Return which stream is current."""
        pointer = int(self.xp.cuda.get_current_stream().ptr)
        thread = threading.get_ident() if pointer == _STREAM_OF_THREAD else 0
        return Stream(int(self.xp.cuda.runtime.getDevice()), pointer, thread)

    def holding(self, array: Any) -> AbstractContextManager[Any]:
        """Make the device of an array current, while in the context."""
        context: AbstractContextManager[Any] = array.device
        return context

    def address(self, array: Any) -> np.uint64:
        """Return where an array begins, as a kernel takes it."""
        return np.uint64(array.data.ptr)

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        """Run a kernel on the current stream."""
        stream = self.xp.cuda.get_current_stream()
        if stream.ptr not in _NEVER_CAPTURED and stream.is_capturing():
            raise RuntimeError(CAPTURED)
        key = (kernel, int(self.xp.cuda.runtime.getDevice()))
        function = self._kernels.get(key)
        if function is None:
            function = self._kernels[key] = self._compiled(kernel)
        function(grid, (threads,), tuple(arguments), shared_mem=shared)

    def _compiled(self, kernel: str) -> Any:
        file, name = file_of(kernel), f"{NAMESPACE}::{kernel}"
        names = tuple(f"{NAMESPACE}::{function}" for function in FUNCTIONS[file]) if file in FUNCTIONS else (name,)
        key = (names, int(self.xp.cuda.runtime.getDevice()))
        if key not in self._modules:
            self._modules[key] = self.xp.RawModule(code=source(file), options=OPTIONS, name_expressions=names)
        try:
            return self._modules[key].get_function(name)
        except Exception as error:
            place = f"CuPy {self.xp.__version__}, on CUDA device {self.stream().device},"
            advice = f"{INSTALL}, and see that the driver is as new as that version of CUDA"
            raise RuntimeError(f"{place} could not compile or load a kernel: {error}. {advice}") from error


@lru_cache(maxsize=1)
def _cupy_device() -> Device:
    return CupyDevice()


_chosen: ContextVar[Device | None] = ContextVar("device", default=None)


def device() -> Device:
    """Return the place where kernels run."""
    return _chosen.get() or _cupy_device()


@contextmanager
def launching_on(place: Device | None) -> Iterator[None]:
    """Launch kernels elsewhere while in the context; None is for CuPy's current device, as ever."""
    token = _chosen.set(place)
    try:
        yield
    finally:
        _chosen.reset(token)


def namespace() -> ModuleType:
    """Return the module that makes arrays there."""
    return device().xp


class _ForeignStream:
    """A stream of another library, by the protocol that CuPy asks for."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def external_stream(pointer: int) -> AbstractContextManager[Any]:
    """Launch CuPy's kernels on a stream of another library, of the current device, while in the context."""
    import cupy  # noqa: PLC0415 - for those who have a CUDA device

    stream: AbstractContextManager[Any] = cupy.cuda.Stream.from_external(_ForeignStream(pointer))
    return stream


OLDEST = (14, 2)
INSTALL = "Install the CuPy for your version of CUDA, cupy-cuda12x[ctk]>=14.2 or cupy-cuda13x[ctk]>=14.2, and no other"


def import_cupy(argument: str, got: str) -> ModuleType:
    """Import CuPy for an array of another library on a CUDA device, or say what is missing."""
    try:
        import cupy  # noqa: PLC0415 - for those who have a CUDA device
    except ImportError as error:
        raise ImportError(f"{argument}: got {got}, which needs CuPy ({error}). {INSTALL}") from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(f"{argument}: got {got}, but CuPy finds no device ({error}). {INSTALL}") from error
    if tuple(map(int, cupy.__version__.split(".")[:2])) < OLDEST:
        raise ImportError(f"{argument}: got {got}, but CuPy is of version {cupy.__version__}. {INSTALL}")
    module: ModuleType = cupy
    return module
