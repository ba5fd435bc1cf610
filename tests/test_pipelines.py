"""The recipes for pipeline libraries without a transform in elasticnd. Each example checks its own results."""

import importlib.util
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
LIBRARIES = {
    "albumentations": "albumentations",
    "batchgenerators": "batchgeneratorsv2",
    "grain": "grain",
    "tf_data": "tensorflow",
    "torchio_2": "torchio",
}
LONGEST = 20  # the largest number of lines in a recipe


@pytest.mark.parametrize("name", LIBRARIES)
def test_recipe_runs(name, tmp_path):
    if importlib.util.find_spec(LIBRARIES[name]) is None:
        pytest.skip(f"{LIBRARIES[name]} is not installed")
    if name == "torchio_2" and not metadata.version("torchio").startswith("2."):
        pytest.skip("TorchIO 2 is not installed: the transforms are for version 1")
    script = EXAMPLES / f"pipeline_{name}.py"
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_every_recipe_is_run_and_short():
    scripts = {path.stem.removeprefix("pipeline_"): path for path in EXAMPLES.glob("pipeline_*.py")}
    assert set(scripts) == set(LIBRARIES)
    page = (EXAMPLES.parent / "pipelines.md").read_text(encoding="utf-8")
    for name, script in scripts.items():
        assert f"examples/pipeline_{name}.py" in page
        text = script.read_text(encoding="utf-8")
        recipe = text.partition("import elasticnd\n")[2].partition('if __name__ == "__main__":')[0]
        assert sum(bool(line.strip()) for line in recipe.splitlines()) <= LONGEST, name
