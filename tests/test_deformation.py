"""The deformation as an object: its map compared with ramps and finite differences, its value, and its files."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tables import MODES, ORDERS, random_crop

import elasticnd
from elasticnd import Deformation

AFFINES = {
    "none": {},
    "affine": {"affine": [[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]]},
    "homogeneous": {"affine": [[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3], [0, 0, 1]]},
    "rotate": {"rotate": 25},
    "zoom": {"zoom": (1.2, 0.8)},
    "all": {"affine": [[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]], "rotate": -70, "zoom": 1.3},
}
SHAPE = (14, 11)

with_each_affine = pytest.mark.parametrize("name", AFFINES)


def make(rng, name, batch=(), shape=SHAPE, sigma=1.5):
    return Deformation(rng.normal(0, sigma, (*batch, len(shape), 3, 4)), shape, **AFFINES[name])


# ---- images ----------------------------------------------------------------------------------------------------------


@with_each_affine
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_a_crop_is_a_slice_of_the_whole(order, mode, name, rng):
    deformation = make(rng, name, sigma=4)
    for dtype in ("float32", "float64", "uint8"):
        image = (rng.random(SHAPE) * 200).astype(dtype)
        crop = random_crop(rng, SHAPE)
        whole = deformation.apply(image, order, mode, 3)
        assert deformation.apply(image, order, mode, 3, crop).tobytes() == whole[crop].tobytes()


@with_each_affine
def test_apply_is_deform_grid(name, rng):
    deformation = make(rng, name)
    images = [rng.random((3, *SHAPE)), rng.integers(0, 9, SHAPE)]
    options = {"order": [3, 0], "mode": ["mirror", "nearest"], "axis": [(1, 2), (0, 1)]}
    expected = elasticnd.deform_grid(images, deformation.displacement, **options, **AFFINES[name])
    for one, other in zip(deformation.apply(images, **options), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_draws_the_grid_of_the_functions():
    image = np.random.default_rng(3).random(SHAPE)
    deformation = Deformation.random(SHAPE, sigma=2, points=(3, 5), rng=7)
    expected = elasticnd.deform_random_grid(image, sigma=2, points=(3, 5), rng=7)
    np.testing.assert_array_equal(deformation.apply(image), expected)
    batch = Deformation.random(SHAPE, sigma=2, batch_shape=(4,), rng=7)
    np.testing.assert_array_equal(
        batch.displacement, elasticnd.random_displacement(3, 2, ndim=2, batch_shape=(4,), rng=7)
    )


def test_batches(rng):
    deformation = make(rng, "rotate", batch=(3,))
    images = rng.random((3, 2, *SHAPE))
    got = deformation.apply(images, axis=(2, 3))
    for item in range(3):
        alone = Deformation(deformation.displacement[item], SHAPE, rotate=25)
        np.testing.assert_array_equal(got[item], alone.apply(images[item], axis=(1, 2)))


def test_identity(rng):
    image = rng.random(SHAPE)
    np.testing.assert_array_equal(Deformation.identity(SHAPE).apply(image, order=1), image)


# ---- the map ---------------------------------------------------------------------------------------------------------


@with_each_affine
@pytest.mark.parametrize("batch", [(), (2,)])
def test_source_points_are_where_ramps_are_read(name, batch, rng):
    deformation = make(rng, name, batch)
    # Far from the border of a wide frame, sampling a ramp with a linear spline returns the position itself.
    wide = Deformation(deformation.displacement, SHAPE, **AFFINES[name])
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(float)
    points = deformation.source_points(np.broadcast_to(voxels, (*batch, *voxels.shape)))
    inside = np.all((points >= 0) & (points <= np.array(SHAPE) - 1), axis=-1)
    assert inside.mean() > 0.3
    for k in range(2):
        ramp = np.broadcast_to(voxels[..., k], (*batch, *SHAPE))
        read = wide.apply(np.ascontiguousarray(ramp), order=1, axis=(-2, -1))
        np.testing.assert_allclose(read[inside], points[inside][:, k], rtol=0, atol=1e-12)


@with_each_affine
@pytest.mark.parametrize("batch", [(), (2,)])
def test_jacobian_by_finite_differences(name, batch, rng):
    deformation = make(rng, name, batch)
    f = rng.uniform(-5, 18, (*batch, 6, 2))
    step = 1e-4
    expected = np.stack(
        [
            (8 * (deformation.source_points(f + h) - deformation.source_points(f - h)))
            - (deformation.source_points(f + 2 * h) - deformation.source_points(f - 2 * h))
            for h in step * np.eye(2)
        ],
        -1,
    ) / (12 * step)
    # Between knots the field is cubic, so the difference of fourth order has only rounding errors.
    np.testing.assert_allclose(deformation.jacobian(f), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(deformation.jacobian_determinant(f), np.linalg.det(deformation.jacobian(f)), atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_determinants(n, rng):
    shape = (5, 4, 6, 3)[:n]
    deformation = Deformation(rng.normal(0, 0.5, (n, *(3,) * n)), shape, zoom=1.5)
    matrices = np.moveaxis(deformation.jacobian(), (0, 1), (-2, -1))
    np.testing.assert_allclose(deformation.jacobian_determinant(), np.linalg.det(matrices), rtol=1e-12)
    np.testing.assert_allclose(
        deformation.jacobian_determinant(relative=True), np.linalg.det(matrices) * 1.5**n, rtol=1e-12
    )


@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_voxels_of_a_window(batch, rng):
    deformation = make(rng, "all", batch)
    crop = (slice(3, 9), slice(2, 10))
    window = (..., *crop)
    np.testing.assert_array_equal(deformation.field(crop), deformation.field()[window])
    np.testing.assert_array_equal(deformation.jacobian(crop=crop), deformation.jacobian()[window])
    whole = deformation.jacobian_determinant()
    assert whole.shape == (*batch, *SHAPE)
    np.testing.assert_array_equal(deformation.jacobian_determinant(crop=crop), whole[window])
    np.testing.assert_array_equal(deformation.field(), elasticnd.dense_displacement(deformation.displacement, SHAPE))


def test_shapes_of_positions(rng):
    deformation = make(rng, "all", (2,))
    alone = [Deformation(item, SHAPE, **AFFINES["all"]) for item in deformation.displacement]
    f = rng.uniform(0, 10, (2, 4, 3, 2))
    got = deformation.source_points(f)
    for item in range(2):
        np.testing.assert_allclose(got[item], alone[item].source_points(f[item]), rtol=0, atol=1e-13)
    shared = deformation.source_points(f[:1])
    np.testing.assert_allclose(shared[1], alone[1].source_points(f[0]), rtol=0, atol=1e-13)
    assert alone[0].source_points([1, 2]).shape == (2,)
    assert alone[0].jacobian([1, 2]).shape == (2, 2)
    assert alone[0].jacobian_determinant([1, 2]).shape == ()
    assert alone[0].source_points(np.zeros((0, 2))).shape == (0, 2)


@with_each_affine
def test_affine_is_the_forward_map(name, rng):
    deformation = make(rng, name)
    forward = deformation.affine
    if name == "none":
        assert forward is None
        return
    assert forward.shape == (2, 3)
    same = Deformation(deformation.displacement, SHAPE, affine=forward)
    f = rng.uniform(0, 10, (5, 2))
    np.testing.assert_allclose(same.source_points(f), deformation.source_points(f), rtol=0, atol=1e-12)
    still = Deformation(np.zeros((2, 1, 1)), SHAPE, affine=forward)
    np.testing.assert_allclose(still.source_points(f @ forward[:, :2].T + forward[:, 2]), f, rtol=0, atol=1e-12)


# ---- as a value ------------------------------------------------------------------------------------------------------


def test_immutable(rng):
    grid = rng.normal(size=(2, 3, 4))
    deformation = Deformation(grid, SHAPE)
    before = deformation.displacement.copy()
    grid[:] = 0
    np.testing.assert_array_equal(deformation.displacement, before)
    with pytest.raises(ValueError, match="read-only"):
        deformation.displacement[:] = 0
    with pytest.raises(AttributeError, match="immutable"):
        deformation.shape = (3, 4)
    with pytest.raises(AttributeError, match="immutable"):
        del deformation.shape


@with_each_affine
def test_equality_and_copies(name, rng):
    deformation = make(rng, name)
    same = Deformation(deformation.displacement.copy(), list(SHAPE), **AFFINES[name])
    assert deformation == same
    assert hash(deformation) == hash(same)
    assert deformation == copy.deepcopy(deformation) == pickle.loads(pickle.dumps(deformation))  # noqa: S301
    others = [
        Deformation(deformation.displacement + 1e-9, SHAPE, **AFFINES[name]),
        Deformation(deformation.displacement, (14, 12), **AFFINES[name]),
        Deformation(deformation.displacement, SHAPE, **AFFINES[name], to_world=np.eye(3)),
        Deformation(deformation.displacement, SHAPE, **AFFINES["rotate" if name != "rotate" else "zoom"]),
    ]
    assert all(deformation != other for other in others)
    assert deformation != 3


def test_gradients_of_ramps_are_the_transpose_of_the_field(rng):
    """At order 1, a deformed ramp contains the sampled positions, so its gradient is the transpose of the field."""
    shape, crop = (24, 22), (slice(4, 20), slice(4, 18))
    displacement, way = rng.uniform(-1, 1, (2, 2, 4, 3))
    ramps = list(np.indices(shape, float))
    gradients = rng.normal(size=(2, 16, 14))
    result = elasticnd.deform_grid_vjp(list(gradients), ramps, displacement, order=1, crop=crop)
    expected = np.sum(gradients * Deformation(way, shape).field(crop))
    np.testing.assert_allclose(np.sum(result.displacement * way), expected, rtol=1e-12)


class Subclass(Deformation):
    """A class that a user derives. It is global, so that it can be pickled."""


def test_subclasses_stay_what_they_are():
    deformation = Subclass.random((12, 14), sigma=1, rng=0, affine=np.eye(2, 3))
    results = deformation.scaled(0.5), deformation.refined(), Subclass.identity((3, 4)), copy.deepcopy(deformation)
    assert {type(result) for result in results} == {Subclass}
    again = pickle.loads(pickle.dumps(deformation))  # noqa: S301 - bytes of this test
    assert type(again) is Subclass
    assert again == deformation
    assert repr(deformation).startswith("Subclass(")


def test_minus_zero_is_zero():
    zeros = np.zeros((2, 3, 3))
    assert Deformation(zeros, SHAPE) == Deformation(-zeros, SHAPE)
    assert Deformation(zeros.astype(np.float32), SHAPE) == Deformation(zeros, SHAPE)


@with_each_affine
@pytest.mark.parametrize("world", [None, np.diag([2.0, 3.0, 1.0])])
def test_save_and_load(name, world, rng, tmp_path):
    deformation = Deformation(rng.normal(size=(2, 3, 4)), SHAPE, **AFFINES[name], to_world=world)
    path = tmp_path / "deformation.npz"
    deformation.save(path)
    again = Deformation.load(path)
    assert again == deformation
    image = rng.random(SHAPE)
    assert again.apply(image).tobytes() == deformation.apply(image).tobytes()
    if world is not None:
        np.testing.assert_array_equal(again.to_world, world)


REPLAY = """
import sys
import numpy as np
from elasticnd import Deformation
image = np.load(sys.argv[2])
sys.stdout.buffer.write(Deformation.load(sys.argv[1]).apply(image).tobytes())
"""


def test_another_process_replays_the_same_bits(rng, tmp_path):
    deformation = Deformation(rng.normal(size=(2, 3, 4)), SHAPE, rotate=10)
    image = rng.random(SHAPE)
    saved = tmp_path / "deformation.npz", tmp_path / "image.npy"
    deformation.save(saved[0])
    np.save(saved[1], image)
    command = [sys.executable, "-c", REPLAY, *saved]  # run elsewhere: Python would import the sources here
    replayed = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path).stdout
    assert replayed == deformation.apply(image).tobytes()


def test_files_that_are_no_deformation_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, displacement=np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"path: got .*expected an npz file that Deformation.save wrote"):
        Deformation.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="path: got"):
        Deformation.load(path)
    np.savez(path, a=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="path: got"):
        Deformation.load(path)
    Deformation.identity(SHAPE).save(path)
    whole = path.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="path: got"):
            Deformation.load(path)
    with np.errstate(all="ignore"):
        np.savez(path, format="elasticnd deformation", version=2, shape=[3, 4], displacement=np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="version 2"):
        Deformation.load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"displacement": np.zeros((3, 3, 3))}, r"displacement: got shape \(3, 3, 3\)"),
        ({"displacement": np.zeros((2, 3))}, "displacement: got shape"),
        ({"displacement": "grid"}, "displacement: got"),
        ({"displacement": np.zeros((2, 3, 3), complex)}, "displacement"),
        ({"shape": (14, -1)}, "shape"),
        ({"shape": 14}, "shape"),
        ({"affine": np.zeros((2, 3))}, "affine: got a singular matrix"),
        ({"affine": np.zeros((3, 4))}, r"affine: got shape \(3, 4\)"),
        ({"rotate": {(0, 2): 5}}, "rotate"),
        ({"zoom": 0}, "zoom"),
        ({"to_world": np.eye(4)}, r"to_world: got shape \(4, 4\)"),
        ({"to_world": np.zeros((3, 3))}, "to_world: got"),
    ],
)
def test_refusals(arguments, message):
    given = {"displacement": np.zeros((2, 3, 3)), "shape": SHAPE} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        Deformation(**given)


def test_refusals_of_methods(rng):
    deformation = make(rng, "none", (2,))
    with pytest.raises(ValueError, match=r"f: got shape \(3, 2\), expected \(2, ..., 2\)"):
        deformation.source_points(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"f: got shape"):
        deformation.source_points(np.zeros((2, 5, 3)))
    with pytest.raises(TypeError, match="f: got"):
        deformation.source_points("here")
    with pytest.raises(ValueError, match="crop: got"):
        deformation.jacobian(np.zeros((2, 1, 2)), crop=(slice(0, 2), slice(0, 3)))
    with pytest.raises(ValueError, match=r"X: got extent \(13, 11\).*, the shape of the deformation"):
        deformation.apply(np.zeros((2, 13, 11)), axis=(1, 2))


def test_as_many_batch_items_as_axes_of_the_images(rng):
    """Three deformations fit three pictures, although a stack of pictures has three axes as well: the frame decides."""
    deformations = Deformation.random((20, 16), sigma=2, batch_shape=(3,), rng=0)
    images = rng.random((3, 20, 16))
    for item, expected, grid in zip(images, deformations.apply(images), deformations.displacement, strict=True):
        np.testing.assert_array_equal(Deformation(grid, (20, 16)).apply(item), expected)
