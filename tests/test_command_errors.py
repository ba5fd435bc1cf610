"""Wrong arguments of the command line: a one-line error names what is wrong, and no file changes."""

import numpy as np
import pytest
from image_files import assert_fails, contents, random_array, write


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Run the test in a folder with one file of each kind."""
    monkeypatch.chdir(tmp_path)
    array = random_array("u1", 20, 24)
    for suffix in (".npy", ".png", ".tif", ".nii", ".nii.gz"):
        write(tmp_path / f"in{suffix}", array)
    np.save("other.npy", array[:10])
    np.save("void.npy", np.zeros(5, [("a", "i4"), ("b", "f4")]))
    np.save("text.npy", np.array(["a", "b"]))
    np.save("floats.npy", array.astype("f4"))
    np.save("half.npy", array.astype("f2"))
    np.save("scalar.npy", np.float32(3))
    np.save("many.npy", np.zeros((2, 1) * 20, "f4"))
    np.save("empty.npy", np.zeros((0, 4), "u1"))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "a_file").write_text("no folder")
    return tmp_path


S = ["--sigma", "2", "--seed", "1"]

# For each mistake, the arguments, and words that the error contains.
WRONG = {
    "no files": (S, "IN OUT"),
    "no output": (["in.npy", *S], "pairs"),
    "three files": (["in.npy", "out.npy", "in.tif", *S], "3 files"),
    "no sigma": (["in.npy", "out.npy"], "--sigma"),
    "a missing file": (["nowhere.npy", "out.npy", *S], "nowhere.npy does not exist"),
    "an input of unknown format": (["text.txt", "out.npy", *S], "text.txt", ".npy"),
    "an output of unknown format": (["in.npy", "out.bmp", *S], "out.bmp", ".npy"),
    "a folder as input": (["folder.npy", "out.npy", *S], "folder.npy is a folder"),
    "a folder as output": (["in.npy", "folder.npy", *S], "folder.npy"),
    "an output in a missing folder": (["in.npy", "nowhere/out.npy", *S], "nowhere", "No such"),
    "an output inside a file": (["in.npy", "a_file/out.npy", *S], "a_file"),
    "the input as output": (["in.npy", "in.npy", *S], "in.npy", "input"),
    "the input as output, by another path": (["in.npy", "./folder.npy/../in.npy", *S], "in.npy", "input"),
    "another input as output": (["in.npy", "out.npy", "in.tif", "in.npy", *S], "in.npy", "input"),
    "an output inside an input": (["in.zarr", "in.zarr/out.npy", *S], "in.zarr", "input"),
    "an output around an input": (["out.zarr/0", "out.zarr", *S], "out.zarr", "input"),
    "the same output twice": (["in.npy", "out.npy", "in.tif", "out.npy", *S], "out.npy", "twice"),
    "floats to png": (["floats.npy", "out.png", *S], "out.png", "float32", "uint8"),
    "half to nii": (["half.npy", "out.nii", *S], "out.nii", "float16", "int16"),
    "records": (["void.npy", "out.npy", *S], "void.npy", "int16"),
    "strings": (["text.npy", "out.npy", *S], "text.npy", "int16"),
    "no axes": (["scalar.npy", "out.npy", *S], "scalar.npy", "0 axes"),
    "many axes": (["many.npy", "out.npy", *S], "many.npy", "20 axes"),
    "an empty image to tif": (["empty.npy", "out.tif", *S], "out.tif", "empty"),
    "an empty image to png": (["empty.npy", "out.png", *S], "out.png", "(0, 4)"),
    "different extents": (["in.npy", "out.npy", "other.npy", "out2.npy", *S], "other.npy", "(10, 24)", "in.npy"),
    "different numbers of axes": (["in.npy", "out.npy", "scalar.npy", "out2.npy", *S], "scalar.npy"),
    "negative sigma": (["in.npy", "out.npy", "--sigma", "-2"], "--sigma", "-2"),
    "sigma is not a number": (["in.npy", "out.npy", "--sigma", "much"], "--sigma", "much"),
    "three sigmas": (["in.npy", "out.npy", "--sigma", "1,2,3"], "--sigma"),
    "points": (["in.npy", "out.npy", *S, "--points", "0"], "--points"),
    "order": (["in.npy", "out.npy", *S, "--order", "6"], "--order", "6"),
    "order is not a number": (["in.npy", "out.npy", *S, "--order", "label"], "--order", "'label'", "labels"),
    "labels with a cval that is not a label": (
        ["in.npy", "out.npy", *S, "--order", "labels", "--cval", "0.1"],
        "--cval",
        "0.1",
    ),
    "two orders": (["in.npy", "out.npy", *S, "--order", "3,0"], "--order", "one for the pair"),
    "mode": (["in.npy", "out.npy", *S, "--mode", "bent"], "--mode", "bent", "mirror"),
    "cval": (["in.npy", "out.npy", *S, "--cval", "nan"], "--cval", "nan"),
    "axis": (["in.npy", "out.npy", *S, "--axis", "0,2"], "--axis", "in.npy"),
    "the same axis twice": (["in.npy", "out.npy", *S, "--axis", "0,0"], "--axis"),
    "axis is not a number": (["in.npy", "out.npy", *S, "--axis", "x"], "--axis"),
    "seed": (["in.npy", "out.npy", "--sigma", "2", "--seed", "-1"], "--seed", "-1"),
    "rotate": (["in.npy", "out.npy", *S, "--rotate", "nan"], "--rotate"),
    "zoom": (["in.npy", "out.npy", *S, "--zoom", "0"], "--zoom"),
    "chunks": (["in.npy", "out.npy", *S, "--chunks", "8"], "--chunks", "Zarr"),
    "unknown option": (["in.npy", "out.npy", *S, "--colour", "red"], "--colour"),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", WRONG)
def test_wrong(case, tmp_path, capsys):
    before = contents(tmp_path)
    arguments, *words = WRONG[case]
    assert_fails(capsys, arguments, *words)
    assert contents(tmp_path) == before
