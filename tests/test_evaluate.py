"""The displacement and its derivatives at arbitrary positions, compared with SciPy, and the transpose with its map."""

import itertools

import array_api_compat.numpy
import numpy as np
import pytest
from oracle import grid_matrix
from scipy import interpolate

from elasticnd import _core
from elasticnd._engines import generic
from elasticnd._job import make_job
from elasticnd._spec import EvaluationSpec


def job_of(extent, points, order):
    return make_job(image=extent, grid_shape=points, evaluation_order=order)


def spline_of_axis(values, extent):
    """Return SciPy's cubic spline through the control values of one axis, which are mirrored far beyond both ends."""
    points = len(values)
    if points == 1 or extent == 1:
        return lambda f, derivative: np.repeat(values[:1] * (derivative == 0), len(f), axis=0)
    period = 2 * (points - 1)
    turns = 6 + 40 // period  # periods on each side
    index = np.arange(-turns * period, turns * period + 1)
    place = index % period
    mirrored = np.asarray(values)[np.minimum(place, period - place)]
    knots = index * (extent - 1) / (points - 1)
    # The influence of the ends decays like 0.27 to the power of the distance, so it has vanished inside.
    spline = interpolate.make_interp_spline(knots, mirrored, k=3)
    return lambda f, derivative: spline(f, derivative) if derivative else spline(f)


def derivative_at(values, extent, position, times):
    """Return a derivative of all components at one position, computed axis by axis."""
    result = np.moveaxis(values, 0, -1)
    for f, length, derivative in zip(position, extent, times, strict=True):
        result = spline_of_axis(result, length)(np.array([f]), derivative)[0]
    return result


CASES = [
    ((9,), (4,)),
    ((9,), (1,)),
    ((1,), (3,)),
    ((12, 9), (3, 5)),
    ((7, 1), (2, 3)),
    ((6, 8, 7), (4, 3, 2)),
    ((4, 5, 3, 6), (2, 3, 3, 2)),
]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("extent", "points"), CASES)
def test_every_derivative(extent, points, order, rng):
    n = len(extent)
    values = rng.normal(0, 3, (2, n, *points))
    positions = rng.uniform(-1.4, 2.4, (2, 5, n)) * np.array(extent)
    got = _core.evaluate(job_of(extent, points, order), values, positions)
    assert got.shape == (2, 5, n, n**order)
    for item, count in np.ndindex(2, 5):
        for number, axes in enumerate(itertools.product(range(n), repeat=order)):
            times = [axes.count(k) for k in range(n)]
            expected = derivative_at(values[item], extent, positions[item, count], times)
            # SciPy loses some digits of third derivatives because of its knots.
            np.testing.assert_allclose(got[item, count, :, number], expected, rtol=0, atol=1e-11 * 10**order)


@pytest.mark.parametrize("n", range(1, 9))
def test_equals_the_field_on_voxels(n, rng):
    extent, points = (5, 4, 3, 3, 2, 2, 2, 2)[:n], (3, 4, 2, 2, 2, 1, 2, 2)[:n]
    values = rng.normal(0, 3, (1, n, *points))
    field = values[0]
    for k in range(n):
        field = np.moveaxis(np.tensordot(grid_matrix(extent[k], points[k]), field, (1, k + 1)), 0, k + 1)
    positions = np.moveaxis(np.indices(extent, dtype=float), 0, -1).reshape(1, -1, n)
    got = _core.evaluate(job_of(extent, points, 0), values, positions)[..., 0]
    np.testing.assert_allclose(got[0], np.moveaxis(field, 0, -1).reshape(-1, n), rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
@pytest.mark.parametrize(("extent", "points"), CASES)
def test_transpose(extent, points, order, rng):
    n = len(extent)
    values = rng.normal(0, 3, (2, n, *points))
    positions = rng.uniform(-1, 2, (2, 3000, n)) * np.array(extent)
    job = job_of(extent, points, order)
    gradient = rng.normal(size=(2, 3000, n, n**order))
    forward = np.sum(gradient * _core.evaluate(job, values, positions))
    adjoint = _core.evaluate_adjoint(job, gradient, positions)
    assert adjoint.shape == values.shape
    assert abs(forward - np.sum(values * adjoint)) < 1e-12 * gradient.size


@pytest.mark.parametrize("order", [0, 1, 2])
def test_no_position(order, rng):
    values = rng.normal(size=(1, 2, 3, 4))
    positions = np.array([[[1.0, 2.0], [np.nan, 1.0], [1.0, np.inf], [2.0, -1e300]]])
    job = job_of((6, 7), (3, 4), order)
    got = _core.evaluate(job, values, positions)
    assert np.isfinite(got[0, 0]).all()
    assert np.isnan(got[0, 1:]).all()
    gradient = np.ones_like(got)
    alone = _core.evaluate_adjoint(job, gradient[:, :1], positions[:, :1])
    np.testing.assert_array_equal(_core.evaluate_adjoint(job, gradient, positions), alone)


@pytest.mark.parametrize("order", [0, 1])
def test_the_same_on_every_number_of_threads_and_instruction_set(order, rng):
    values = rng.normal(size=(1, 3, 4, 4, 4))
    positions = rng.uniform(0, 30, (1, 70001, 3))
    job = job_of((30, 30, 30), (4, 4, 4), order)
    gradient = rng.normal(size=(1, 70001, 3, 3**order))

    def results():
        return (
            _core.evaluate(job, values, positions).tobytes(),
            _core.evaluate_adjoint(job, gradient, positions).tobytes(),
        )

    expected = results()
    before, kernels = _core.get_num_threads(), _core.kernels()
    try:
        for threads in (1, 3):
            for name in _core.available_kernels():
                _core.set_num_threads(threads)
                _core.choose_kernels(name)
                assert results() == expected
    finally:
        _core.set_num_threads(before)
        _core.choose_kernels(kernels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": -1}, "order of derivatives"),
        ({"order": 65}, "order of derivatives"),
        ({"order": 40}, "order of derivatives"),
        ({"control_points": np.zeros((1, 2, 3, 3))}, "control grid has the wrong size"),
        ({"positions": np.zeros((1, 5, 3))}, "positions have the wrong shape"),
        ({"positions": np.zeros((2, 5, 2))}, "control grid has the wrong size"),
    ],
)
def test_refusals(change, message):
    given = {"control_points": np.zeros((1, 2, 3, 4)), "positions": np.zeros((1, 5, 2)), "order": 1} | change
    job = job_of((6, 7), (3, 4), given.pop("order"))
    with pytest.raises(ValueError, match=message):
        _core.evaluate(job, **given)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("extent", "points"), CASES)
def test_the_generic_engine_agrees(extent, points, order, rng):
    n = len(extent)
    values = rng.normal(0, 3, (2, n, *points))
    positions = rng.uniform(-1.4, 2.4, (2, 7, n)) * np.array(extent)
    positions[0, 0, 0] = np.nan
    spec = EvaluationSpec((2,), extent, points, 7)
    got = generic.evaluate(array_api_compat.numpy, spec, values, positions, order)
    expected = _core.evaluate(job_of(extent, points, order), values, positions)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=1e-11)
