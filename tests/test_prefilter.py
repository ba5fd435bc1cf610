"""The prefilter against the dense matrix that it inverts, its transpose, and its parts against the whole."""

import numpy as np
import pytest
from oracle import fold
from scipy.interpolate import BSpline
from tables import DOUBLE, SINGLE

from elasticnd._engines import cpu
from elasticnd._geometry import MODES, make_geometry, with_box

EXTENSIONS = ("mirror", "reflect", "grid-wrap")
LENGTHS = (1, 2, 3, 5, 17, 63, 64, 65, 127, 128, 129, 200, 300)


def collocation(extent, order, mode):
    """The matrix from coefficients to samples; its inverse is the prefilter."""
    half = (order + 1) / 2
    basis = BSpline.basis_element(np.linspace(-half, half, order + 2), extrapolate=False)
    matrix = np.zeros((extent, extent))
    for row in range(extent):
        for tap in range(-3, 4):
            matrix[row, fold(row + tap, extent, mode)] += np.nan_to_num(basis(float(tap)))
    return matrix


def geometry_of(shape, order, mode):
    zero = (0,) * len(shape)
    ones = (1,) * len(shape)
    return make_geometry(
        image=shape, points=ones, crop=zero, output=shape, order=order, mode=MODES[mode], prefilter=True
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", EXTENSIONS)
@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("extent", LENGTHS)
def test_inverts_the_dense_matrix(extent, order, mode, dtype, rng):
    signal = rng.random((3, extent)).astype(dtype)
    got = cpu.prefilter(signal, geometry_of((extent,), order, mode), filtered=True)
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
    cpu.prefilter_adjoint(gradient.copy(), geometry_of((extent,), order, mode), got, filtered=True)
    expected = np.linalg.solve(collocation(extent, order, mode).T, gradient.T.astype(np.float64)).T
    # The ends of a mirrored axis count twice before the filter: twice the bound of the filter.
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * (DOUBLE if dtype == np.float64 else SINGLE))


@pytest.mark.parametrize("mode", [m for m in MODES if m != "grid-mirror"])
@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("shape", [(40,), (9, 14), (5, 6, 7)])
def test_adjoint_with_padding(shape, order, mode, rng):
    geometry = geometry_of(shape, order, mode)
    image = rng.standard_normal((2, *shape))
    coefficients = cpu.prefilter(image, geometry, filtered=True)
    weight = rng.standard_normal(coefficients.shape)
    pulled = np.empty_like(image)
    cpu.prefilter_adjoint(weight.copy(), geometry, pulled, filtered=True)
    forward, backward = np.vdot(weight, coefficients), np.vdot(pulled, image)
    assert abs(forward - backward) < 1e-13 * np.sum(np.abs(weight)) * np.abs(coefficients).max()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", [m for m in MODES if m != "grid-mirror"])
@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_a_part_has_the_bits_of_the_whole(order, mode, dtype, rng):
    image = rng.standard_normal((500, 35)).astype(dtype)
    geometry = geometry_of(image.shape, order, mode)
    whole = cpu.prefilter(image, geometry, filtered=True)
    for _ in range(12):
        start = [int(rng.integers(0, extent)) for extent in whole.shape]
        stop = [int(rng.integers(low, extent)) + 1 for low, extent in zip(start, whole.shape, strict=True)]
        extent = [high - low for low, high in zip(start, stop, strict=True)]
        part = cpu.prefilter(image, with_box(geometry, start, extent), filtered=True)
        box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
        np.testing.assert_array_equal(part, whole[box])


@pytest.mark.parametrize("mode", EXTENSIONS)
@pytest.mark.parametrize("order", [3, 5])
def test_lines_that_are_filtered_in_parts(order, mode, rng):
    """Some million samples: the filter looks for interrupts within a line, and goes on with the same bits."""
    signal = rng.random(2_500_000, dtype=np.float32)
    geometry = geometry_of(signal.shape, order, mode)
    whole = cpu.prefilter(signal, geometry, filtered=True)
    for start in (0, 1_048_000, 2_097_000, 2_499_000):
        part = cpu.prefilter(signal, with_box(geometry, [start], [1000]), filtered=True)
        np.testing.assert_array_equal(part, whole[start : start + 1000])
    window = cpu.prefilter(signal[1_000_000:1_100_000], geometry_of((100_000,), order, mode), filtered=True)
    np.testing.assert_allclose(whole[1_040_000:1_060_000], window[40_000:60_000], rtol=0, atol=SINGLE)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_a_constant_stays_constant(order):
    coefficients = cpu.prefilter(np.full((300,), 7.0), geometry_of((300,), order, "mirror"), filtered=True)
    np.testing.assert_allclose(coefficients, 7.0, rtol=1e-14)


def test_an_infinite_sample_stays_in_its_neighbourhood():
    signal = np.zeros(1000, np.float32)
    signal[500] = np.nan
    coefficients = cpu.prefilter(signal, geometry_of((1000,), 3, "mirror"), filtered=True)
    bad = np.flatnonzero(np.isnan(coefficients))
    # Blocks of 64 samples and 14 before and after.
    assert bad.min() >= 500 - 64 - 14
    assert bad.max() < 500 + 64 + 14
