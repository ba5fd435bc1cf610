"""Fold bounds and scales of `Deformation`, with affine maps, batches and windows, compared with samples."""

import numpy as np
import pytest

from elasticnd import Deformation, FoldBounds

SHAPE = (40, 30)
AFFINES = (
    {},
    {"affine": [[1.1, 0.2, 0.5], [-0.1, -0.9, 0.3]]},
    {"rotate": 25, "zoom": (1.2, 0.8), "affine": [[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]]},
)


@pytest.mark.parametrize("affine", AFFINES)
def test_bounds_and_scales_hold(affine, rng):
    folded = 0
    for seed in range(9):
        deformation = Deformation.random(SHAPE, sigma=4, points=4, rng=seed, **affine)
        crop = (slice(3, 31), slice(4, 5)) if seed % 3 == 0 else None
        start, extent = ((3, 4), (27, 0)) if crop else ((0, 0), (39, 29))
        samples = np.array(start) + rng.random((2000, 2)) * extent
        bounds = deformation.fold_bounds(crop=crop)
        least = deformation.jacobian_determinant(samples, relative=True).min()
        assert isinstance(bounds, FoldBounds)
        assert bounds.lower <= least <= bounds.lower + 0.3
        assert bounds.converged
        scale = deformation.largest_scale(margin=0.1)
        assert deformation.scaled(scale).jacobian_determinant(samples, relative=True).min() >= 0.1
        assert deformation.scaled(scale).fold_bounds().lower > 0
        folded += least <= 0
    assert folded >= 3


def test_batches(rng):
    deformation = Deformation.random(SHAPE, sigma=4, points=4, batch_shape=(2, 3), rng=1)
    bounds, scales = deformation.fold_bounds(), deformation.largest_scale()
    scaled = deformation.scaled(scales)
    assert scales.shape == bounds.lower.shape == bounds.converged.shape == (2, 3)
    for item in np.ndindex(2, 3):
        alone = Deformation(deformation.displacement[item], SHAPE)
        assert alone.fold_bounds() == tuple(part[item] for part in bounds)
        assert alone.largest_scale() == scales[item]
        np.testing.assert_array_equal(scaled.displacement[item], scales[item] * deformation.displacement[item])


def test_gradients_flow_through_scaled():
    torch = pytest.importorskip("torch")
    displacement = torch.ones((2, 3, 3), dtype=torch.float64, requires_grad=True)
    deformation = Deformation(displacement, SHAPE)
    assert deformation.fold_bounds().converged
    deformation.scaled(0.25).displacement.sum().backward()
    assert (displacement.grad == 0.25).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: d.fold_bounds(tol=0), ValueError, "tol: got 0, expected a positive number"),
        (lambda d: d.fold_bounds(tol="a"), ValueError, "tol"),
        (lambda d: d.largest_scale(margin=1), ValueError, "margin"),
        (lambda d: d.largest_scale(tol=float("nan")), ValueError, "tol"),
        (lambda d: d.scaled("a"), TypeError, "s: got"),
        (lambda d: d.scaled([1.0, 2.0]), ValueError, "s: got shape"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(Deformation.random(SHAPE, rng=0))
