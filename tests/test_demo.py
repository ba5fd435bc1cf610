"""The demo writes a figure, prints what it did, and reports bad input in one line."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

import elasticnd
from elasticnd.__main__ import main

iio = pytest.importorskip("imageio.v3")
pytest.importorskip("matplotlib")
pytest.importorskip("skimage")

SMALL = np.random.default_rng(0).integers(0, 255, (40, 52), dtype=np.uint8)
PICTURES = {
    "grey": SMALL,
    "colour": np.stack([SMALL, SMALL[::-1], SMALL], axis=-1),
    "transparent": np.stack([SMALL, SMALL[::-1], SMALL, 255 - SMALL], axis=-1),
    "16 bits": SMALL.astype(np.uint16) * 257,
    "narrow": SMALL[:3],
    "constant": np.full((20, 20), 7, np.uint8),
}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    iio.imwrite(path, PICTURES["colour"])
    return path


def assert_figure(path):
    figure = iio.imread(path)
    assert figure.shape[0] > 200
    assert figure.shape[1] > 200
    assert np.ptp(figure) > 100
    return figure


def test_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert re.search(r"time: +\d+(\.\d+)? ms", captured.out)
    (written,) = tmp_path.iterdir()
    assert written.name in captured.out
    assert_figure(written)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind, tmp_path, capsys):
    path, out = tmp_path / "picture.png", tmp_path / "figure.png"
    iio.imwrite(path, PICTURES[kind])
    before = path.read_bytes()
    assert main(["demo", str(path), "--out", str(out)]) == 0
    assert "picture.png" in capsys.readouterr().out
    assert_figure(out)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "options",
    [
        ["--sigma", "2.5", "--points", "3", "--order", "1", "--seed", "7"],
        ["--rotate", "30", "--zoom", "1.5"],
        ["--sigma", "2,4", "--points", "3,5"],
        ["--sigma", "0"],
        ["--points", "1"],
        ["--points", "12", "--order", "0"],
        ["--sigma", "50"],
    ],
    ids=" ".join,
)
def test_options(options, picture, tmp_path, capsys):
    out = tmp_path / "figure.png"
    assert main(["demo", str(picture), *options, "--out", str(out)]) == 0
    assert_figure(out)
    assert capsys.readouterr().err == ""


def test_same_seed_same_figure(picture, tmp_path):
    figures = []
    for name, seed in (("first", "1"), ("second", "1"), ("third", "2")):
        assert main(["demo", str(picture), "--seed", seed, "--out", str(tmp_path / f"{name}.png")]) == 0
        figures.append(iio.imread(tmp_path / f"{name}.png"))
    np.testing.assert_array_equal(figures[0], figures[1])
    assert figures[0].shape != figures[2].shape or (figures[0] != figures[2]).any()


@pytest.mark.parametrize("name", ["figure.pdf", "figure.svg", "figure.jpg"])
def test_other_formats(name, picture, tmp_path):
    assert main(["demo", str(picture), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / name).stat().st_size > 1000


WRONG = {
    "no such file": ["demo", "nowhere.png"],
    "a directory": ["demo", "."],
    "not a picture": ["demo", "text.png"],
    "an empty file": ["demo", "empty.png"],
    "sigma is not a number": ["demo", "--sigma", "much"],
    "negative sigma": ["demo", "--sigma", "-3"],
    "NaN as sigma": ["demo", "--sigma", "nan"],
    "three sigmas": ["demo", "--sigma", "1,2,3"],
    "zero points": ["demo", "--points", "0"],
    "points are not a number": ["demo", "--points", "2.5"],
    "order": ["demo", "--order", "6"],
    "order is not a number": ["demo", "--order", "cubic"],
    "seed": ["demo", "--seed", "-1"],
    "rotate": ["demo", "--rotate", "nan"],
    "zoom": ["demo", "--zoom", "0"],
    "zoom too small": ["demo", "--zoom", "1e-320"],
    "output in a missing folder": ["demo", "--out", "nowhere/figure.png"],
    "a folder as output": ["demo", "--out", "."],
    "output of unknown format": ["demo", "--out", "figure.xyz"],
    "no command": [],
    "unknown command": ["show"],
    "unknown option": ["demo", "--colour", "red"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    before = sorted(tmp_path.iterdir())
    assert main(WRONG[case]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("elasticnd: error: ")
    assert captured.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["demo", "--help"]], ids=" ".join)
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert "elasticnd" in capsys.readouterr().out
    if arguments == ["--version"]:
        with pytest.raises(SystemExit):
            main(arguments)
        assert elasticnd.__version__ in capsys.readouterr().out


def as_module(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-I", "-m", "elasticnd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "error", "MPLCONFIGDIR": str(cwd)},
    )


def test_as_module(picture, tmp_path):
    done = as_module("demo", str(picture), "--out", "figure.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "time:" in done.stdout
    assert_figure(tmp_path / "figure.png")
    done = as_module("demo", "nowhere.png", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"elasticnd: error: [^\n]*nowhere\.png[^\n]*\n", done.stderr)


def test_without_the_libraries_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert "elasticnd[demo]" in error
    assert error.count("\n") == 1
