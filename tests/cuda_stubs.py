"""Helpers for tests of the CUDA engine: a device that is simulated on the host, and stand-ins for CuPy."""

import contextlib
from types import SimpleNamespace

import host_device
import numpy as np
from tables import DOUBLE, SINGLE

MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
SHAPES = {1: (300,), 2: (41, 37), 3: (11, 9, 35), 5: (4, 3, 5, 3, 4)}


def on_cuda(function, *arguments, backward=False, **options):
    """Call a function while the CUDA kernels compute NumPy arrays on the host."""
    with host_device.installed(host_device.HostDevice(backward=backward)):
        return function(*arguments, **options)


def recording_device():
    """Return a device, and a list that receives the kernels launched on it."""
    device, launched = host_device.HostDevice(), []
    launch = device.launch
    device.launch = lambda kernel, *rest, **options: launched.append(kernel) or launch(kernel, *rest, **options)
    return device, launched


def agree(ours, theirs, tolerance):
    assert ours.dtype == theirs.dtype
    scale = max(1.0, np.abs(theirs.astype(np.float64)).max(initial=0))
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale)


def tolerance(dtype):
    """Return the relative tolerance of float64, of float32, or of narrow floats, which is one rounding step."""
    dtype = np.dtype(dtype)
    return {8: DOUBLE, 4: SINGLE, 2: 8e-3}[dtype.itemsize]


class CupyArray(np.ndarray):
    """A stand-in for a CuPy array."""

    device = SimpleNamespace(id=0)


class FakeMemory:
    """A stand-in for the memory that CuPy's allocator returns."""

    ptr = 4096


class FakeCupy:
    """A stand-in for CuPy itself: everything the engine uses except arrays."""

    def __init__(self):
        self.number, self.pointer, self.capturing, self.entered = 0, 7, False, []
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(getDevice=lambda: self.number),
            get_current_stream=lambda: SimpleNamespace(ptr=self.pointer, is_capturing=lambda: self.capturing),
            Device=self.enter,
            Stream=SimpleNamespace(from_external=lambda stream: self.enter(stream.__cuda_stream__())),
            get_allocator=lambda: self.allocators[-1],
            using_allocator=self.using_allocator,
            UnownedMemory=lambda pointer, size, holder, device: SimpleNamespace(pointer=pointer, holder=holder),
            MemoryPointer=lambda memory, offset: SimpleNamespace(memory=memory),
        )
        self.allocators = [self.allocate]
        self.RawModule = lambda **options: SimpleNamespace(get_function=lambda name: self.enter)

    def allocate(self, size):
        return FakeMemory()

    @contextlib.contextmanager
    def using_allocator(self, allocator):
        self.allocators.append(allocator)
        yield
        self.allocators.pop()

    def enter(self, *what, **options):
        self.entered.append(what[0])
        return contextlib.nullcontext()
