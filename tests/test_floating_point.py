"""The caller's floating-point state and NumPy's error state change no result, and are restored afterwards."""

import ctypes
import ctypes.util
import threading
import warnings
from functools import partial

import numpy as np
import pytest

import elasticnd
from elasticnd import _core

DEFAULT = _core.default_floating_point_state()
X87 = 0x037F << 32  # in the upper half, if the compiler lets the core access it
X86 = DEFAULT in (0x1F80, X87 | 0x1F80)


def on_x86(vectors, long_doubles=0):
    """Return the state with the given bits of the vector unit, and additional bits of the x87 unit."""
    return vectors | (X87 | long_doubles << 32 if DEFAULT >> 32 else 0)


STATES = {
    # On x86 the bits mean: flush to zero and denormals are zeros, rounding upward, downward and toward zero, traps.
    "tiny numbers are zeros": on_x86(0x9FC0) if X86 else 1 << 24,
    "upward": on_x86(0x5F80, 0x0800) if X86 else 1 << 22,
    "toward zero": on_x86(0x7F80, 0x0C00) if X86 else 3 << 22,
    "division traps": on_x86(0x1D80) if X86 else DEFAULT,
}
pytestmark = pytest.mark.skipif(DEFAULT != 0 and not X86, reason="this test does not know the bits of this processor")


class FloatingPoint:
    """Sets the floating-point state of this thread in a with block."""

    def __init__(self, state: int) -> None:
        self.state = state

    def __enter__(self) -> None:
        self.before = _core.floating_point_state()
        _core.set_floating_point_state(self.state)

    def __exit__(self, *_: object) -> None:
        kept = _core.floating_point_state()
        _core.set_floating_point_state(self.before)
        flags = 0x3F if X86 else 0
        assert kept | flags == self.state | flags, "the caller's state is gone"


def results(dtype, scale, rng):
    image = (rng.normal(size=(40, 60, 30)) * scale).astype(dtype)
    displacement = rng.normal(size=(3, 4, 4, 4)) * 3
    tiny, matrix = displacement * 1e-310, np.eye(3, 4) * 1.05
    options = {"order": 3, "mode": "mirror", "rotate": {(0, 1): 20.0}, "zoom": 1.1}
    return [
        lambda: elasticnd.deform_grid(image, displacement, **options),
        lambda: elasticnd.deform_grid(image, displacement, order=1, affine=matrix),
        lambda: elasticnd.deform_grid_gradient(image, displacement, X_shape=image.shape, **options),
        lambda: elasticnd.deform_grid_vjp(np.ones_like(image), image, displacement, **options).displacement,
        lambda: elasticnd.dense_displacement(displacement, image.shape),
        lambda: elasticnd.dense_displacement(tiny, image.shape),
        lambda: elasticnd.random_displacement(3, 1e-310, ndim=3, rng=5),
    ]


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "scale"), [("float32", 1), ("float32", 1e-41), ("float64", 1e-310)])
def test_state_of_the_caller(dtype, scale, threads, name, rng):
    for compute in results(dtype, scale, rng):
        with elasticnd.num_threads(1):
            expected = compute()
        with elasticnd.num_threads(threads), FloatingPoint(STATES[name]):
            got = compute()
        assert np.array_equal(got, expected)
        assert np.any(got != 0)


@pytest.mark.parametrize("engine", ["cpu", "generic"])
@pytest.mark.parametrize("rounding", [0x400, 0x800, 0xC00])
def test_rounding_by_the_c_library(rounding, engine, rng):
    name = ctypes.util.find_library("m")
    if not name or not X86:
        pytest.skip("fesetround is not found")
    library = ctypes.CDLL(name)
    (deform, *_) = results("float64", 1, rng)

    def compute():
        with elasticnd.use_engine(engine):
            return deform()

    expected = compute()
    assert library.fesetround(rounding) == 0
    try:
        got = compute()
        assert library.fegetround() == rounding
    finally:
        library.fesetround(0)
    assert np.array_equal(got, expected)


def test_states_of_threads_are_their_own(rng):
    (compute, *_) = results("float32", 1e-41, rng)
    expected = compute()
    found = []

    def work():
        _core.set_floating_point_state(STATES["tiny numbers are zeros"])
        found.append(compute())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one, expected) for one in found)


def test_flush_denormal_of_torch(rng):
    torch = pytest.importorskip("torch")
    image = torch.tensor(rng.normal(size=(30, 40)) * 1e-41, dtype=torch.float32, requires_grad=True)
    displacement = rng.normal(size=(2, 3, 3))

    def call():
        image.grad = None
        result = elasticnd.deform_grid(image, displacement)
        result.backward(torch.ones_like(result))
        return result.detach().numpy().copy(), image.grad.numpy().copy()

    expected = call()
    if not torch.set_flush_denormal(True):
        pytest.skip("not on this processor")
    try:
        got = call()
    finally:
        torch.set_flush_denormal(False)
    for one, other in zip(got, expected, strict=True):
        assert np.array_equal(one, other)
        assert np.any(one != 0)


def test_handlers_of_xla(rng):
    jax = pytest.importorskip("jax")
    image = (rng.normal(size=(200, 300)) * 1e-41).astype(np.float32)
    displacement = rng.normal(size=(2, 3, 3)).astype(np.float32)
    expected = elasticnd.deform_grid(image, displacement)
    with FloatingPoint(STATES["tiny numbers are zeros"]):
        got = jax.jit(elasticnd.deform_grid)(jax.numpy.asarray(image), displacement)
        got.block_until_ready()
    assert np.array_equal(np.asarray(got), expected)


# ---- NumPy's error state ---------------------------------------------------------------------------------------------

DISPLACEMENT = np.array([[[1.0, 2], [3, 4]], [[-1, 0], [1, 2]]])
IMAGE = np.arange(12.0).reshape(3, 4)
HALF = IMAGE.astype("f2")
with np.errstate(all="ignore"), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    TINY, HUGE = (DISPLACEMENT.astype(np.longdouble) * np.longdouble(text) for text in ("1e-4000", "1e4000"))
    CALLS = {
        "sigma overflows": partial(elasticnd.random_displacement, 3, 1e308, ndim=2, rng=0),
        "sigma underflows": partial(elasticnd.random_displacement, 3, 5e-324, ndim=2, rng=0),
        "random grid overflows": partial(elasticnd.deform_random_grid, IMAGE, 1e308, 1, rng=0),
        "tiny cval": partial(elasticnd.deform_grid, IMAGE.astype("f4"), DISPLACEMENT, cval=1e-320),
        "tiny cval, float16": partial(elasticnd.deform_grid, HALF, DISPLACEMENT, cval=1e-30, order=0),
        "huge cval": partial(elasticnd.deform_grid, HALF, DISPLACEMENT, cval=1e30),
        "float16 grid": partial(elasticnd.deform_grid_vjp, IMAGE * 1e6, IMAGE * 1e6, DISPLACEMENT.astype("f2")),
        "float16 grid, tiny": partial(elasticnd.deform_grid_vjp, IMAGE * 1e-9, IMAGE, DISPLACEMENT.astype("f2")),
        "longdouble": partial(elasticnd.deform_grid, IMAGE, TINY),
        "longdouble, huge": partial(elasticnd.dense_displacement, HUGE, (3, 4)),
        "longdouble affine": partial(elasticnd.deform_grid, IMAGE, DISPLACEMENT, affine=np.eye(2, 3) + TINY[0, 0, 0]),
        "affine": partial(elasticnd.deform_grid, IMAGE, DISPLACEMENT, affine=np.eye(2, 3) * 1e-300),
        "affine gradient": partial(elasticnd.deform_grid_vjp, IMAGE, IMAGE, DISPLACEMENT, affine=np.eye(2, 3) * 1e-200),
        "zoom": partial(elasticnd.deform_grid, IMAGE, DISPLACEMENT, zoom=1e-300, rotate=30),
        "infinite image": partial(elasticnd.deform_grid, IMAGE * np.float64("inf"), DISPLACEMENT),
        "source_box": partial(elasticnd.source_box, DISPLACEMENT * 1e300, (3, 4), zoom=1e-10),
    }


def parts_of(result):
    return [part for part in result if part is not None] if isinstance(result, tuple) else [result]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["raise", "warn"])
def test_error_state_of_numpy(kind, name):
    with np.errstate(all="ignore"):
        expected = CALLS[name]()
    with np.errstate(all=kind):  # warnings are errors
        got = CALLS[name]()
    for one, other in zip(parts_of(got), parts_of(expected), strict=True):
        np.testing.assert_equal(one, other)


def test_error_state_in_blocks():
    da = pytest.importorskip("dask.array")
    lazy = elasticnd.deform_grid(da.from_array(IMAGE.astype("f2"), 2), DISPLACEMENT, cval=1e-30)
    with np.errstate(all="raise"):
        got = lazy.compute(scheduler="synchronous")
    assert np.array_equal(got, elasticnd.deform_grid(IMAGE.astype("f2"), DISPLACEMENT, cval=1e-30))


def test_error_state_comes_back():
    with np.errstate(all="raise"):
        before = np.geterr()
        elasticnd.random_displacement(3, 1e308, ndim=2, rng=0)
        assert np.geterr() == before
        with pytest.raises(ValueError, match="order"):
            elasticnd.deform_grid(IMAGE, DISPLACEMENT, order=9)
        assert np.geterr() == before
