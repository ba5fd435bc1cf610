"""Proofs of folds: bounds of the volume ratio, compared with samples of fields that fold and with an exact field."""

import numpy as np
import pytest

from elasticnd import _core
from elasticnd._job import make_job

TOLERANCE = 0.01
MARGIN = 0.05


def bounds_of(extent, grids, start=None, output=None, forward=None, tolerance=TOLERANCE):
    job = make_job(image=extent, grid_shape=grids.shape[2:], start=start, output=output)
    return [result[0] for result in _core.fold_bounds(job, grids, forward, tolerance)]


def scale_of(extent, grids, forward=None, margin=MARGIN, tolerance=0.005):
    return _core.largest_scales(make_job(image=extent, grid_shape=grids.shape[2:]), grids, forward, margin, tolerance)[
        0
    ]


def slopes_at(extent, grids, positions, forward=None):
    """Return L⁻¹ dd/df at positions of the frame."""
    job = make_job(image=extent, grid_shape=grids.shape[2:], evaluation_order=1)
    slopes = _core.evaluate(job, grids, positions[None])[0]
    return slopes if forward is None else forward @ slopes


def ratios_of(slopes, scale=1.0):
    return np.linalg.det(np.eye(slopes.shape[-1]) + scale * slopes)


# Standard deviations of the displacements, in units of the control-point spacing. At least a third of the fields fold.
STRENGTHS = {1: (0.6, 2), 2: (0.25, 0.8), 3: (0.2, 0.5)}


def random_case(rng, n, kind):
    """Draw a field that may fold, a window in it, and the linear part of an affine map."""
    points = rng.integers(1 if kind == "single" else 2, 6 if n < 3 else 5, n)
    extent = rng.integers(12, 40, n)
    spacing = (extent - 1) / np.maximum(points - 1, 1)
    grids = rng.normal(0, rng.uniform(*STRENGTHS[n]), (1, n, *points)) * spacing.reshape(-1, *(1,) * n)
    start, output = np.zeros(n, int), extent.copy()
    if kind in ("window", "thin"):
        start = rng.integers(0, extent)
        output = rng.integers(1, extent - start + 1)
    if kind == "thin":  # one voxel along the first axis, along which the field still has a slope
        output[0] = 1
    forward = np.diag([-1.0] + [1.0] * (n - 1)) + rng.normal(0, 0.2, (n, n)) if kind == "affine" else None
    return tuple(extent.tolist()), grids, start, output, forward


KINDS = ("whole", "window", "thin", "affine", "single")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_bounds_hold_in_fields_of_which_many_fold(n, rng):
    folded, trials = 0, 0
    for trial in range(40 if n < 3 else 15):
        extent, grids, start, output, forward = random_case(rng, n, KINDS[trial % len(KINDS)])
        lower, upper, converged = bounds_of(extent, grids, start, output, forward)
        samples = start + rng.uniform(0, 1, (3000, n)) * (output - 1)
        least = ratios_of(slopes_at(extent, grids, samples, forward)).min()
        assert converged
        assert lower <= least + 1e-12
        assert lower <= upper <= lower + TOLERANCE + 1e-9
        if n == 1:  # in 1-D the samples are dense enough
            assert upper >= least - TOLERANCE
        folded += least <= 0
        trials += 1
    assert folded >= trials / 3


@pytest.mark.parametrize("n", [1, 2, 3])
def test_scaled_fields_keep_the_margin_on_the_way(n, rng):
    reduced, trials = 0, 0
    for trial in range(25 if n < 3 else 10):
        kind = "affine" if trial % 3 == 0 else "whole"
        extent, grids, _, _, forward = random_case(rng, n, kind)
        scale = scale_of(extent, grids, forward)
        assert 0 < scale <= 1
        assert scale * 1024 == int(scale * 1024)
        slopes = slopes_at(extent, grids, rng.uniform(0, 1, (3000, n)) * (np.array(extent) - 1), forward)
        for part in np.linspace(0, 1, 6):
            assert ratios_of(slopes, part * scale).min() >= MARGIN - 1e-12
        reduced += scale < 1
        trials += 1
        if scale < 1:  # the scale is not much too small either
            lower, _, _ = bounds_of(extent, grids * min(1, scale + 0.02), forward=forward, tolerance=1e-3)
            assert lower < MARGIN + 1e-3
    assert reduced >= trials / 3


@pytest.mark.parametrize("a", [-9.0, -3.0, 4.0])
def test_an_exact_field(a):
    """Two control points with values (0, a) give d = a (3 g² − 2 g³), whose steepest slope is 1.5 a / (N − 1)."""
    grids, extent = np.array([[[0.0, a]]]), (11,)
    least = min(1.0, 1 + 1.5 * a / 10)
    lower, upper, converged = bounds_of(extent, grids, tolerance=1e-6)
    assert converged
    assert lower <= least <= upper
    assert upper - lower < 2e-6
    expected = 1.0 if least >= MARGIN else (1 - MARGIN) / (1.5 * -a / 10)
    assert 0 <= expected - scale_of(extent, grids, tolerance=1e-6) < 1.1 / 1024


def test_no_field_and_constant_fields_keep_every_volume(rng):
    for n in (1, 2, 3):
        for grids in (np.zeros((1, n, *(3,) * n)), np.full((1, n, *(3,) * n), 1e6)):
            lower, upper, converged = bounds_of((20,) * n, grids)
            assert converged
            assert lower <= 1 <= upper
            assert upper - lower < TOLERANCE
            assert scale_of((20,) * n, grids) == 1


def test_more_axes_have_a_sufficient_condition(rng):
    for strength in (0.0002, 0.0005, 0.3):
        grids = rng.normal(0, strength, (1, 4, 2, 3, 2, 2)) * 8
        extent = (9, 9, 9, 9)
        lower, upper, converged = bounds_of(extent, grids)
        slopes = slopes_at(extent, grids, rng.uniform(0, 8, (2000, 4)))
        assert not converged
        assert upper == np.inf
        assert lower <= ratios_of(slopes).min()
        assert (lower > 0) == (strength < 0.1)
        scale = scale_of(extent, grids)
        assert ratios_of(slopes, scale).min() >= MARGIN


def test_what_is_not_finite_proves_nothing():
    grids = np.full((1, 2, 3, 3), np.nan)
    lower, upper, converged = bounds_of((9, 9), grids)
    assert np.isnan([lower, upper]).all()
    assert not converged
    assert scale_of((9, 9), grids) == 0


def test_hopeless_fields_end_in_bounded_time_and_memory(rng):
    """With equally deep folds in every cell and a tolerance that is too small, bounds are true but marked as not
    converged."""
    grids = np.where(np.indices((3, 9, 9, 9)).sum(0) % 2, 60.0, -60.0)[None]
    lower, upper, converged = bounds_of((16, 16, 16), grids, tolerance=1e-12)
    least = ratios_of(slopes_at((16, 16, 16), grids, rng.uniform(0, 15, (3000, 3)))).min()
    assert lower <= least
    assert lower <= upper
    assert not converged


def test_items_have_bounds_of_their_own(rng):
    grids = rng.normal(0, 3, (3, 2, 4, 4))
    job = make_job(image=(30, 30), grid_shape=(4, 4))
    together = _core.fold_bounds(job, grids, None, TOLERANCE)
    for item in range(3):
        alone = _core.fold_bounds(job, grids[item : item + 1], None, TOLERANCE)
        assert [result[item] for result in together] == [result[0] for result in alone]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grids": np.zeros((1, 2, 3, 4))}, "control grid has the wrong size"),
        ({"forward": np.zeros((3, 2, 2))}, "affine has the wrong size"),
        ({"output": (0, 9)}, "window is empty"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": np.nan}, "tolerance"),
    ],
)
def test_bad_calls_are_refused(change, message):
    given = {"grids": np.zeros((1, 2, 3, 3)), "forward": None, "output": (9, 9), "tolerance": 0.1, **change}
    job = make_job(image=(9, 9), grid_shape=(3, 3), output=given["output"])
    with pytest.raises(ValueError, match=message):
        _core.fold_bounds(job, given["grids"], given["forward"], given["tolerance"])
    with pytest.raises(ValueError, match=message):
        _core.largest_scales(job, given["grids"], given["forward"], MARGIN, given["tolerance"])


def test_a_margin_must_leave_room():
    job = make_job(image=(9, 9), grid_shape=(3, 3))
    for margin in (1.0, np.nan):
        with pytest.raises(ValueError, match="margin"):
            _core.largest_scales(job, np.zeros((1, 2, 3, 3)), None, margin, 0.1)
