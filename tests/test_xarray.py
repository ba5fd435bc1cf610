"""Labelled arrays of xarray: axes are given by name, and coordinates and attributes are kept."""

import frameworks
import numpy as np
import pytest

import elasticnd

xarray = pytest.importorskip("xarray", reason="xarray is not installed")


@pytest.fixture
def image(rng):
    return xarray.DataArray(
        rng.random((3, 20, 14)),
        dims=("channel", "y", "x"),
        coords={"channel": ["r", "g", "b"], "y": np.linspace(0, 1, 20), "x": np.arange(14) * 0.5},
        attrs={"units": "counts"},
        name="picture",
    )


@pytest.fixture
def displacement(rng):
    return rng.uniform(-3, 3, (2, 3, 4))


def test_names_coordinates_and_attributes(image, displacement):
    got = elasticnd.deform_grid(image, displacement, axis=("y", "x"))
    xarray.testing.assert_identical(got, image.copy(data=elasticnd.deform_grid(image.data, displacement, axis=(1, 2))))
    swapped = elasticnd.deform_grid(image.transpose("x", "channel", "y"), displacement, axis=("y", "x"))
    xarray.testing.assert_identical(swapped.transpose(*image.dims), got)
    assert elasticnd.backend_info(image) == ("xarray", "xarray", "cpu", "cpu", "an array in the host's memory")


def test_patches_have_the_coordinates_of_their_voxels(image, displacement):
    crop = (slice(2, 9), slice(3, 12))
    got = elasticnd.deform_grid(image, displacement, axis=("y", "x"), crop=crop)
    whole = elasticnd.deform_grid(image, displacement, axis=("y", "x"))
    xarray.testing.assert_identical(got, whole.isel(y=crop[0], x=crop[1]))


def test_lists_and_random_grids(image, displacement):
    labels = (image.isel(channel=0, drop=True) > 0.5).astype(np.uint8)
    results = elasticnd.deform_grid([image, labels], displacement, order=[3, 0], axis=[("y", "x"), ("y", "x")])
    assert [result.dims for result in results] == [image.dims, labels.dims]
    assert [result.dtype for result in results] == [np.float64, np.uint8]
    together = elasticnd.deform_grid([image, labels], displacement, order=[3, 0], axis=("y", "x"))
    for one, other in zip(together, results, strict=True):
        xarray.testing.assert_identical(one, other)
    random = elasticnd.deform_random_grid(image, 3.0, axis=("y", "x"), rng=1)
    expected = elasticnd.deform_random_grid(image.data, 3.0, axis=(1, 2), rng=1)
    xarray.testing.assert_identical(random, image.copy(data=expected))


def test_labels_by_votes(image, displacement):
    labels = (image.isel(channel=0, drop=True) > 0.5).astype(np.uint8)
    result = elasticnd.deform_grid(labels, displacement, order="labels", axis=("y", "x"))
    xarray.testing.assert_identical(
        result, labels.copy(data=elasticnd.deform_grid(labels.data, displacement, order="labels"))
    )


def test_gradients(image, displacement):
    pulled = elasticnd.deform_grid_vjp(image, image, displacement, axis=("y", "x"), mode="mirror")
    expected = elasticnd.deform_grid_vjp(image.data, image.data, displacement, axis=(1, 2), mode="mirror")
    xarray.testing.assert_identical(pulled.image, image.copy(data=expected.image))
    assert np.array_equal(pulled.displacement, expected.displacement)
    alone = elasticnd.deform_grid_gradient(image, displacement, axis=("y", "x"), mode="mirror")
    xarray.testing.assert_identical(alone, image.copy(data=expected.image))


def test_dense_displacement(displacement):
    labelled = xarray.DataArray(displacement, dims=("component", "y", "x"))
    got = elasticnd.dense_displacement(labelled, (20, 14), crop=(slice(3, 9), slice(14)))
    np.testing.assert_array_equal(got, elasticnd.dense_displacement(displacement, (20, 14))[:, 3:9])
    with pytest.raises(TypeError, match="displacement: got"):
        elasticnd.dense_displacement(labelled.copy(data=np.full(labelled.shape, "a")), (20, 14))


def test_inputs_stay_as_they_are(image, displacement):
    before = image.copy(deep=True)
    elasticnd.deform_grid(image, displacement, axis=("y", "x"))
    xarray.testing.assert_identical(image, before)


def test_other_arrays_inside(image, displacement):
    torch = frameworks.get("torch").module
    inside = xarray.DataArray(np.zeros((2, 2)), dims=("y", "x"))
    assert elasticnd.deform_grid(inside, xarray.DataArray(displacement)).dims == ("y", "x")
    with pytest.raises(ValueError, match=r"X\[1\]: got .*expected an array of the same library"):
        elasticnd.deform_grid([inside, torch.zeros(2, 2)], displacement)


def test_refusals(image, displacement):
    with pytest.raises(ValueError, match=r"axis: got 'z', expected names among 'channel', 'y', 'x'"):
        elasticnd.deform_grid(image, displacement, axis=("z", "x"))
    with pytest.raises(ValueError, match=r"displacement: got shape"):
        elasticnd.deform_grid(image, displacement)
    with pytest.raises(TypeError, match="axis: got"):
        elasticnd.deform_grid(image.data, displacement, axis=("y", "x"))
