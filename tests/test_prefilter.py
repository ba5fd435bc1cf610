"""The prefilter and its transpose compared with the dense matrix they invert, and boxes compared with the whole."""

import numpy as np
import pytest
from oracle import fold
from scipy.interpolate import BSpline
from tables import DOUBLE, SINGLE

from elasticnd._engines import cpu
from elasticnd._job import make_job
from elasticnd._modes import MODES

EXTENSIONS = ("mirror", "reflect", "grid-wrap")
LENGTHS = (1, 2, 3, 5, 17, 63, 64, 65, 127, 128, 129, 200, 300)


def collocation(extent, order, mode):
    """Return the matrix from coefficients to samples, whose inverse is the prefilter."""
    half = (order + 1) / 2
    basis = BSpline.basis_element(np.linspace(-half, half, order + 2), extrapolate=False)
    matrix = np.zeros((extent, extent))
    for row in range(extent):
        for tap in range(-3, 4):
            matrix[row, fold(row + tap, extent, mode)] += np.nan_to_num(basis(float(tap)))
    return matrix


def job_of(shape, order, mode, dtype):
    name = np.dtype(dtype).name
    return make_job(
        image=shape,
        grid_shape=(1,) * len(shape),
        order=order,
        mode=MODES[mode],
        prefilter=True,
        dtype=name,
        compute_dtype=name,
    )


def with_box(job, start, extent):
    """Return a copy of a job that computes only the coefficients in a box."""
    boxed = job.copy()
    boxed["box_start"][: len(start)] = start
    boxed["box_extent"][: len(extent)] = extent
    return boxed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", EXTENSIONS)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("extent", LENGTHS)
def test_inverts_the_dense_matrix(extent, order, mode, dtype, rng):
    signal = rng.random((3, extent)).astype(dtype)
    got = cpu.prefilter(job_of((extent,), order, mode, dtype), signal)
    assert got.dtype == dtype
    expected = np.linalg.solve(collocation(extent, order, mode), signal.T.astype(np.float64)).T
    np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE if dtype == np.float64 else SINGLE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", EXTENSIONS)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("extent", LENGTHS)
def test_adjoint_is_the_transposed_inverse(extent, order, mode, dtype, rng):
    gradient = rng.random((3, extent)).astype(dtype)
    got = np.empty_like(gradient)
    cpu.prefilter_adjoint(job_of((extent,), order, mode, dtype), gradient, got)
    expected = np.linalg.solve(collocation(extent, order, mode).T, gradient.T.astype(np.float64)).T
    # The ends of a mirrored axis are doubled before the filter, which doubles its error bound.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * (DOUBLE if dtype == np.float64 else SINGLE))


@pytest.mark.parametrize("mode", [m for m in MODES if m != "grid-mirror"])
@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("shape", [(40,), (9, 14), (5, 6, 7)])
def test_adjoint_with_padding(shape, order, mode, rng):
    job = job_of(shape, order, mode, np.float64)
    image = rng.standard_normal((2, *shape))
    coefficients = cpu.prefilter(job, image)
    weight = rng.standard_normal(coefficients.shape)
    pulled = np.empty_like(image)
    cpu.prefilter_adjoint(job, weight, pulled)
    forward, backward = np.vdot(weight, coefficients), np.vdot(pulled, image)
    assert abs(forward - backward) < 1e-13 * np.sum(np.abs(weight)) * np.abs(coefficients).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", [m for m in MODES if m != "grid-mirror"])
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_a_part_has_the_bits_of_the_whole(order, mode, dtype, rng):
    image = rng.standard_normal((500, 35)).astype(dtype)
    job = job_of(image.shape, order, mode, dtype)
    whole = cpu.prefilter(job, image)
    for _ in range(12):
        start = [int(rng.integers(0, extent)) for extent in whole.shape]
        stop = [int(rng.integers(low, extent)) + 1 for low, extent in zip(start, whole.shape, strict=True)]
        extent = [high - low for low, high in zip(start, stop, strict=True)]
        part = cpu.prefilter(with_box(job, start, extent), image)
        box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
        np.testing.assert_array_equal(part, whole[box])


@pytest.mark.parametrize("mode", EXTENSIONS)
@pytest.mark.parametrize("order", [3, 5])
def test_lines_that_are_filtered_in_parts(order, mode, rng):
    """With millions of samples, the filter checks for interrupts within a line, which does not change the bits."""
    signal = rng.random(2_500_000, dtype=np.float32)
    job = job_of(signal.shape, order, mode, np.float32)
    whole = cpu.prefilter(job, signal)
    for start in (0, 1_048_000, 2_097_000, 2_499_000):
        part = cpu.prefilter(with_box(job, [start], [1000]), signal)
        np.testing.assert_array_equal(part, whole[start : start + 1000])
    window = cpu.prefilter(job_of((100_000,), order, mode, np.float32), signal[1_000_000:1_100_000])
    np.testing.assert_allclose(whole[1_040_000:1_060_000], window[40_000:60_000], rtol=0, atol=SINGLE)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_a_constant_stays_constant(order):
    coefficients = cpu.prefilter(job_of((300,), order, "mirror", np.float64), np.full((300,), 7.0))
    np.testing.assert_allclose(coefficients, 7.0, rtol=1e-14)


def test_an_infinite_sample_stays_in_its_neighbourhood():
    signal = np.zeros(1000, np.float32)
    signal[500] = np.nan
    coefficients = cpu.prefilter(job_of((1000,), 3, "mirror", np.float32), signal)
    bad = np.flatnonzero(np.isnan(coefficients))
    # Blocks have 64 samples, and 14 more before and after.
    assert bad.min() >= 500 - 64 - 14
    assert bad.max() < 500 + 64 + 14
