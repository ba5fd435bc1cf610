"""The C++ tests of the core, cpp/tests, under AddressSanitizer and UBSan, and the threads under ThreadSanitizer; the
CUDA kernels, compiled for the host, under AddressSanitizer and UBSan."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "cpp"
SANITIZERS = {
    "memory": "address;undefined;float-cast-overflow",
    "threads": "thread",
}
TESTS = {"memory": [], "threads": ["threads"]}  # none: all of them

pytestmark = [
    pytest.mark.usefixtures("recompile"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sanitizers are checked on Linux"),
    pytest.mark.skipif(not shutil.which("cmake"), reason="no CMake on the path"),
    pytest.mark.skipif(not (shutil.which("c++") or "CXX" in os.environ), reason="no C++ compiler on the path"),
]


def run(*command: str | Path) -> str:
    options = {"ASAN_OPTIONS": "detect_leaks=1", "TSAN_OPTIONS": "die_after_fork=0"}
    done = subprocess.run(
        command, env=os.environ | options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


@pytest.mark.parametrize("kind", SANITIZERS)
def test_core(kind: str, tmp_path: Path):
    run(
        "cmake",
        "-S",
        SOURCE,
        "-B",
        tmp_path,
        "-DCMAKE_CXX_FLAGS=-O1",
        "-DELASTICND_TESTS=ON",
        f"-DELASTICND_SANITIZE={SANITIZERS[kind]}",
    )
    run("cmake", "--build", tmp_path, "--target", "elasticnd_tests", "--parallel", str(os.cpu_count()))
    output = run(tmp_path / "elasticnd_tests", *TESTS[kind])
    assert "baseline, threads: " in output


# Each kernel, with orders and modes that reach its branches.
KERNEL_TESTS = " or ".join(
    (
        "test_floats_within_one_rounding and 3",
        "test_integers_are_rounded_once and uint8",
        "test_order_zero_keeps_every_label and int64",
        "test_many_axes and 5-6-2",
        "test_short_axes and 3",
        "test_affine_and_grid_gradient and nearest",
        "test_image_gradient_with_every_option and constant and 1",
        "test_dense_displacement",
    )
)


def test_kernels():
    compiler = os.environ.get("CXX") or "g++"
    if not shutil.which(compiler):
        pytest.skip("no g++ on the path")
    libraries = [run(compiler, f"-print-file-name={name}").strip() for name in ("libasan.so", "libstdc++.so")]
    # Python itself is not compiled with the sanitizer, which has to come first.
    environment = os.environ | {"LD_PRELOAD": ":".join(libraries), "ASAN_OPTIONS": "detect_leaks=0"}
    folder = Path(__file__).parent
    command = [sys.executable, "-I", "-m", "pytest", "-q", "-p", "no:xdist", "--engine", "cuda-host", "--sanitize"]
    files = [folder / "test_accuracy.py", folder / "test_gradients.py"]
    done = subprocess.run(
        [*command, "-k", KERNEL_TESTS, *files], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert " passed" in done.stdout
