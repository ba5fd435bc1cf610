"""Common mistakes: messages and warnings say what to do instead."""

import math
import re
import warnings

import numpy as np
import pytest

import elasticnd

pytestmark = pytest.mark.quick

IMAGE = np.zeros((48, 40))


RANDOM = {
    "deform_random_grid": lambda **options: elasticnd.deform_random_grid(IMAGE, 2, **options),
    "random_displacement": lambda **options: elasticnd.random_displacement(3, 2, ndim=2, **options),
    "Deformation.random": lambda **options: elasticnd.Deformation.random(IMAGE.shape, 2, **options),
}


@pytest.mark.parametrize("name", ["seed", "random_state"])
@pytest.mark.parametrize("function", RANDOM)
def test_names_of_other_libraries(function, name):
    with pytest.raises(TypeError, match=rf"^{name}: not an argument of {function}; use rng="):
        RANDOM[function](**{name: 1})
    RANDOM[function](rng=1)


def test_numbers_as_a_control_grid():
    message = "displacement: got shape (2,), expected (2, p_0, ...) with 3 axes, one more than X of shape (48, 40)"
    with pytest.raises(ValueError, match=re.escape(message)):
        elasticnd.deform_grid(IMAGE, [1.0, 2.0])


@pytest.mark.parametrize(
    ("shape", "grid", "advice"),
    [
        ((3, 48, 40), (2, 4, 4), ", such as axis=(1, 2)"),
        ((48, 40, 3), (2, 4, 4), ", such as axis=(0, 1)"),
        ((8, 3, 48, 40), (2, 4, 4), ", such as axis=(2, 3)"),
        ((48, 40), (1, 4), ", such as axis=(0,)"),
        ((3, 48, 40), (3, 4, 4), ""),  # matches no number of deformed axes
        ((48, 40), (3, 4, 4, 4), ""),
    ],
)
def test_grids_of_images_with_channels(shape, grid, advice):
    with pytest.raises(ValueError, match=re.escape(f"otherwise pass axis{advice}") + "$"):
        elasticnd.deform_grid(np.zeros(shape), np.zeros(grid))


@pytest.mark.parametrize(
    ("shape", "axis", "advice"),
    [
        ((3, 48, 40), 0, r"along axis 0, which has only 3\..* pass axis=\(1, 2\)"),
        ((48, 40, 4), 2, r"along axis 2, which has only 4\..* pass axis=\(0, 1\)"),
        ((1, 48, 40), 0, r"along axis 0, which has only 1\..* pass axis=\(1, 2\)"),
    ],
)
def test_grids_that_deform_across_channels(shape, axis, advice):
    image, displacement = np.zeros(shape), np.zeros((3, 2, 2, 2))
    displacement[axis] = 4.5
    with pytest.warns(UserWarning, match=r"^displacement: moves voxels by up to 4\.5 " + advice) as caught:
        elasticnd.deform_grid(image, displacement)
    assert caught[0].filename == __file__
    displacement[axis] = 0.5
    elasticnd.deform_grid(image, displacement)  # a few slices, moved by less than their number
    elasticnd.deform_grid(np.zeros((8, 48, 40)), np.full((3, 2, 2, 2), 30.0))
    with pytest.raises(TypeError, match=r"^displacement: got dtype"):
        elasticnd.deform_grid(image, displacement.astype(str))


@pytest.mark.parametrize("angle", [math.pi / 4, -math.pi / 6, np.float32(np.pi / 3), 2 * math.pi])
def test_radians(angle):
    displacement = np.zeros((2, 2, 2))
    with pytest.warns(UserWarning, match=r"^rotate: .* radians; use numpy.degrees") as caught:
        elasticnd.deform_grid(IMAGE, displacement, rotate=angle)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^rotate\[\(0, 1\)\]: "):
        elasticnd.deform_grid(IMAGE, displacement, rotate={(0, 1): angle})


def test_radians_are_reduced_fractions():
    with pytest.warns(UserWarning, match=r"^rotate: got 0\.523599 degrees, which looks like 1/6 π radians"):
        elasticnd.deform_grid(IMAGE, np.zeros((2, 2, 2)), rotate=math.pi / 6)


@pytest.mark.parametrize("angle", [0, 1e-9, 1, 0.5, 45, -30.0, 3.14, 10 * math.pi])
def test_degrees(angle):
    elasticnd.deform_grid(IMAGE, np.zeros((2, 2, 2)), rotate=angle)


SENSELESS = {
    "large sigma": ((48, 40), {"sigma": 25}),
    "many points": ((300, 300), {"sigma": 50, "points": 8}),
    "channels in front": ((3, 300, 300), {}),
    "an axis of one voxel": ((1, 300, 300), {}),
}


@pytest.mark.parametrize(("shape", "options"), SENSELESS.values(), ids=SENSELESS)
def test_displacements_beyond_the_spacing_of_control_points(shape, options):
    with pytest.warns(UserWarning, match="^sigma: got .* voxels, more than the .* folds nearly everywhere") as caught:
        elasticnd.deform_random_grid(np.zeros(shape, np.float32), **options)
    assert caught[0].filename == __file__


SENSIBLE = {
    "the defaults": ((200, 300), {}),
    "one point": ((48, 40), {"sigma": 25, "points": 1}),
    "an axis with sigma 0": ((1, 200, 200), {"sigma": (0, 25, 25)}),
    "channels by axis": ((3, 200, 200), {"axis": (1, 2)}),
    "a batch": ((2, 200, 200), {"batch_dims": 1}),
}


@pytest.mark.parametrize(("shape", "options"), SENSIBLE.values(), ids=SENSIBLE)
def test_displacements_within_the_spacing(shape, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elasticnd.deform_random_grid(np.zeros(shape, np.float32), **options)
