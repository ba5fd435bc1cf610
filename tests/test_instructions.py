"""How many instructions the kernels take, against the counts that are kept in instructions.json: a guard of their speed
that does not depend on how busy the machine is.

Counts depend on the compiler. After a change that is meant, write them anew with
``python tests/test_instructions.py``.
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
PICTURES = ("gray 0", "gray 1", "RGB 0", "RGB 1", "RGB 3", "float RGB 1", "float RGB 3")
KERNELS = ("rows", "one label", "labels", "gather", "prefilter", "spread", "gradient", *PICTURES)
TOLERANCE = 0.05


def compiler() -> str:
    """Name the compiler and its major version; empty without one."""
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
    """Count the instructions of one kernel, in the code for AVX2."""
    command = ["valgrind", "--tool=callgrind", "--toggle-collect=measured", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*command, program, "avx2", kernel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def missing() -> str | None:
    """Tell what is missing to count."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "the counts are those of Linux on x86-64"
    for program in ("cmake", "valgrind"):
        if not shutil.which(program):
            return f"no {program} on the path"
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
    assert counted >= (1 - TOLERANCE) * kept, f"{kernel} got faster: write {counted} down, by running this file"


def write() -> None:
    """Count anew."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        counts = {kernel: count(program, kernel) for kernel in KERNELS}
    KEPT.write_text(json.dumps({"compiler": compiler(), "instructions": counts}, indent=2) + "\n")


if __name__ == "__main__":
    write()
