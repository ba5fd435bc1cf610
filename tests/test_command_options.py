"""Options of the command line: numbers, options for each axis and image, rotations in planes, folds, and progress."""

import os
import re
import struct
import sys

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read, write, zarr_library

import elasticnd
from elasticnd import Deformation
from elasticnd.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--order", "1", "--mode", "mirror"], {"order": 1, "mode": "mirror"}),
        (["--cval", "-3.5"], {"cval": -3.5}),
        (["--rotate", "-30", "--zoom", "1.5"], {"rotate": -30, "zoom": 1.5}),
        (["--zoom", "1.5,2"], {"zoom": (1.5, 2)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(arguments, options, tmp_path):
    array = random_array("f4", 20, 24)
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.npy", *arguments) == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None, **options))


def test_options_for_each_axis(tmp_path):
    array = random_array("f4", 3, 20, 24)
    files = [str(write(tmp_path / "in.npy", array)), str(tmp_path / "out.npy")]
    assert main(["deform", *files, "--sigma", "1,2", "--points", "3,5", "--seed", "1", "--axis", "-2,-1"]) == 0
    displacement = elasticnd.random_displacement((3, 5), (1, 2), rng=1)
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), elasticnd.deform_grid(array, displacement, axis=(-2, -1)))


def test_fill_values_of_integers_are_exact(tmp_path):
    array = np.zeros((20, 24), np.int64)
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.npy", "--cval", 2**60 + 1, "--order", 0) == 0
    assert set(np.unique(read(tmp_path / "out.npy"))) == {0, 2**60 + 1}


def test_an_image_and_its_labels(tmp_path):
    image, labels = random_array("f4", 20, 24, 3).astype("u1"), random_array("u2", 20, 24) % 5
    files = [
        write(tmp_path / "image.png", image),
        tmp_path / "deformed.png",
        write(tmp_path / "labels.npy", labels),
        tmp_path / "deformed_labels.tif",
    ]
    assert deform(*files, "--order", "3,0", "--mode", "mirror,constant", "--cval", "0,9") == 0
    np.testing.assert_array_equal(read(files[1]), expected(image, (0, 1), mode="mirror"))
    result = read(files[3])
    np.testing.assert_array_equal(result, expected(labels, None, order=0, cval=9))
    assert set(np.unique(result)) == {0, 1, 2, 3, 4, 9}
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_one_order_is_for_all(tmp_path):
    arrays = {"a": random_array("f4", 20, 24), "b": random_array("f8", 20, 24)}
    files = [path for name in arrays for path in (tmp_path / f"{name}.npy", tmp_path / f"{name}_out.npy")]
    for name, array in arrays.items():
        write(tmp_path / f"{name}.npy", array)
    assert deform(*files, "--order", "1") == 0
    for name, array in arrays.items():
        np.testing.assert_array_equal(read(tmp_path / f"{name}_out.npy"), expected(array, None, order=1))


def test_a_seed_that_is_printed_repeats_the_deformation(tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    results = []
    for name in ("first.npy", "second.npy"):
        assert main(["deform", str(source), str(tmp_path / name), "--sigma", "2"]) == 0
        results.append(read(tmp_path / name))
    assert (results[0] != results[1]).any()
    seed = re.findall(r"--seed (\d+)", capsys.readouterr().out)[1]
    assert main(["deform", str(source), str(tmp_path / "again.npy"), "--sigma", "2", "--seed", seed]) == 0
    np.testing.assert_array_equal(read(tmp_path / "again.npy"), results[1])
    assert capsys.readouterr().out == ""


ROTATIONS = {
    "an angle": (2, ["10"], {(0, 1): 10}),
    "a plane of two": (2, ["0,1:10"], {(0, 1): 10}),
    "the other way round": (2, ["1,0:10"], {(1, 0): 10}),
    "a plane": (3, ["1,2:10"], {(1, 2): 10}),
    "planes": (3, ["1,2:10", "0,1:-7.5", "0,2:1e1"], {(1, 2): 10, (0, 1): -7.5, (0, 2): 10}),
    "another order": (3, ["0,1:-7.5", "1,2:10"], {(0, 1): -7.5, (1, 2): 10}),
    "from the last on": (3, ["-2,-1:10"], {(1, 2): 10}),
    "a negative angle": (2, ["-30"], {(0, 1): -30}),
}


@pytest.mark.parametrize("case", ROTATIONS)
def test_rotations(case, tmp_path):
    ndim, texts, planes = ROTATIONS[case]
    array = random_array("f4", *(9, 10, 11)[:ndim])
    options = [word for text in texts for word in ("--rotate", text)]
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.npy", *options) == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None, rotate=planes))


TYPED = {
    "zero": ["--zoom", "0"],
    "one of two": ["--zoom", "1.50,0"],
    "a negative number": ["--sigma", "-1"],
    "an exponent": ["--sigma", "-1e1"],
    "too many numbers": ["--sigma", "1,2,3"],
    "a whole number": ["--points", "0"],
    "a word": ["--mode", "bent"],
    "an order": ["--order", "6"],
    "a label": ["--cval", "0.10", "--order", "labels"],
    "axes": ["--axis", "0,2"],
}


@pytest.mark.parametrize("case", TYPED)
def test_messages_quote_what_was_typed(case, tmp_path, capsys):
    option, text, *others = TYPED[case]
    sigma = [] if option == "--sigma" else ["--sigma", "2"]
    files = [write(tmp_path / "in.npy", random_array("f4", 20, 24)), tmp_path / "out.npy"]
    assert_fails(capsys, [*files, *sigma, option, text, *others], f"{option}: got {text}, expected ")


@pytest.mark.parametrize(
    ("option", "text", "quoted"),
    [("--zoom", "0", "0"), ("--sigma", "-3", "-3"), ("--points", "0", "0"), ("--seed", "-1", "'-1'")],
)
def test_messages_of_the_demo_quote_what_was_typed(option, text, quoted, capsys):
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    assert main(["demo", option, text]) == 2
    assert f"{option}: got {quoted}, expected " in capsys.readouterr().err


def test_planes_are_of_the_deformed_axes(tmp_path):
    array = random_array("f4", 2, 9, 10, 11)
    files = [write(tmp_path / "in.npy", array), tmp_path / "out.npy"]
    assert deform(*files, "--axis", "1,2,3", "--rotate", "0,2:10") == 0
    np.testing.assert_array_equal(read(files[1]), expected(array, (1, 2, 3), rotate={(0, 2): 10}))


WRONG_ROTATIONS = {
    "an angle for three axes": (3, ["10"], "got 10 for 3 deformed axes", "as 1,2:10"),
    "an angle for one axis": (1, ["10"], "got 10 for 1 deformed axis"),
    "too large an axis": (3, ["1,3:10"], "got 1,3:10", "0 to 2"),
    "too small an axis": (3, ["-4,1:10"], "got -4,1:10", "0 to 2"),
    "one axis": (3, ["1,1:10"], "got 1,1:10", "different"),
    "one axis, from both ends": (3, ["0,-3:10"], "got 0,-3:10", "different"),
    "a plane twice": (3, ["0,1:10", "1,0:5"], "got 1,0:5", "once"),
    "three axes": (3, ["0,1,2:10"], "'0,1,2:10'", "1,2:10"),
    "no angle": (3, ["0,1:"], "'0,1:'", "1,2:10"),
    "no plane": (3, [":10"], "':10'", "1,2:10"),
    "a word": (2, ["much"], "'much'", "1,2:10"),
    "an infinite angle": (2, ["inf"], "'inf'", "1,2:10"),
    "an infinite angle in a plane": (3, ["0,1:1e999"], "'0,1:1e999'", "1,2:10"),
    "Python": (3, ["{(0,1):10}"], "'{(0,1):10}'", "1,2:10"),
}


@pytest.mark.parametrize("case", WRONG_ROTATIONS)
def test_wrong_rotations(case, tmp_path, capsys):
    ndim, texts, *words = WRONG_ROTATIONS[case]
    files = [write(tmp_path / "in.npy", random_array("f4", *(9, 10, 11)[:ndim])), tmp_path / "out.npy"]
    before = contents(tmp_path)
    options = [word for text in texts for word in ("--rotate", text)]
    message = assert_fails(capsys, [*files, *OPTIONS, *options], "--rotate", *words)
    assert "mapping" not in message
    assert "matrix" not in message
    assert contents(tmp_path) == before


@pytest.fixture
def on_terminal(monkeypatch):
    """Return a function that runs the command with a terminal as standard error, and returns exit status and output."""
    pty = pytest.importorskip("pty")
    pytest.importorskip("tqdm")
    ours, theirs = pty.openpty()
    rows_and_columns = struct.pack("HHHH", 24, 80, 0, 0)
    pytest.importorskip("fcntl").ioctl(theirs, pytest.importorskip("termios").TIOCSWINSZ, rows_and_columns)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        os.set_blocking(ours, False)

        def run(*arguments):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", stream)
                code = main(["deform", *map(str, arguments), *OPTIONS])
                stream.flush()
            return code, "".join(iter(shown, ""))

        def shown():
            try:
                return os.read(ours, 1 << 16).decode()
            except BlockingIOError:
                return ""

        yield run
    os.close(ours)


def volume(folder, suffix):
    if suffix == ".zarr":
        zarr_library()
        pytest.importorskip("dask.array")
    return write(folder / f"in{suffix}", random_array("f4", 9, 10, 11))


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_progress_on_a_terminal(suffix, tmp_path, on_terminal):
    files = [volume(tmp_path, suffix), tmp_path / f"out{suffix}"]
    code, shown = on_terminal(*files)
    assert code == 0
    assert "deforming" in shown
    assert "%" in shown
    assert ("reading in.npy" in shown) == (suffix == ".npy")
    assert shown.endswith("\r")  # the bar is erased at the end
    assert on_terminal(*files, "--no-progress") == (0, "")


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_an_error_follows_progress_in_a_line_of_its_own(suffix, tmp_path, on_terminal):
    code, shown = on_terminal(volume(tmp_path, suffix), tmp_path / f"out{suffix}", "--axis", "7")
    assert code == 2
    assert shown.rstrip("\r\n").rsplit("\r", 1)[-1].startswith("elasticnd: error: --axis")


@pytest.mark.parametrize("options", [[], ["--progress"], ["--no-progress"]])
@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_no_progress_elsewhere(suffix, options, tmp_path, capfd):
    assert deform(volume(tmp_path, suffix), tmp_path / f"out{suffix}", *options) == 0
    assert capfd.readouterr() == ("", "")


def test_progress_needs_no_library(tmp_path, on_terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert on_terminal(volume(tmp_path, ".npy"), tmp_path / "out.npy") == (0, "")


FOLDED = ("--sigma", "9", "--points", "5", "--seed", "3")


def test_folds(tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("f4", 40, 30))
    target = tmp_path / "out.npy"

    def run(*words):
        code = main(["deform", str(source), str(target), *FOLDED, *words])
        return code, capsys.readouterr().err

    assert run() == (0, "")
    assert run("--fold", "ignore") == (0, "")
    code, error = run("--fold", "warn")
    assert code == 0
    assert "the mapping folds: its smallest volume ratio lies between -" in error
    folded = read(target)
    code, error = run("--fold", "raise")
    assert code == 2
    assert "the mapping folds" in error
    assert "--fold scale" in error
    assert run("--fold", "scale") == (0, "")
    scaled = Deformation.random((40, 30), 9, 5, rng=3, fold="scale")
    np.testing.assert_array_equal(read(target), scaled.apply(read(source)))
    assert (read(target) != folded).any()
    code, error = run("--fold", "no")
    assert code == 2
    assert "--fold" in error
