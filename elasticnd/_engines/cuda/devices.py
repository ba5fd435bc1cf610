"""The device on which the engine launches kernels (CuPy's current device), and its use by other libraries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from .compile import FUNCTIONS, NAMESPACE, OPTIONS, file_of, source

Grid = tuple[int, ...]  # blocks along x, y and z


# A graph cannot load kernels.
COLD = (
    "elasticnd: a CUDA graph cannot capture the first use of a kernel: before the capture, make the same call once "
    "on arrays of these shapes and dtypes"
)
CAPTURED_COPY = (
    "elasticnd: a CUDA graph cannot capture a copy from the host: pass control grid and matrix as tensors on the device"
)
_NEVER_CAPTURED = (0, 1)  # the default stream shared by all threads
_STREAM_OF_THREAD = 2  # CUDA's pointer to the default stream of the calling thread


class Stream(NamedTuple):
    """A stream, as a key of memory that is kept for it. Its work is done in the order of the requests."""

    device: int
    pointer: int
    thread: int  # for the default streams of individual threads


class Device(Protocol):
    """What the engine requires of a device, or of what stands in for one."""

    xp: ModuleType  # creates arrays

    @property
    def keeps_tables(self) -> bool:
        """Whether calls may read tables that earlier calls kept. They could be gone by the time a CUDA graph runs."""

    def stream(self) -> Stream:
        """Return the current stream."""

    def holding(self, array: Any) -> AbstractContextManager[Any]:
        """Make the device of an array current, while in the context."""

    def address(self, array: Any) -> Any:
        """Return the address of an array, as a kernel takes it."""

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        """Run a kernel; arguments are NumPy numbers, structures, and addresses."""

    def clear(self, address: Any, size: int) -> None:
        """Set this many bytes to zero."""


class CupyDevice:
    """The current device of CuPy, and its current stream."""

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415 - optional

        self.xp = cupy
        self._kernels: dict[tuple[str, int], Any] = {}
        self._modules: dict[tuple[tuple[str, ...], int], Any] = {}

    def stream(self) -> Stream:
        """Return the current stream."""
        pointer = int(self.xp.cuda.get_current_stream().ptr)
        thread = threading.get_ident() if pointer == _STREAM_OF_THREAD else 0
        return Stream(int(self.xp.cuda.runtime.getDevice()), pointer, thread)

    @property
    def keeps_tables(self) -> bool:
        """Whether calls may read tables that earlier calls kept. They could be gone by the time a CUDA graph runs."""
        return not self.is_capturing()

    def is_capturing(self) -> bool:
        """Return whether a CUDA graph captures launches on the current stream."""
        stream = self.xp.cuda.get_current_stream()
        return stream.ptr not in _NEVER_CAPTURED and bool(stream.is_capturing())

    def holding(self, array: Any) -> AbstractContextManager[Any]:
        """Make the device of an array current, while in the context."""
        context: AbstractContextManager[Any] = array.device
        return self._holding_memory(context) if self.is_capturing() else context

    @contextmanager
    def _holding_memory(self, context: AbstractContextManager[Any]) -> Iterator[None]:
        """Hold all memory allocated in the context as long as any part of it, such as a result, is in use.

        A graph writes to this memory whenever it runs, and whoever runs the graph keeps the results.
        """
        allocate, held = self.xp.cuda.get_allocator(), []

        def lend(size: int) -> tuple[int, object]:
            held.append(allocate(size))
            return int(held[-1].ptr), held

        with context, allocating_by(lend):
            yield

    def address(self, array: Any) -> np.uint64:
        """Return the address of an array, as a kernel takes it."""
        return np.uint64(array.data.ptr)

    def launch(self, kernel: str, grid: Grid, threads: int, arguments: Sequence[Any], shared: int = 0) -> None:
        """Run a kernel on the current stream."""
        key = (kernel, int(self.xp.cuda.runtime.getDevice()))
        function = self._kernels.get(key)
        if function is None:
            if self.is_capturing():
                raise RuntimeError(COLD)
            function = self._kernels[key] = self._compiled(kernel)
        function(grid, (threads,), tuple(arguments), shared_mem=shared)

    def clear(self, address: Any, size: int) -> None:
        """Set this many bytes to zero, on the current stream."""
        self.xp.cuda.runtime.memsetAsync(int(address), 0, size, self.xp.cuda.get_current_stream().ptr)

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
            advice = f"{INSTALL}, and check that the driver supports that version of CUDA"
            raise RuntimeError(f"{place} could not compile or load a kernel: {error}. {advice}") from error


@lru_cache(maxsize=1)
def _cupy_device() -> Device:
    return CupyDevice()


_chosen: ContextVar[Device | None] = ContextVar("device", default=None)


def device() -> Device:
    """Return the device that runs kernels."""
    return _chosen.get() or _cupy_device()


@contextmanager
def launching_on(place: Device | None) -> Iterator[None]:
    """Launch kernels elsewhere while in the context; None means CuPy's current device, as by default."""
    token = _chosen.set(place)
    try:
        yield
    finally:
        _chosen.reset(token)


def namespace() -> ModuleType:
    """Return the module that creates arrays on the current device."""
    return device().xp


class _ForeignStream:
    """A stream of another library, with the protocol that CuPy requires."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def external_stream(pointer: int) -> AbstractContextManager[Any]:
    """Launch CuPy's kernels on another library's stream of the current device, while in the context."""
    import cupy  # noqa: PLC0415 - only with a CUDA device

    stream: AbstractContextManager[Any] = cupy.cuda.Stream.from_external(_ForeignStream(pointer))
    return stream


_own_allocator: ContextVar[Callable[[int], Any] | None] = ContextVar("own_allocator", default=None)


@contextmanager
def allocating_by(lend: Callable[[int], tuple[int, object]]) -> Iterator[None]:
    """Make CuPy allocate memory elsewhere, while in the context.

    `lend` returns the address of this many bytes on the current device, and an object that holds them.
    """
    import cupy  # noqa: PLC0415 - only with a CUDA device

    def allocate(size: int) -> Any:
        address, holder = lend(max(size, 1))
        memory = cupy.cuda.UnownedMemory(address, size, holder, int(cupy.cuda.runtime.getDevice()))
        return cupy.cuda.MemoryPointer(memory, 0)

    token = _own_allocator.set(_own_allocator.get() or cupy.cuda.get_allocator())
    try:
        with cupy.cuda.using_allocator(allocate):
            yield
    finally:
        _own_allocator.reset(token)


@contextmanager
def _allocating_by_cupy() -> Iterator[None]:
    import cupy  # noqa: PLC0415 - only with a CUDA device

    with cupy.cuda.using_allocator(_own_allocator.get()):
        yield


def keeping_memory() -> AbstractContextManager[None]:
    """Return a context in which memory comes from CuPy itself, for what is kept between calls.

    Other libraries may reuse memory that they lent, once the call is over.
    """
    return nullcontext() if _own_allocator.get() is None else _allocating_by_cupy()


OLDEST = (14, 2)
INSTALL = "Install exactly one CuPy, for your version of CUDA: cupy-cuda12x[ctk]>=14.2 or cupy-cuda13x[ctk]>=14.2"


def import_cupy(argument: str, got: str) -> ModuleType:
    """Import CuPy for another library's array on a CUDA device, or report what is missing."""
    try:
        import cupy  # noqa: PLC0415 - only with a CUDA device
    except ImportError as error:
        raise ImportError(f"{argument}: got {got}, which needs CuPy ({error}). {INSTALL}") from error
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(f"{argument}: got {got}, but CuPy finds no device ({error}). {INSTALL}") from error
    if tuple(map(int, cupy.__version__.split(".")[:2])) < OLDEST:
        raise ImportError(f"{argument}: got {got}, but CuPy has version {cupy.__version__}. {INSTALL}")
    module: ModuleType = cupy
    return module
