"""Image formats: the command line reads and writes each of them, and converts one into another."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from image_files import (
    OPTIONS,
    PIL_Image,
    assert_fails,
    deform,
    expected,
    random_array,
    read,
    write,
    zarr_library,
)

# The suffix of input and output, the array in the file, and the axes to deform.
ROUND_TRIPS = {
    "npy": (".npy", random_array("f4", 20, 24), None),
    "npy, 3 axes": (".npy", random_array("i2", 9, 10, 11), None),
    "npy, 1 axis": (".npy", random_array("f8", 30), None),
    "npy, bool": (".npy", random_array("?", 20, 24), None),
    "npy, half": (".npy", random_array("f2", 20, 24), None),
    "npy, complex": (".npy", random_array("c8", 20, 24), None),
    "npy, not native": (".npy", random_array(">i4", 20, 24), None),
    "npy, Fortran": (".npy", np.asfortranarray(random_array("f4", 20, 24)), None),
    "npy, one plane": (".npy", random_array("f4", 1, 20, 24), (1, 2)),
    "png, grey": (".png", random_array("u1", 20, 24), None),
    "png, 16 bits": (".png", random_array("u2", 20, 24), None),
    "png, 1 bit": (".png", random_array("?", 20, 24), None),
    "png, grey and alpha": (".png", random_array("u1", 20, 24, 2), (0, 1)),
    "png, colour": (".png", random_array("u1", 20, 24, 3), (0, 1)),
    "png, colour and alpha": (".png", random_array("u1", 20, 24, 4), (0, 1)),
    "tiff, grey": (".tiff", random_array("u1", 20, 24), None),
    "tif, colour": (".tif", random_array("u2", 20, 24, 3), (0, 1)),
    "tif, colour of floats": (".tif", random_array("f4", 20, 24, 3), (0, 1)),
    "tif, stack": (".tif", random_array("f4", 9, 10, 11), None),
    "tif, bool": (".tif", random_array("?", 9, 10, 11), None),
    "tif, int8": (".tif", random_array("i1", 20, 24), None),
    "tif, int64": (".tif", random_array("i8", 20, 24), None),
    "tif, complex": (".tif", random_array("c16", 20, 24), None),
    "nii": (".nii", random_array("i2", 9, 10, 11), None),
    "nii.gz": (".nii.gz", random_array("f4", 9, 10, 11), None),
    "nii, 2 axes": (".nii", random_array("u1", 20, 24), None),
    "nii, 4 axes": (".nii", random_array("f8", 9, 10, 11, 2), (0, 1, 2)),
    "nii, one slice": (".nii", random_array("u1", 20, 24, 1), (0, 1)),
    "nii, uint64": (".nii", random_array("u8", 9, 10, 11), None),
    "nii, complex": (".nii", random_array("c8", 9, 10, 11), None),
}


@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_round_trip(case, tmp_path, capsys):
    suffix, array, axes = ROUND_TRIPS[case]
    source, target = write(tmp_path / f"in{suffix}", array), tmp_path / f"out{suffix}"
    before = source.read_bytes()
    assert deform(source, target) == 0
    assert capsys.readouterr() == ("", "")
    result = read(target)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, expected(array, axes))
    assert source.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [source, target]


CONVERSIONS = {
    "npy to tif": ("in.npy", "out.tif", random_array("f4", 9, 10, 11), None),
    "npy to nii": ("in.npy", "out.nii.gz", random_array("i8", 9, 10, 11), None),
    "npy to a long nii": ("in.npy", "out.nii", random_array("u1", 33000), None),
    "npy to png": ("in.npy", "out.png", random_array("u1", 20, 24, 3), (0, 1)),
    "npy, not native, to png": ("in.npy", "out.png", random_array(">u2", 20, 24), None),
    "npy to zarr": ("in.npy", "out.zarr", random_array("f4", 9, 10, 11), None),
    "zarr to npy": ("in.zarr", "out.npy", random_array("f4", 9, 10, 11), None),
    "zarr to tif": ("in.zarr", "out.tif", random_array("u2", 20, 24), None),
    "png to npy": ("in.png", "out.npy", random_array("u1", 20, 24, 3), (0, 1)),
    "png to tif": ("in.png", "out.tif", random_array("u1", 20, 24, 4), (0, 1)),
    "tif to png": ("in.tif", "out.png", random_array("u1", 20, 24, 3), (0, 1)),
    "nii to npy": ("in.nii", "out.npy", random_array("f4", 9, 10, 11, 2), (0, 1, 2)),
}


@pytest.mark.parametrize("case", CONVERSIONS)
def test_conversion(case, tmp_path):
    source, target, array, axes = CONVERSIONS[case]
    if target.endswith(".zarr"):
        zarr_library()
    source, target = tmp_path / source, tmp_path / target
    write(source, array)
    assert deform(source, target) == 0
    result = read(target)
    assert result.dtype.name == array.dtype.name
    np.testing.assert_array_equal(result, expected(array, axes))


def test_libraries_do_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL_Image, "MAX_IMAGE_PIXELS", 400)  # Pillow warns of decompression bombs above this size
    assert deform(write(tmp_path / "in.png", random_array("u1", 20, 24)), tmp_path / "out.png") == 0


@pytest.mark.parametrize(
    ("library", "name"), [("PIL.Image", "in.png"), ("tifffile", "in.tif"), ("nibabel", "in.nii"), ("zarr", "in.zarr")]
)
def test_without_a_library_it_says_what_to_install(library, name, tmp_path, monkeypatch, capsys):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, library, None)
    assert_fails(capsys, [tmp_path / name, tmp_path / "out.npy", *OPTIONS], "elasticnd[files]")


def test_as_module(tmp_path):
    array = random_array("u1", 20, 24)
    write(tmp_path / "in.png", array)
    command = [sys.executable, "-I", "-X", "importtime", "-m", "elasticnd", "deform", "in.png", "out.npy", *OPTIONS]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None))
    assert not re.search(r"\| +(nibabel|tifffile|zarr|dask)\n", done.stderr), "a library that was not needed"
