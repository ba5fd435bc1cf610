"""One deformation of images with different resolutions, positions and orientations, by index-to-world matrices."""

import itertools
import warnings

import numpy as np
import pytest
from world_grids import AFFINES, COUNTS, GRIDS, SHAPES, frame_of, grid_of, make, mapped, positions, resampled

from elasticnd import Deformation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the bindings issue warnings on import
    import SimpleITK as sitk  # noqa: N813 - the name that SimpleITK's examples use

with_each_grid = pytest.mark.parametrize("grid", GRIDS)


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("n", [2, 3])
@with_each_grid
def test_images_are_resampled_at_their_positions(grid, n, affine, rng):
    deformation = make(n, rng, affine)
    to_world, shape = grid_of(grid, deformation.to_world, n)
    image = rng.random(shape)
    expected = resampled(image, positions(deformation, to_world, to_world, shape), mode="mirror")
    got = deformation.apply(image, mode="mirror", to_world=to_world)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("grid", "output"), list(itertools.permutations(["finer", "coarser", "permuted", "oblique"], 2))
)
@pytest.mark.parametrize(("order", "mode"), [(0, "nearest"), (1, "constant"), (3, "mirror")])
def test_outputs_have_a_grid_of_their_own(grid, output, order, mode, rng):
    deformation = make(3, rng, "all")
    to_world, shape = grid_of(grid, deformation.to_world, 3)
    output_to_world, output_shape = grid_of(output, deformation.to_world, 3)
    image = rng.random(shape)
    x = positions(deformation, to_world, output_to_world, output_shape)
    expected = resampled(image, x, order, mode, cval=2.0)
    got = deformation.apply(
        image, order, mode, 2.0, to_world=to_world, output_to_world=output_to_world, output_shape=output_shape
    )
    assert got.shape == output_shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


LPS = {2: np.eye(2), 3: np.diag([-1.0, -1.0, 1.0])}


def itk_image(array, to_world):
    n = array.ndim
    matrix = LPS[n] @ to_world[:n]
    spacing = np.linalg.norm(matrix[:, :n], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:, :n] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:, n].tolist())
    return image


@pytest.mark.parametrize(("order", "kind"), [(1, sitk.sitkLinear), (3, sitk.sitkBSpline3)])
@pytest.mark.parametrize("affine", ["none", "all"])
@pytest.mark.parametrize("n", [2, 3])
@with_each_grid
def test_itk_resamples_alike(grid, n, affine, order, kind, rng):
    deformation = make(n, rng, affine, sigma=0.6)
    to_world, shape = grid_of(grid, deformation.to_world, n)
    image = rng.random(shape)
    x = positions(deformation, to_world, to_world, shape)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    f = mapped(np.linalg.inv(deformation.to_world) @ to_world, voxels)
    cell = (np.array(SHAPES[n]) - 1) / (np.array(COUNTS[n]) - 1)
    # Compare inside the image, and inside the frame extended by the one cell that ITK's grid has around it.
    inside = np.all((x > 1e-6) & (x < np.array(shape) - 1 - 1e-6), -1)
    inside &= np.all((f > -cell + 1e-6) & (f < np.array(SHAPES[n]) - 1 + cell - 1e-6), -1)
    assert inside.sum() > 10
    reference = itk_image(image, to_world)
    expected = sitk.Resample(reference, reference, deformation.to_itk(), kind, 0.0, sitk.sitkFloat64)
    got = deformation.apply(image, order, to_world=to_world)
    np.testing.assert_allclose(got[inside], sitk.GetArrayFromImage(expected).T[inside], rtol=0, atol=1e-5)


def test_several_images_of_different_resolution(rng):
    deformation = make(3, rng, "all")
    places = [grid_of(name, deformation.to_world, 3) for name in ("finer", "coarser", "oblique")]
    matrices = [matrix for matrix, _ in places]
    image, labels = rng.random((2, *places[0][1])), rng.integers(0, 5, places[1][1])
    mask = rng.random(places[2][1]) > 0.5
    moved = deformation.apply(
        (image, labels, mask),
        [3, 0, 0],
        ["mirror", "nearest", "constant"],
        axis=[(1, 2, 3), None, None],
        to_world=matrices,
    )
    assert isinstance(moved, tuple)
    assert [one.dtype for one in moved] == [image.dtype, labels.dtype, mask.dtype]
    x = [positions(deformation, matrix, matrix, shape) for matrix, shape in places]
    np.testing.assert_allclose(moved[0], [resampled(one, x[0], mode="mirror") for one in image], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(moved[1], resampled(labels, x[1], 0, "nearest"))
    np.testing.assert_array_equal(moved[2], resampled(mask, x[2], 0))


def test_labels_by_votes_beside_an_image(rng):
    deformation = make(2, rng)
    (fine, shape), (coarse, coarse_shape) = (grid_of(name, deformation.to_world, 2) for name in ("finer", "coarser"))
    image, labels = rng.random(shape), rng.integers(0, 5, coarse_shape)
    _, got = deformation.apply([image, labels], [3, "labels"], "nearest", to_world=[fine, coarse])
    x = positions(deformation, coarse, coarse, coarse_shape)
    votes = [resampled((labels == label).astype(float), x, 1, "nearest") for label in range(5)]
    np.testing.assert_array_equal(got, np.argmax(votes, axis=0))


def test_two_resolutions_put_an_object_in_one_place(rng):
    """An object that is scanned at two resolutions has one position in the world after the deformation."""
    to_world = [np.diag([1.0, 1, 1]), np.diag([2.0, 2, 1])]
    fine = np.exp(-((np.indices((81, 61)) - np.reshape([40, 30], (2, 1, 1))) ** 2).sum(0) / 80)
    deformation = Deformation(rng.normal(0, 3, (2, 4, 4)), (81, 61))
    one, two = deformation.apply([fine, fine[::2, ::2]], to_world=to_world)
    np.testing.assert_allclose(one[::2, ::2], two, rtol=0, atol=1e-3)  # a spline of every second voxel


def test_the_first_image_is_the_frame(rng):
    displacement, frame = rng.normal(0, 1, (2, 4, 5)), np.diag([2.0, 3, 1])
    image, other = rng.random(SHAPES[2]), rng.random((30, 30))
    worlds = [frame, np.eye(3)]
    told = Deformation(displacement, SHAPES[2], to_world=frame).apply([image, other], to_world=worlds)
    got = Deformation(displacement, SHAPES[2]).apply([image, other], to_world=worlds)
    for one, expected in zip(got, told, strict=True):
        np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_on_the_frame_nothing_changes(affine, dtype, rng):
    deformation = make(3, rng, affine)
    image = (rng.random(SHAPES[3]) * 200).astype(dtype)
    expected = deformation.apply(image)
    frame = deformation.to_world
    for worlds in ({"to_world": frame}, {"output_to_world": frame}, {"output_shape": SHAPES[3]}):
        np.testing.assert_array_equal(deformation.apply(image, **worlds), expected)


@pytest.mark.parametrize("affine", ["none", "all"])
@with_each_grid
def test_a_crop_is_a_window_of_the_output(grid, affine, rng):
    deformation = make(3, rng, affine)
    to_world, shape = grid_of(grid, deformation.to_world, 3)
    image = rng.random(SHAPES[3])
    worlds = {"output_to_world": to_world, "output_shape": shape}
    for order in (0, 1, 3):
        whole = deformation.apply(image, order, **worlds)
        for crop in ((slice(2, 5), slice(None, -1), slice(3, 4)), (slice(4, 5), slice(4, 5), slice(4, 5))):
            np.testing.assert_array_equal(deformation.apply(image, order, crop=crop, **worlds), whole[crop])


@with_each_grid
def test_patches_of_a_large_image_read_enough_of_it(grid, rng):
    """Patches of a large image read only boxes, whose bounds come from the control grid."""
    deformation = make(2, rng, sigma=3.0)
    to_world, shape = grid_of(grid, deformation.to_world, 2)
    fine = np.eye(3)
    fine[:2, :2] *= 0.05
    image = rng.random((400, 330))
    x = positions(deformation, deformation.to_world @ fine, to_world, shape)
    got = deformation.apply(
        image, 1, "nearest", to_world=deformation.to_world @ fine, output_to_world=to_world, output_shape=shape
    )
    np.testing.assert_allclose(got, resampled(image, x, 1, "nearest"), rtol=0, atol=1e-9)


@pytest.mark.parametrize("grid", ["finer", "permuted", "oblique and beyond"])
def test_batches(grid, rng):
    displacement = rng.normal(0, 1, (2, 2, 4, 5))
    affine = np.eye(2, 3) + rng.normal(0, 0.05, (2, 2, 3))
    frame = frame_of(2, rng)
    to_world, shape = grid_of(grid, frame, 2)
    image = rng.random((2, 3, *shape))
    batch = Deformation(displacement, SHAPES[2], affine=affine, to_world=frame)
    got = batch.apply(image, axis=(2, 3), to_world=to_world)
    for k in range(2):
        single = Deformation(displacement[k], SHAPES[2], affine=affine[k], to_world=frame)
        expected = single.apply(image[k], axis=(1, 2), to_world=to_world)
        np.testing.assert_allclose(got[k], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "counts"), [((1, 9), (3, 4)), ((8, 9), (1, 4)), ((8, 9), (1, 1)), ((8, 9), (2, 2)), ((1, 1), (3, 3))]
)
@pytest.mark.parametrize("grid", ["permuted and beyond", "flipped and beyond", "oblique and beyond"])
def test_frames_along_which_nothing_varies(grid, shape, counts, rng):
    displacement, frame = rng.normal(0, 1, (2, *counts)), frame_of(2, rng)
    to_world, output = grid_of(grid, frame, 2)
    deformation = Deformation(displacement, shape, to_world=frame)
    f = mapped(np.linalg.inv(frame) @ to_world, np.stack(np.meshgrid(*map(np.arange, output), indexing="ij"), -1))
    x = mapped(np.linalg.inv(to_world) @ frame, deformation.source_points(f))
    image = rng.random(output)
    np.testing.assert_allclose(
        deformation.apply(image, 1, "nearest", to_world=to_world), resampled(image, x, 1, "nearest"), rtol=0, atol=1e-10
    )


def test_inputs_are_not_changed(rng):
    deformation = make(2, rng)
    to_world, shape = grid_of("oblique", deformation.to_world, 2)
    image, matrix = rng.random(shape), to_world.copy()
    image.flags.writeable = matrix.flags.writeable = False
    deformation.apply(image, to_world=matrix)
    np.testing.assert_array_equal(matrix, to_world)


# ---- random deformations in mm ---------------------------------------------------------------------------------------


def test_sigma_in_mm_is_divided_by_the_spacing(rng):
    frame = np.eye(4)
    frame[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [0.5, 2.0, 4.0]
    in_mm = Deformation.random((9, 8, 7), sigma=(3, 4, 6), rng=0, to_world=frame, unit="mm")
    in_voxels = Deformation.random((9, 8, 7), sigma=(6, 2, 1.5), rng=0, to_world=frame)
    np.testing.assert_allclose(in_mm.displacement, in_voxels.displacement, rtol=1e-14)
    same = Deformation.random((9, 8, 7), sigma=3, rng=0, to_world=frame, unit="voxels")
    assert same == Deformation.random((9, 8, 7), sigma=3, rng=0, to_world=frame)


def test_unknown_units():
    with pytest.raises(ValueError, match=r"unit: got 'cm' .*expected 'voxels' or 'mm'"):
        Deformation.random((9, 8), unit="cm")
    with pytest.raises(ValueError, match=r"to_world: got None, .*mm"):
        Deformation.random((9, 8), unit="mm")


# ---- errors ----------------------------------------------------------------------------------------------------------

EYE = np.eye(3)
BAD = {
    "no matrix": ({"to_world": 3}, ValueError, r"to_world: got shape \(\)"),
    "text": ({"to_world": "RAS"}, TypeError, r"to_world: got "),
    "singular": ({"to_world": np.diag([1, 0, 1])}, ValueError, r"to_world: got .*invertible"),
    "not finite": ({"output_to_world": np.diag([1, np.nan, 1])}, ValueError, r"output_to_world: got .*finite"),
    "too few axes": ({"output_to_world": np.eye(2)}, ValueError, r"output_to_world: got shape \(2, 2\)"),
    "one of several": ({"to_world": [EYE, np.eye(4)]}, ValueError, r"to_world\[1\]: got shape \(4, 4\)"),
    "too many": ({"to_world": [EYE, EYE, EYE]}, ValueError, r"to_world: got 3 matrices, .*each of 2 images"),
    "no frame": ({"output_to_world": EYE}, ValueError, r"to_world: got None, .*the deformation has none"),
    "no frame, shape": ({"output_shape": (5, 5)}, ValueError, r"to_world: got None, .*the deformation has none"),
    "shape of three axes": (
        {"to_world": EYE, "output_shape": (5, 5, 5)},
        ValueError,
        r"output_shape: got .*2 positive",
    ),
    "shape without voxels": ({"to_world": EYE, "output_shape": (5, 0)}, ValueError, r"output_shape: got .*positive"),
    "shape of floats": ({"to_world": EYE, "output_shape": (5, 1.5)}, TypeError, r"output_shape"),
    "shapes": ({"to_world": EYE, "output_shape": [(5, 5)]}, ValueError, r"output_shape: got 1 shape, .*each of 2"),
    "order": ({"to_world": EYE, "order": [3, 9]}, ValueError, r"order: got 9"),
    "crop": ({"to_world": EYE, "crop": (slice(99, 100), slice(0, 1))}, ValueError, r"crop\[0\]"),
}


@pytest.mark.quick
@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case):
    options, error, message = BAD[case]
    deformation = Deformation.identity((9, 8))
    with pytest.raises(error, match=message):
        deformation.apply([np.zeros((9, 8)), np.zeros((7, 6))], **options)


def test_images_that_do_not_fit():
    deformation = Deformation.identity((9, 8), to_world=EYE)
    with pytest.raises(ValueError, match=r"X\[1\]: got extent \(7, 6\) .*\(9, 8\).*to_world"):
        deformation.apply([np.zeros((9, 8)), np.zeros((7, 6))], to_world=[EYE, None])
    with pytest.raises(ValueError, match=r"X: got shape \(9, 8, 3\) with 3 axes to deform, expected 2 .*axis"):
        deformation.apply(np.zeros((9, 8, 3)), to_world=EYE)
    with pytest.raises(ValueError, match=r"X\[1\]: got shape \(0, 3\), expected an image with voxels"):
        deformation.apply([np.zeros((9, 8)), np.zeros((0, 3))], to_world=EYE)


# ---- arrays of other libraries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", ["finer", "permuted and beyond", "oblique and beyond"])
def test_dask_images_stay_lazy(grid, rng):
    array = pytest.importorskip("dask.array")
    deformation = make(2, rng, "all")
    to_world, shape = grid_of(grid, deformation.to_world, 2)
    image = rng.random(SHAPES[2])
    lazy = array.from_array(image, chunks=(7, 5))
    worlds = {"output_to_world": to_world, "output_shape": shape}
    got = deformation.apply(lazy, crop=(slice(1, None), slice(None)), **worlds)
    assert isinstance(got, array.Array)
    np.testing.assert_array_equal(got.compute(), deformation.apply(image, **worlds)[1:])


def test_labelled_images_keep_the_labels_that_fit(rng):
    xarray = pytest.importorskip("xarray")
    deformation = make(2, rng)
    to_world, shape = grid_of("finer", deformation.to_world, 2)
    coords = {"c": list("ab"), "y": np.arange(shape[0]) / 2, "x": np.arange(shape[1])}
    image = xarray.DataArray(rng.random((2, *shape)), coords, ("c", "y", "x"), "scan", {"unit": "HU"})
    crop = (slice(2, 5), slice(1, 9))
    own = deformation.apply(image, axis=("y", "x"), crop=crop, to_world=to_world)
    np.testing.assert_array_equal(own.y, coords["y"][2:5])
    there = deformation.apply(image, axis=("y", "x"), to_world=to_world, output_shape=(5, 6))
    assert (there.dims, there.shape, there.name, there.attrs) == (image.dims, (2, 5, 6), "scan", {"unit": "HU"})
    assert list(there.coords) == ["c"]
