"""The examples of the documentation, each run in a separate process, as readers run them."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def require(*modules):
    """Skip the test if a framework is not installed, without importing it."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def python(*arguments, **environment):
    """Run Python in the folder of the examples, with one thread, which is faster for small networks."""
    settings = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | settings, cwd=EXAMPLES, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_registration(framework, tmp_path):
    require("scipy", "SimpleITK", "matplotlib", framework)
    figure = tmp_path / "figure.png"
    small = ["--shape", "30", "28", "26", "--folder", str(tmp_path), "--figure", str(figure)]
    output = python("-W", "ignore", "register.py", framework, *small)
    before, *stages = (float(number) for number in re.findall(r"off by (\d+\.\d+) voxels at most", output))
    assert before > 3
    assert len(stages) == 4
    assert stages[-1] < 0.2
    assert float(re.search(r"smallest relative volume: at least (\S+)", output)[1]) > 0
    assert float(re.search(r"SimpleITK's result differs by (\S+)", output)[1]) < 1e-5
    assert (tmp_path / "deformation.tfm").exists()
    assert figure.stat().st_size > 10_000


def assert_trains(module, place, **environment):
    code = f"import json, {module}; print(json.dumps({module}.main({place!r})))"
    result = json.loads(python("-c", code, **environment).splitlines()[-1])
    assert result["losses"][-1] < 0.4 * result["losses"][0]
    before, after = result["dice"]
    assert after > before + 0.2
    assert result["labels"] == [0, 1, 2]


@pytest.mark.parametrize("place", ["loader", "model"])
def test_augmentation_in_torch(place):
    require("torch")
    assert_trains("augment_torch", place)


@pytest.mark.parametrize(("place", "backend"), [("pipeline", "tensorflow"), ("model", "jax")])
def test_augmentation_in_keras(place, backend):
    require("keras", "tensorflow", backend)
    assert_trains("augment_keras", place, KERAS_BACKEND=backend)
