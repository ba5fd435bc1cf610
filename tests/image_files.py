"""Image files for tests of the command line, written and read by the libraries of their formats."""

import numpy as np
import pytest

import elasticnd
from elasticnd.__main__ import main

PIL_Image = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")
nibabel = pytest.importorskip("nibabel")

SIGMA, POINTS, SEED = 2.0, 3, 7
OPTIONS = ["--sigma", str(SIGMA), "--points", str(POINTS), "--seed", str(SEED)]


def random_array(dtype, *shape):
    rng = np.random.default_rng(len(shape))
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) > 0.5
    if dtype.kind in "iu":
        return rng.integers(0, min(np.iinfo(dtype).max, 60000), shape).astype(dtype)
    values = rng.random(shape) * 100
    return (values + 1j * values[::-1] if dtype.kind == "c" else values).astype(dtype)


def tiff_options(array):
    in_colour = array.dtype.kind == "u" and array.ndim == 3 and array.shape[-1] in (3, 4)
    return {"photometric": "rgb" if in_colour else "minisblack"}


def zarr_library():
    return pytest.importorskip("zarr", "3")


WRITE = {
    ".npy": np.save,
    ".png": lambda path, array: PIL_Image.fromarray(array).save(path),
    ".tif": lambda path, array: tifffile.imwrite(path, array, **tiff_options(array)),
    ".nii": lambda path, array: nibabel.Nifti1Image(array, np.eye(4), dtype=array.dtype).to_filename(path),
    ".zarr": lambda path, array: zarr_library().create_array(str(path), data=array),
}
READ = {
    ".npy": np.load,
    ".png": lambda path: np.array(PIL_Image.open(path)),
    ".tif": tifffile.imread,
    ".nii": lambda path: nibabel.load(path, mmap=False).dataobj.get_unscaled(),
    ".zarr": lambda path: zarr_library().open_array(str(path), mode="r")[...],
}


def suffix_of(path):
    return path.name[path.name.index(".") :].removesuffix(".gz").replace(".tiff", ".tif")


def write(path, array):
    WRITE[suffix_of(path)](path, array)
    return path


def read(path):
    return READ[suffix_of(path)](path)


def expected(array, axes, **options):
    axes = tuple(range(array.ndim)) if axes is None else axes
    displacement = elasticnd.random_displacement(POINTS, SIGMA, ndim=len(axes), rng=SEED)
    return elasticnd.deform_grid(array, displacement, axis=axes, **options)


def deform(*arguments):
    return main(["deform", *map(str, arguments), *OPTIONS])


def assert_fails(capsys, arguments, *words):
    """Check that the command fails with an error of one line that contains the given words."""
    assert main(["deform", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("elasticnd: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert str(word) in captured.err
    return captured.err


def contents(folder):
    """Return the paths and contents of everything in a folder, including hidden files."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
