"""Calls that are like an earlier one: their plan serves again, and nothing else of it."""

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
def test_alike_images_of_a_list_are_those_alone(order, rng):
    """Whatever their layouts, neighbours or not, with channels and batches."""
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
