"""Repeated calls reuse the plan of an earlier call, but nothing else from it."""

import frameworks
import numpy as np
import pytest

import elasticnd


def test_equal_options_of_other_types_are_other_calls(rng):
    image, displacement = rng.random((9, 8)), rng.normal(size=(2, 3, 3))
    elasticnd.deform_grid(image, displacement, order=1, prefilter=True)
    with pytest.raises(TypeError, match="order"):
        elasticnd.deform_grid(image, displacement, order=1.0)
    with pytest.raises(TypeError, match="prefilter"):
        elasticnd.deform_grid(image, displacement, order=1, prefilter=1)
    with pytest.raises(ValueError, match="displacement"):
        elasticnd.deform_grid(image, displacement[:1], order=1)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_images_in_a_list_are_deformed_as_if_alone(order, rng):
    """Images in a list give the same as alone, whatever their layout and order, with channels and batches."""
    images = [rng.random((2, 9, 8, 3)) for _ in range(5)]
    images[2] = np.asfortranarray(images[2])
    images[3] = images[3][:, ::-1]
    displacement = rng.normal(size=(2, 2, 3, 3))
    together = elasticnd.deform_grid(images, displacement, order=order, axis=(1, 2))
    for image, one in zip(images, together, strict=True):
        alone = elasticnd.deform_grid(image, displacement, order=order, axis=(1, 2))
        assert one.tobytes() == alone.tobytes()
        assert one.flags.owndata


def test_lists_keep_the_options_of_each_image(rng):
    images, displacement = tuple(rng.random((3, 9, 8))), rng.normal(size=(2, 3, 3))
    orders, modes, cvals = (3, 0, 1), ("constant", "nearest", "constant"), (0.0, 1.0, 2.0)
    together = elasticnd.deform_grid(images, displacement, orders, modes, cvals)
    assert type(together) is tuple
    for one, *arguments in zip(together, images, orders, modes, cvals, strict=True):
        np.testing.assert_array_equal(one, elasticnd.deform_grid(arguments[0], displacement, *arguments[1:]))
    with pytest.raises(ValueError, match=r"X\[1\]"):
        elasticnd.deform_grid([images[0], images[1][1:]], displacement)


@pytest.mark.parametrize("name", ["torch", "jax"])
@pytest.mark.parametrize("grid", ["float64", "float32"])
def test_arrays_of_frameworks_are_deformed_as_those_of_numpy(name, grid, rng):
    framework = frameworks.get(name)
    images = list(rng.random((3, 9, 8), dtype=np.float32))
    displacement = rng.normal(size=(2, 3, 3)).astype(grid)
    own = [framework.array(image) for image in images]
    for control in (displacement, framework.array(displacement)):
        for given, expected in ((own, images), (own[0], images[0]), (tuple(own), tuple(images))):
            results = elasticnd.deform_grid(given, control)
            assert type(results) is type(given)
            for result, one in zip(*(v if type(v) in (list, tuple) else [v] for v in (results, expected)), strict=True):
                assert framework.owns(result)
                np.testing.assert_array_equal(
                    framework.to_numpy(result), elasticnd.deform_grid(one, displacement), strict=True
                )


def test_tensors_that_need_derivatives_get_them(rng):
    torch = frameworks.get("torch").module
    image, displacement = torch.rand(9, 8), torch.from_numpy(rng.normal(size=(2, 3, 3)))
    assert not elasticnd.deform_grid(image, displacement).requires_grad
    assert elasticnd.deform_grid(image.requires_grad_(), displacement).requires_grad
    assert all(result.requires_grad for result in elasticnd.deform_grid([image.detach(), image], displacement)[1:])


def test_arrays_of_jax_stay_where_they_were_put(rng):
    jax = frameworks.get("jax").module
    image, displacement = rng.random((9, 8)), rng.normal(size=(2, 3, 3))
    for device in jax.devices():
        own, control = (jax.device_put(array, device) for array in (image, displacement))
        assert elasticnd.deform_grid(own, control).devices() == {device}
        assert elasticnd.deform_grid(own, displacement).devices() == {device}
        assert elasticnd.deform_grid(own, control).committed


def test_messages_name_the_image_of_a_list(rng):
    torch = frameworks.get("torch").module
    image, displacement = torch.rand(9, 8), rng.normal(size=(2, 3, 3))
    with pytest.raises(TypeError, match=r"X\[1\]"):
        elasticnd.deform_grid([image, image.to_sparse()], displacement)
    with pytest.raises(TypeError, match="X:"):
        elasticnd.deform_grid(image.to_sparse(), displacement)
    with pytest.raises(ValueError, match="displacement"):
        elasticnd.deform_grid([image, image], displacement[:1])
