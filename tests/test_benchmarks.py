"""The command that compares with other programs runs, and writes what it says."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).parent / "benchmarks" / "compare.py"


def run(*options):
    done = subprocess.run(
        [sys.executable, COMMAND, "--programs", "^elasticnd", "--seconds", "0.001", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def test_table_and_json(tmp_path):
    done = run("--works", "16²", "--json", tmp_path / "speed.json")
    assert "| 16² float32, order 3 | elasticnd, 1 thread |" in done.stdout
    assert "100%" in done.stderr  # the progress bar
    report = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert result["voxels"] == 256
    measured = result["programs"]["elasticnd, 1 thread"]
    assert 0 < measured["minimum"] <= measured["low"] <= measured["median"] <= measured["high"]
    assert report["versions"]["elasticnd"]
