"""Types of the public functions: type checkers infer that results have the types of the images."""

import re
from pathlib import Path

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is not installed")

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "tests" / "typing" / "user.py"


def test_results_have_the_types_of_the_images(monkeypatch, tmp_path):
    """mypy reports exactly the errors that the program expects, on the same lines."""
    lines = enumerate(PROGRAM.read_text(encoding="utf-8").splitlines(), 1)
    expected = {(number, found[1]) for number, line in lines if (found := re.search(r"# expect: ([\w-]+)", line))}
    monkeypatch.chdir(ROOT)
    options = ("--python-version=3.11", "--config-file=pyproject.toml", f"--cache-dir={tmp_path}")
    output, problems, _ = api.run([*options, str(PROGRAM)])
    assert not problems
    got = {(int(line), code) for line, code in re.findall(r":(\d+): error: .*\[([\w-]+)\]", output)}
    assert got == expected, output
