"""The C++ tests of the core, cpp/tests, under AddressSanitizer and UBSan, and the threads under ThreadSanitizer."""

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
