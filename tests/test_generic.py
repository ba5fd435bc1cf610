"""The generic engine, which uses only array operations, compared with the core in several array libraries."""

import importlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from scipy.interpolate import BSpline
from tables import MODES, ORDERS

import elasticnd
from elasticnd import _check, _spec
from elasticnd._engines import generic
from elasticnd._engines.generic import splines
from elasticnd._limits import MAX_ORDER

# Newer versions of PyTorch warn of what older versions of array-api-compat do.
pytestmark = pytest.mark.filterwarnings("ignore:torch.asarray. unspecified requires_grad:UserWarning")

DOUBLE = 1e-11
SINGLE = 2e-5  # positions go up to some hundred voxels


class Library(NamedTuple):
    """The functions with which tests use an array library."""

    xp: Any
    array: Callable[[Any], Any]  # from NumPy
    compiled: Callable[[Callable], Callable] = lambda function: function
    compiles: bool = False


def _numpy():
    return Library(importlib.import_module("array_api_compat.numpy"), np.asarray)


def _torch():
    return Library(importlib.import_module("array_api_compat.torch"), importlib.import_module("torch").asarray)


def _jax():
    jax = importlib.import_module("jax")
    return Library(jax.numpy, jax.numpy.asarray, jax.jit, compiles=True)


LIBRARIES = {"numpy": _numpy, "torch": _torch, "jax": _jax}


@pytest.fixture
def library(request):
    """Return the library that a test names, with double precision enabled."""
    name = request.param
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries issue warnings on import
        made = LIBRARIES[name]()
    if name != "jax":
        yield made
        return
    config = importlib.import_module("jax").config
    before = config.jax_enable_x64
    config.update("jax_enable_x64", True)
    yield made
    config.update("jax_enable_x64", before)


def on_libraries(names, values, compiled):
    """Parametrise over all values, but only over a few of them for libraries that must compile first."""
    rows = [(library, value) for value in values for library in ("numpy", "torch")]
    rows += [("jax", value) for value in compiled]
    return pytest.mark.parametrize(
        ("library", *names), [(library, *value) for library, value in rows], indirect=["library"]
    )


in_each_library = pytest.mark.parametrize("library", LIBRARIES, indirect=True)


def spec_of(image, displacement, affine=None, **options):
    infos = [None if a is None else _spec.ArrayInfo(a.shape, a.dtype.name) for a in (image, displacement, affine)]
    return _check.normalize((infos[0],), infos[1], infos[2], "X", _spec.Options(**options))


def sample(library, image, displacement, affine=None, homogeneous=False, **options):
    spec = spec_of(image, displacement, affine, **options)
    given = [array for array in (image, displacement, affine) if array is not None]

    def call(image, displacement, affine=None):
        return generic.sample(library.xp, spec, image, displacement, affine, homogeneous=homogeneous)

    return np.asarray(library.compiled(call)(*map(library.array, given)))


def assert_agrees(library, tolerance, image, displacement, affine=None, **options):
    got = sample(library, image, displacement, affine, **options)
    expected = elasticnd.deform_grid(image, displacement, affine=affine, **options)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=0, atol=tolerance)


def near_identity(rng, n, batch=()):
    return np.concatenate([np.eye(n) + rng.uniform(-0.1, 0.1, (*batch, n, n)), rng.normal(size=(*batch, n, 1))], -1)


@on_libraries(
    ("mode", "order"), itertools.product(MODES, ORDERS), compiled=zip(MODES, itertools.cycle(ORDERS), strict=False)
)
def test_every_mode_and_order(library, mode, order, rng):
    image, displacement = rng.random((31, 18)), rng.uniform(-30, 30, (2, 4, 3))
    options = {"mode": mode, "order": order, "cval": 0.3, "axis": (1, 0)}
    assert_agrees(library, DOUBLE, image, displacement, **options)
    if not library.compiles:
        assert_agrees(library, DOUBLE, image, displacement, prefilter=False, **options)


OPTIONS = {
    "crop": lambda rng: (
        rng.random((31, 18)),
        rng.uniform(-5, 5, (2, 4, 3)),
        None,
        {"crop": (slice(3, 20), slice(2, 9))},
    ),
    "affine": lambda rng: (rng.random((31, 18)), rng.uniform(-5, 5, (2, 1, 3)), near_identity(rng, 2), {}),
    "rotate, zoom": lambda rng: (rng.random((31, 18)), np.zeros((2, 2, 2)), None, {"rotate": 20.0, "zoom": (1.2, 0.7)}),
    "affine, rotate, crop": lambda rng: (
        rng.random((31, 18)),
        rng.uniform(-5, 5, (2, 4, 3)),
        near_identity(rng, 2),
        {"rotate": -50, "crop": (slice(3, 20), slice(2, 9))},
    ),
    "batch, channels": lambda rng: (
        rng.random((2, 9, 3, 12, 2)),
        rng.uniform(-5, 5, (2, 2, 4, 3)),
        near_identity(rng, 2, (2,)),
        {"axis": (3, 1)},
    ),
    "batch, one affine": lambda rng: (
        rng.random((2, 9, 12)),
        rng.uniform(-5, 5, (2, 2, 4, 3)),
        near_identity(rng, 2),
        {"zoom": 1.5},
    ),
    "1-D, longer than a block": lambda rng: (rng.random(300), rng.uniform(-9, 9, (1, 5)), None, {}),
    "1-D, one voxel": lambda rng: (rng.random(1), rng.uniform(-1, 1, (1, 1)), None, {}),
    "1-D, two voxels": lambda rng: (rng.random(2), rng.uniform(-9, 9, (1, 2)), None, {}),
    "3-D": lambda rng: (rng.random((9, 8, 11)), rng.uniform(-5, 5, (3, 2, 4, 3)), None, {}),
    "empty": lambda rng: (rng.random((0, 5)), np.zeros((2, 2, 2)), None, {}),
}


@on_libraries(
    ("option",), zip(OPTIONS, strict=True), compiled=[("affine, rotate, crop",), ("batch, channels",), ("3-D",)]
)
def test_every_option(library, option, rng):
    image, displacement, affine, options = OPTIONS[option](rng)
    for mode in ("nearest",) if library.compiles else ("constant", "reflect"):
        assert_agrees(library, DOUBLE, image, displacement, affine, mode=mode, cval=0.3, **options)


@on_libraries(
    ("dtype", "kind"),
    itertools.product((np.float16, np.float32), (np.float32, np.float64)),
    compiled=[(ml_dtypes.bfloat16, np.float64), (np.float32, np.float32)],
)
def test_floats(library, dtype, kind, rng):
    image = rng.random((90, 110)).astype(dtype)
    displacement = rng.uniform(-20, 20, (2, 4, 5)).astype(kind)
    assert_agrees(library, SINGLE + float(ml_dtypes.finfo(dtype).eps), image, displacement, mode="mirror")


@in_each_library
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_single_precision_of_long_axes(library, kind, rng):
    image, displacement = rng.random(20_000, dtype=np.float32), rng.uniform(-20, 20, (1, 5)).astype(kind)
    assert_agrees(library, SINGLE, image, displacement, mode="mirror")


@on_libraries(
    ("dtype",), zip((np.bool_, np.int8, np.uint8, np.int32, np.int64), strict=True), compiled=[(np.uint8,), (np.int64,)]
)
def test_integers_are_rounded_and_saturate(library, dtype, rng):
    low, high = (0, 1) if dtype is np.bool_ else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    image = np.where(rng.random(90) < 0.5, low, high).astype(dtype)
    displacement = rng.uniform(-5, 5, (1, 4))
    got = sample(library, image, displacement, mode="nearest")
    expected = elasticnd.deform_grid(image, displacement, mode="nearest")
    assert got.dtype == dtype
    assert {low, high} <= set(expected.tolist())
    # For wide integers, sums in double precision are not exact.
    np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=0, atol=1e-12 * high)


@in_each_library
def test_halves_are_rounded_away_from_zero(library):
    image = np.array([-3, -2, 2, 3, 127, 126], np.int8)
    got = sample(library, image, np.full((1, 1), 0.5), order=1, mode="grid-constant", cval=-128)
    np.testing.assert_array_equal(got, [-3, 0, 3, 65, 127, -1])


@in_each_library
@pytest.mark.parametrize("mode", ["constant", "grid-constant", "grid-wrap"])
def test_labels_survive(library, mode, rng):
    image = rng.integers(-(2**63), 2**63, (20, 30), np.int64)
    displacement = rng.uniform(-9, 9, (2, 3, 4))
    options = {"order": 0, "mode": mode, "cval": 2**63 - 1}
    expected = elasticnd.deform_grid(image, displacement, **options)
    np.testing.assert_array_equal(sample(library, image, displacement, **options), expected)


@in_each_library
def test_ties(library):
    image = np.arange(20.0)
    got = sample(library, image, np.full((1, 1), 0.5), order=0, mode="reflect")
    np.testing.assert_array_equal(got, [*range(1, 20), 19])


@on_libraries(
    ("mode", "number"),
    itertools.product(("constant", "nearest", "mirror", "wrap", "grid-constant"), (np.nan, -1e30)),
    compiled=[("nearest", -1e30), ("mirror", np.nan)],
)
def test_positions_that_do_not_exist(library, number, mode, rng):
    for image in (rng.random(6), rng.integers(0, 9, 6).astype(np.uint8)):
        assert_agrees(library, DOUBLE, image, np.full((1, 1), number), mode=mode, cval=5, order=1)


@in_each_library
@pytest.mark.parametrize("mode", ["constant", "grid-constant"])
def test_linear_takes_nothing_from_beyond_the_border(library, mode, rng):
    image, displacement = rng.random(9), rng.uniform(-9, 9, (1, 3))
    got = sample(library, image, displacement, mode=mode, cval=7, homogeneous=True)
    np.testing.assert_allclose(got, sample(library, image, displacement, mode=mode, cval=0), rtol=0, atol=DOUBLE)


# ---- derivatives, which the libraries find themselves ---------------------------------------------------------------


def inputs(rng):
    """Return an image with a batch axis and channels, the arrays that deform it, and the gradient of the output."""
    image = rng.random((2, 9, 3, 12))
    return image, rng.uniform(-5, 5, (2, 2, 4, 3)), near_identity(rng, 2, (2,)), rng.normal(size=image.shape)


def assert_gradients(got, gradient, arrays, options):
    expected = elasticnd.deform_grid_vjp(gradient, *arrays[:2], affine=arrays[2], **options)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * abs(other).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("library", ["torch"], indirect=True)
def test_gradients(library, order, mode, rng):
    *arrays, gradient = inputs(rng)
    options = {"order": order, "mode": mode, "axis": (3, 1), "rotate": 20.0, "cval": 0.3}
    leaves = [library.array(array).requires_grad_() for array in arrays]
    output = generic.sample(library.xp, spec_of(*arrays, **options), *leaves)
    output.backward(library.array(gradient))
    got = [np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]
    assert_gradients(got, gradient, arrays, options)


@pytest.mark.parametrize(("order", "mode"), [(1, "grid-constant"), (4, "nearest")])
@pytest.mark.parametrize("library", ["jax"], indirect=True)
def test_compiled_gradients(library, order, mode, rng):
    import jax

    *arrays, gradient = inputs(rng)
    options = {"order": order, "mode": mode, "axis": (3, 1), "cval": 0.3}
    spec = spec_of(*arrays, **options)

    @jax.jit
    def pull(*arrays):
        return jax.vjp(lambda *given: generic.sample(library.xp, spec, *given), *arrays)[1](gradient)

    assert_gradients(pull(*arrays), gradient, arrays, options)


@pytest.mark.parametrize("library", ["jax"], indirect=True)
def test_second_derivatives(library, rng):
    import jax

    arrays = [rng.random(12), rng.uniform(-5, 5, (1, 4)), near_identity(rng, 1)]
    gradient = rng.normal(size=12)
    options = {"order": 4, "mode": "mirror"}
    spec = spec_of(*arrays, **options)
    change = [rng.normal(size=array.shape) for array in arrays]

    def pull(*arrays):
        return jax.vjp(lambda *given: generic.sample(library.xp, spec, *given), *arrays)[1](gradient)

    got = jax.jit(lambda arrays, change: jax.jvp(pull, arrays, change)[1])(tuple(arrays), tuple(change))
    step = 1e-5
    after, before = (
        elasticnd.deform_grid_vjp(gradient, *moved[:2], affine=moved[2], **options)
        for moved in ([array + sign * step * by for array, by in zip(arrays, change, strict=True)] for sign in (1, -1))
    )
    for one, high, low in zip(got, after, before, strict=True):
        expected = (high - low) / (2 * step)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-6 * abs(expected).max())


def test_the_filter_has_faded_at_its_margin():
    """At the highest order, coefficients depend on the most distant samples."""
    knots = np.arange(MAX_ORDER + 2) - (MAX_ORDER + 1) / 2
    samples = BSpline.basis_element(knots, extrapolate=False)(np.arange(-(MAX_ORDER // 2), MAX_ORDER // 2 + 1))
    poles = np.abs(np.roots(samples))
    assert poles[poles < 1].max() ** splines._MARGIN < 1e-17
