"""Neither the memory layout of images nor the other images in a call change a bit of the result."""

import dataclasses
import itertools

import numpy as np
import pytest
from layouts import LAYOUTS
from tables import COMPLEX, FLOATS, INTEGERS, MODES, ORDERS, values

import elasticnd
from elasticnd import _check, _core, _dtypes, _job, _limits, _modes, _spec

DTYPES = tuple(map(np.dtype, ("uint8", "int16", "int64", "float16", "float32", "float64", "complex64")))
EVERY_DTYPE = (*FLOATS, *COMPLEX, *INTEGERS)


def assert_same_bits(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == expected.tobytes()


def assert_same_gradients(got, expected):
    for part, other in zip(got, expected, strict=True):
        if other is not None:
            assert_same_bits(part, other)


# ---- layouts


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_the_image(layout, dtype, order, rng):
    image = values(rng, (3, 14, 13), dtype)
    placed = LAYOUTS[layout](image)
    np.testing.assert_array_equal(placed, image)
    displacement = rng.normal(size=(2, 3, 4)) * 3
    for axis, mode in (((1, 2), "constant"), ((2, 0), "nearest")):
        got = elasticnd.deform_grid(placed, displacement, order, mode, axis=axis)
        assert_same_bits(got, elasticnd.deform_grid(image, displacement, order, mode, axis=axis))
        assert got.flags.c_contiguous
        assert got.flags.writeable
        if dtype.kind in "fc":
            assert_same_gradients(
                elasticnd.deform_grid_vjp(LAYOUTS[layout](got), placed, displacement, order, mode, axis=axis),
                elasticnd.deform_grid_vjp(got, image, displacement, order, mode, axis=axis),
            )


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_zero_strides(dtype, rng):
    row = values(rng, (13,), dtype)
    displacement = rng.normal(size=(2, 3, 4)) * 3
    for shape in ((14, 13), (2, 14, 13)):
        repeated = np.broadcast_to(row, shape)
        for order in ORDERS:
            got = elasticnd.deform_grid(repeated, displacement, order, axis=(-2, -1))
            assert_same_bits(got, elasticnd.deform_grid(repeated.copy(), displacement, order, axis=(-2, -1)))


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_grid_and_affine(layout, dtype, rng):
    image = rng.random((4, 14, 13))
    displacement = rng.uniform(0, 5, (4, 2, 3, 4)).astype(dtype)
    affine = np.stack([np.eye(2, 3) * factor for factor in (1, 2, 3, 4)]).astype(dtype)
    place = LAYOUTS[layout]
    assert_same_bits(
        elasticnd.deform_grid(image, place(displacement), affine=place(affine)),
        elasticnd.deform_grid(image, displacement, affine=affine),
    )
    assert_same_bits(
        elasticnd.dense_displacement(place(displacement), (14, 13)),
        elasticnd.dense_displacement(displacement, (14, 13)),
    )
    assert_same_gradients(
        elasticnd.deform_grid_vjp(image, image, place(displacement), affine=place(affine)),
        elasticnd.deform_grid_vjp(image, image, displacement, affine=affine),
    )


@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX], ids=str)
def test_dtypes_of_gradients(dtype, rng):
    """Each gradient has the dtype of the array it belongs to, whatever the other dtypes are."""
    image = values(rng, (9, 8), dtype)
    affine = np.eye(2, 3, dtype=np.float32)
    for grid_type, of_grid in ((np.int32, np.float64), (np.float32, np.float32), (np.float64, np.float64)):
        for weight_type in FLOATS:
            weight = rng.random((9, 8)).astype(weight_type)
            gradients = elasticnd.deform_grid_vjp(weight, image, np.ones((2, 3, 3), grid_type), affine=affine)
            assert gradients.image.dtype == dtype
            assert gradients.displacement.dtype == of_grid
            assert gradients.affine.dtype == np.float32
    assert elasticnd.deform_grid_gradient(image, np.ones((2, 3, 3))).dtype == dtype


# ---- axes


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("channel", [0, 1, 2], ids=["first", "middle", "last"])
def test_channels_equal_separate_images(channel, order, rng):
    images = rng.random((5, 14, 13), dtype=np.float32)
    displacement = rng.normal(size=(2, 3, 4)) * 3
    stacked = np.moveaxis(images, 0, channel)
    axis = tuple(k for k in range(3) if k != channel)
    got = elasticnd.deform_grid(stacked, displacement, order, axis=axis)
    for image, deformed in zip(images, np.moveaxis(got, channel, 0), strict=True):
        assert_same_bits(np.ascontiguousarray(deformed), elasticnd.deform_grid(image, displacement, order))


SIDE_BY_SIDE = {
    "two": lambda pixels: pixels[..., :2].copy(),
    "three": lambda pixels: pixels[..., :3].copy(),
    "four": lambda pixels: pixels[..., :4].copy(),
    "nine": lambda pixels: pixels,
    "three of nine": lambda pixels: pixels[..., 1:4],
    "four of nine, the last": lambda pixels: pixels[..., 5:],
    "channels reversed": lambda pixels: pixels[..., 3::-1],
    "pixels reversed": lambda pixels: pixels[:, ::-1, :3],
    "every other pixel": lambda pixels: pixels[:, ::2, :3],
    "one pixel repeated": lambda pixels: np.broadcast_to(pixels[:, :1, :3], (*pixels.shape[:2], 3)),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", SIDE_BY_SIDE)
def test_channels_side_by_side(channels, dtype, order, rng):
    """Channels that are computed together give the same as each channel alone, also at the end of the memory."""
    pixels = SIDE_BY_SIDE[channels](values(rng, (11, 145, 9), dtype))
    displacement = rng.normal(size=(2, 3, 4)) * 4
    for mode in ("constant", "mirror", "grid-constant"):
        options = {"order": order, "mode": mode, "cval": 1}
        got = elasticnd.deform_grid(pixels, displacement, axis=(0, 1), **options)
        crop = (slice(2, 9), slice(3, 140))
        part = elasticnd.deform_grid(pixels, displacement, axis=(0, 1), crop=crop, **options)
        assert_same_bits(part, np.ascontiguousarray(got[crop]))
        for c in range(pixels.shape[-1]):
            alone = elasticnd.deform_grid(np.ascontiguousarray(pixels[..., c]), displacement, **options)
            assert_same_bits(np.ascontiguousarray(got[..., c]), alone)


@pytest.mark.parametrize("axis", list(itertools.permutations(range(4), 2)), ids=str)
def test_order_of_axes(axis, rng):
    """Passing the axes in another order is equivalent to moving them."""
    image = rng.random((6, 7, 8, 9))
    displacement = rng.normal(size=(2, 3, 4)) * 3
    moved = np.moveaxis(image, axis, (-2, -1))
    expected = elasticnd.deform_grid(np.ascontiguousarray(moved), displacement, axis=(2, 3))
    for named in (axis, [k - 4 for k in axis], np.array(axis), tuple(map(np.uint8, axis))):
        got = elasticnd.deform_grid(image, displacement, axis=named)
        assert_same_bits(np.ascontiguousarray(np.moveaxis(got, axis, (-2, -1))), expected)


def test_one_axis_may_come_without_a_sequence(rng):
    image = rng.random((6, 7))
    displacement = rng.normal(size=(1, 4))
    for axis in (1, -1, np.int64(1), np.array(1)):
        got = elasticnd.deform_grid(image, displacement, axis=axis)
        assert_same_bits(got, elasticnd.deform_grid(image, displacement, axis=(1,)))


# ---- several images


def companions(rng):
    """Return images of extent 14 x 13 that differ in everything else."""
    images = [
        values(rng, (14, 13), np.dtype(np.float64)),
        values(rng, (3, 14, 13), np.dtype(np.float32)),
        values(rng, (13, 2, 14), np.dtype(np.uint8)),
        values(rng, (14, 13, 2, 2), np.dtype(np.complex64)),
        values(rng, (14, 13), np.dtype(bool)),
    ]
    own = {
        "order": [3, 5, 2, 1, 0],
        "mode": ["mirror", "nearest", "grid-wrap", "constant", "grid-constant"],
        "cval": [0.5, -1, 300, 1 + 2j, True],
        "axis": [None, (1, 2), (2, 0), [0, 1], (0, -1)],
    }
    return images, own


@pytest.mark.parametrize("crop", [None, (slice(2, 9), slice(-5, None))], ids=["whole", "patch"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_several_images_equal_separate_calls(kind, crop, rng):
    images, own = companions(rng)
    displacement = rng.normal(size=(2, 3, 4)) * 5
    shared = {"crop": crop, "affine": np.eye(2, 3) + 0.05, "rotate": 10, "zoom": (1.1, 0.9)}
    got = elasticnd.deform_grid(kind(images), displacement, **own, **shared)
    assert isinstance(got, kind)
    weights = []
    for i, (image, deformed) in enumerate(zip(images, got, strict=True)):
        options = {name: list_[i] for name, list_ in own.items()}
        assert_same_bits(deformed, elasticnd.deform_grid(image, displacement, **options, **shared))
        weights.append(deformed if image.dtype.kind in "fc" else None)
    together = elasticnd.deform_grid_vjp(kind(weights), kind(images), displacement, **own, **shared)
    assert isinstance(together.image, kind)
    of_grid = np.zeros(displacement.shape)
    for i, (image, weight, gradient) in enumerate(zip(images, weights, together.image, strict=True)):
        if weight is None:
            assert gradient is None
            continue
        options = {name: list_[i] for name, list_ in own.items()}
        alone = elasticnd.deform_grid_vjp(weight, image, displacement, **options, **shared)
        assert_same_bits(gradient, alone.image)
        of_grid += alone.displacement
    # The sum over the images is rounded in another order.
    np.testing.assert_allclose(together.displacement, of_grid, rtol=1e-10, atol=1e-10 * np.abs(of_grid).max())


def test_one_option_for_all_images(rng):
    images = list(rng.random((3, 14, 13)))
    displacement = rng.normal(size=(2, 3, 4))
    together = elasticnd.deform_grid(images, displacement, 2, "wrap", axis=(1, 0))
    for image, deformed in zip(images, together, strict=True):
        assert_same_bits(deformed, elasticnd.deform_grid(image, displacement, 2, "wrap", axis=(1, 0)))


def test_gradients_of_several_images(rng):
    images, own = companions(rng)
    floats = [0, 1, 3]
    own = {name: [list_[i] for i in floats] for name, list_ in own.items()}
    crop = (slice(2, 9), slice(1, 5))
    displacement = rng.normal(size=(2, 3, 4)) * 5
    deformed = elasticnd.deform_grid([images[i] for i in floats], displacement, crop=crop, **own)
    shapes = [images[i].shape for i in floats]
    together = elasticnd.deform_grid_gradient(deformed, displacement, crop=crop, X_shape=shapes, **own)
    for i, (weight, shape, gradient) in enumerate(zip(deformed, shapes, together, strict=True)):
        options = {name: list_[i] for name, list_ in own.items()}
        alone = elasticnd.deform_grid_gradient(weight, displacement, crop=crop, X_shape=shape, **options)
        assert_same_bits(gradient, alone)


# ---- batches

BATCHES = {  # batch axes, remaining shape, deformed axes
    "1-D": ((4,), (30,), None),
    "2-D": ((4,), (14, 13), None),
    "two batch axes": ((2, 5), (14, 13), None),
    "channels last": ((4,), (14, 13, 3), (1, 2)),
    "channels between": ((2, 2), (3, 14, 13), (4, 3)),
    "3-D": ((3,), (6, 7, 8), (-3, -2, -1)),
}


@pytest.mark.parametrize("affine", ["none", "one", "batch"])
@pytest.mark.parametrize("case", BATCHES)
def test_batch_equals_a_loop(case, affine, rng):
    batch, shape, axis = BATCHES[case]
    rank = len(batch) + len(shape)
    own_axis = None if axis is None else tuple(k % rank - len(batch) for k in axis)
    n = len(shape) if axis is None else len(axis)
    images = rng.random((*batch, *shape), dtype=np.float32)
    displacements = rng.normal(size=(*batch, n, *(3, 4, 2)[:n]))
    matrices = np.eye(n, n + 1) + rng.uniform(-0.1, 0.1, (*batch, n, n + 1))
    first = (0,) * len(batch)
    for order, mode in zip(ORDERS, itertools.cycle(MODES)):
        options = {"order": order, "mode": mode, "zoom": 1.1}
        given = {"none": None, "one": matrices[first], "batch": matrices}[affine]
        deformed = elasticnd.deform_grid(images, displacements, axis=axis, affine=given, **options)
        together = elasticnd.deform_grid_vjp(deformed, images, displacements, axis=axis, affine=given, **options)
        pulled = elasticnd.deform_grid_gradient(deformed, displacements, axis=axis, affine=given, **options)
        of_affine = np.zeros((n, n + 1))
        for item in np.ndindex(*batch):
            own = matrices[item] if affine == "batch" else given
            alone = elasticnd.deform_grid(images[item], displacements[item], axis=own_axis, affine=own, **options)
            assert_same_bits(deformed[item], alone)
            gradients = elasticnd.deform_grid_vjp(
                alone, images[item], displacements[item], axis=own_axis, affine=own, **options
            )
            assert_same_bits(together.image[item], gradients.image)
            assert_same_bits(pulled[item], gradients.image)
            # The partial sums over voxels depend on the size of the whole array.
            close = {"rtol": 1e-9, "atol": 1e-9 * np.abs(together.displacement).max()}
            np.testing.assert_allclose(together.displacement[item], gradients.displacement, **close)
            if affine == "batch":
                np.testing.assert_allclose(together.affine[item], gradients.affine, rtol=1e-9, atol=1e-6)
            elif affine == "one":
                of_affine += gradients.affine
        if affine == "one":
            np.testing.assert_allclose(together.affine, of_affine, rtol=1e-9, atol=1e-6)
        assert (together.affine is None) == (affine == "none")


def test_batch_of_fields(rng):
    displacements = rng.normal(size=(2, 3, 2, 3, 4))
    crop = (slice(2, 9), slice(None))
    fields = elasticnd.dense_displacement(displacements, (14, 13), crop=crop)
    assert fields.shape == (2, 3, 2, 7, 13)
    for item in np.ndindex(2, 3):
        assert_same_bits(fields[item], elasticnd.dense_displacement(displacements[item], (14, 13), crop=crop))


def test_fewest_batch_axes_that_fit(rng):
    """If a grid fits both with and without batch axes, the interpretation with fewer batch axes is used."""
    image = rng.random((2, 9))
    displacement = rng.normal(size=(2, 1, 4))
    assert_same_bits(
        elasticnd.deform_grid(image, displacement), elasticnd.deform_grid(image, displacement, axis=(0, 1))
    )
    as_batch = elasticnd.deform_grid(image, displacement, axis=1)
    assert_same_bits(as_batch[1], elasticnd.deform_grid(image[1], displacement[1]))


# ---- numbers that Python and C++ share


@pytest.mark.quick
def test_a_job_has_one_layout():
    layout = dict(_core.job_layout())
    assert layout.pop("size") == _job.JOB.itemsize
    fields = {name: (offset, dtype.itemsize) for name, (dtype, offset) in _job.JOB.fields.items()}
    # Python's struct is flat, so its members have the names that they have in the nested structs of C++.
    assert fields == {name.removeprefix("geometry.").replace(".", "_"): place for name, place in layout.items()}


@pytest.mark.quick
def test_modes_have_one_number():
    assert {mode.name.lower(): int(mode) for mode in _modes.Mode} == _core.modes
    assert set(_modes.MODES.values()) == set(_modes.Mode)
    assert tuple(sorted(_modes.MODES)) == tuple(sorted(MODES))


@pytest.mark.quick
def test_modes_have_the_same_traits():
    assert [dataclasses.astuple(mode.traits) for mode in _modes.Mode] == _core.mode_traits
    assert _core.mode_padding == _modes.PADDING


@pytest.mark.quick
def test_dtypes_have_one_number():
    assert _core.dtypes == _dtypes.CODES


@pytest.mark.quick
def test_limits_are_the_same():
    assert _core.max_axes == _limits.MAX_AXES
    assert _core.max_order == _limits.MAX_ORDER
    assert tuple(range(_limits.MAX_ORDER + 1)) == ORDERS


def test_specifications_of_other_rotations_have_other_hashes():
    """Caches find specifications by their hash. With equal hashes, every call would have to compare them."""
    images = (_spec.ArrayInfo((9, 8), "float32"),)
    grid = _spec.ArrayInfo((2, 3, 3), "float64")
    options = _spec.Options(mode="mirror", zoom=1.1)
    specs = [_check.normalize(images, grid, None, "X", options._replace(rotate=angle)) for angle in range(200)]
    assert len({hash(spec) for spec in specs}) == 200
