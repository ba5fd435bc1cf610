"""Chains and inverses, which map positions through several deformations and resample only once."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates
from tables import MODES, ORDERS

from elasticnd import Chain, Deformation, Inverse

SHAPE = (24, 20)
VOXELS = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(float)
FIRST = Deformation.random(SHAPE, sigma=1.5, points=(4, 3), rng=1)
SECOND = Deformation.random(SHAPE, sigma=1, points=3, rng=2, rotate=12, zoom=1.1)
BATCH = Deformation.random(SHAPE, sigma=1, points=3, batch_shape=(2,), rng=3)
FOLDED = Deformation.random(SHAPE, sigma=12, points=4, rng=4)

MAPS = {
    "chain": FIRST.then(SECOND),
    "of three": FIRST.then(SECOND).then(FIRST),
    "inverse": SECOND.inverse(),
    "with an inverse": FIRST.then(SECOND.inverse()),
    "inverse of a chain": FIRST.then(SECOND).inverse(),
    "a batch last": FIRST.then(BATCH),
    "a batch first": BATCH.then(FIRST),
    "inverse of a batch": BATCH.inverse(),
}
maps = pytest.mark.parametrize("name", MAPS)


def positions(one, places=VOXELS):
    return places[(np.newaxis,) * len(one.batch_shape)]


# ---- values ----------------------------------------------------------------------------------------------------------


def test_positions_pass_through_the_last_map_first():
    assert_array_equal(FIRST.then(SECOND).source_points(VOXELS), FIRST.source_points(SECOND.source_points(VOXELS)))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "grid-mirror"])
@pytest.mark.parametrize("order", ORDERS)
def test_one_resampling(order, mode, rng):
    image = rng.random(SHAPE)
    chain = FIRST.then(SECOND)
    sources = np.moveaxis(FIRST.source_points(SECOND.source_points(VOXELS)), -1, 0)
    expected = map_coordinates(image, sources, order=order, mode=mode, cval=0.3)
    # Positions have a few rounding errors, and the spline changes by a few units per voxel.
    assert_allclose(chain.apply(image, order, mode, 0.3), expected, rtol=0, atol=1e-12)


@maps
def test_apply_samples_at_the_source_points(name, rng):
    one = MAPS[name]
    images = rng.random((*one.batch_shape, *SHAPE))
    sources = np.broadcast_to(one.source_points(positions(one)), (*one.batch_shape, *SHAPE, 2))
    got = one.apply(images, mode="mirror")
    for index in np.ndindex(one.batch_shape):
        expected = map_coordinates(images[index], np.moveaxis(sources[index], -1, 0), order=3, mode="mirror")
        assert_allclose(got[index], expected, rtol=0, atol=1e-12)


@maps
def test_a_window_is_a_slice_of_the_whole(name, rng):
    one, window = MAPS[name], (slice(3, 12), slice(10, None))
    images = rng.random((*one.batch_shape, *SHAPE), dtype=np.float32)
    assert_array_equal(one.apply(images, crop=window), one.apply(images)[(..., *window)])


def test_lists_channels_and_labels(rng):
    chain = FIRST.then(SECOND)
    picture, labels = rng.random((*SHAPE, 3)), rng.integers(0, 5, SHAPE).astype(np.uint8)
    got, got_labels = chain.apply([picture, labels], order=[3, 0], axis=[(0, 1), (0, 1)])
    assert_array_equal(got[..., 1], chain.apply(picture[..., 1]))
    assert_array_equal(got_labels, chain.apply(labels, order=0))


# ---- points ----------------------------------------------------------------------------------------------------------


@maps
def test_source_points_move_back_to_their_positions(name):
    one = MAPS[name]
    places = positions(one, VOXELS[4:-4:3, 4:-4:3])
    moved = one.move_points(one.source_points(places))
    assert moved.converged.all()
    assert not moved.folded.any()
    assert_allclose(moved.points, np.broadcast_to(places, moved.points.shape), rtol=0, atol=1e-5)


@maps
def test_inverses_undo(name):
    one = MAPS[name]
    places = positions(one, VOXELS[6:-6:3, 6:-6:3])
    there_and_back = one.inverse().source_points(one.source_points(places))
    assert_allclose(there_and_back, np.broadcast_to(places, there_and_back.shape), rtol=0, atol=1e-8)
    assert one.inverse().inverse() == one


def test_an_inverse_reports_what_is_outside_and_what_folds():
    moved = FOLDED.inverse().move_points(VOXELS)
    sources = FOLDED.source_points(VOXELS)
    assert_array_equal(moved.points, sources)
    assert_array_equal(moved.folded, FOLDED.jacobian_determinant() <= 0)
    assert_array_equal(moved.outside, ((sources < -0.5) | (sources > np.array(SHAPE) - 0.5)).any(-1))
    assert moved.folded.any()
    assert moved.outside.any()
    assert moved.converged.all()


# ---- Jacobians -------------------------------------------------------------------------------------------------------


@maps
def test_jacobian_is_the_slope_of_positions(name):
    one = MAPS[name]
    places, step = positions(one, VOXELS[3:-3:4, 3:-3:4] + 0.3), 1e-5
    matrices = one.jacobian(places)
    for k, offset in enumerate(np.eye(2) * step):
        slope = (one.source_points(places + offset) - one.source_points(places - offset)) / (2 * step)
        # Inverses are accurate to 1e-10 voxels, and the differences magnify this 1e5 times.
        assert_allclose(matrices[..., k], np.broadcast_to(slope, matrices[..., k].shape), rtol=0, atol=1e-4)
    assert_allclose(one.jacobian_determinant(places), np.linalg.det(matrices), rtol=1e-10)


@maps
def test_jacobian_of_all_voxels(name):
    one, window = MAPS[name], (slice(3, 7), slice(4, 9))
    matrices = one.jacobian(positions(one))
    whole = one.jacobian()
    assert whole.shape == (*one.batch_shape, 2, 2, *SHAPE)
    assert_array_equal(
        np.moveaxis(whole, (-4, -3), (-2, -1)), np.broadcast_to(matrices, (*one.batch_shape, *SHAPE, 2, 2))
    )
    assert_array_equal(one.jacobian(crop=window), whole[(..., *window)])
    assert_array_equal(one.jacobian_determinant(crop=window), one.jacobian_determinant()[(..., *window)])


# ---- frameworks ------------------------------------------------------------------------------------------------------


def test_gradients_of_tensors(rng):
    torch = pytest.importorskip("torch")
    shape = (7, 6)
    image = torch.tensor(rng.random(shape), requires_grad=True)
    grids = [torch.tensor(rng.normal(0, 0.4, (2, 3, 3)), requires_grad=True) for _ in range(2)]

    def deformed(image, first, second):
        return Deformation(first, shape).then(Deformation(second, shape).inverse()).apply(image, mode="mirror")

    assert torch.autograd.gradcheck(deformed, (image, *grids))


def test_jax(rng):
    jax = pytest.importorskip("jax")
    image = rng.random(SHAPE, dtype=np.float32)
    chain = Deformation(FIRST.displacement, SHAPE).then(SECOND.inverse())  # a pytree, since JAX is imported
    jitted = jax.jit(lambda one, image: one.apply(image, mode="mirror"))(chain, image)
    assert_allclose(jitted, chain.apply(image, mode="mirror"), rtol=0, atol=1e-4)  # positions in float32

    def energy(displacement):
        return (Deformation(displacement, SHAPE).then(SECOND).apply(jax.numpy.asarray(image), mode="mirror") ** 2).sum()

    gradient = jax.grad(energy)(jax.numpy.asarray(FIRST.displacement))
    step = np.zeros_like(FIRST.displacement)
    step[1, 2, 1] = 1e-2
    change = energy(jax.numpy.asarray(FIRST.displacement + step)) - energy(jax.numpy.asarray(FIRST.displacement - step))
    assert_allclose(gradient[1, 2, 1], change / 2e-2, rtol=2e-2, atol=1e-3)


def test_tensorflow(rng):
    tf = pytest.importorskip("tensorflow")
    image = rng.random(SHAPE)
    grid = tf.Variable(FIRST.displacement)
    with tf.GradientTape() as tape:
        result = Deformation(grid, SHAPE).then(SECOND).apply(tf.constant(image))
        energy = tf.reduce_sum(result**2)
    assert_allclose(result, FIRST.then(SECOND).apply(image), rtol=0, atol=1e-12)
    assert tape.gradient(energy, grid).shape == grid.shape


# ---- as Python values ------------------------------------------------------------------------------------------------


@maps
def test_equality_hash_and_copies(name):
    one = MAPS[name]
    for same in (copy.copy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301 - bytes of this test
        assert same == one
        assert hash(same) == hash(one)
    assert one != FIRST
    assert one != one.then(FIRST)


def test_chains_are_flat_and_keep_their_order():
    chain = FIRST.then(SECOND.then(FIRST)).then(SECOND)
    assert chain.stages == (FIRST, SECOND, FIRST, SECOND)
    assert chain.inverse().stages == tuple(one.inverse() for one in (SECOND, FIRST, SECOND, FIRST))


@pytest.mark.parametrize("one", [FIRST.then(SECOND), SECOND.inverse()], ids=["chain", "inverse"])
def test_immutable(one):
    with pytest.raises(AttributeError):
        one.base = one.stages = FIRST


def test_fit_is_closer_with_more_points():
    errors = []
    for points in (5, 9, 17):
        found, rms = FIRST.then(SECOND.inverse()).fit(points)
        left = found.source_points(VOXELS) - FIRST.then(SECOND.inverse()).source_points(VOXELS)
        assert_allclose(rms, np.sqrt(np.mean(np.sum(left**2, axis=-1))), rtol=1e-6)
        errors.append(rms)
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_fit_of_batches_and_of_axes_of_one_voxel():
    found, rms = BATCH.inverse().fit(9)
    assert found.batch_shape == rms.shape == (2,)
    flat = Deformation.random((1, 30), sigma=(0, 1), points=3, rng=0, zoom=(1, 1.1))
    found, rms = flat.then(flat).fit((1, 9))
    assert rms < 0.1
    assert_allclose(found.source_points([0.0, 15.0]), flat.then(flat).source_points([0.0, 15.0]), rtol=0, atol=0.3)


def test_what_is_rejected():
    with pytest.raises(TypeError, match=r"^other: got .* expected a Deformation, Chain or Inverse"):
        FIRST.then(FIRST.displacement)
    with pytest.raises(ValueError, match=r"^other: got a map of shape \(20, 24\), expected one of shape \(24, 20\)"):
        FIRST.then(Deformation.identity(SHAPE[::-1]))
    with pytest.raises(ValueError, match=r"^other: got batch axes \(3,\), expected \(2,\), or none"):
        BATCH.then(Deformation.random(SHAPE, sigma=1, batch_shape=(3,)))
    with pytest.raises(ValueError, match=r"^crop: .* since positions f are given"):
        FIRST.then(SECOND).jacobian(VOXELS, crop=(slice(0, 2), slice(0, 2)))
    with pytest.raises(TypeError, match=r"^stages: got \(\)"):
        Chain(())
    with pytest.raises(TypeError, match=r"^stages\[1\]: got 3 "):
        Chain((FIRST, 3))
    with pytest.raises(ValueError, match=r"^stages\[1\]: got a map of shape \(5, 5\)"):
        Chain((FIRST, Deformation.identity((5, 5))))
    with pytest.raises(TypeError, match=r"^base: got 3 "):
        Inverse(3)
    with pytest.raises(ValueError, match=r"^tol: got -1"):
        FIRST.inverse().move_points(VOXELS, -1)
    with pytest.raises(ValueError, match=r"^X: got extent \(5, 5\)"):
        FIRST.then(SECOND).apply(np.zeros((5, 5)))
