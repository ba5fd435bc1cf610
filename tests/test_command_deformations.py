"""Deformations in files, which the command line saves, loads and exchanges with ITK."""

import warnings

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, nibabel, random_array, read, write, zarr_library

from elasticnd import Deformation
from elasticnd.__main__ import main
from elasticnd._cli import deformations

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the bindings issue warnings on import
    import SimpleITK as sitk  # noqa: N813 - the name that SimpleITK's examples use

SHAPE = (12, 11, 10)


def volume(path, array=None, to_world=None, codes=(2, 0)):
    """Write a NIfTI volume with an oblique orientation and anisotropic voxels."""
    array = random_array("f4", *SHAPE) if array is None else array
    if to_world is None:
        to_world = np.eye(4)
        turn = np.linalg.qr(np.array([[1, 0.3, 0], [0, 1, -0.2], [0.1, 0, 1]]))[0]
        to_world[:3, :3] = turn @ np.diag([2, 1.5, 3])
        to_world[:3, 3] = 10, -20, 30
    image = nibabel.Nifti1Image(array, to_world)
    image.set_sform(to_world, codes[0])
    image.set_qform(to_world, codes[1])
    nibabel.save(image, path)
    return path


def again(source, target, file, *options):
    return main(["deform", *map(str, (source, target, "--deformation", file, *options))])


@pytest.mark.parametrize("options", [(), ("--rotate", "20", "--zoom", "1.1"), ("--axis", "1,0")])
def test_a_deformation_is_saved_and_used_again(options, tmp_path):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    file = tmp_path / "made.npz"
    assert deform(source, tmp_path / "out.npy", "--save-deformation", file, *options) == 0
    assert again(source, tmp_path / "again.npy", file, *options[: 2 * ("--axis" in options)]) == 0
    np.testing.assert_array_equal(read(tmp_path / "again.npy"), read(tmp_path / "out.npy"))
    axis = (1, 0) if "--axis" in options else None
    np.testing.assert_array_equal(Deformation.load(file).apply(read(source), axis=axis), read(tmp_path / "out.npy"))


def test_zarr_arrays_are_deformed_by_a_file(tmp_path):
    zarr_library()
    source = write(tmp_path / "in.zarr", random_array("f4", *SHAPE))
    assert deform(source, tmp_path / "out.zarr", "--save-deformation", tmp_path / "made.npz", "--chunks", "5") == 0
    assert again(source, tmp_path / "again.zarr", tmp_path / "made.npz") == 0
    np.testing.assert_array_equal(read(tmp_path / "again.zarr"), read(tmp_path / "out.zarr"))


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii", ".nii.gz"])
@pytest.mark.parametrize("options", [(), ("--rotate", "0,1:15", "--axis", "2,0,1")])
def test_itk_resamples_alike(suffix, options, tmp_path):
    source, file = volume(tmp_path / "in.nii"), tmp_path / f"made{suffix}"
    assert deform(source, tmp_path / "out.nii", "--save-deformation", file, "--order", "1", *options) == 0
    if suffix in (".tfm", ".h5"):
        transform = sitk.ReadTransform(str(file))
    elif options:
        return  # with its axes in another order, the field lies on another grid
    else:
        transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))
    image = sitk.ReadImage(str(source), sitk.sitkFloat64)
    resampled = sitk.Resample(image, image, transform, sitk.sitkLinear, -1.0)
    got, expected = sitk.GetArrayFromImage(resampled).T, read(tmp_path / "out.nii")
    # ITK rounds positions on the border, and NIfTI stores matrices in single precision.
    inside = (got != -1) & (expected != 0)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(got[inside], expected[inside], rtol=0, atol=1e-3)
    assert again(source, tmp_path / "again.nii", file, "--order", "1", *options[2:]) == 0
    inside = (read(tmp_path / "again.nii") != 0) & (expected != 0)
    np.testing.assert_allclose(read(tmp_path / "again.nii")[inside], expected[inside], rtol=0, atol=1e-3)


def test_any_transform_of_itk(tmp_path):
    """A transform that is not a control grid over the frame is sampled at the voxels."""
    source, file = volume(tmp_path / "in.nii"), tmp_path / "spline.tfm"
    image = sitk.ReadImage(str(source), sitk.sitkFloat64)
    transform = sitk.BSplineTransformInitializer(image, [3, 4, 5])
    parameters = np.random.default_rng(0).normal(0, 2, len(transform.GetParameters()))
    transform.SetParameters(parameters.tolist())
    sitk.WriteTransform(transform, str(file))
    assert again(source, tmp_path / "out.nii", file, "--order", "1") == 0
    expected = sitk.GetArrayFromImage(sitk.Resample(image, image, transform, sitk.sitkLinear, -1.0)).T
    inside = (expected != -1) & (read(tmp_path / "out.nii") != 0)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(read(tmp_path / "out.nii")[inside], expected[inside], rtol=0, atol=1e-3)


def test_an_image_and_its_labels_are_deformed_by_a_file(tmp_path):
    sources = [volume(tmp_path / "in.nii"), volume(tmp_path / "labels.nii", random_array("u1", *SHAPE))]
    targets = [tmp_path / "out.nii", tmp_path / "labels_out.nii"]
    made = Deformation.random(SHAPE, sigma=1, rng=0)
    made.save(tmp_path / "made.npz")
    files = [sources[0], targets[0], sources[1], targets[1]]
    assert main(["deform", *map(str, files), "--deformation", str(tmp_path / "made.npz"), "--order", "3,0"]) == 0
    expected = made.apply([read(source) for source in sources], order=[3, 0])
    for target, array in zip(targets, expected, strict=True):
        np.testing.assert_array_equal(read(target), array)


def test_the_frame_is_where_the_file_says(tmp_path):
    source = volume(tmp_path / "in.nii")
    assert deform(source, tmp_path / "out.nii", "--save-deformation", tmp_path / "made.npz") == 0
    np.testing.assert_array_equal(Deformation.load(tmp_path / "made.npz").to_world, nibabel.load(source).affine)


# ---- volumes of different resolution ---------------------------------------------------------------------------------


def coarser(to_world, factor, shift):
    """Return the matrix for voxels that are `factor` times larger along each axis, starting `shift` voxels further."""
    change = np.diag([*factor, 1.0])
    change[:3, 3] = shift
    return to_world @ change


@pytest.mark.parametrize("is_saved", [False, True])
def test_volumes_of_different_resolution_are_deformed_alike(is_saved, tmp_path):
    """Each volume is deformed as by ITK with the transform that was saved for the first volume."""
    first = volume(tmp_path / "in.nii")
    to_world = nibabel.load(first).affine
    second = volume(
        tmp_path / "coarse.nii", random_array("f4", 6, 5, 8), coarser(to_world, (1.8, 2.1, 1.1), (0.4, 0.2, 0.3))
    )
    targets, file = [tmp_path / "out.nii", tmp_path / "coarse_out.nii"], tmp_path / "made.tfm"
    options = ["--order", "1", "--rotate", "0,1:5"]
    if is_saved:
        assert deform(first, targets[0], "--save-deformation", tmp_path / "made.npz", *options) == 0
        assert deform(first, targets[0], "--save-deformation", file, *options) == 0
        assert again(second, targets[1], tmp_path / "made.npz", "--order", "1") == 0
    else:
        assert deform(first, targets[0], second, targets[1], "--save-deformation", file, *options) == 0
    for source, target in zip((first, second), targets, strict=True):
        image = sitk.ReadImage(str(source), sitk.sitkFloat64)
        resampled = sitk.Resample(image, image, sitk.ReadTransform(str(file)), sitk.sitkLinear, -1.0)
        got, expected = read(target), sitk.GetArrayFromImage(resampled).T
        inside = (got != 0) & (expected != -1)
        assert inside.mean() > 0.3
        np.testing.assert_allclose(got[inside], expected[inside], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(nibabel.load(target).affine, nibabel.load(source).affine)


def test_volumes_of_one_shape_at_other_places(tmp_path):
    """Volumes are deformed by position, not by index; positions that differ only by rounding count as equal."""
    first = volume(tmp_path / "in.nii")
    to_world = nibabel.load(first).affine
    moved = volume(tmp_path / "moved.nii", to_world=coarser(to_world, (1, 1, 1), (2, 0, 0)))
    same = volume(tmp_path / "same.nii", to_world=to_world + 1e-6)
    targets = [tmp_path / f"out_{k}.nii" for k in range(3)]
    made = Deformation.random(SHAPE, sigma=1, rng=0, to_world=to_world)
    made.save(tmp_path / "made.npz")
    options = ["--deformation", str(tmp_path / "made.npz"), "--order", "1"]
    assert main(["deform", *map(str, (first, targets[0], same, targets[1])), *options]) == 0
    np.testing.assert_array_equal(read(targets[1]), read(targets[0]))
    assert main(["deform", *map(str, (first, targets[0], moved, targets[2])), *options]) == 0
    by_index = made.apply(read(moved), order=1)
    assert np.abs(read(targets[2]) - by_index).max() > 1
    x = made.source_points(np.array([[6.0, 5, 5]])) - (2, 0, 0)  # where voxel (4, 5, 5) of the moved volume samples
    corners = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3) + np.floor(x).astype(int)
    weights = np.prod(1 - np.abs(x - corners), axis=-1)
    expected = sum(weight * read(moved)[tuple(corner)] for weight, corner in zip(weights, corners, strict=True))
    np.testing.assert_allclose(read(targets[2])[4, 5, 5], expected, rtol=0, atol=1e-3)


def test_arrays_go_with_volumes_of_their_shape(tmp_path):
    first, second = volume(tmp_path / "in.nii"), write(tmp_path / "in.npy", random_array("f4", *SHAPE))
    coarse = volume(tmp_path / "coarse.nii", random_array("f4", 6, 5, 5), coarser(np.eye(4), (2, 2, 2), 0))
    targets = [tmp_path / "out.nii", tmp_path / "out.npy", tmp_path / "out_coarse.nii"]
    assert deform(first, targets[0], second, targets[1], coarse, targets[2]) == 0
    np.testing.assert_array_equal(read(targets[1]), read(targets[0]))


@pytest.mark.parametrize(
    ("codes", "array"), [((0, 0), None), ((2, 0), random_array("f4", 12, 11)), ((2, 0), random_array("f4", 12, 11, 1))]
)
def test_files_that_do_not_say_where_they_are(codes, array, tmp_path, capsys):
    source = volume(tmp_path / "in.nii", array, codes=codes)
    files = [source, tmp_path / "out.nii", *OPTIONS]
    before = contents(tmp_path)
    words = [f"{source} does not say where its voxels are, which {tmp_path / 'made.tfm'} requires", ".npz"]
    assert_fails(capsys, [*files, "--save-deformation", tmp_path / "made.tfm"], "--save-deformation: ", *words)
    assert contents(tmp_path) == before
    assert main(["deform", *map(str, files), "--save-deformation", str(tmp_path / "made.npz")]) == 0
    assert Deformation.load(tmp_path / "made.npz").to_world is None


def sheared(path):
    to_world = np.eye(4)
    to_world[0, 1] = 0.2
    return volume(path, to_world=to_world)


def good(name="made.npz", shape=SHAPE, **options):
    Deformation.random(shape, sigma=1, rng=0, **options).save(name)


def text(name, content):
    with open(name, "wb") as file:
        file.write(content.encode())


def transform_file(name, change=None):
    sitk.WriteTransform(Deformation.random(SHAPE, sigma=1, rng=0, to_world=np.eye(4)).to_itk(), name)
    if change is not None:
        with open(name, "rb") as file:
            content = file.read()
        with open(name, "wb") as file:
            file.write(change(content))


MADE = ["in.nii", "out.nii", "--deformation", "made.npz"]
DRAWN = ["in.nii", "out.nii", *OPTIONS]

# Files to prepare beside the volume in.nii, arguments, and words that the error contains.
WRONG = {
    "sigma": (good, [*MADE, "--sigma", "2"], "--sigma: not accepted with --deformation"),
    "points": (good, [*MADE, "--points", "2"], "--points: not accepted with --deformation"),
    "seed": (good, [*MADE, "--seed", "0"], "--seed: not accepted with --deformation"),
    "rotate": (good, [*MADE, "--rotate", "0,1:2"], "--rotate: not accepted with --deformation"),
    "zoom": (good, [*MADE, "--zoom", "2"], "--zoom: not accepted with --deformation"),
    "neither deformation nor sigma": (None, ["in.nii", "out.nii"], "--sigma: missing"),
    "a missing file": (None, MADE, "--deformation: made.npz does not exist, expected an elasticnd deformation"),
    "an unknown format": (
        None,
        ["in.nii", "out.nii", "--deformation", "a.txt"],
        "--deformation: got a.txt, expected a name",
    ),
    "a different shape": (lambda: good(shape=(12, 11, 9)), MADE, "shape (12, 11, 9), expected (12, 11, 10)", "in.nii"),
    "fewer axes": (lambda: good(shape=(12, 11)), MADE, "shape (12, 11), expected (12, 11, 10)"),
    "an array of a different shape": (
        lambda: np.save("other.npy", random_array("f4", 12, 11, 9)),
        ["in.nii", "out.nii", "other.npy", "o.npy", *OPTIONS],
        "IN: other.npy has extent (12, 11, 9)",
        "expected (12, 11, 10), as in.nii has",
        "NIfTI",
    ),
    "a batch": (lambda: good(batch_shape=(3,)), MADE, "made.npz has batch axes (3,), expected one deformation"),
    "a text file": (
        lambda: text("made.npz", "x"),
        MADE,
        "--deformation: cannot read made.npz as an elasticnd deformation",
    ),
    "an archive": (lambda: np.savez("made.npz", x=3), MADE, "--deformation: cannot read made.npz"),
    "a text file as transform": (
        lambda: text("a.tfm", "x"),
        ["in.nii", "out.nii", "--deformation", "a.tfm"],
        "--deformation: cannot read a.tfm as an ITK transform",
    ),
    "a text file as HDF5": (
        lambda: text("a.h5", "x"),
        ["in.nii", "out.nii", "--deformation", "a.h5"],
        "--deformation: cannot read a.h5 as an ITK transform",
    ),
    "half a transform": (
        lambda: transform_file("a.tfm", lambda content: content[: len(content) // 2]),
        ["in.nii", "out.nii", "--deformation", "a.tfm"],
        "--deformation: cannot read a.tfm",
    ),
    "half an HDF5 file": (
        lambda: transform_file("a.h5", lambda content: content[: len(content) // 2]),
        ["in.nii", "out.nii", "--deformation", "a.h5"],
        "--deformation: cannot read a.h5",
    ),
    "a 2-D transform": (
        lambda: sitk.WriteTransform(sitk.AffineTransform(2), "a.tfm"),
        ["in.nii", "out.nii", "--deformation", "a.tfm"],
        "--deformation: cannot read a.tfm",
    ),
    "a volume instead of a field": (
        None,
        ["in.nii", "out.nii", "--deformation", "in.nii"],
        "cannot read in.nii as a NIfTI displacement field",
        "(x, y, z, 1, 3)",
    ),
    "a transform with a NumPy array": (
        lambda: (transform_file("a.tfm"), np.save("in.npy", random_array("f4", *SHAPE))),
        ["in.npy", "out.npy", "--deformation", "a.tfm"],
        "in.npy does not say where its voxels are",
    ),
    "saved over an input": (None, [*DRAWN, "--save-deformation", "in.nii"], "--save-deformation: ", "another file"),
    "saved over an output": (None, [*DRAWN, "--save-deformation", "out.nii"], "--save-deformation: ", "another file"),
    "saved over itself": (good, [*MADE, "--save-deformation", "made.npz"], "--save-deformation: ", "another file"),
    "saved as a text file": (None, [*DRAWN, "--save-deformation", "a.txt"], "--save-deformation: got ", "a.txt"),
    "saved to a missing folder": (None, [*DRAWN, "--save-deformation", "no/a.npz"], "cannot write ", "no/a.npz"),
    "saved with shear": (
        lambda: sheared("in.nii"),
        [*DRAWN, "--save-deformation", "a.tfm"],
        "--save-deformation: cannot write ",
        "without shear",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case, tmp_path, monkeypatch, capfd):
    prepare, arguments, *words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    volume(tmp_path / "in.nii")
    if prepare is not None:
        prepare()
    before = contents(tmp_path)
    assert_fails(capfd, arguments, *words)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("suffix", "library"), [(".tfm", "SimpleITK"), (".nii.gz", "nibabel")])
def test_missing_libraries(suffix, library, tmp_path, monkeypatch, capsys):
    source, file = write(tmp_path / "in.npy", random_array("f4", *SHAPE)), tmp_path / f"made{suffix}"
    file.touch()
    monkeypatch.setitem(__import__("sys").modules, library, None)
    monkeypatch.setattr(deformations, "frame_of", lambda *_: deformations.Frame(source, SHAPE, np.eye(4)))
    arguments = [source, tmp_path / "out.npy", "--deformation", file]
    assert_fails(capsys, arguments, f"needs {library}: pip install 'elasticnd[medical]'")
