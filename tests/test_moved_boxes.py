"""`Deformation.move_boxes` compared with boxes around densely sampled borders, its flags and derivatives."""

import itertools

import frameworks
import numpy as np
import pytest

import elasticnd
from elasticnd import Deformation, MovedBoxes

NAMES = ("torch", "jax", "tensorflow")
SHAPE = (40, 30)
in_each_framework = pytest.mark.parametrize("name", NAMES)


def hull(deformation, box, count):
    """Return the box around the moved border, independently computed from dense samples."""
    low, high = np.array(box)
    n = len(low)
    faces = []
    for axis, side in itertools.product(range(n), (0.0, 1.0)):
        lines = [np.linspace(0, 1, count)] * n
        lines[axis] = np.array([side])
        faces.append(np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, n))
    moved = deformation.move_points(low + np.concatenate(faces) * (high - low))
    assert moved.converged.all()
    return np.stack([moved.points.min(0), moved.points.max(0)])


def make(shape, seed, sigma=2, **options):
    """Return a deformation without rotation. With one, the corners would decide, and any rule would pass."""
    deformation = Deformation.random(shape, sigma=sigma, points=5, rng=seed, **options)
    return deformation.scaled(deformation.largest_scale(margin=0.2))


@pytest.mark.parametrize(
    ("shape", "count", "affine"),
    [
        ((40,), 2, {}),
        ((40, 30), 4001, {}),
        ((40, 30), 4001, {"zoom": (1.2, 0.8)}),
        ((24, 20, 18), 121, {}),
    ],
)
def test_boxes_hold_the_border_and_no_more(shape, count, affine, rng):
    corners_alone = []
    for seed in range(4):
        deformation = make(shape, seed, sigma=3, **affine)
        box = np.sort(rng.uniform(0, 1, (2, len(shape))) * (np.array(shape) - 1), axis=0)
        expected = hull(deformation, box, count)
        moved = deformation.move_boxes(box)
        assert isinstance(moved, MovedBoxes)
        # Samples of the border lie inside the box, with an error of the square of their distance.
        off = 1e-6 + 8 / count**2
        assert (moved.boxes[0] <= expected[0] + 1e-5).all()
        assert (moved.boxes[1] >= expected[1] - 1e-5).all()
        np.testing.assert_allclose(moved.boxes, expected, rtol=0, atol=1e-4 if len(shape) < 3 else 10 * off)
        assert moved.converged
        assert not moved.folded
        assert 0 <= moved.residual <= 1e-6
        corners = deformation.move_points(np.stack(np.meshgrid(*box.T, indexing="ij"), -1).reshape(-1, len(shape)))
        corners_alone.append(abs([corners.points.min(0), corners.points.max(0)] - expected).max())
    assert len(shape) == 1 or max(corners_alone) > 0.1


def test_flags_and_clipping():
    """The moved boxes of a shift are known exactly."""
    deformation = Deformation(np.reshape([3.0, 0.0], (2, 1, 1)), (10, 8))
    boxes = [[[2.6, 0.0], [5.0, 7.0]], [[2.4, 0.0], [5.0, 7.0]], [[4.0, 3.0], [12.6, 8.0]], [[np.nan, 1.0], [2.0, 3.0]]]
    moved = deformation.move_boxes(boxes)
    np.testing.assert_allclose(moved.boxes[:3], np.array(boxes[:3]) - [3, 0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(moved.outside[:3], [False, True, True])
    np.testing.assert_array_equal(moved.converged, [True, True, True, False])
    clipped = deformation.move_boxes(boxes, clip=True)
    np.testing.assert_allclose(clipped.boxes[1:3], [[[-0.5, 0], [2, 7]], [[1, 3], [9.5, 7.5]]], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(clipped.outside, moved.outside)
    turned = deformation.move_boxes([[5.0, 7.0], [2.6, 0.0]])  # corners in reverse order
    np.testing.assert_allclose(turned.boxes, moved.boxes[0], rtol=0, atol=1e-12)


def test_a_fold_on_the_border_is_reported():
    deformation = Deformation.random(SHAPE, sigma=12, points=5, rng=0)
    assert deformation.fold_bounds().upper < 0
    moved = deformation.move_boxes([[0.0, 0.0], [39.0, 29.0]])
    border = [[i, j] for i in np.linspace(0, 39, 60) for j in np.linspace(0, 29, 60) if i in (0, 39) or j in (0, 29)]
    assert bool(moved.folded) >= bool(deformation.move_points(border).folded.any())


def test_batches_and_shapes(rng):
    displacement = rng.normal(0, 1, (2, 2, 4, 4))
    deformation = Deformation(displacement, SHAPE)
    boxes = np.sort(rng.uniform(3, 25, (1, 3, 4, 2, 2)), axis=-2)
    moved = deformation.move_boxes(boxes)
    assert moved.boxes.shape == (2, 3, 4, 2, 2)
    assert moved.residual.shape == moved.outside.shape == (2, 3, 4)
    for item in range(2):
        alone = Deformation(displacement[item], SHAPE).move_boxes(boxes[0])
        np.testing.assert_array_equal(moved.boxes[item], alone.boxes)
    assert Deformation(displacement[0], SHAPE).move_boxes(np.zeros((0, 2, 2))).boxes.shape == (0, 2, 2)


def test_many_boxes_are_moved_in_parts(rng, monkeypatch):
    deformation = make(SHAPE, 0)
    boxes = np.sort(rng.uniform(3, 25, (7, 2, 2)), axis=-2)
    expected = deformation.move_boxes(boxes).boxes
    from elasticnd._engines import searches

    monkeypatch.setattr(searches, "_POINTS_TOGETHER", 100)
    np.testing.assert_array_equal(deformation.move_boxes(boxes).boxes, expected)


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4, 3)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"b: got shape \(.*\), expected \(\.\.\., "):
        Deformation.identity(SHAPE).move_boxes(np.zeros(shape))


@in_each_framework
def test_values_and_gradients_in_frameworks(name, rng):
    framework = frameworks.get(name)
    displacement = np.array(make(SHAPE, 1).displacement)
    boxes = np.sort(rng.uniform(3, 25, (3, 2, 2)), axis=-2)
    weight = rng.random((3, 2, 2))
    expected = Deformation(displacement, SHAPE).move_boxes(boxes)
    arrays = [framework.array(displacement), framework.array(boxes)]
    got = Deformation(arrays[0], SHAPE).move_boxes(arrays[1])
    for one, other in zip(got, expected, strict=True):
        assert framework.owns(one)
        np.testing.assert_allclose(framework.to_numpy(one), other, rtol=0, atol=2e-6)

    def total(displacement, boxes):
        moved = Deformation(displacement, SHAPE).move_boxes(boxes).boxes
        return (
            (moved * framework.array(weight)).sum()
            if name != "tensorflow"
            else framework.module.reduce_sum(moved * weight)
        )

    gradients = framework.gradient(total, arrays)
    for k, gradient in enumerate(gradients):
        tangent, ends = rng.normal(size=arrays[k].shape), []
        for sign in (-1, 1):
            own = [displacement, boxes]
            own[k] = own[k] + sign * 1e-4 * tangent
            ends.append(np.sum(Deformation(own[0], SHAPE).move_boxes(own[1], tol=1e-10).boxes * weight))
        difference = (ends[1] - ends[0]) / 2e-4
        # The extreme points are accurate to about 1e-4 voxels.
        assert abs(np.sum(framework.to_numpy(gradient) * tangent) - difference) < 2e-3 * (1 + abs(difference))


def test_in_programs(rng):
    displacement = np.array(make(SHAPE, 1).displacement)
    boxes = np.sort(rng.uniform(3, 25, (3, 2, 2)), axis=-2)
    expected = Deformation(displacement, SHAPE).move_boxes(boxes).boxes
    jax = frameworks.get("jax").module
    got = jax.jit(lambda d, b: Deformation(d, SHAPE).move_boxes(b).boxes)(displacement, boxes)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)
    mapped = jax.vmap(lambda b: Deformation(jax.numpy.asarray(displacement), SHAPE).move_boxes(b).boxes)(boxes)
    np.testing.assert_allclose(mapped, expected, rtol=0, atol=1e-3)
    tf = frameworks.get("tensorflow").module
    got = tf.function(lambda d, b: Deformation(d, SHAPE).move_boxes(b).boxes)(displacement, boxes)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def test_generic_engine(rng):
    deformation = make(SHAPE, 1)
    boxes = np.sort(rng.uniform(3, 25, (3, 2, 2)), axis=-2)
    expected = deformation.move_boxes(boxes).boxes
    with elasticnd.use_engine("generic"):
        np.testing.assert_allclose(deformation.move_boxes(boxes).boxes, expected, rtol=0, atol=1e-5)
        jax = frameworks.get("jax").module
        with pytest.raises(TypeError, match=r"b: got .*boxes with values, for engine 'generic'"):
            jax.jit(lambda b: Deformation(jax.numpy.zeros((2, 1, 1)), SHAPE).move_boxes(b).boxes)(boxes)
