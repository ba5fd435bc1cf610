"""Rounding errors on the border decide neither whether a voxel is inside nor on which side its slope is taken."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tables import MODES, ORDERS

import elasticnd

# The modes in which the value changes abruptly just beyond the border.
ABRUPT = ("constant", "wrap")
ENGINES = (None, "generic")

on_each_engine = pytest.mark.parametrize("engine", ENGINES)


@pytest.fixture(autouse=True)
def _chosen_engine(request):
    """Compute with the engine over which a test is parametrised."""
    with elasticnd.use_engine(getattr(request.node, "callspec", None) and request.node.callspec.params.get("engine")):
        yield


# ---- rotation --------------------------------------------------------------------------------------------------------

TURNS = (90, 180, 270, 360, -90, -360, 450, 36090, 90 * 2**50)


@on_each_engine
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("degrees", TURNS)
def test_quarter_turns_lose_no_voxel(degrees, order, engine, rng):
    for extent in (2, 7, 64, 255, 256) if engine is None else (7, 64):
        image = rng.random((extent, extent))
        turned = elasticnd.deform_grid(image, np.zeros((2, 3, 3)), order, rotate=degrees, cval=-1)
        # Rounding errors come from the prefilter and, in the generic engine, from its weights.
        expected = np.rot90(image, degrees // 90 % 4)
        np.testing.assert_allclose(turned, expected, rtol=0, atol=0 if order < 2 and engine is None else 1e-12)


@on_each_engine
@pytest.mark.parametrize("mode", MODES)
def test_half_turn_of_a_rectangle(mode, engine, rng):
    image = rng.random((6, 9))
    for turn in ({"rotate": 180}, {"zoom": -1}, {"affine": [[-1, 0, 5], [0, -1, 8]]}):
        turned = elasticnd.deform_grid(image, np.zeros((2, 3, 4)), 1, mode, -1, **turn)
        np.testing.assert_array_equal(turned, image[::-1, ::-1])


@on_each_engine
@pytest.mark.parametrize("plane", list(itertools.permutations(range(3), 2)))
def test_quarter_turn_of_a_volume(plane, engine, rng):
    image = rng.random((12, 12, 12))
    expected = np.rot90(image, 1, axes=plane)
    vector = np.zeros(3)
    vector[3 - sum(plane)] = np.pi / 2 * (1 if (plane[1] - plane[0]) % 3 == 1 else -1)
    for rotate in ({plane: 90}, {plane: 45.0, plane[::-1]: -45.0}, Rotation.from_rotvec(vector)):
        turned = elasticnd.deform_grid(image, np.zeros((3, 2, 3, 4)), 1, rotate=rotate, cval=-1)
        # Two turns of 45 degrees and SciPy's matrix are exact up to rounding.
        np.testing.assert_allclose(turned, expected, rtol=0, atol=1e-12)


def test_angles_between_quarter_turns():
    """The exact treatment of quarter turns changes no other angle."""
    points = np.zeros((2, 2, 2))
    image = np.random.default_rng(0).random((20, 20))
    for degrees in (30, 44.9, 45, 45.1, 89.999, 91, 135, 200, 359, -1e-3):
        angle = np.deg2rad(degrees)
        matrix = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        np.testing.assert_allclose(
            elasticnd.deform_grid(image, points, mode="mirror", rotate=degrees),
            elasticnd.deform_grid(image, points, mode="mirror", rotate=matrix),
            rtol=0,
            atol=1e-13,
        )


# ---- shifts ----------------------------------------------------------------------------------------------------------


@on_each_engine
@pytest.mark.parametrize("mode", ABRUPT)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_whole_shifts_lose_no_voxel(order, mode, engine):
    for extent in [*range(2, 34), 100, 255, 256, 300] if engine is None else (5, 32, 100):
        for points in (1, 2, 3, 5, 8):
            for shift in {0, 1, -1, 3 % extent, 1 - extent, extent - 1}:
                image = np.arange(1.0, extent + 1)
                shifted = elasticnd.deform_grid(image, np.full((1, points), float(shift)), order, mode)
                source = np.arange(extent) + shift
                inside = (source >= 0) & (source < extent)
                # Only the prefilter rounds, and values go up to 300.
                np.testing.assert_allclose(shifted[inside], image[source[inside]], rtol=0, atol=1e-11)
                if mode == "constant":
                    assert not shifted[~inside].any()


@pytest.mark.parametrize("mode", ABRUPT)
def test_whole_shifts_in_single_precision(mode):
    """No voxel is lost even if positions are float32, which is the default in JAX."""
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    for extent, points in itertools.product((9, 100, 1000), (1, 3, 5)):
        image = np.arange(1.0, extent + 1, dtype=np.float32)
        with elasticnd.use_engine("generic"):
            shifted = elasticnd.deform_grid(jnp.asarray(image), np.full((1, points), 3.0), 1, mode)
        np.testing.assert_allclose(shifted[: extent - 3], image[3:], rtol=1e-5)


@on_each_engine
@pytest.mark.parametrize("extent", [2, 5, 9, 64, 200])
def test_one_control_point_moves_by_its_value_exactly(extent, engine):
    """A shift of half a voxel is a tie, which goes to the next voxel."""
    image = np.arange(extent)
    shifted = elasticnd.deform_grid(image, [[0.5]], 0, "nearest")
    np.testing.assert_array_equal(shifted, np.minimum(image + 1, extent - 1))
    for value in (0.1, 1 / 3, 12.7, 1e5 + 0.3):
        np.testing.assert_array_equal(elasticnd.dense_displacement([[value]], (extent,)), np.full((1, extent), value))


@on_each_engine
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", ABRUPT)
def test_the_tolerance_on_the_border(mode, order, engine, rng):
    """A position up to 1e-9 beyond the border counts as on it. A position well beyond it does not."""
    image = rng.random(9) + 1
    image[-1] += 5  # makes the two ends of the axis differ, for mode wrap

    def at(position):
        return elasticnd.deform_grid(image, [[position]], order, mode, crop=(slice(0, 1),))[0]

    for end, value in ((0.0, image[0]), (8.0, image[8])):
        outwards = -1 if end == 0 else 1
        for distance in (0.0, 1e-15, 1e-12, 9e-10):
            # Over such a short distance, the generic engine continues the spline, so the value changes slightly.
            np.testing.assert_allclose(at(end + outwards * distance), value, rtol=0, atol=1e-7)
        beyond = at(end + outwards * 1e-6)
        if mode == "constant":
            assert beyond == 0
        else:
            np.testing.assert_allclose(beyond, image[8] if end == 0 else image[0], rtol=0, atol=1e-4)
    if mode == "wrap":  # at whole periods, rounding does not choose between the two ends either
        for turns in (2, 3, -1, -2):
            values = [at(8.0 * turns + distance) for distance in (-1e-10, 0.0, 1e-10)]
            np.testing.assert_allclose(values, image[0 if turns > 0 else 8], rtol=0, atol=1e-7)


# ---- slopes ----------------------------------------------------------------------------------------------------------


def slopes(image, mode, shift=0.0):
    """Return the derivative of each voxel's value with respect to its position, at order 1."""
    gradients = [
        elasticnd.deform_grid_vjp(weight, image, np.full((1, 1), shift), 1, mode).displacement[0, 0]
        for weight in np.eye(len(image))
    ]
    return np.array(gradients)


@on_each_engine
@pytest.mark.parametrize("mode", ABRUPT)
def test_the_last_slope_is_that_of_the_inside(mode, engine):
    image = np.array([0.0, 1, 2, 3, 7])
    np.testing.assert_allclose(slopes(image, mode), [1, 1, 1, 4, 4], rtol=0, atol=1e-12)
    # With two voxels and with one, and slightly beyond the border, which counts as on it.
    np.testing.assert_allclose(slopes(image[3:], mode), [4, 4], rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes(image[4:], mode), [0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes(image, mode, 1e-12), [1, 1, 1, 4, 4], rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes(image, mode, -1e-12), [1, 1, 1, 1, 4], rtol=0, atol=1e-12)


@on_each_engine
@pytest.mark.parametrize(
    ("mode", "last"), [("nearest", 0), ("reflect", 0), ("mirror", -4), ("grid-constant", -7), ("grid-wrap", -7)]
)
def test_the_last_slope_of_other_modes(mode, last, engine):
    """These modes extend the image beyond its border, so the last slope depends on the voxel that follows."""
    image = np.array([0.0, 1, 2, 3, 7])
    np.testing.assert_allclose(slopes(image, mode), [1, 1, 1, 4, last], rtol=0, atol=1e-12)


@on_each_engine
@pytest.mark.parametrize("mode", ABRUPT)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_gradient_at_the_identity(n, mode, engine, rng):
    """The gradient equals one-sided differences for a displacement that moves all positions inwards."""
    image = rng.random((7, 6, 5)[:n])
    points = (3,) * n
    inwards = np.stack(np.meshgrid(*[np.linspace(1, -1, 3)] * n, indexing="ij")).reshape(n, *points)
    weight = rng.random(image.shape)
    gradient = elasticnd.deform_grid_vjp(weight, image, np.zeros((n, *points)), 1, mode).displacement
    step = 1e-6
    moved = elasticnd.deform_grid(image, step * inwards, 1, mode)
    field = elasticnd.dense_displacement(inwards, image.shape)
    # The slope is taken towards the next voxel, except at the last one, whichever way the voxel moves.
    expected = 0.0
    for k in range(n):
        ahead = np.diff(image, axis=k)
        ahead = np.concatenate([ahead, np.take(ahead, [-1], axis=k)], axis=k)
        expected += np.sum(weight * ahead * field[k])
    assert abs(np.sum(gradient * inwards) - expected) < 1e-12 * weight.size
    last = (-1,) * n
    along = sum(float(np.diff(np.moveaxis(image, k, -1)[(-1,) * (n - 1)])[-1]) * field[k][last] for k in range(n))
    assert abs((moved[last] - image[last]) / step - along) < 1e-4


@pytest.mark.parametrize("mode", ABRUPT)
def test_the_last_slope_of_a_patch(mode, rng):
    """A patch that consists of the last voxel reads the voxel before it too."""
    image = rng.random((6, 8))
    grid = np.zeros((2, 3, 3))
    whole = elasticnd.deform_grid_vjp(np.pad([[1.0]], ((5, 0), (7, 0))), image, grid, 1, mode)
    corner = elasticnd.deform_grid_vjp(np.ones((1, 1)), image, grid, 1, mode, crop=(slice(5, 6), slice(7, 8)))
    np.testing.assert_array_equal(corner.displacement, whole.displacement)
    np.testing.assert_array_equal(corner.image, whole.image)
