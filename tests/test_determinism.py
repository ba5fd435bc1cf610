"""Results have the same bits for every number of threads and instruction set, cropped or not, alone or in a batch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import COMPLEX, FLOATS, INTEGERS, MODES, ORDERS, grid, values

import elasticnd
from elasticnd import _core

SHAPES = ((3000,), (300, 40), (40, 33, 37), (12, 9, 11, 13))


@pytest.fixture(params=_core.available_kernels())
def kernels(request):
    before = _core.kernels()
    _core.choose_kernels(request.param)
    yield request.param
    _core.choose_kernels(before)


def bits(arrays):
    return [np.ascontiguousarray(array).tobytes() for array in arrays if array is not None]


def on_threads(threads, function):
    with elasticnd.num_threads(threads):
        return bits(function())


def everything(shape, order, mode, dtype, rng):
    """Return a function that computes the output and all gradients."""
    image = rng.standard_normal((2, *shape)).astype(dtype)
    displacement = grid(rng, shape, 9)
    axis = tuple(range(1, len(shape) + 1))
    affine = np.eye(len(shape), len(shape) + 1)

    def run():
        arguments = {"order": order, "mode": mode, "axis": axis, "affine": affine}
        return [
            elasticnd.deform_grid(image, displacement, **arguments),
            *elasticnd.deform_grid_vjp(image, image, displacement, **arguments),
        ]

    return run


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_number_of_threads(shape, order, dtype, rng, kernels):
    run = everything(shape, order, MODES[(order + len(shape)) % len(MODES)], dtype, rng)
    alone = on_threads(1, run)
    for threads in (2, 3, 8):
        assert on_threads(threads, run) == alone


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_every_instruction_set(order, mode, rng):
    run = everything((40, 33, 21), order, mode, np.float32, rng)
    before = _core.kernels()
    results = []
    for name in _core.available_kernels():
        _core.choose_kernels(name)
        results.append(bits(run()))
    _core.choose_kernels(before)
    assert all(result == results[0] for result in results)


def random_slice(draw, extent):
    start = draw(st.integers(0, extent - 1))
    return slice(start, draw(st.integers(start + 1, extent)))


@st.composite
def crops(draw):
    shape = draw(st.sampled_from([(400,), (150, 90), (35, 33, 70), (9, 8, 11, 10)]))
    return shape, tuple(random_slice(draw, extent) for extent in shape)


@settings(max_examples=150, deadline=None)
@given(
    crops(),
    st.sampled_from(MODES),
    st.sampled_from(ORDERS),
    st.sampled_from([np.float32, np.float64, np.uint8]),
    st.sampled_from([0.0, 1.0, 20.0, 500.0]),
    st.integers(0, 2**32 - 1),
)
def test_a_crop_is_a_part_of_the_whole(crop, mode, order, dtype, reach, seed):
    shape, part = crop
    rng = np.random.default_rng(seed)
    image = values(rng, shape, np.dtype(dtype))
    displacement = grid(rng, shape, reach)
    whole = elasticnd.deform_grid(image, displacement, order, mode, cval=0.5)
    cropped = elasticnd.deform_grid(image, displacement, order, mode, cval=0.5, crop=part)
    assert bits([cropped]) == bits([whole[part]])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("points", [2, 4, 23, 37, 60])  # from one cell to more cells than voxels
def test_short_rows_are_parts_of_long_ones(points, mode, order, rng):
    """Rows of fewer than eight voxels are computed differently from longer ones, with the same bits."""
    image = rng.random((9, 37)).astype(np.float32)
    displacement = rng.normal(0, 4, (2, 3, points))
    whole = elasticnd.deform_grid(image, displacement, order, mode, cval=0.5)
    for start in range(31):
        part = slice(2, 8), slice(start, start + 7)
        cropped = elasticnd.deform_grid(image, displacement, order, mode, cval=0.5, crop=part)
        assert bits([cropped]) == bits([whole[part]])


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, -1e301])
def test_a_grid_that_is_not_finite_spoils_no_more_voxels_of_long_rows(value, order, rng):
    image = rng.random((6, 1200)).astype(np.float32)
    displacement = rng.normal(0, 1, (2, 2, 900))
    displacement[0, 0, 450] = value  # coefficients far from this one stay finite
    whole = elasticnd.deform_grid(image, displacement, order, "constant", cval=-1)
    assert 0 < (whole == -1).mean() < 0.5
    for start in range(0, 1200, 7):
        part = slice(None), slice(start, start + 7)
        cropped = elasticnd.deform_grid(image, displacement, order, "constant", cval=-1, crop=part)
        assert bits([cropped]) == bits([whole[part]])


@pytest.mark.parametrize("order", [1, 3, 5])
def test_a_patch_of_a_transformed_image_needs_only_its_source_box(order, rng):
    """The affine map of a patch is relative to the patch. An adjusted offset gives the positions of the whole image."""
    image = rng.random((300, 280))
    displacement = grid(rng, image.shape, 5)
    linear = np.array([[0.9, 0.3], [-0.2, 1.1]])
    start = np.array([120, 100])
    crop = (slice(120, 160), slice(100, 150))
    # Index o of the patch is index o + start of the image, so the same map has another offset in the patch.
    offset = np.array([3.0, -2.0])
    moved = linear @ start + offset - start
    whole = elasticnd.deform_grid(image, displacement, order, affine=np.c_[linear, offset])
    patch = elasticnd.deform_grid(image, displacement, order, affine=np.c_[linear, moved], crop=crop)
    # The displacement is looked up before the affine map applies, and positions are rounded differently.
    np.testing.assert_allclose(patch, whole[crop], rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, *COMPLEX], ids=str)
def test_alone_or_in_a_list(dtype, rng):
    shape = (40, 33)
    images = [values(rng, (*shape, 2), dtype), rng.random(shape), values(rng, (3, *shape), dtype)]
    axis = [(0, 1), (0, 1), (1, 2)]
    displacement = grid(rng, shape, 9)
    together = elasticnd.deform_grid(images, displacement, [3, 2, 1], "reflect", axis=axis)
    for image, order, axes, result in zip(images, (3, 2, 1), axis, together, strict=True):
        assert bits([elasticnd.deform_grid(image, displacement, order, "reflect", axis=axes)]) == bits([result])


def test_run_to_run(rng):
    run = everything((40, 33, 37), 3, "mirror", np.float32, rng)
    first = bits(run())
    for _ in range(5):
        assert bits(run()) == first


def test_nothing_is_written_to(rng):
    image = rng.random((40, 33))
    displacement = grid(rng, image.shape, 9)
    affine = np.eye(2, 3)
    before = bits([image, displacement, affine])
    for order, mode in itertools.product(ORDERS, MODES):
        elasticnd.deform_grid(image, displacement, order, mode, affine=affine)
        elasticnd.deform_grid_vjp(image, image, displacement, order, mode, affine=affine)
    assert bits([image, displacement, affine]) == before


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("mode", ["wrap", "mirror", "reflect", "grid-wrap", "nearest"])
def test_instruction_sets_agree_on_far_positions(mode, order, rng):
    X = rng.normal(size=(9, 11))
    results = []
    before = _core.kernels()
    far = [
        sign * (size + step) for sign in (-1, 1) for size in (2.0**50, 2.0**51, 1.5 * 2.0**51) for step in (0, 0.5, 3)
    ]
    for name in _core.available_kernels():
        _core.choose_kernels(name)
        results.append([elasticnd.deform_grid(X, np.full((2, 1, 1), d), order=order, mode=mode) for d in far])
    _core.choose_kernels(before)
    for one in results:
        assert np.array_equal(one, results[0], equal_nan=True)
