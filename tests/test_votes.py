"""Labels by votes, compared with the rule applied to one voxel at a time."""

import importlib
import itertools

import ml_dtypes
import numpy as np
import oracle
import pytest
from layouts import LAYOUTS
from tables import FLOATS, INTEGERS, MODES, random_crop

import elasticnd
from elasticnd import _check, _core, _spec
from elasticnd._engines import generic

SHAPES = {1: (57,), 2: (14, 11), 3: (7, 5, 6), 4: (4, 5, 3, 4)}
TIE = 2.0**-16


def labels_of(rng, shape, dtype=np.uint8, count=4):
    """Draw labels from the whole range of a dtype, each with few voxels."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        values = rng.integers(limits.min, limits.max, count, dtype, endpoint=True)
    else:
        values = rng.normal(size=count).astype(dtype)
        values[:3] = np.nan, -0.0, 0.0
    return values[rng.integers(0, count, shape)]


def deform(image, displacement, **options):
    return elasticnd.deform_grid(image, displacement, order="labels", **options)


def same_labels(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if got.dtype.name == "bfloat16":
        got, expected = got.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_array_equal(got, expected)


# ---- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.quick
@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_number_of_axes(mode, axes, rng):
    image, displacement = labels_of(rng, SHAPES[axes]), rng.uniform(-4, 4, (axes, *[3] * axes))
    expected = oracle.vote(image, oracle.coordinates(displacement, image.shape), mode, 7)
    same_labels(deform(image, displacement, mode=mode, cval=7), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("mode", ["mirror", "grid-constant"])
def test_every_dtype(dtype, mode, rng):
    image, displacement = labels_of(rng, (14, 11), dtype), rng.uniform(-4, 4, (2, 4, 3))
    expected = oracle.vote(image, oracle.coordinates(displacement, image.shape), mode, 1)
    same_labels(deform(image, displacement, mode=mode, cval=1), expected)


@pytest.mark.parametrize("mode", MODES)
def test_every_voxel_a_label_of_its_own(mode, rng):
    image, displacement = rng.permutation(154).reshape(14, 11).astype(np.int16), rng.uniform(-4, 4, (2, 4, 3))
    expected = oracle.vote(image, oracle.coordinates(displacement, image.shape), mode, -1)
    same_labels(deform(image, displacement, mode=mode, cval=-1), expected)


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_crops_and_affine_maps(mode, axes, rng):
    image, displacement = labels_of(rng, SHAPES[axes]), rng.uniform(-2, 2, (axes, *[3] * axes))
    crop = random_crop(rng, image.shape)
    forward = np.concatenate([np.eye(axes) + rng.uniform(-0.2, 0.2, (axes, axes)), rng.normal(size=(axes, 1))], -1)
    whole = deform(image, displacement, mode=mode)
    same_labels(deform(image, displacement, mode=mode, crop=crop), whole[crop])
    inverse = np.linalg.inv(np.vstack([forward, [*[0] * axes, 1]]))[:axes]
    expected = oracle.vote(image, oracle.coordinates(displacement, image.shape, crop, inverse), mode)
    same_labels(deform(image, displacement, mode=mode, crop=crop, affine=forward), expected)


def test_batches_and_channels(rng):
    """Batches and channels may be on any axes, including channels that other orders compute together."""
    image, displacement = labels_of(rng, (3, 9, 4, 8)), rng.uniform(-3, 3, (3, 2, 4, 3))
    for channels in (2, 3):
        moved = np.ascontiguousarray(np.moveaxis(image, 2, channels))
        axis = tuple(k for k in (1, 2, 3) if k != channels)
        got = np.moveaxis(deform(moved, displacement, mode="nearest", axis=axis), channels, 2)
        for item, channel in itertools.product(range(3), range(4)):
            positions = oracle.coordinates(displacement[item], (9, 8))
            same_labels(got[item, :, channel], oracle.vote(image[item, :, channel], positions, "nearest"))


@pytest.mark.parametrize("axes", [5, 6, 8])
def test_many_axes(axes, rng):
    image, displacement = labels_of(rng, (2,) * axes), rng.uniform(-1, 1, (axes, *[2] * axes))
    for mode in ("mirror", "grid-constant"):
        expected = oracle.vote(image, oracle.coordinates(displacement, image.shape), mode)
        same_labels(deform(image, displacement, mode=mode), expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 7), (7, 1), (1, 1, 1)])
def test_short_axes(shape, mode, rng):
    image, displacement = labels_of(rng, shape, count=200), rng.uniform(-3, 3, (len(shape), *[2] * len(shape)))
    expected = oracle.vote(image, oracle.coordinates(displacement, shape), mode, 9)
    same_labels(deform(image, displacement, mode=mode, cval=9), expected)


def test_empty():
    assert deform(np.zeros((0, 5), np.uint8), np.zeros((2, 2, 2))).shape == (0, 5)


# ---- ties ------------------------------------------------------------------------------------------------------------


def dyadic(rng, axes):
    """Return a map exactly to multiples of 1/64 voxel: one control point, and a matrix of powers of 2."""
    displacement = rng.integers(-200, 200, (axes, *[1] * axes)) / 64
    forward = np.zeros((axes, axes + 1))
    forward[np.arange(axes), rng.permutation(axes)] = rng.choice([0.5, 1, 2, -1, -2, 4], axes)
    return displacement, forward


def dyadic_positions(displacement, forward, shape):
    linear = np.linalg.inv(forward[:, :-1])
    inverse = np.concatenate([linear, -linear @ forward[:, -1:]], -1)
    return oracle.coordinates(displacement, shape, inverse=inverse)


def in_namespace(name):
    """Return a function that deforms with the generic engine and the arrays of a library."""
    library = importlib.import_module(name.rpartition(".")[2])
    xp = importlib.import_module(name)

    def call(image, displacement, affine, **options):
        infos = [_spec.ArrayInfo(a.shape, a.dtype.name) for a in (image, displacement, affine)]
        spec = _check.normalize((infos[0],), *infos[1:], "X", _spec.Options(order="labels", **options))
        with np.errstate(invalid="ignore"):  # as public functions do
            return np.asarray(generic.sample(xp, spec, *map(library.asarray, (image, displacement, affine))))

    return call


ENGINES = {
    "core": lambda: (
        lambda image, displacement, affine, **options: deform(image, displacement, affine=affine, **options)
    ),
    "numpy": lambda: in_namespace("array_api_compat.numpy"),
    "torch": lambda: in_namespace("array_api_compat.torch"),
}


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_ties_are_exact(engine, mode, axes, rng):
    if engine == "torch":
        pytest.importorskip("torch")
    engine_deforms = ENGINES[engine]()
    image = labels_of(rng, SHAPES[axes], count=3)
    for _ in range(5):
        displacement, forward = dyadic(rng, axes)
        expected = oracle.vote(image, dyadic_positions(displacement, forward, image.shape), mode, 5)
        same_labels(engine_deforms(image, displacement, forward, mode=mode, cval=5), expected)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("engine", ENGINES)
def test_ties_of_every_dtype(engine, dtype, rng):
    """The order of labels decides ties, also between negative labels, NaN and both zeros."""
    if engine == "torch" and ((dtype.kind == "u" and dtype.itemsize > 1) or dtype == ml_dtypes.bfloat16):
        pytest.skip("NumPy and PyTorch do not share this dtype or its operations")
    if engine == "torch":
        pytest.importorskip("torch")
    image = labels_of(rng, (14, 11), dtype, 8)
    engine_deforms = ENGINES[engine]()
    for _ in range(5):
        displacement, forward = dyadic(rng, 2)
        expected = oracle.vote(image, dyadic_positions(displacement, forward, image.shape), "reflect")
        same_labels(engine_deforms(image, displacement, forward, mode="reflect"), expected)


def test_sums_that_differ_by_little_are_tied():
    """Sums that differ by at most 2**-16 are tied, so the nearest label wins. Otherwise the larger sum wins."""
    image = np.array([[1, 2], [2, 3]], np.uint8)
    # At (p, p) with p < 1/2, the nearest voxel has the weight (1 - p)**2, and its neighbours together 2 p (1 - p).
    tied = 1 / 3
    for excess, label in ((0.0, 1), (0.9 * TIE, 1), (1.2 * TIE, 2)):
        p = tied + excess / 2  # where the derivative of 2 p (1 - p) - (1 - p)**2 is 2
        got = deform(image, np.full((2, 1, 1), p))
        assert got[0, 0] == label, excess


def test_smallest_where_the_nearest_is_not_tied():
    image = np.array([[[8, 3], [3, 7]], [[7, 3], [7, 1]]], np.uint8)
    # In the middle of eight voxels, labels 3 and 7 have three votes each, and the nearest voxel (1, 1, 1) has label 1.
    assert deform(image, np.full((3, 1, 1, 1), 0.5))[0, 0, 0] == 3


# ---- values that are only copied -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_whole_shifts_copy_bits(mode, dtype, rng):
    image = labels_of(rng, (9, 8), dtype, 30)
    if dtype.kind == "f":
        bits = image.view(f"u{dtype.itemsize}")
        bits[3:5] |= rng.integers(0, 2**dtype.itemsize, (2, 8), bits.dtype)  # NaNs with various payloads
    for shift in ((0, 0), (2, -3), (-11, 20)):
        displacement = np.array(shift, float).reshape(2, 1, 1)
        copied = elasticnd.deform_grid(image, displacement, order=0, mode=mode, cval=1)
        assert deform(image, displacement, mode=mode, cval=1).tobytes() == copied.tobytes()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float64])
def test_wide_ids_survive(dtype, rng):
    ids = {
        np.int64: [2**53 + 1, 2**53, 2**62, -(2**62), -(2**62) - 1, 2**63 - 1],
        np.uint64: [2**53 + 1, 2**53, 2**62, 2**62 + 1, 2**64 - 1, 2**64 - 2],
        np.float64: [2**53, 2**53 - 1, -(2**62), 2**62, 1e300, -1e300],
    }[dtype]
    image = np.array(ids, dtype)[rng.integers(0, 6, (14, 11))]
    displacement = rng.uniform(-3, 3, (2, 3, 3))
    for mode in ("mirror", "constant"):
        expected = oracle.vote(image, oracle.coordinates(displacement, image.shape), mode, ids[0])
        got = deform(image, displacement, mode=mode, cval=ids[0])
        same_labels(got, expected)
        assert set(got.ravel().tolist()) <= set(np.array(ids, dtype).tolist())


def test_a_disc_shifted_by_half_a_voxel_keeps_its_voxels():
    y, x = np.mgrid[-15:16, -15:16]
    disc = (y**2 + x**2 < 120).astype(np.uint8)
    assert disc.sum() == 373
    for shift in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
        assert deform(disc, np.array(shift).reshape(2, 1, 1)).sum() == 373


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_argmax_over_one_hot_images(axes, rng):
    shape = {1: (200,), 2: (40, 31), 3: (14, 12, 13)}[axes]
    image, displacement = rng.integers(0, 5, shape).astype(np.uint8), rng.uniform(-4, 4, (axes, *[3] * axes))
    one_hot = (image == np.arange(5).reshape(-1, *[1] * axes)).astype(np.float32)
    sums = elasticnd.deform_grid(one_hot, displacement, order=1, mode="mirror", axis=tuple(range(1, axes + 1)))
    second, first = np.sort(sums, axis=0)[-2:]
    clear = first - second > 2 * TIE
    assert clear.mean() > 0.99
    got = deform(image, displacement, mode="mirror")
    np.testing.assert_array_equal(got[clear], np.argmax(sums, axis=0)[clear])


@pytest.mark.parametrize("mode", ["constant", "nearest"])
def test_labels_elsewhere_in_the_world(mode, rng):
    """Votes equal the argmax of one-hot images, also if image, frame and output have different voxels."""
    deformation = elasticnd.Deformation(rng.uniform(-3, 3, (2, 3, 3)), (40, 36), to_world=np.eye(3))
    image = rng.integers(0, 4, (20, 18)).astype(np.uint8)
    one_hot = (image == np.arange(4).reshape(-1, 1, 1)).astype(np.float32)
    output = {"to_world": np.diag([2.0, 2.0, 1]), "output_to_world": np.diag([0.7, 1.1, 1]), "output_shape": (30, 33)}
    got = deformation.apply(image, "labels", mode, **output)
    sums = deformation.apply(one_hot, 1, mode, axis=(1, 2), **output)
    second, first = np.sort(sums, axis=0)[-2:]
    clear = first - second > 2 * TIE
    assert got.shape == (30, 33)
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(got[clear], np.argmax(sums, axis=0)[clear])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_position_gives_cval(dtype, mode, rng):
    image = labels_of(rng, (9, 8), np.uint8).astype(dtype)
    got = deform(image, np.full((2, 1, 1), np.nan), mode=mode, cval=3)
    same_labels(got, np.full((9, 8), 3, dtype))


# ---- one result, however it is computed ------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, rng):
    image, displacement = labels_of(rng, (14, 11), np.int16), rng.uniform(-4, 4, (2, 4, 3))
    same_labels(deform(LAYOUTS[layout](image), displacement), deform(image, displacement))


@pytest.mark.parametrize("mode", ["constant", "grid-wrap"])
def test_threads_and_instruction_sets(mode, rng):
    image, displacement = labels_of(rng, (150, 140), np.uint16, 40), rng.uniform(-9, 9, (2, 4, 3))
    expected, kernels, threads = deform(image, displacement, mode=mode), _core.kernels(), elasticnd.get_num_threads()
    try:
        for name, count in itertools.product(_core.available_kernels(), (1, 3)):
            _core.choose_kernels(name)
            elasticnd.set_num_threads(count)
            same_labels(deform(image, displacement, mode=mode), expected)
    finally:
        _core.choose_kernels(kernels)
        elasticnd.set_num_threads(threads)


def test_images_and_labels_in_a_list_are_deformed_as_if_alone(rng):
    image, displacement = rng.random((20, 18)), rng.uniform(-3, 3, (2, 3, 3))
    labels = labels_of(rng, (20, 18))
    order, mode = (3, "labels"), ("mirror", "nearest")
    both = elasticnd.deform_grid([image, labels], displacement, order, mode)
    assert both[0].tobytes() == elasticnd.deform_grid(image, displacement, 3, "mirror").tobytes()
    same_labels(both[1], deform(labels, displacement, mode="nearest"))
    weight = rng.random((20, 18))
    alone = elasticnd.deform_grid_vjp(weight, image, displacement, 3, "mirror")
    among = elasticnd.deform_grid_vjp([weight, None], [image, labels], displacement, order, mode)
    assert among.image[1] is None
    assert among.image[0].tobytes() == alone.image.tobytes()
    assert among.displacement.tobytes() == alone.displacement.tobytes()


def test_prefilter_means_nothing(rng):
    image, displacement = labels_of(rng, (20, 18)), rng.uniform(-3, 3, (2, 3, 3))
    same_labels(deform(image, displacement, prefilter=False), deform(image, displacement))


@pytest.mark.parametrize("mode", MODES)
def test_source_box(mode, rng):
    displacement, crop = rng.uniform(-3, 3, (2, 3, 3)), (slice(30, 41), slice(5, 9))
    box = elasticnd.source_box(displacement, (80, 70), crop, "labels", mode)
    assert box == elasticnd.source_box(displacement, (80, 70), crop, 1, mode)
    image = labels_of(rng, (80, 70))
    other = np.full_like(image, 77)
    other[box] = image[box]
    same_labels(deform(other, displacement, mode=mode, crop=crop), deform(image, displacement, mode=mode, crop=crop))
