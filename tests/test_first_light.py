"""The script for the first run on a CUDA device, tested without a device: its rungs pass on the host."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import first_light
import host_device
import numpy as np
import pytest

from elasticnd._engines import cpu, cuda

SCRIPT = Path(__file__).parent / "first_light.sh"
# The steps besides the rungs that require a device.
STEPS = {
    *("device", "tests", "kernels", "memcheck", "racecheck", "initcheck", "synccheck", "benchmark", "benchmark again"),
    *("host time of a call", "kernels as compiled"),
    *(f"profile: {name}" for name in ("sample 3-D order 3", "sample 3-D order 1", "gradients 3-D")),
}


@pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")
@pytest.mark.parametrize("name", first_light.KERNEL_RUNGS)
def test_rungs(name):
    rung = first_light.RUNGS[name]
    with host_device.installed():
        ours = rung(cuda, np.asarray)
    for one, other in zip(ours, rung(cpu, np.asarray), strict=True):
        assert first_light.error_of(one, other) <= first_light.TOLERANCE


def test_errors_are_seen():
    assert first_light.error_of([1.0, 2.0], [1.0, 2.5]) == 0.2
    with pytest.raises(AssertionError, match="instead of"):
        first_light.error_of([1.0], [1.0, 2.0])


@pytest.mark.skipif(not sys.platform.startswith("linux") or not shutil.which("timeout"), reason="Linux only")
def test_dry_run(tmp_path):
    """Without a device, the steps that need one are skipped, and the others pass."""
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([SCRIPT, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (tmp_path / "report.txt").read_text()
    lines = (tmp_path / "summary.txt").read_text().splitlines()
    results = dict(re.fullmatch(r"(.*?) +\d+ s  (.*)", line).groups() for line in lines)
    passed = {name for name, result in results.items() if result == "passed"}
    assert {"versions", "the package"} <= passed <= {"versions", "the package", "build"}
    rungs = {f"rung: {name}" for name in ("layout of a job", *first_light.RUNGS)}
    assert results.keys() - passed == STEPS | rungs
    assert {results[name] for name in STEPS | rungs} == {"skipped: no device"}
