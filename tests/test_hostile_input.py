"""Hostile input: no call crashes, hangs, reads memory outside its arrays or changes its arguments.

Calls that might crash run in a separate process, so that a crash is a failed test with a message.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS
from tables import COMPLEX, DOUBLE, FLOATS, INTEGERS, MODES, ORDERS, values

import elasticnd

WITH_CVAL = ("constant", "grid-constant")
CVAL = 7
EVERY_DTYPE = (*FLOATS, *COMPLEX, *INTEGERS)


def run(script, timeout=60, memory=None, **options):
    """Run Python code in a separate process, and fail if it fails."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))\n" if memory else ""
    script = f"{limit}import elasticnd\nimport numpy as np\n{script}"
    command = [sys.executable, "-I", "-X", "faulthandler", "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"
    return done.stdout


def as_cval(dtype):
    return np.array(CVAL).astype(dtype)


# ---- positions that are infinite or NaN ------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["cpu", "generic"])
@pytest.mark.parametrize("far", [-300, 300])
@pytest.mark.parametrize("mode", WITH_CVAL)
def test_beyond_the_image_there_is_only_the_constant(mode, far, engine):
    image = np.full((8, 9), np.nan)
    for order in ORDERS:
        with elasticnd.use_engine(engine):
            deformed = elasticnd.deform_grid(image, np.full((2, 1, 1), far), order, mode, cval=CVAL)
        np.testing.assert_array_equal(deformed, np.full(image.shape, CVAL))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_nan_displacement(dtype, mode, rng):
    image = values(rng, (6, 7), dtype)
    displacement = np.zeros((2, 3, 3))
    displacement[1, 1, 1] = np.nan  # the cubic spline spreads it everywhere
    constant = mode in WITH_CVAL or dtype.kind in "biu"
    for order in ORDERS:
        deformed = elasticnd.deform_grid(image, displacement, order, mode, cval=CVAL)
        assert deformed.dtype == dtype
        if constant:
            np.testing.assert_array_equal(deformed, np.full(image.shape, as_cval(dtype)))
        else:
            assert np.isnan(deformed.real.astype(float)).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("far", [np.inf, -np.inf, 1e300, -1e300, 1e19, -1e19])
def test_far_displacement(far, n, order, mode, rng):
    """Far positions give the constant, or the border in nearest, or NaN in modes that would have to fold them."""
    image = rng.random((5,) * n) + 1
    displacement = np.zeros((n, *(1,) * n))
    displacement[0] = far
    deformed = elasticnd.deform_grid(image, displacement, order, mode, cval=CVAL)
    crop = (slice(1, 3),) * n
    cropped = elasticnd.deform_grid(image, displacement, order, mode, cval=CVAL, crop=crop)
    np.testing.assert_array_equal(cropped, deformed[crop])
    if mode in WITH_CVAL:
        np.testing.assert_array_equal(deformed, CVAL)
    elif mode == "nearest" and np.isfinite(far):
        displacement[0] = np.sign(far) * 1e6  # SciPy does not accept coordinates of 1e19
        expected = oracle.deform(image, displacement, order, mode)
        np.testing.assert_allclose(deformed, expected, rtol=0, atol=2 * DOUBLE)  # pixels are at most 2
    else:  # a spline through infinite values is NaN
        assert np.isnan(deformed).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -1e300, 1e19])
@pytest.mark.parametrize("points", [(2, 2), (4, 5)])
@pytest.mark.parametrize("mode", MODES)
def test_wild_grids(mode, points, value, rng):
    """Every function accepts a grid with extreme values."""
    image, weight = rng.random((2, 9, 8))
    displacement = rng.normal(size=(2, *points))
    displacement[0, 0, 1] = value
    displacement[1, -1, 0] = -value
    crop = (slice(2, 7), slice(0, 4))
    for order in ORDERS:
        whole = elasticnd.deform_grid(image, displacement, order, mode)
        np.testing.assert_array_equal(elasticnd.deform_grid(image, displacement, order, mode, crop=crop), whole[crop])
        assert elasticnd.deform_grid_gradient(weight, displacement, order, mode).shape == image.shape
        gradients = elasticnd.deform_grid_vjp(weight, image, displacement, order, mode, affine=np.eye(2, 3))
        assert gradients.displacement.shape == displacement.shape
        labels = elasticnd.deform_grid((image * 5).astype(np.uint8), displacement, order, mode, cval=3)
        assert labels.dtype == np.uint8
    assert elasticnd.dense_displacement(displacement, image.shape).shape == (2, 9, 8)


@pytest.mark.parametrize("big", [1e12, 1e16, 1e20, 1e300])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_displacement_that_cancels_the_affine(order, mode, big):
    """The box that a crop needs is estimated from numbers that cancel up to rounding."""
    image = np.full(20_000, 7.0)
    for points in (1, 3, 6):
        deformed = elasticnd.deform_grid(
            image,
            np.full((1, points), big),
            order,
            mode,
            cval=7,
            crop=(slice(9_000, 9_300),),
            affine=[[1.0, big]],
        )
        # A constant image gives its constant, or NaN without a position; rounding errors are far below 1e-9.
        np.testing.assert_allclose(deformed[~np.isnan(deformed)], 7, rtol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX], ids=str)
def test_bad_voxel_stays_in_its_line(dtype, value, order, rng):
    """Without deformation, the filter spreads a bad voxel along the deformed axes, but not to other channels."""
    image = values(rng, (3, 40, 5), dtype)
    image[1, 20, 2] = value
    displacement = np.zeros((1, 3))
    deformed = elasticnd.deform_grid(image, displacement, order, axis=1, mode="mirror")
    bad = ~np.isfinite(deformed)
    assert bad[1, 20, 2]
    bad[1, :, 2] = False
    assert not bad.any()
    if order == 0:
        assert deformed.tobytes() == image.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.complex64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("order", ORDERS)
def test_cval_beyond_the_type(order, dtype):
    """A constant that is too large for the dtype becomes infinite, without a warning."""
    deformed = elasticnd.deform_grid(np.ones(9, dtype), np.full((1, 2), 99.0), order, cval=1e300)
    assert np.isinf(deformed).all()
    assert deformed.dtype == dtype


def test_gradient_beyond_the_type():
    """A gradient too large for the dtype of its image becomes infinite (NaN with a weight of 0), without a warning."""
    gradients = elasticnd.deform_grid_vjp(np.full(9, 1e6), np.ones(9, np.float16), np.zeros((1, 2)), order=1)
    assert gradients.image.dtype == np.float16
    assert not np.isfinite(gradients.image).any()
    assert np.isinf(gradients.image[0])


@pytest.mark.parametrize("order", ORDERS)
def test_equal_constants_give_equal_bits(order):
    """0.0 and -0.0 both count as 0.0, whichever an earlier call used."""
    for cval in (0.0, -0.0, 0.0):
        deformed = elasticnd.deform_grid(np.ones(4), np.full((1, 2), 99.0), order, cval=cval)
        assert not np.signbit(deformed).any()


@pytest.mark.parametrize("cval", [np.nan, complex(np.nan, 1), complex(1, np.nan), np.inf])
def test_bad_cval(cval):
    dtype = np.complex128 if isinstance(cval, complex) else np.float64
    for order in ORDERS:
        deformed = elasticnd.deform_grid(np.ones(4, dtype), np.full((1, 2), 99.0), order, cval=cval)
        np.testing.assert_array_equal(deformed, np.full(4, cval))


# ---- odd shapes ------------------------------------------------------------------------------------------

EMPTY = {  # shape of the image, deformed axes, shape of the displacement
    "first axis": ((0, 4), None, (2, 3, 3)),
    "last axis": ((4, 0), None, (2, 3, 3)),
    "all axes": ((0, 0, 0), None, (3, 2, 2, 2)),
    "channels": ((4, 5, 0), (0, 1), (2, 3, 3)),
    "channels before": ((0, 4, 5), (1, 2), (2, 3, 3)),
    "batch": ((0, 4, 5), (1, 2), (0, 2, 3, 3)),
    "batch and axis": ((0, 0, 5), (1, 2), (0, 2, 3, 3)),
    "an enormous other axis": ((2**40, 0), (1,), (1, 2)),
}


@pytest.mark.parametrize("case", EMPTY)
@pytest.mark.parametrize("order", ORDERS)
def test_nothing_to_deform(case, order):
    shape, axis, grid = EMPTY[case]
    for mode in MODES:
        for dtype in (np.float32, np.complex128):
            image = np.broadcast_to(dtype(1), shape)
            options = {"order": order, "mode": mode, "axis": axis}
            assert elasticnd.deform_grid(image, np.zeros(grid), **options).shape == shape
            gradient = elasticnd.deform_grid_gradient(image, np.zeros(grid), **options)
            assert gradient.shape == shape
            n = grid[-1 - len(grid[1:])] if axis is None else len(axis)
            gradients = elasticnd.deform_grid_vjp(image, image, np.zeros(grid), affine=np.eye(n, n + 1), **options)
            np.testing.assert_array_equal(gradients.displacement, np.zeros(grid))
            np.testing.assert_array_equal(gradients.affine, np.zeros((n, n + 1)))
    assert elasticnd.deform_grid(np.zeros(shape, np.uint8), np.zeros(grid), order, axis=axis).dtype == np.uint8


def test_nothing_of_a_random_grid():
    assert elasticnd.deform_random_grid(np.zeros((0, 5, 4)), 1, batch_dims=1, rng=0).shape == (0, 5, 4)
    assert elasticnd.random_displacement(3, ndim=2, batch_shape=(0,), rng=0).shape == (0, 2, 3, 3)
    assert elasticnd.dense_displacement(np.zeros((0, 2, 3, 3)), (4, 5)).shape == (0, 2, 4, 5)
    assert elasticnd.dense_displacement(np.zeros((2, 3, 3)), (4, 0)).shape == (2, 4, 0)


def test_crop_of_an_empty_axis():
    crop = (slice(0, 0), slice(1, 3))
    assert elasticnd.deform_grid(np.zeros((0, 4)), np.zeros((2, 3, 3)), crop=crop, zoom=2, rotate=10).shape == (0, 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_axes_of_length_one(order, mode, rng):
    """An image is constant along an axis of one voxel, so every position has this value in modes without a constant."""
    image = rng.random((1, 9, 1))
    displacement = np.zeros((3, 2, 2, 3))
    displacement[0] = 40.3
    displacement[2] = -2.7
    deformed = elasticnd.deform_grid(image, displacement, order, mode, cval=CVAL)
    expected = np.full_like(image, CVAL) if mode in WITH_CVAL else image
    np.testing.assert_allclose(deformed, expected, rtol=1e-12)
    single = elasticnd.deform_grid(image[:, :1], displacement, order, "mirror")
    np.testing.assert_allclose(single, image[:, :1], rtol=1e-12)


def test_many_axes_that_are_not_deformed():
    image = np.arange(6.0).reshape((1,) * 30 + (6,) + (1,) * 2)
    deformed = elasticnd.deform_grid(image, np.ones((1, 2)), 1, axis=30)
    np.testing.assert_allclose(deformed.ravel(), [1, 2, 3, 4, 5, 0], rtol=0, atol=DOUBLE)


# ---- memory of other arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_read_only_arguments(dtype, rng):
    image = values(rng, (8, 9), dtype)
    displacement = rng.normal(size=(2, 3, 3))
    affine = np.eye(2, 3)
    before = [array.tobytes() for array in (image, displacement, affine)]
    for array in (image, displacement, affine):
        array.flags.writeable = False
    for order in ORDERS:
        deformed = elasticnd.deform_grid(image, displacement, order, affine=affine)
        assert deformed.flags.writeable
        assert not np.shares_memory(deformed, image)
        if dtype.kind not in "biu":
            elasticnd.deform_grid_gradient(image, displacement, order, affine=affine)
            gradients = elasticnd.deform_grid_vjp(image, image, displacement, order, affine=affine)
            assert gradients.image.flags.writeable
            assert gradients.displacement.flags.writeable
    assert before == [array.tobytes() for array in (image, displacement, affine)]


@pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=str)
def test_broadcast_arguments(dtype, rng):
    image = np.broadcast_to(values(rng, (9,), dtype), (8, 9))
    displacement = np.broadcast_to(rng.normal(size=(2, 1, 1)), (2, 3, 3))
    for order in ORDERS:
        np.testing.assert_array_equal(
            elasticnd.deform_grid(image, displacement, order),
            elasticnd.deform_grid(image.copy(), displacement.copy(), order),
        )
    if dtype.kind not in "biu":
        weight = np.broadcast_to(dtype.type(1), image.shape)
        for pulled, expected in zip(
            elasticnd.deform_grid_vjp(weight, image, displacement),
            elasticnd.deform_grid_vjp(weight.copy(), image.copy(), displacement.copy()),
            strict=True,
        ):
            np.testing.assert_array_equal(pulled, expected)


ENORMOUS = {  # `ones` repeats a single element of memory
    "float64": "elasticnd.deform_grid(ones(2**30, 2**30), np.zeros((2, 2, 2)))",
    "bytes": "elasticnd.deform_grid(np.broadcast_to(np.uint8(1), 2**62), np.zeros((1, 2)), order=0)",
    "longest axis": "elasticnd.deform_grid(np.broadcast_to(True, 2**63 - 1), np.zeros((1, 2)), order=1)",
    "channels": "elasticnd.deform_grid(ones(2**45, 4), np.zeros((1, 2)), axis=1)",
    "nowhere": "elasticnd.deform_grid(ones(2**45), np.full((1, 2), np.nan), crop=(slice(0, 4),))",
    "long axis": "elasticnd.deform_grid(ones(2**60), np.zeros((1, 2)), order=1, crop=(slice(0, 4),))",
    "control grid": "elasticnd.deform_grid(np.zeros((4, 4)), ones(2, 2**30, 2**30))",
    "batch": "elasticnd.deform_grid(ones(2**45, 4), ones(2**45, 1, 2), axis=1)",
    "X_shape": "elasticnd.deform_grid_gradient(ones(4), ones(1, 2), X_shape=(2**46,), crop=(slice(0, 4),))",
    "beyond int64": "elasticnd.deform_grid_gradient(ones(4), ones(1, 2), X_shape=[2**70], crop=[slice(4)])",
    "vjp": "elasticnd.deform_grid_vjp(ones(4), ones(2**46), np.zeros((1, 2)), crop=(slice(0, 4),))",
    "field": "elasticnd.dense_displacement(np.zeros((1, 2)), (2**46,))",
    "field beyond int64": "elasticnd.dense_displacement(np.zeros((2, 2, 2)), (2**40, 2**40))",
    "points": "elasticnd.random_displacement(10**9, ndim=3)",
    "more points": "elasticnd.random_displacement(10**30, ndim=1)",
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this limit on memory")
@pytest.mark.parametrize("case", ENORMOUS)
def test_enormous(case):
    run(
        f"""
def ones(*shape):
    return np.broadcast_to(1.0, shape)
try:
    {ENORMOUS[case]}
except (MemoryError, ValueError):
    pass
else:
    raise SystemExit("nothing was raised")
""",
        timeout=10,
        memory=8 << 30,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_patch_of_an_enormous_axis(order):
    """A patch reads only the voxels it needs, here of 2**40 that are all 1."""
    image = np.broadcast_to(np.float32(3), (2**40,))
    crop = (slice(2**39, 2**39 + 5),)
    deformed = elasticnd.deform_grid(image, np.full((1, 3), 2.5), order, crop=crop)
    # The weights of the filter of order 5 sum to 1 up to rounding in float32.
    np.testing.assert_allclose(deformed, 3, rtol=1e-6)


# ---- random calls ----------------------------------------------------------------------------------------


PLACED = [
    *LAYOUTS.values(),
    np.ascontiguousarray,
    lambda array: np.broadcast_to(array[:1], array.shape) if array.size else array,
]


@st.composite
def calls(draw):
    """Draw a random valid call and the shape of its result."""
    layouts = st.sampled_from(PLACED)
    n = draw(st.integers(1, 4))
    batch = tuple(draw(st.lists(st.integers(0, 3), max_size=2)))
    extent = tuple(draw(st.lists(st.integers(0, 7), min_size=n, max_size=n)))
    rank = len(batch) + n + draw(st.integers(0, 2))
    places = draw(st.permutations(range(len(batch), rank)))[:n]
    shape = [
        *batch,
        *draw(st.lists(st.integers(0, 3), min_size=rank - len(batch), max_size=rank - len(batch))),
    ]
    for place, length in zip(places, extent, strict=True):
        shape[place] = length
    negative = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    axis = tuple(place - rank if back else place for place, back in zip(places, negative, strict=True))
    points = tuple(draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([0, 1, 30, 1e6, 1e18, 1e300]))
    displacement = rng.normal(size=(*batch, n, *points)) * size
    if draw(st.integers(0, 9)) == 0:
        displacement[..., 0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    image = draw(layouts)(values(rng, tuple(shape), draw(st.sampled_from(EVERY_DTYPE))))
    options = {
        "order": draw(st.sampled_from(ORDERS)),
        "mode": draw(st.sampled_from(MODES)),
        "cval": draw(st.sampled_from([0, -3.5, 1000, True, 2**70])),
        "prefilter": draw(st.booleans()),
        "axis": axis,
    }
    output = list(shape)
    if draw(st.booleans()) and all(extent):
        bounds = [sorted(draw(st.lists(st.integers(0, e), min_size=2, max_size=2, unique=True))) for e in extent]
        options["crop"] = tuple(slice(*bound) for bound in bounds)
        for place, (start, stop) in zip(places, bounds, strict=True):
            output[place] = stop - start
    if draw(st.booleans()):
        options["zoom"] = draw(st.sampled_from([0.5, -1, 1e-9, 1e9, (2,) * n]))
    if draw(st.booleans()) and n > 1:
        options["rotate"] = {(0, 1): draw(st.floats(-1e6, 1e6)), (n - 1, 0): 90}
    if draw(st.booleans()):
        leading = batch if draw(st.booleans()) else ()
        options["affine"] = np.eye(n, n + 1) + rng.uniform(-0.1, 0.1, (*leading, n, n + 1))
    return image, draw(layouts)(displacement), options, tuple(output)


@settings(max_examples=400, deadline=None)
@pytest.mark.filterwarnings("ignore:displacement. moves voxels")  # along short axes, as if they held channels
@given(calls())
def test_anything(call):
    image, displacement, options, shape = call
    before = image.tobytes(), displacement.tobytes()
    deformed = elasticnd.deform_grid(image, displacement, **options)
    assert deformed.shape == shape
    assert deformed.dtype == image.dtype.newbyteorder("=")
    if image.dtype.kind not in "biu":
        gradients = elasticnd.deform_grid_vjp(deformed, image, displacement, **options)
        assert gradients.image.shape == image.shape
        assert gradients.image.dtype == deformed.dtype
        assert gradients.displacement.shape == displacement.shape
        again = elasticnd.deform_grid_gradient(deformed, displacement, **options, X_shape=image.shape)
        np.testing.assert_array_equal(again, gradients.image)
    assert before == (image.tobytes(), displacement.tobytes())


# ---- signals, threads and processes ----------------------------------------------------------------------

LONG = {  # each takes many seconds
    "forward": "elasticnd.deform_grid(ones(14, 6), grid(6, 2), order=5)",
    "field": "elasticnd.dense_displacement(grid(3, 3), (700, 700, 700))",
    "gradient": "elasticnd.deform_grid_gradient(ones(13, 6), grid(6, 2), order=5)",
    "gradient of a volume": "elasticnd.deform_grid_gradient(ones(300, 3), grid(3, 3), order=5)",
    "vjp": "elasticnd.deform_grid_vjp(ones(13, 6), ones(13, 6), grid(6, 2), order=5)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to a single process")
@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("case", LONG)
def test_ctrl_c(case, threads):
    script = f"""
import elasticnd, numpy as np, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits that it is ignored
def ones(extent, n):
    return np.ones((extent,) * n, np.float32)
def grid(n, points):
    return np.zeros((n,) + (points,) * n)
print("ready", flush=True)
try:
    {LONG[case]}
except KeyboardInterrupt:
    raise SystemExit(42)
"""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ELASTICND_NUM_THREADS": threads},
    )
    with process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert process.wait(1) == 42
        finally:
            process.kill()


def test_gil_is_released(rng):
    """Another thread keeps counting while this one computes."""
    image = rng.random((150, 150, 150), dtype=np.float32)
    displacement = rng.normal(size=(3, 3, 3, 3))
    counts = []
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counts.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    elasticnd.deform_grid(image, displacement, order=5)
    end = time.monotonic()
    stop.set()
    thread.join()
    # If the GIL were held, the longest pause would be the whole call.
    inside = [start, *(moment for moment in counts if start < moment < end), end]
    assert max(np.diff(inside)) < 0.5 * (end - start)


def test_many_threads_at_once(rng):
    image = rng.random((90, 91))
    displacements = rng.normal(scale=5, size=(16, 2, 3, 3))
    expected = [elasticnd.deform_grid_vjp(image, image, displacement) for displacement in displacements]
    results = [None] * len(displacements)
    barrier = threading.Barrier(len(displacements))

    def work(i):
        barrier.wait()
        for _ in range(20):
            results[i] = elasticnd.deform_grid_vjp(image, image, displacements[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(displacements))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.image, other.image)
        np.testing.assert_array_equal(result.displacement, other.displacement)


FORK = """
import os, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
image = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
displacement = np.zeros((len(SHAPE),) + (3,) * len(SHAPE))
small = np.ones((300, 300)), np.zeros((2, 3, 3))
expected = elasticnd.deform_grid(*small)
elasticnd.deform_grid(image, displacement, ORDER)  # the workers have started
stop = threading.Event()
def work():
    while not stop.is_set():
        elasticnd.deform_grid(image, displacement, ORDER)
thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    time.sleep(0.03)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(elasticnd.deform_grid(*small), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(elasticnd.deform_grid(*small), expected)
stop.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("shape", "order"),
    [((100, 100), 1), ((120, 120, 120), 5)],
    ids=["short calls", "a call that outlasts the fork"],
)
def test_fork_while_threads_compute(shape, order):
    run(FORK.replace("SHAPE", str(shape)).replace("ORDER", str(order)), timeout=20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_pool_of_forked_processes():
    run(
        """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
image = np.random.default_rng(0).random((400, 400))
elasticnd.deform_grid(image, np.zeros((2, 3, 3)))  # the workers have started
def deformed(seed):
    return elasticnd.deform_random_grid(image, sigma=5, rng=seed)
expected = [deformed(seed) for seed in range(6)]
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert all(map(np.array_equal, pool.map(deformed, range(6)), expected))
""",
        timeout=30,
    )


def test_process_may_end_while_a_daemon_computes():
    run(
        """
import threading, time
image = np.ones((12,) * 6, "f4")
def work():
    while True:
        elasticnd.deform_grid(image, np.zeros((6,) + (2,) * 6), order=4)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
""",
        timeout=20,
    )
