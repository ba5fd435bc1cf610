"""Options and fixtures of all tests."""

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
        help="engine for NumPy arrays: the core, or the CUDA kernels compiled for the host",
    )
    parser.addoption("--recompile", action="store_true", help="also run the tests that recompile the core: minutes")
    parser.addoption("--exhaustive", action="store_true", help="also run the slowest cases: minutes")
    parser.addoption("--pages", type=Path, metavar="FOLDER", help="also test the built documentation in this folder")
    parser.addoption("--sanitize", action="store_true", help="compile the CUDA kernels for the host with sanitizers")


def pytest_ignore_collect(collection_path, config):
    """With `-m quick`, import only files with quick tests: importing every framework takes longer than running them."""
    if config.option.markexpr != "quick" or not collection_path.name.startswith("test_"):
        return None
    return "mark.quick" not in collection_path.read_text(encoding="utf-8") or None


@pytest.fixture
def rng(request):
    """Return a random generator whose seed depends only on the name of the test."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def lightly_optimized():
    """Let XLA optimize little, for tests that compile large programs of JAX's operations and run each of them once."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def recompile(request):
    """Skip a test that recompiles the core, unless it is requested."""
    if not request.config.getoption("--recompile"):
        pytest.skip("recompiles the core, which takes minutes: pytest --recompile")


@pytest.fixture(scope="session")
def exhaustive(request):
    """Skip one of the slowest cases, unless they are requested."""
    if not request.config.getoption("--exhaustive"):
        pytest.skip("one of the slowest cases: pytest --exhaustive")


@pytest.fixture(scope="session")
def pages(request):
    """Return the folder of the built documentation."""
    folder = request.config.getoption("--pages")
    if folder is None:
        pytest.skip("reads the built documentation: nox -f .ci/noxfile.py -s docs")
    return folder.resolve()


@pytest.fixture
def fake_cupy(monkeypatch):
    """Return a stand-in for CuPy, which `import cupy` then finds."""
    from cuda_stubs import FakeCupy

    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


@pytest.fixture(params=["cupy", "torch", "jax"])
def library(request):
    """Return the functions with which tests use a library on a CUDA device."""
    import gpu_support

    return getattr(gpu_support, f"{request.param}_library")()


@pytest.fixture
def sound_device():
    """End the process after an error that every later call would repeat. pytest-xdist then starts another process."""
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
