"""The CUDA kernels, compiled for the host, under AddressSanitizer and UBSan. cpp/tests does this for the core."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.usefixtures("recompile"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sanitizers run only on Linux"),
]

# Every kernel, with orders and modes that execute its branches.
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
        pytest.skip("no g++ on PATH")
    files = [f"-print-file-name={name}" for name in ("libasan.so", "libstdc++.so")]
    found = [subprocess.run([compiler, file], capture_output=True, text=True, check=True).stdout for file in files]
    # Python is not compiled with the sanitizer, so its library must be preloaded.
    environment = os.environ | {"LD_PRELOAD": ":".join(map(str.strip, found)), "ASAN_OPTIONS": "detect_leaks=0"}
    folder = Path(__file__).parent
    command = [sys.executable, "-I", "-m", "pytest", "-q", "-p", "no:xdist", "--engine", "cuda-host", "--sanitize"]
    tests = [folder / "test_accuracy.py", folder / "test_gradients.py"]
    done = subprocess.run(
        [*command, "-k", KERNEL_TESTS, *tests], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert " passed" in done.stdout
