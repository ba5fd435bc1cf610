"""The source box of a patch: no voxel outside it affects the patch, and most voxels inside do."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import MODES, ORDERS, random_crop

import elasticnd

LONGEST = {1: 700, 2: 300, 3: 60}
# The largest ratio of a box's length to the needed one, along each axis, for smooth displacements.
SLACK = 1.3


@pytest.mark.filterwarnings("ignore:displacement. moves voxels")  # along short axes, as if they held channels
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    axes=st.integers(1, 3),
    order=st.sampled_from((*ORDERS, "labels")),
    mode=st.sampled_from(MODES),
    dtype=st.sampled_from(["uint8", "float32", "float64"]),
    prefilter=st.booleans(),
    reach=st.sampled_from([0.3, 5, 80]),
    turned=st.booleans(),
)
def test_nothing_outside_matters(seed, axes, order, mode, dtype, prefilter, reach, turned):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, LONGEST[axes], axes).tolist())
    displacement = rng.normal(0, reach, (axes, *rng.integers(1, 6, axes)))
    crop = random_crop(rng, shape)
    matrix = np.eye(axes, axes + 1) + rng.normal(0, 0.1, (axes, axes + 1)) if turned else None
    options = {"order": order, "mode": mode, "prefilter": prefilter, "affine": matrix}
    box = elasticnd.source_box(displacement, shape, crop, dtype=dtype, **options)
    image = (rng.random(shape) * 200).astype(dtype)
    other = (rng.random(shape) * 200).astype(dtype)
    if order == "labels":
        image = (image // 60).astype(dtype)
    if dtype != "uint8":
        other[:] = np.nan
    other[box] = image[box]
    with np.errstate(invalid="ignore"):
        got = elasticnd.deform_grid(other, displacement, crop=crop, **options)
    assert got.tobytes() == elasticnd.deform_grid(image, displacement, crop=crop, **options).tobytes()


def first_that_matters(changes, extent):
    """Return how many voxels from an end can change without changing the patch."""
    low, high = 0, extent
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if changes(middle) else (middle, high)
    return low


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 5])
def test_boxes_are_hardly_too_large(order, dtype, turned, rng):
    # The prefilter reads whole blocks. A box that is a little too large may thus have one block too many at each end.
    block = 0 if order < 2 else 128 if dtype == "float64" else 64
    patch = 450 if dtype == "float64" else 230
    shape = (2 * patch + 300, 2 * patch + 200)
    crop = (slice(patch, 2 * patch), slice(patch - 10, 2 * patch - 20))
    displacement = rng.normal(0, 15, (2, 4, 4))
    options = {"order": order, "rotate": 10 if turned else None}
    box = elasticnd.source_box(displacement, shape, crop, dtype=dtype, **options)
    image = rng.random(shape).astype(dtype)

    for axis, part in enumerate(box):

        def changes(count, axis=axis, backwards=False):
            spoilt = image.copy()
            slab = np.moveaxis(spoilt, axis, 0)
            slab[len(slab) - count if backwards else 0 : len(slab) if backwards else count] = np.nan
            return np.isnan(elasticnd.deform_grid(spoilt, displacement, crop=crop, **options)).any()

        extent = shape[axis]
        start = first_that_matters(changes, extent)
        stop = extent - first_that_matters(lambda count: changes(count, backwards=True), extent)
        assert part.start <= start < stop <= part.stop
        assert part.stop - part.start <= max(SLACK * (stop - start), stop - start + 2 * block)


def test_batches_have_one_box(rng):
    displacement = np.zeros((2, 1, 3))
    displacement[1] = 40
    alone = [elasticnd.source_box(item, (200,), (slice(10, 20),), order=1) for item in displacement]
    assert alone[0][0].stop < alone[1][0].start
    (together,) = elasticnd.source_box(displacement, (200,), (slice(10, 20),), order=1)
    assert (together.start, together.stop) == (alone[0][0].start, alone[1][0].stop)


def test_nothing_is_read_where_all_lies_outside():
    far = np.full((2, 3, 3), 1000.0)
    assert elasticnd.source_box(far, (30, 20)) == (slice(0, 0), slice(0, 0))
    assert elasticnd.source_box(far, (30, 20), mode="grid-constant") == (slice(0, 0), slice(0, 0))
    assert all(part.stop > part.start for part in elasticnd.source_box(far, (30, 20), mode="nearest"))
    assert elasticnd.source_box(far, (30, 0)) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("size", [1e13, 1e15, 1e17])
@pytest.mark.parametrize("order", [0, 1])
def test_rounding_of_huge_coefficients_that_cancel(order, size, rng):
    displacement = rng.normal(0, size, (2, 5, 5))
    displacement[:, 2, 2] = 0
    crop = (slice(100, 101), slice(100, 101))
    box = elasticnd.source_box(displacement, (201, 201), crop, order)
    image = np.arange(201.0 * 201).reshape(201, 201)
    other = np.zeros_like(image)
    other[box] = image[box]
    got, expected = (elasticnd.deform_grid(array, displacement, order, crop=crop) for array in (other, image))
    assert np.array_equal(got, expected)


def test_everything_is_read_where_nothing_is_known():
    unknown = np.full((2, 3, 3), np.nan)
    assert elasticnd.source_box(unknown, (30, 20), (slice(0, 1), slice(0, 1))) == (slice(0, 30), slice(0, 20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "object"}, r"dtype: got 'object' .*expected one of bool"),
        ({"dtype": "float128x"}, r"dtype: got 'float128x'"),
        ({"shape": (-3, 4)}, r"shape: got extents \(-3, 4\)"),
        ({"shape": (3, 4, 5)}, r"displacement: got shape \(2, 3, 3\)"),
        ({"displacement": object()}, r"displacement: got"),
        ({"crop": (slice(0, 3),)}, r"crop: got 1 entry"),
        ({"order": 7}, r"order: got 7"),
    ],
)
def test_refusals(arguments, message):
    given = {"displacement": np.zeros((2, 3, 3)), "shape": (30, 20)} | arguments
    with pytest.raises((TypeError, ValueError), match=message):
        elasticnd.source_box(**given)


@pytest.mark.parametrize("mode", ["constant", "wrap"])
def test_the_slope_on_the_last_voxel_needs_the_one_before(mode):
    displacement = np.zeros((2, 3, 3))
    box = elasticnd.source_box(displacement, (6, 8), (slice(5, 6), slice(7, 8)), order=1, mode=mode)
    assert box[0].start <= 4
    assert box[1].start <= 6
