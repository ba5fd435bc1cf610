"""Values compared with SciPy for all orders, modes, dimensions and dtypes, to the accuracy that the docs promise."""

import ml_dtypes
import numpy as np
import oracle
import pytest
from tables import COMPLEX, DOUBLE, FLOATS, INTEGERS, MODES, ORDERS, SHAPES, SINGLE, grid, values

import elasticnd


@pytest.mark.parametrize("reach", [2, 64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [pytest.param(n, marks=pytest.mark.quick) if n == 2 else n for n in SHAPES])
def test_equals_scipy(n, order, mode, reach, rng):
    image = rng.random(SHAPES[n], dtype=np.float32)  # both dtypes hold these values exactly
    displacement = grid(rng, image.shape, reach)
    # SciPy is slow on four axes, so compute only a patch. It contains voxels on the border and inside.
    crop = (slice(0, 6), slice(13, None), slice(0, 6), slice(7, 13)) if n == 4 else None
    expected = oracle.deform(image, displacement, order, mode, cval=0.3, crop=crop)
    for dtype, tolerance in ((np.float64, DOUBLE), (np.float32, SINGLE)):
        got = elasticnd.deform_grid(image.astype(dtype), displacement, order, mode, cval=0.3, crop=crop)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n", "extent"), [(5, 6), (6, 4), (8, 3)])
def test_many_axes(n, extent, order, rng):
    image = rng.random((extent,) * n, dtype=np.float32)
    displacement = rng.uniform(-1, 1, (n, *(2,) * n))
    crop = (slice(0, 2),) * 4 + (slice(1, 2),) * (n - 4)  # few voxels, because a stencil has up to 6^8 taps
    expected = oracle.deform(image, displacement, order, "mirror", crop=crop)
    single = elasticnd.deform_grid(image, displacement, order, "mirror", crop=crop)
    np.testing.assert_allclose(single, expected, rtol=0, atol=SINGLE)
    double = elasticnd.deform_grid(image.astype(np.float64), displacement, order, "mirror", crop=crop)
    # The filter of order 5 can magnify rounding errors 2.75 times along each axis. With this many axes, neither program
    # stays within the usual tolerance.
    np.testing.assert_allclose(double, expected, rtol=0, atol=1e-11)


@pytest.mark.quick
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_floats_within_one_rounding(dtype, order, rng):
    image = values(rng, (31, 18), dtype)
    displacement = grid(rng, image.shape, 6)
    got = elasticnd.deform_grid(image, displacement, order, "mirror")
    assert got.dtype == dtype
    expected = oracle.deform(image.astype(np.float64), displacement, order, "mirror")
    # One rounding step of the dtype at the size of the value, plus the error of the arithmetic.
    step = np.abs(expected) * float(ml_dtypes.finfo(dtype).eps)
    tolerance = step + (DOUBLE if dtype == np.float64 else SINGLE)
    assert np.all(np.abs(got.astype(np.float64) - expected) <= tolerance)


@pytest.mark.quick
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_are_rounded_once(dtype, order, rng):
    image = values(rng, (31, 18), dtype)
    displacement = grid(rng, image.shape, 6)
    got = elasticnd.deform_grid(image, displacement, order, "mirror")
    assert got.dtype == dtype
    exact = oracle.deform(image.astype(np.float64), displacement, order, "mirror")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    expected = np.clip(np.trunc(exact + np.copysign(0.5, exact)), low, high)
    # If a value is this close to a tie, both neighbouring integers are right.
    largest = np.abs(image.astype(np.float64)).max()
    slack = largest * (DOUBLE if dtype.itemsize >= 4 else SINGLE)
    near_tie = np.abs(np.abs(exact - np.trunc(exact)) - 0.5) <= slack
    # float64 cannot represent the neighbours of the largest 64-bit integers.
    allowed = np.where(near_tie, 1.0, 0.0) + (slack if dtype.itemsize == 8 else 0)
    difference = np.abs(got.astype(np.float64) - expected)
    assert np.all(difference <= allowed)
    # Few values are close to a tie, so nearly all pixels are equal. A mean error of 1e-7 of 65535 changes 1.4 % of
    # them.
    assert np.mean(difference > 0) < 0.02 or dtype.itemsize == 8


@pytest.mark.quick
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_order_zero_keeps_every_label(dtype, rng):
    if dtype.kind == "b":
        image = rng.random((40, 30)) < 0.5
    else:
        info = np.iinfo(dtype)
        image = rng.integers(info.min, info.max, (40, 30), dtype=dtype, endpoint=True)
    displacement = grid(rng, image.shape, 9)
    got = elasticnd.deform_grid(image, displacement, 0, "reflect")
    index = np.arange(image.size, dtype=np.float64).reshape(image.shape)
    where = oracle.deform(index, displacement, 0, "reflect").astype(np.int64)
    np.testing.assert_array_equal(got, image.ravel()[where])


@pytest.mark.quick
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", COMPLEX, ids=str)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_complex_images(order, dtype, mode, rng):
    image = values(rng, (31, 18), dtype)
    displacement = grid(rng, image.shape, 12)
    expected = oracle.deform(image, displacement, order, mode, cval=0.25 - 0.5j)
    got = elasticnd.deform_grid(image, displacement, order, mode, cval=0.25 - 0.5j)
    assert got.dtype == dtype
    tolerance = DOUBLE if dtype == np.complex128 else SINGLE
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [2, 3, 5])
def test_without_prefilter(order, mode, rng):
    image = rng.random((31, 18))
    displacement = grid(rng, image.shape, 12)
    expected = oracle.deform(image, displacement, order, mode, cval=0.3, prefilter=False)
    got = elasticnd.deform_grid(image, displacement, order, mode, cval=0.3, prefilter=False)
    np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


SHORT = ((1, 25), (25, 1), (2, 40), (1, 1))


# On an axis of 2 voxels, SciPy starts its recursion inexactly in mode reflect. test_prefilter.py tests this case.
@pytest.mark.parametrize(
    ("shape", "mode"), [(s, m) for s in SHORT for m in MODES if 2 not in s or m not in ("reflect", "grid-mirror")]
)
@pytest.mark.parametrize("order", ORDERS)
def test_short_axes(shape, order, mode, rng):
    image = rng.random(shape)
    displacement = grid(rng, shape, 3)
    expected = oracle.deform(image, displacement, order, mode, cval=0.3)
    got = elasticnd.deform_grid(image, displacement, order, mode, cval=0.3)
    np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", [1, 3, 5])
def test_positions_on_a_long_axis(order, dtype, rng):
    """At positions near 10^5 voxels, the fraction is still accurate."""
    image = rng.random(100_000).astype(dtype)
    displacement = rng.uniform(-64, 64, (1, 50))
    expected = oracle.deform(image, displacement, order, "mirror")
    got = elasticnd.deform_grid(image, displacement, order, "mirror")
    # At 1e5, float64 is accurate to 1.5e-11, and the oracle's position is rounded as well.
    tolerance = SINGLE if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("points", [17, 33])
@pytest.mark.parametrize("order", [1, 3])
def test_steep_fields(order, points, rng):
    """The displacement may change by many voxels from one voxel to the next."""
    image = rng.random((100, 100, 100), dtype=np.float32)
    displacement = rng.uniform(-64, 64, (3, points, points, points))
    crop = (slice(50, 52), slice(None), slice(None))
    expected = oracle.deform(image, displacement, order, "mirror", crop=crop)
    got = elasticnd.deform_grid(image, displacement, order, "mirror", crop=crop)
    np.testing.assert_allclose(got, expected, rtol=0, atol=SINGLE)


@pytest.mark.parametrize("value", [-1.5, -0.5, 0.49, 0.5, 1.5, 2.5, 254.5, 255.5, 1e9, -1e9])
def test_integers_round_half_away_from_zero_and_saturate(value):
    image = np.zeros((3, 3), np.int16)
    displacement = np.full((2, 1, 1), 10.0)
    got = elasticnd.deform_grid(image, displacement, order=1, cval=value)
    expected = np.clip(np.trunc(value + np.copysign(0.5, value)), -32768, 32767)
    np.testing.assert_array_equal(got, np.full((3, 3), expected, np.int16))


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64], ids=str)
def test_ties_between_voxels_round_away_from_zero(dtype):
    image = np.array([-3, -2, -1, 0, 1, 2, 3], dtype)
    got = elasticnd.deform_grid(image, np.full((1, 1), 0.5), order=1, cval=9)
    np.testing.assert_array_equal(got, [-3, -2, -1, 1, 2, 3, 9])


@pytest.mark.parametrize("extent", [1, 2, 7, 64, 129])
@pytest.mark.parametrize("points", [1, 2, 3, 4, 9, 40])
def test_dense_displacement(points, extent, rng):
    displacement = rng.uniform(-64, 64, (2, points, 3))
    expected = oracle.field(displacement, (extent, 5))
    got = elasticnd.dense_displacement(displacement, (extent, 5))
    # About ten rounding errors of float64, relative to the 64 voxels.
    np.testing.assert_allclose(got, expected, rtol=0, atol=64 * 1e-14)


@pytest.mark.quick
def test_dense_displacement_of_a_patch_and_a_batch(rng):
    displacement = rng.uniform(-5, 5, (4, 2, 3, 4))
    whole = elasticnd.dense_displacement(displacement, (31, 18))
    assert whole.shape == (4, 2, 31, 18)
    part = elasticnd.dense_displacement(displacement, (31, 18), crop=(slice(3, -4), slice(None, 7)))
    np.testing.assert_array_equal(part, whole[:, :, 3:-4, :7])
    for item, grid_of_item in zip(whole, displacement, strict=True):
        np.testing.assert_array_equal(item, elasticnd.dense_displacement(grid_of_item, (31, 18)))


def test_the_field_passes_through_the_control_points(rng):
    displacement = rng.uniform(-5, 5, (2, 4, 3))
    field = elasticnd.dense_displacement(displacement, (31, 21))
    np.testing.assert_allclose(field[:, ::10, ::10], displacement, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", ORDERS[1:])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_wrong_weight_is_noticed(axis, order, rng, monkeypatch):
    """The comparison is sensitive: it fails if a single weight of one matrix is off by a billionth."""
    image = rng.random((31, 18))
    displacement = rng.uniform(-3, 3, (2, 3, 4))
    got = elasticnd.deform_grid(image, displacement, order, "mirror")
    np.testing.assert_allclose(got, oracle.deform(image, displacement, order, "mirror"), rtol=0, atol=DOUBLE)
    right = oracle.grid_matrix

    def wrong(extent, points, crop=slice(None)):
        matrix = right(extent, points, crop)
        if extent == image.shape[axis]:
            matrix[extent // 2, 1] += 1e-9
        return matrix

    monkeypatch.setattr(oracle, "grid_matrix", wrong)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(got, oracle.deform(image, displacement, order, "mirror"), rtol=0, atol=DOUBLE)
