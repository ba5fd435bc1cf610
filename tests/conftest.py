"""What all tests share."""

import os
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--engine",
        choices=("cpu", "cuda-host"),
        default="cpu",
        help="what computes on NumPy arrays: the core, or the CUDA kernels compiled for the host",
    )
    parser.addoption("--recompile", action="store_true", help="also the tests that compile the core anew: some minutes")
    parser.addoption("--exhaustive", action="store_true", help="also the slowest cases of a matrix: some minutes")
    parser.addoption("--pages", type=Path, metavar="FOLDER", help="also the tests of the pages that are built there")
    parser.addoption("--sanitize", action="store_true", help="compile the CUDA kernels for the host with sanitizers")


def pytest_ignore_collect(collection_path, config):
    """With `-m quick`, import only files with such tests: to import every framework takes longer than to run these."""
    if config.option.markexpr != "quick" or not collection_path.name.startswith("test_"):
        return None
    return "mark.quick" not in collection_path.read_text(encoding="utf-8") or None


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name alone."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def recompile(request):
    """Skip what compiles the core anew, unless it is asked for."""
    if not request.config.getoption("--recompile"):
        pytest.skip("compiles the core anew, for minutes: pytest --recompile")


@pytest.fixture(scope="session")
def exhaustive(request):
    """Skip the slowest cases of a matrix, unless they are asked for."""
    if not request.config.getoption("--exhaustive"):
        pytest.skip("one of the slowest cases: pytest --exhaustive")


@pytest.fixture(scope="session")
def pages(request):
    """Return the folder of the built documentation."""
    folder = request.config.getoption("--pages")
    if folder is None:
        pytest.skip("reads the pages that Sphinx has built: nox -f .ci/noxfile.py -s docs")
    return folder.resolve()


@pytest.fixture
def fake_cupy(monkeypatch):
    """Let a stand-in be what is imported as CuPy."""
    from cuda_stubs import FakeCupy

    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


@pytest.fixture(params=["cupy", "torch", "jax"])
def library(request):
    """Return how to use a library on a CUDA device."""
    import gpu_support

    return getattr(gpu_support, f"{request.param}_library")()


@pytest.fixture
def sound_device():
    """End the process after an error that all later calls would repeat: pytest-xdist starts another one."""
    yield
    import cupy

    try:
        cupy.cuda.runtime.deviceSynchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        print(f"the device is lost: {error}", file=sys.stderr, flush=True)
        os._exit(70)


@pytest.fixture(scope="session", autouse=True)
def _engine(request):
    if request.config.getoption("--engine") == "cpu":
        yield
        return
    import host_device

    with host_device.installed(sanitize=request.config.getoption("--sanitize")):
        yield
