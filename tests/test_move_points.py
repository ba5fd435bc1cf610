"""The inverse map at points, computed in the core, compared with the map itself and with SciPy's root finder."""

import numpy as np
import pytest
from scipy import optimize

from elasticnd import _core
from elasticnd._job import make_job

TOLERANCE = 1e-6


def job_of(extent, points, order=0):
    return make_job(image=extent, grid_shape=points, evaluation_order=order)


def random_map(rng, n, strength, items=1, points=None):
    """Draw an extent, control grids whose strength is a multiple of their spacing, and affine maps."""
    points = tuple(rng.integers(2, 6, n).tolist()) if points is None else points
    extent = tuple(rng.integers(12, 40, n).tolist())
    spacing = (np.array(extent) - 1) / np.maximum(np.array(points) - 1, 1)
    grids = rng.normal(0, strength, (items, n, *points)) * spacing.reshape(-1, *(1,) * n)
    maps = np.concatenate(
        [np.eye(n) + rng.normal(0, 0.15 / n, (items, n, n)), rng.normal(0, 3, (items, n, 1))], axis=-1
    )
    return extent, grids, maps


def places_of(extent, grids, maps, positions):
    field = _core.evaluate(job_of(extent, grids.shape[2:]), grids, positions)[..., 0]
    if maps is None:
        return positions + field
    return positions @ maps[..., :-1].swapaxes(-1, -2) + maps[..., -1][:, None] + field


def ratios_of(extent, grids, maps, positions):
    """Return the Jacobian determinants relative to those of the affine maps."""
    linear = np.eye(positions.shape[-1]) if maps is None else maps[:, None, :, :-1]
    slopes = _core.evaluate(job_of(extent, grids.shape[2:], 1), grids, positions)
    return np.linalg.det(linear + slopes) / np.linalg.det(linear)


@pytest.mark.parametrize("has_affine", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_inverts_the_map(n, has_affine, rng):
    extent, grids, maps = random_map(rng, n, 0.05, items=2, points=(4, 3, 1, 2, 2)[:n])
    job = job_of(extent, grids.shape[2:])
    maps = maps if has_affine else None
    positions = rng.uniform(-0.3, 1.3, (2, 200, n)) * np.array(extent)
    targets = places_of(extent, grids, maps, positions)
    found, residuals, ratios = _core.move_points(job, grids, maps, targets, TOLERANCE)
    assert (ratios_of(extent, grids, maps, positions) > 0.1).all()  # so there is only one solution nearby
    np.testing.assert_allclose(found, positions, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(ratios, ratios_of(extent, grids, maps, found), rtol=1e-9)
    assert (residuals <= TOLERANCE).all()


def test_one_map_for_all_items(rng):
    extent, grids, maps = random_map(rng, 2, 0.05, items=3)
    job, targets = job_of(extent, grids.shape[2:]), rng.uniform(0, 30, (3, 20, 2))
    repeated = np.repeat(maps[:1], 3, axis=0)
    one, each = (_core.move_points(job, grids, given, targets, TOLERANCE) for given in (maps[:1], repeated))
    for left, right in zip(one, each, strict=True):
        np.testing.assert_array_equal(left, right)


def test_against_a_root_finder(rng):
    extent, grids, maps = random_map(rng, 2, 0.1, points=(4, 5))
    job, targets = job_of(extent, (4, 5)), rng.uniform(5, 10, (1, 5, 2))
    found, _, _ = _core.move_points(job, grids, maps, targets, 1e-9)

    def difference(position, target):
        return places_of(extent, grids, maps, position.reshape(1, 1, 2))[0, 0] - target

    for position, target in zip(found[0], targets[0], strict=True):
        solution = optimize.root(difference, position + 0.3, args=(target,), tol=1e-12)
        np.testing.assert_allclose(position, solution.x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("n", [2, 3])
def test_folded_fields(n, rng):
    """Nearly all points have a solution outside the folds, and it is found. Every result solves the equation."""
    count, folded, unsolved, within_folds = 0, 0, 0, 0
    for _ in range(10):
        extent, grids, maps = random_map(rng, n, 0.45)
        job = job_of(extent, grids.shape[2:])
        positions = rng.uniform(0, 1, (1, 500, n)) * (np.array(extent) - 1)
        folded += (ratios_of(extent, grids, maps, positions) <= 0).sum()
        targets = places_of(extent, grids, maps, positions)
        found, residuals, ratios = _core.move_points(job, grids, maps, targets, TOLERANCE)
        distances = np.linalg.norm(places_of(extent, grids, maps, found) - targets, axis=-1)
        np.testing.assert_allclose(residuals, distances, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(ratios, ratios_of(extent, grids, maps, found), rtol=0, atol=1e-9)
        count += residuals.size
        unsolved += (residuals > TOLERANCE).sum()
        within_folds += ((residuals <= TOLERANCE) & (ratios <= 0)).sum()
    assert folded > 0.05 * count
    assert unsolved <= 0.001 * count
    assert within_folds <= 0.002 * count


def test_an_exact_field_in_one_dimension():
    """Two control points give d = a (3 g² − 2 g³), whose inverse is the root of a cubic."""
    extent, a = 11, 4.0
    job, grids = job_of((extent,), (2,)), np.array([[[0.0, a]]])
    targets = np.linspace(0, 14, 29)
    found, _, _ = _core.move_points(job, grids, None, targets.reshape(1, -1, 1), 1e-10)
    for position, target in zip(found.ravel(), targets, strict=True):
        g = np.roots([-2 * a, 3 * a, extent - 1, -target])
        real = g[np.abs(g.imag) < 1e-9].real
        np.testing.assert_allclose(position, (real * (extent - 1))[np.argmin(np.abs(real - 0.5))], rtol=0, atol=1e-8)


def test_no_field_leaves_the_affine_map(rng):
    _, _, maps = random_map(rng, 3, 0)
    targets = rng.uniform(-100, 100, (1, 50, 3))
    job = job_of((9, 8, 1), (3, 1, 2))
    found, residuals, ratios = _core.move_points(job, np.zeros((1, 3, 3, 1, 2)), maps, targets, TOLERANCE)
    expected = np.linalg.solve(maps[0, :, :-1], (targets[0] - maps[0, :, -1]).T).T
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(ratios, 1, rtol=1e-12)
    assert residuals.max() < 1e-11


def test_points_that_are_nowhere(rng):
    extent, grids, _ = random_map(rng, 2, 0.4)
    targets = np.array([[[1.0, 2.0], [np.nan, 1.0], [np.inf, 2.0], [1e300, 0.0]]])
    found, residuals, ratios = _core.move_points(job_of(extent, grids.shape[2:]), grids, None, targets, TOLERANCE)
    for result in (found, residuals, ratios):
        assert np.isfinite(result[0, 0]).all()
        assert np.isnan(result[0, 1:]).all()


def test_a_field_that_is_not_finite(rng):
    grids = np.full((1, 2, 3, 3), np.nan)
    found, residuals, _ = _core.move_points(job_of((9, 9), (3, 3)), grids, None, np.ones((1, 4, 2)), TOLERANCE)
    assert np.isnan(found).all()
    assert np.isnan(residuals).all()


def test_large_grids_have_a_coarser_table_or_none(rng):
    for points in ((300, 400), (900, 900)):
        extent = tuple(4 * count for count in points)
        grids = rng.normal(0, 1.5, (1, 2, *points))
        job = job_of(extent, points)
        targets = rng.uniform(0, 1000, (1, 300, 2))
        _, residuals, _ = _core.move_points(job, grids, None, targets, TOLERANCE)
        assert np.isfinite(residuals).all()


def test_no_points():
    job = job_of((9, 9), (3, 3))
    for items, count in ((0, 3), (2, 0)):
        found, residuals, ratios = _core.move_points(
            job, np.zeros((items, 2, 3, 3)), None, np.zeros((items, count, 2)), TOLERANCE
        )
        assert found.shape == (items, count, 2)
        assert residuals.shape == ratios.shape == (items, count)


def test_the_same_on_every_number_of_threads_and_instruction_set(rng):
    extent, grids, maps = random_map(rng, 3, 0.4, items=2)
    job, targets = job_of(extent, grids.shape[2:]), rng.uniform(0, 30, (2, 3001, 3))

    def results():
        return b"".join(array.tobytes() for array in _core.move_points(job, grids, maps, targets, TOLERANCE))

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
        ({"grids": np.zeros((1, 2, 3, 3))}, "control grid has the wrong size"),
        ({"targets": np.zeros((1, 5, 3))}, "points have the wrong shape"),
        ({"targets": np.zeros((5, 2))}, "points have the wrong shape"),
        ({"maps": np.zeros((3, 2, 3))}, "inverse map has the wrong size"),
        ({"maps": np.zeros((1, 2, 3))}, "singular matrix"),
        ({"maps": np.full((1, 2, 3), np.nan)}, "singular matrix"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": np.nan}, "tolerance"),
        ({"tolerance": np.inf}, "tolerance"),
    ],
)
def test_bad_calls_are_refused(change, message):
    given = {"grids": np.zeros((1, 2, 4, 3)), "maps": None, "targets": np.zeros((1, 5, 2)), "tolerance": 1e-6, **change}
    with pytest.raises(ValueError, match=message):
        _core.move_points(job_of((9, 9), (4, 3)), *given.values())
