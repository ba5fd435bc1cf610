"""How the CUDA engine uses CuPy and a device: sources of kernels, streams, graphs and memory."""

import contextlib
import re
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import host_device
import pytest
from cuda_stubs import SHAPES, recording_device

import elasticnd
from elasticnd import _core
from elasticnd._engines.cuda import call as calls
from elasticnd._engines.cuda import control_grid, devices
from elasticnd._engines.cuda.compile import FOLDER, FUNCTIONS, TEMPLATES, source
from elasticnd._engines.cuda.devices import import_cupy

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")


@pytest.mark.parametrize("file", [*TEMPLATES, *FUNCTIONS])
def test_the_source_needs_no_header(file):
    text = source(file)
    assert text.count("struct Job {") == 1
    assert not re.search(r'^ *#include "', text, re.MULTILINE)
    assert "std::" not in text


def test_tables_are_made_once(rng):
    image, displacement = rng.random(SHAPES[2]), rng.uniform(-3, 3, (2, 3, 4))
    device, launched = recording_device()
    with host_device.installed(device):
        for _ in range(2):
            elasticnd.deform_grid(image, displacement)
    assert launched.count("tabulate") == 1
    assert launched[-1].startswith("sample<")
    # The table once, and in each call the control grid, the image along two axes, and the voxels.
    assert len(launched) == 1 + 2 * 4


def test_a_device_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"X: got a tensor on cuda:0, which needs CuPy .*Install exactly one CuPy"):
        import_cupy("X", "a tensor on cuda:0")


def test_cupy_without_a_device(monkeypatch):
    class Runtime:
        @staticmethod
        def getDeviceCount():  # noqa: N802 - CuPy's name
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    broken = type(sys)("cupy")
    broken.__version__ = "14.2.0"
    broken.cuda = type(sys)("cupy.cuda")
    broken.cuda.runtime = Runtime
    monkeypatch.setitem(sys.modules, "cupy", broken)
    with pytest.raises(RuntimeError, match=r"X: got a tensor on cuda:0, but CuPy finds no device .*cudaErrorNoDevice"):
        import_cupy("X", "a tensor on cuda:0")


def test_a_cupy_that_is_too_old(monkeypatch):
    old = SimpleNamespace(__version__="13.6.0", cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1)))
    monkeypatch.setitem(sys.modules, "cupy", old)
    with pytest.raises(ImportError, match=r"CuPy has version 13\.6\.0\. Install exactly one CuPy.*>=14\.2"):
        import_cupy("X", "a tensor on cuda:0")


def test_default_streams_of_threads_are_told_apart(fake_cupy):
    """The default streams of all threads have the same pointer."""
    device = devices.CupyDevice()

    def streams():
        with ThreadPoolExecutor(1) as pool:
            return {device.stream(), pool.submit(device.stream).result()}

    assert len(streams()) == 1
    fake_cupy.pointer = 2
    assert len(streams()) == 2


def test_kernels_are_captured_once_they_are_loaded(fake_cupy):
    device = devices.CupyDevice()
    fake_cupy.capturing = True
    with pytest.raises(RuntimeError, match="cannot capture the first use of a kernel: before the capture, make the"):
        device.launch("tabulate", (1,), 1, [])
    fake_cupy.capturing = False
    device.launch("tabulate", (1,), 1, [])
    fake_cupy.capturing = True
    device.launch("tabulate", (1,), 1, [])
    assert fake_cupy.entered == [(1,), (1,)]
    assert not device.keeps_tables
    fake_cupy.pointer = 0  # this stream is never captured, and must not be queried
    assert device.keeps_tables


def test_a_captured_call_reads_nothing_that_was_kept(rng):
    """A captured call uses no cached arrays, which may be gone when the graph runs, and gives the same bits."""
    image, displacement = rng.random(SHAPES[2]), rng.uniform(-3, 3, (2, 3, 4))
    device, launched = recording_device()
    with host_device.installed(device):
        results = []
        for device.keeps_tables in (True, False, False):
            results.append(elasticnd.deform_grid(image, displacement, rotate=20))
            results += elasticnd.deform_grid_vjp(image, image, displacement, rotate=20)[:2]
        assert [kept.cache_info().misses for kept in (control_grid.kept_tables, calls.kept_map)] == [1, 1]
    for one, other in zip(results[:3] * 2, results[3:], strict=True):
        assert one.tobytes() == other.tobytes()
    assert launched.count("tabulate") == launched.count("invert<2>") == 1 + 2 * 2


def test_memory_of_a_captured_call_lives_as_long_as_its_results(fake_cupy):
    device = devices.CupyDevice()
    fake_cupy.capturing = True
    array = SimpleNamespace(device=contextlib.nullcontext())
    with device.holding(array):
        scratch, result = (fake_cupy.cuda.get_allocator()(8) for _ in range(2))
    assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate
    scratch = weakref.ref(scratch.memory.holder[0])
    assert scratch() is not None
    del result
    assert scratch() is None


def test_memory_that_is_lent(fake_cupy):
    """Arrays that are cached for later calls do not use lent memory."""
    lent = []

    def lend(size):
        lent.append(size)
        return 512, lent

    with devices.allocating_by(lend):
        assert fake_cupy.cuda.get_allocator()(0).memory.pointer == 512
        assert lent == [1]
        with devices.keeping_memory():
            assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate
        with devices.allocating_by(lend), devices.keeping_memory():
            assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate
    assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate
    with devices.keeping_memory():
        assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate


def test_tables_that_are_kept_are_few():
    bytes_of_output = 5 * 8
    kept = control_grid.kept_tables.cache_parameters()["maxsize"] * control_grid._LONGEST_KEPT_TABLE
    assert kept * bytes_of_output < 50e6


@pytest.mark.quick
def test_launches_use_the_constants_of_the_kernels():
    """The engine reads these constants from the core, and the kernels from their source. Both agree."""
    text = (FOLDER / "launch.hpp").read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in re.findall(r"^constexpr int (\w+) = (\d+);", text, re.MULTILINE)}
    shared = constants.keys() & _core.launch.keys()
    assert shared == _core.launch.keys() - {"filter_stride"}
    assert {name: _core.launch[name] for name in shared} == {name: constants[name] for name in shared}
    assert _core.launch["filter_stride"] > _core.launch["filter_lines"]
    for inner, second, third in _core.tiles:
        assert inner * second * third == _core.launch["tile_threads"]
