"""Refined control grids, which give the same field, and control grids that are fitted to displacements."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import BSpline

import elasticnd
from elasticnd import Deformation

FRAMES = {  # shape, control points
    "1-D": ((30,), (4,)),
    "2-D": ((30, 21), (5, 4)),
    "3-D": ((9, 8, 7), (3, 2, 4)),
    "one point": ((12, 10), (1, 3)),
    "one voxel": ((1, 10), (2, 3)),
}
frames = pytest.mark.parametrize(("shape", "points"), FRAMES.values(), ids=FRAMES)


def displacements(rng, shape, points, batch=()):
    return rng.normal(0, 3, (*batch, len(shape), *points))


def spline_basis(count, extent, positions):
    """Return SciPy's basis along one axis, for cubic splines given by control values and mirrored at both ends."""
    if count == 1 or extent == 1:
        return np.eye(1, count).repeat(len(positions), axis=0)
    g = np.asarray(positions) * (count - 1) / (extent - 1)
    reach = 40  # with this many mirrored points, the effect of the ends has decayed
    index = np.arange(-reach, count + reach)
    folded = np.abs((index + count - 1) % (2 * count - 2) - (count - 1)) if count > 1 else index * 0
    knots = np.arange(-reach - 2, count + reach + 2)
    at_points = BSpline.design_matrix(np.arange(count, dtype=float), knots, 3).toarray()
    at_g = BSpline.design_matrix(g, knots, 3).toarray()
    fold = np.zeros((len(index), count))
    fold[np.arange(len(index)), folded] = 1
    return (at_g @ fold) @ np.linalg.inv(at_points @ fold)


# ---- refined ---------------------------------------------------------------------------------------------------------


@frames
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_refined_is_the_same_map(shape, points, batch, rng):
    deformation = Deformation(displacements(rng, shape, points, batch), shape, rotate=None)
    finer = deformation.refined()
    assert finer.grid_shape == tuple(2 * count - 1 for count in points)
    assert_allclose(finer.field(), deformation.field(), rtol=0, atol=1e-12)
    between = rng.uniform(-5, 40, (*batch, 50, len(shape)))  # some positions are beyond the frame
    assert_allclose(finer.source_points(between), deformation.source_points(between), rtol=0, atol=1e-12)


def test_refined_keeps_affine_map_and_world(rng):
    world = np.diag([2.0, 3.0, 1.0])
    deformation = Deformation(displacements(rng, (30, 21), (3, 4)), (30, 21), rotate=10, zoom=1.1, to_world=world)
    finer = deformation.refined()
    np.testing.assert_array_equal(finer.affine, deformation.affine)
    np.testing.assert_array_equal(finer.to_world, world)


def test_refined_of_a_tensor_passes_gradients(rng):
    torch = pytest.importorskip("torch")
    grid = torch.tensor(displacements(rng, (12, 10), (3, 4)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: Deformation(values, (12, 10)).refined().displacement, (grid,))


# ---- fit -------------------------------------------------------------------------------------------------------------


@frames
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_fit_recovers_a_grid_from_its_field(shape, points, batch, rng):
    points = tuple(min(count, extent) for count, extent in zip(points, shape, strict=True))
    deformation = Deformation(displacements(rng, shape, points, batch), shape)
    found, rms = Deformation.fit(deformation.field(), points, shape)
    assert_allclose(found.displacement, deformation.displacement, rtol=0, atol=1e-10)
    assert np.shape(rms) == batch
    assert np.max(rms) < 1e-10


@pytest.mark.parametrize("case", ["1-D", "2-D", "3-D", "one point"])
def test_fit_recovers_a_grid_from_scattered_samples(case, rng):
    shape, points = FRAMES[case]
    deformation = Deformation(displacements(rng, shape, points, (2,)), shape)
    positions = rng.uniform(0, 1, (400, len(shape))) * (np.array(shape) - 1)
    samples = deformation.source_points(positions[np.newaxis]) - positions
    found, rms = Deformation.fit((positions, samples), points, shape)
    assert_allclose(found.displacement, deformation.displacement, rtol=0, atol=1e-10)
    assert rms.max() < 1e-10


def test_more_samples_than_are_held_at_a_time(rng):
    deformation = Deformation(displacements(rng, (30, 21), (5, 4)), (30, 21))
    positions = rng.uniform(0, 20, (10_000, 2)) * (1.45, 1)
    found, _ = Deformation.fit((positions, deformation.source_points(positions) - positions), (5, 4), (30, 21))
    assert_allclose(found.displacement, deformation.displacement, rtol=0, atol=1e-10)


@frames
def test_fit_equals_dense_least_squares(shape, points, rng):
    """The fit to a random field equals the least-squares solution of a dense system of SciPy's splines."""
    points = tuple(min(count, extent) for count, extent in zip(points, shape, strict=True))
    field = rng.normal(0, 1, (len(shape), *shape))
    matrix = np.ones((1, 1))
    for count, extent in zip(points, shape, strict=True):
        matrix = np.kron(matrix, spline_basis(count, extent, np.arange(extent)))
    expected, *_ = np.linalg.lstsq(matrix, field.reshape(len(shape), -1).T, rcond=None)
    found, rms = Deformation.fit(field, points, shape)
    assert_allclose(found.displacement.reshape(len(shape), -1), expected.T, rtol=0, atol=1e-9)
    left = np.linalg.norm(found.field() - field, axis=0)
    assert_allclose(rms, np.sqrt(np.mean(left**2)), rtol=1e-10)


def test_smooth_trades_the_residual_for_the_bending_energy(rng):
    """The fit minimizes the weighted sum of both: steps in opposite directions increase it equally."""
    shape, points, smooth = (20, 15), (4, 3), 5.0
    field = rng.normal(0, 2, (2, *shape))
    found, rms = Deformation.fit(field, points, shape, smooth)

    def cost(displacement):
        deformation = Deformation(displacement, shape)
        return np.mean(np.sum((deformation.field() - field) ** 2, axis=0)) + smooth * bending(deformation)

    least = cost(found.displacement)
    for _ in range(5):
        step = rng.normal(0, 1e-3, found.displacement.shape)
        ahead, behind = cost(found.displacement + step), cost(found.displacement - step)
        assert min(ahead, behind) > least
        # The tolerance detects an error of 1 % in the smoothing term. The reference integrates on a lattice.
        assert_allclose(ahead, behind, rtol=0, atol=0.02 * (ahead - least))
    assert rms > Deformation.fit(field, points, shape)[1]


def bending(deformation):
    """Return the mean squared second derivatives, from differences of the Jacobian on a fine lattice."""
    step, counts = 1e-4, (200, 150)
    axes = [
        (np.arange(count) + 0.5) / count * (extent - 1) for count, extent in zip(counts, deformation.shape, strict=True)
    ]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    total = 0
    for offset in np.eye(2) * step:
        change = (deformation.jacobian(places + offset) - deformation.jacobian(places - offset)) / (2 * step)
        total += np.mean(np.sum(change**2, axis=(-2, -1)))
    return total


def test_smooth_makes_up_for_missing_samples(rng):
    positions = rng.uniform(0, 20, (11, 2))
    samples = rng.normal(0, 1, (11, 2))
    with pytest.raises(ValueError, match=r"^samples: got 11 positions that determine 11 of 20 control points"):
        Deformation.fit((positions, samples), (5, 4), (30, 21))
    found, rms = Deformation.fit((positions, samples), (5, 4), (30, 21), 1e-3)
    assert rms < 0.1
    assert np.abs(found.displacement).max() < 50


def test_samples_of_frameworks(rng):
    torch = pytest.importorskip("torch")
    field = Deformation(displacements(rng, (12, 10), (3, 4)), (12, 10)).field()
    found, _ = Deformation.fit(torch.tensor(field), (3, 4), (12, 10))
    np.testing.assert_array_equal(found.displacement, Deformation.fit(field, (3, 4), (12, 10))[0].displacement)
    assert isinstance(found.displacement, np.ndarray)


ZEROS = np.zeros((2, 12, 10))
REJECTED = {
    "shape of a field": ((ZEROS, 3, (12, 11)), "samples: got shape (2, 12, 10), expected (..., 2, 12, 11)"),
    "NaN": ((ZEROS * np.nan, 3, (12, 10)), "samples: got NaN or infinite values"),
    "points": ((ZEROS, (13, 3), (12, 10)), "points: got 13 along axis 0 of 12 voxels"),
    "smooth": ((ZEROS, 3, (12, 10), -1), "smooth: got -1"),
    "positions": (((np.zeros((5, 3)), np.zeros((5, 2))), 3, (12, 10)), "samples[0]: got shape (5, 3), expected (m, 2)"),
    "counts": (
        ((np.zeros((5, 2)), np.zeros((4, 2))), 3, (12, 10)),
        "samples[1]: got shape (4, 2), expected (..., 5, 2)",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REJECTED.values(), ids=REJECTED)
def test_what_is_rejected(arguments, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared
        elasticnd.Deformation.fit(*arguments)
    assert str(error.value).startswith(message)
