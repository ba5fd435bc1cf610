"""Arrays of libraries that the package does not know by name. array-api-strict implements only the standard."""

import os
import subprocess
import sys

import frameworks
import numpy as np
import pytest
from tables import DOUBLE, MODES, ORDERS

import elasticnd
from elasticnd import _core
from elasticnd._engines import generic

xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
SHAPE = (31, 18)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
FAR = xp.Device("device1")  # DLPack reports it as the host, but only the library can access it


@pytest.fixture(autouse=True)
def strictest():
    xp.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=())
    yield
    xp.reset_array_api_strict_flags()


@pytest.fixture
def unshared(monkeypatch):
    """Put arrays on a device that only their library can access."""

    def refuse(self, **options):
        raise BufferError("only this library can access the memory")

    monkeypatch.setattr(type(xp.asarray(0.0)), "__dlpack_device__", lambda self: (99, 0))
    monkeypatch.setattr(type(xp.asarray(0.0)), "__dlpack__", refuse)


def strict(array):
    return None if array is None else xp.asarray(array)


def to_numpy(array):
    assert type(array) is type(xp.asarray(0.0))
    return np.asarray(array._array)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64", "complex128"])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_arrays_of_the_host_go_through_the_core(order, dtype, rng):
    image = (rng.random(SHAPE) * 100).astype(dtype)
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement, order)
    for grid in (strict(displacement), displacement, displacement.tolist()):
        got = to_numpy(elasticnd.deform_grid(strict(image), grid, order))
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()


def test_nothing_is_copied(monkeypatch, rng):
    image, displacement = xp.asarray(rng.random((300, 300))), xp.asarray(rng.uniform(-5, 5, (2, 3, 4)))
    seen = []
    sample = _core.sample

    def spy(*arguments):
        seen.extend(argument.ctypes.data for argument in (*arguments[1], *arguments[3]))
        return sample(*arguments)

    monkeypatch.setattr(_core, "sample", spy)
    result = elasticnd.deform_grid(image, displacement)
    assert seen == [to_numpy(image).ctypes.data, to_numpy(result).ctypes.data]


def test_gradients_lists_and_fields(rng):
    image, labels, weight = rng.random(SHAPE), rng.integers(0, 9, SHAPE), rng.random(SHAPE)
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    pulled = elasticnd.deform_grid_vjp(*map(strict, (weight, image, displacement)), affine=strict(MATRIX))
    for ours, theirs in zip(pulled, elasticnd.deform_grid_vjp(weight, image, displacement, affine=MATRIX), strict=True):
        assert np.array_equal(to_numpy(ours), theirs)
    ours = elasticnd.deform_grid_gradient(strict(weight), displacement)
    assert np.array_equal(to_numpy(ours), elasticnd.deform_grid_gradient(weight, displacement))
    both = elasticnd.deform_grid([strict(image), strict(labels)], displacement, order=[3, 0])
    for ours, theirs in zip(both, elasticnd.deform_grid([image, labels], displacement, order=[3, 0]), strict=True):
        assert np.array_equal(to_numpy(ours), theirs)
    field = elasticnd.dense_displacement(strict(displacement), SHAPE)
    assert np.array_equal(to_numpy(field), elasticnd.dense_displacement(displacement, SHAPE))
    random = elasticnd.deform_random_grid(strict(image), 3.0, rng=1)
    assert np.array_equal(to_numpy(random), elasticnd.deform_random_grid(image, 3.0, rng=1))


def test_results_stay_on_their_device(rng):
    image = xp.asarray(rng.random(SHAPE), device=FAR)
    assert elasticnd.deform_grid(image, np.zeros((2, 3, 3))).device == FAR


@pytest.mark.usefixtures("unshared")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_other_devices_by_operations_of_the_standard(order, mode, rng):
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement, order, mode, 0.3, affine=MATRIX)
    got = elasticnd.deform_grid(strict(image), displacement, order, mode, 0.3, affine=strict(MATRIX))
    np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=10 * DOUBLE)  # another order of sums
    assert elasticnd.backend_info(strict(image)).engine == "generic"


# ---- gradients with operations of the standard, which must be exact transposes ---------------------------------------


def near_identity(rng, batch=()):
    return np.concatenate([np.eye(2) + rng.uniform(-0.1, 0.1, (*batch, 2, 2)), rng.normal(size=(*batch, 2, 1))], -1)


def assert_gradients(gradient, image, displacement, affine=None, device=None, tolerance=DOUBLE, **options):
    """Compare with the core. Its sums have another order, and errors grow with the terms."""
    arrays = [None if array is None else xp.asarray(array, device=device) for array in (gradient, image, displacement)]
    matrix = None if affine is None else xp.asarray(affine, device=device)
    got = elasticnd.deform_grid_vjp(*arrays, affine=matrix, **options)
    expected = elasticnd.deform_grid_vjp(gradient, image, displacement, affine=affine, **options)
    alone = elasticnd.deform_grid_gradient(arrays[0], arrays[2], affine=matrix, X_shape=image.shape, **options)
    for ours, theirs in zip((*got, alone), (*expected, expected.image), strict=True):
        if theirs is None:
            assert ours is None
            continue
        assert ours.device == arrays[0].device
        assert to_numpy(ours).dtype == theirs.dtype
        np.testing.assert_allclose(to_numpy(ours), theirs, rtol=0, atol=tolerance * np.max(abs(theirs), initial=1.0))


@pytest.mark.usefixtures("unshared")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_gradients_in_every_mode_and_order(order, mode, rng):
    image, displacement = rng.random((2, 9, 3, 12)), rng.uniform(-5, 5, (2, 2, 4, 3))
    options = {"order": order, "mode": mode, "axis": (3, 1), "cval": 0.3, "crop": (slice(1, 12), slice(2, 8))}
    gradient = rng.normal(size=(2, 6, 3, 11))
    for prefilter in (True, False):
        assert_gradients(gradient, image, displacement, near_identity(rng, (2,)), prefilter=prefilter, **options)


GRADIENTS = {
    "one affine for a batch, rotated": lambda rng: (
        rng.random((4, 9, 12)),
        rng.uniform(-5, 5, (4, 2, 4, 3)),
        near_identity(rng),
        {"rotate": 20.0, "zoom": 0.8},
    ),
    "homogeneous affine": lambda rng: (
        rng.random((9, 12)),
        rng.uniform(-5, 5, (2, 4, 3)),
        np.concatenate([near_identity(rng), [[0, 0, 1]]]),
        {},
    ),
    "rotated": lambda rng: (rng.random((9, 12)), rng.uniform(-5, 5, (2, 4, 3)), None, {"rotate": 20.0}),
    "integers move it": lambda rng: (rng.random((9, 12)), rng.integers(-5, 5, (2, 4, 3)), np.eye(2, 3, dtype=int), {}),
    "complex": lambda rng: (
        rng.random((9, 12)) + 1j * rng.random((9, 12)),
        rng.uniform(-5, 5, (2, 4, 3)),
        near_identity(rng),
        {"cval": 1 + 2j},
    ),
    "all voxels in one place": lambda rng: (rng.random((9, 12)), np.zeros((2, 1, 1)), np.eye(2, 3) * 1e6, {}),
    "1-D, longer than a block": lambda rng: (rng.random(300), rng.uniform(-9, 9, (1, 5)), None, {}),
    "1-D, one voxel": lambda rng: (rng.random(1), rng.uniform(-1, 1, (1, 1)), None, {}),
    "1-D, two voxels": lambda rng: (rng.random(2), rng.uniform(-9, 9, (1, 2)), None, {}),
    "3-D": lambda rng: (rng.random((9, 8, 11)), rng.uniform(-5, 5, (3, 2, 4, 3)), None, {"order": 5}),
    "empty": lambda rng: (rng.random((0, 5)), np.zeros((2, 2, 2)), np.eye(2, 3), {}),
}


@pytest.mark.usefixtures("unshared")
@pytest.mark.parametrize("option", GRADIENTS)
def test_gradients_with_every_option(option, rng):
    image, displacement, affine, options = GRADIENTS[option](rng)
    gradient = rng.normal(size=image.shape).astype(image.dtype)
    for mode in ("nearest", "grid-wrap"):
        assert_gradients(gradient, image, displacement, affine, mode=mode, **options)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_inverses_without_linear_algebra(n, rng):
    turned = np.roll(np.eye(n), 1, axis=0)  # no pivot is on the diagonal
    matrices = np.stack([turned, -2 * turned, *rng.normal(size=(3, n, n))])
    for given in (matrices, matrices[0]):
        got = to_numpy(generic.inverse(xp, strict(given)))
        np.testing.assert_allclose(got, np.linalg.inv(given), rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("unshared")
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_gradients_in_single_precision(kind, rng):
    image, gradient = rng.random((2, 30, 40)).astype(np.float32)
    displacement, affine = rng.uniform(-5, 5, (2, 4, 3)).astype(kind), np.eye(2, 3).astype(kind)
    # Positions of about 40 voxels have an error of 3e-6, which the slope of the weights magnifies.
    assert_gradients(gradient, image, displacement, affine, mode="mirror", tolerance=2e-5)


@pytest.mark.usefixtures("unshared")
def test_what_is_not_finite_stays_where_it_belongs(rng):
    image, displacement = rng.random((9, 12)), rng.uniform(-2, 2, (2, 3, 3))
    gradient = rng.normal(size=image.shape)
    gradient[2, 3] = np.inf
    expected = elasticnd.deform_grid_gradient(gradient, displacement, order=1)
    got = to_numpy(elasticnd.deform_grid_gradient(strict(gradient), strict(displacement), order=1))
    finite = np.isfinite(expected)
    assert np.count_nonzero(~finite) == np.count_nonzero(~np.isfinite(got)) == 4
    np.testing.assert_allclose(got[finite], expected[finite], rtol=0, atol=DOUBLE)


@pytest.mark.usefixtures("unshared")
def test_lists_with_gradients_of_some(rng):
    images, displacement = [rng.random((9, 12)), rng.integers(0, 9, (9, 12))], rng.uniform(-5, 5, (2, 3, 3))
    gradient = rng.normal(size=(9, 12))
    got = elasticnd.deform_grid_vjp([strict(gradient), None], [*map(strict, images)], displacement)
    expected = elasticnd.deform_grid_vjp([gradient, None], images, displacement)
    assert got.image[1] is None
    np.testing.assert_allclose(to_numpy(got.image[0]), expected.image[0], rtol=0, atol=10 * DOUBLE)
    np.testing.assert_allclose(to_numpy(got.displacement), expected.displacement, rtol=0, atol=100 * DOUBLE)


@pytest.mark.usefixtures("unshared")
def test_everything_lies_on_the_device_of_the_image(rng):
    image, displacement = rng.random((9, 12)), rng.uniform(-5, 5, (2, 3, 3))
    for mode in ("nearest", "grid-constant"):
        options = {"mode": mode, "rotate": 20.0}
        assert_gradients(image, image, displacement, near_identity(rng), device=FAR, **options)
        far = xp.asarray(image, device=FAR)
        got = elasticnd.deform_grid(far, displacement, affine=MATRIX.tolist(), **options)
        assert got.device == FAR
        np.testing.assert_allclose(
            to_numpy(got), elasticnd.deform_grid(image, displacement, affine=MATRIX, **options), rtol=0, atol=DOUBLE
        )
    field = elasticnd.dense_displacement(xp.asarray(displacement, device=FAR), (9, 12))
    assert field.device == FAR


def test_backend_info():
    route = elasticnd.backend_info(xp.asarray([1.0]))
    assert (route.library, route.engine) == ("array_api_strict", "cpu")
    assert "DLPack" in route.reason
    assert (route.bridge, route.device) == ("dlpack", str(xp.asarray(1.0).device))
    assert elasticnd.backend_info(xp.asarray([1.0], device=FAR)).device == str(FAR)
    with pytest.raises(TypeError, match=r"X: got 3\.0"):
        elasticnd.backend_info(3.0)


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_backend_info_names_bridge_and_device_of_frameworks(name):
    route = elasticnd.backend_info(frameworks.get(name).array(np.zeros(3)))
    assert (route.library.startswith(name), route.bridge, route.engine) == (True, name, "cpu")
    assert "cpu" in route.device.lower()


def test_refusals(rng):
    image, grid = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with pytest.raises((TypeError, ValueError), match=r"X\[1\]: got .*expected an array of the same library"):
        elasticnd.deform_grid([strict(image), image], grid)
    with pytest.raises(ValueError, match=r"X\[1\]: got an array on .*expected one on"):
        elasticnd.deform_grid([strict(image), xp.asarray(image, device=FAR)], grid)
    with pytest.raises(ValueError, match=r"displacement: got shape"):
        elasticnd.deform_grid(strict(image), strict(image))
    with pytest.raises(TypeError, match=r"displacement: got .*expected an array of array_api_strict or NumPy"):
        elasticnd.deform_grid(strict(image), range(3))


# ---- the requested engine --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
def test_generic_engine_on_request(name, rng):
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    make = frameworks.get("torch").array if name == "torch" else strict if name == "array_api_strict" else np.asarray
    expected = elasticnd.deform_grid(image, displacement, affine=MATRIX)
    with elasticnd.use_engine("generic"):
        got = elasticnd.deform_grid(make(image), make(displacement), affine=MATRIX)
        route = elasticnd.backend_info(make(image))
    assert (route.library, route.engine, route.reason) == (name, "generic", "requested by the caller")
    assert type(got) is type(make(image))
    np.testing.assert_allclose(np.asarray(getattr(got, "_array", got)), expected, rtol=0, atol=10 * DOUBLE)
    assert elasticnd.backend_info(make(image)).engine == "cpu"


def test_generic_engine_is_differentiated_by_the_library(rng):
    torch = frameworks.get("torch").module
    image, displacement = torch.tensor(rng.random((7, 6))), torch.tensor(rng.uniform(-1, 1, (2, 3, 2)))
    with elasticnd.use_engine("generic"):
        leaves = [tensor.clone().requires_grad_() for tensor in (image, displacement)]
        pulled = torch.autograd.grad(elasticnd.deform_grid(*leaves, mode="mirror").sum(), leaves)
    expected = elasticnd.deform_grid_vjp(torch.ones_like(image), image, displacement, mode="mirror")
    torch.testing.assert_close(pulled[0], expected.image)
    torch.testing.assert_close(pulled[1], expected.displacement)


def test_engines_that_do_not_fit(rng):
    image, grid = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with elasticnd.use_engine("cpu"):
        elasticnd.deform_grid(image, grid)
    with (
        elasticnd.use_engine("cuda"),
        pytest.raises(ValueError, match=r"X: got .*which engine 'cpu' computes .*'cuda'"),
    ):
        elasticnd.deform_grid(image, grid)
    with pytest.raises(ValueError, match=r"name: got 'tpu', expected one of 'cpu', 'cuda', 'generic'"):
        elasticnd.use_engine("tpu").__enter__()


def test_variable_for_the_engine():
    code = "import numpy, elasticnd; print(elasticnd.backend_info(numpy.zeros(3)).engine)"
    for value, expected in (("generic", "generic"), ("", "cpu")):
        environment = os.environ | {"ELASTICND_ENGINE": value}
        done = subprocess.run(
            [sys.executable, "-I", "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
    environment = os.environ | {"ELASTICND_ENGINE": "tpu"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "environment variable ELASTICND_ENGINE: got 'tpu', expected one of 'cpu'" in done.stderr
