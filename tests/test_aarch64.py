"""The core on AArch64: a cross compiler compiles it, and an emulator runs the tests of its kernels."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from test_instructions import KERNELS

SOURCE = Path(__file__).parent.parent / "cpp"
COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    for needed in ("cmake", COMPILER):
        if not shutil.which(needed):
            pytest.skip(f"no {needed} on PATH")
    folder = tmp_path_factory.mktemp("aarch64")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_COMPILER": COMPILER,
        "CMAKE_EXE_LINKER_FLAGS": "-static",
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "ELASTICND_TESTS": "ON",
    }
    configure = ["cmake", "-S", SOURCE, "-B", folder, *(f"-D{name}={value}" for name, value in options.items())]
    make = ["cmake", "--build", folder, "--target", "elasticnd_instructions", "--parallel", str(os.cpu_count())]
    for command in (configure, make):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-8000:]
    return folder / "elasticnd_instructions"


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_run_on_aarch64(kernel, program):
    if not shutil.which(EMULATOR):
        pytest.skip(f"no {EMULATOR} on PATH")
    done = subprocess.run([EMULATOR, program, "baseline", kernel], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
