"""Random control grids: their distribution and seeds, and their use in `deform_random_grid`."""

import inspect

import numpy as np
import pytest

import elasticnd

SEEDS = {  # functions, because a generator is advanced by each draw
    "integer": lambda: 42,
    "numpy integer": lambda: np.int64(42),
    "sequence": lambda: [42, 7],
    "SeedSequence": lambda: np.random.SeedSequence(42),
    "BitGenerator": lambda: np.random.Philox(42),
    "Generator": lambda: np.random.default_rng(42),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_same_seed_same_grid(kind):
    first, second = (elasticnd.random_displacement((3, 4), 5, rng=SEEDS[kind]()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    image = np.random.default_rng(0).random((20, 21))
    for _ in range(2):
        deformed = elasticnd.deform_random_grid(image, 5, (3, 4), rng=SEEDS[kind]())
        np.testing.assert_array_equal(deformed, elasticnd.deform_grid(image, first))


def test_a_seed_is_what_default_rng_makes_of_it():
    drawn = elasticnd.random_displacement((3, 4), (2, 3), batch_shape=(5,), rng=42)
    expected = np.random.default_rng(42).standard_normal((5, 2, 3, 4))
    np.testing.assert_array_equal(drawn, expected * np.reshape([2, 3], (2, 1, 1)))


def test_a_generator_moves_on():
    generator = np.random.default_rng(0)
    first, second = (elasticnd.random_displacement(3, ndim=2, rng=generator) for _ in range(2))
    assert (first != second).all()
    untouched = np.random.default_rng(0)
    assert generator.bit_generator.state != untouched.bit_generator.state


def test_without_a_seed_every_grid_is_new():
    first, second = (elasticnd.random_displacement(3, ndim=2) for _ in range(2))
    assert (first != second).all()
    image = np.random.default_rng(0).random((20, 21))
    assert (elasticnd.deform_random_grid(image, 2) != elasticnd.deform_random_grid(image, 2)).any()


def test_global_state_is_left_alone():
    """Drawing neither reads nor changes NumPy's global state."""
    np.random.seed(0)  # noqa: NPY002
    first = elasticnd.random_displacement(3, ndim=2)
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    second = elasticnd.random_displacement(3, ndim=2)
    assert (first != second).any()
    np.testing.assert_array_equal(state[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("sigma", [1, 25, 0.01, (1, 10, 0.1)], ids=str)
def test_distribution(sigma):
    """Values are independent and normally distributed: mean, deviation, tails and correlations of 3 x 30 000 values."""
    drawn = elasticnd.random_displacement((30, 40, 25), sigma, rng=0)
    assert drawn.shape == (3, 30, 40, 25)
    for component, own in zip(drawn, np.broadcast_to(sigma, 3), strict=True):
        z = component.ravel() / own
        # Five standard errors of each statistic. The seed is fixed, so nothing fails by chance.
        assert abs(z.mean()) < 5 / np.sqrt(z.size)
        assert abs(z.std() - 1) < 5 / np.sqrt(2 * z.size)
        assert abs((abs(z) > 1.96).mean() - 0.05) < 5 * np.sqrt(0.05 * 0.95 / z.size)
        assert abs(np.mean(z[1:] * z[:-1])) < 5 / np.sqrt(z.size)
    assert abs(np.corrcoef(drawn.reshape(3, -1)) - np.eye(3)).max() < 5 / np.sqrt(30_000)


@pytest.mark.parametrize(
    ("points", "ndim", "shape"),
    [
        (3, 1, (1, 3)),
        (3, 3, (3, 3, 3, 3)),
        ((4, 5), None, (2, 4, 5)),
        ([4], 1, (1, 4)),
        (1, 4, (4, 1, 1, 1, 1)),
    ],
)
@pytest.mark.parametrize("batch", [(), (7,), (2, 3), [4], (0,)], ids=str)
def test_shape(points, ndim, shape, batch):
    for given in (points, np.array(points)):
        drawn = elasticnd.random_displacement(given, ndim=ndim, batch_shape=batch)
        assert drawn.shape == (*batch, *shape)
        assert drawn.dtype == np.float64


def test_batch_items_differ():
    drawn = elasticnd.random_displacement(3, ndim=2, batch_shape=(2, 3), rng=0).reshape(6, -1)
    assert len(np.unique(drawn[:, 0])) == 6


def test_sigma_zero_does_not_move():
    image = np.random.default_rng(0).random((20, 21))
    # The coefficients of the spline are rounded.
    np.testing.assert_allclose(elasticnd.deform_random_grid(image, 0), image, rtol=0, atol=1e-14)


def test_batch_dims_give_each_item_its_own(rng):
    images = rng.random((2, 3, 20, 21, 3))
    deformed = elasticnd.deform_random_grid(images, 4, (3, 5), axis=(2, 3), batch_dims=2, rng=1)
    displacement = elasticnd.random_displacement((3, 5), 4, batch_shape=(2, 3), rng=1)
    np.testing.assert_array_equal(deformed, elasticnd.deform_grid(images, displacement, axis=(2, 3)))
    alike = elasticnd.deform_random_grid(images, 4, axis=(2, 3), rng=1)
    one = elasticnd.random_displacement(3, 4, ndim=2, rng=1)
    np.testing.assert_array_equal(alike, elasticnd.deform_grid(images, one, axis=(2, 3)))


def test_batch_dims_without_axis(rng):
    images = rng.random((4, 20, 21))
    deformed = elasticnd.deform_random_grid(images, 4, batch_dims=1, rng=1)
    displacement = elasticnd.random_displacement(3, 4, ndim=2, batch_shape=(4,), rng=1)
    np.testing.assert_array_equal(deformed, elasticnd.deform_grid(images, displacement, axis=(1, 2)))


@pytest.mark.parametrize("shape", [(3, 19, 20), (3, 2, 20), (2, 3, 20), (1, 20)], ids=str)
def test_batch_dims_decide_if_another_reading_fits_too(shape, rng):
    """With as many items as axes, the grid must not be mistaken for one without a batch axis."""
    images = rng.random(shape)
    deformed = elasticnd.deform_random_grid(images, 0.4, batch_dims=1, rng=1)
    n = images.ndim - 1
    displacements = elasticnd.random_displacement(3, 0.4, ndim=n, batch_shape=shape[:1], rng=1)
    for item, displacement, expected in zip(images, displacements, deformed, strict=True):
        np.testing.assert_array_equal(elasticnd.deform_grid(item, displacement), expected)


def test_several_images_share_one_deformation(rng):
    image = rng.random((20, 21))
    together = elasticnd.deform_random_grid([image, image[..., np.newaxis]], 5, axis=(0, 1), rng=3)
    np.testing.assert_array_equal(together[0], together[1][..., 0])


def test_options_reach_deform_grid(rng):
    image = rng.random((20, 21))
    options = {
        "order": 2,
        "mode": "wrap",
        "cval": 3,
        "crop": (slice(3, 9), slice(2, None)),
        "prefilter": False,
        "axis": (1, 0),
        "affine": np.eye(2, 3) + 0.1,
        "rotate": 20,
        "zoom": 1.3,
    }
    assert set(options) == set(inspect.signature(elasticnd.deform_grid).parameters) - {"X", "displacement"}
    got = elasticnd.deform_random_grid(image, 2, 4, **options, rng=5)
    displacement = elasticnd.random_displacement(4, 2, ndim=2, rng=5)
    np.testing.assert_array_equal(got, elasticnd.deform_grid(image, displacement, **options))
