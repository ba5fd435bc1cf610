"""Instruction counts of the kernels, compared with instructions.json. They guard the speed, even on a busy machine.

Counts depend on the compiler. After an intended change, ``python tests/test_instructions.py`` updates the file.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "cpp"
KEPT = Path(__file__).parent / "instructions.json"
PICTURES = ("gray 0", "gray 1", "gray 1, fine grid", "RGB 0", "RGB 1", "RGB 3", "float RGB 1", "float RGB 3")
KERNELS = ("rows", "one label", "labels", "gather", "prefilter", "spread", "gradient", *PICTURES)
TOLERANCE = 0.05


def compiler() -> str:
    """Return the name and major version of the compiler; empty without one."""
    command = os.environ.get("CXX") or shutil.which("c++")
    if not command:
        return ""
    version = subprocess.run([*command.split(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"(clang|g\+\+|c\+\+|gcc).*? (\d+)\.\d+", version, re.IGNORECASE)
    return f"{'clang' if 'clang' in version else 'gcc'} {found[2]}" if found else ""


def build(folder: Path) -> Path:
    """Compile the program that runs the kernels."""
    configure = ["cmake", "-S", SOURCE, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DELASTICND_TESTS=ON"]
    make = ["cmake", "--build", folder, "--target", "elasticnd_instructions", "--parallel", str(os.cpu_count())]
    for command in (configure, make):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == 0, done.stdout[-8000:]
    return folder / "elasticnd_instructions"


def count(program: Path, kernel: str) -> int:
    """Count the instructions that one kernel executes in its AVX2 version."""
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=measured", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*command, program, "avx2", kernel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def missing() -> str | None:
    """Return the reason why instructions cannot be counted here, or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "the counts are those of Linux on x86-64"
    for program in ("cmake", "valgrind"):
        if not shutil.which(program):
            return f"no {program} on PATH"
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        return "no AVX2 here"
    kept = json.loads(KEPT.read_text())
    return None if compiler() == kept["compiler"] else f"the counts are those of {kept['compiler']}, not {compiler()}"


@pytest.fixture(scope="module")
def program(tmp_path_factory, recompile):
    if reason := missing():
        pytest.skip(reason)
    return build(tmp_path_factory.mktemp("instructions"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_take_no_more_instructions_than_they_did(kernel, program):
    kept = json.loads(KEPT.read_text())["instructions"][kernel]
    counted = count(program, kernel)
    assert counted <= (1 + TOLERANCE) * kept, f"{kernel}: {counted}, {counted / kept - 1:+.1%}"
    assert counted >= (1 - TOLERANCE) * kept, f"{kernel} got faster: run this file to store {counted}"


def write() -> None:
    """Count all instructions, and update the file."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        counts = {kernel: count(program, kernel) for kernel in KERNELS}
    KEPT.write_text(json.dumps({"compiler": compiler(), "instructions": counts}, indent=2) + "\n")


if __name__ == "__main__":
    write()
