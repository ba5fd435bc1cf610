"""Arrays of libraries that the package does not name: here array-api-strict, which has the standard and no more."""

import os
import subprocess
import sys

import frameworks
import numpy as np
import pytest
from tables import DOUBLE, MODES, ORDERS

import elasticnd
from elasticnd import _core

xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
SHAPE = (31, 18)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
FAR = xp.Device("device1")  # which DLPack calls the host, but only the library may know


@pytest.fixture(autouse=True)
def strictest():
    xp.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False)
    yield
    xp.reset_array_api_strict_flags()


@pytest.fixture
def unshared(monkeypatch):
    """Let arrays lie where only their library reaches them."""

    def refuse(self, **options):
        raise BufferError("no other library may see this memory")

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
        seen.extend(argument.ctypes.data for argument in (arguments[1], arguments[7]))
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
    np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=10 * DOUBLE)  # positions are summed otherwise
    assert elasticnd.which(strict(image)).engine == "generic"


@pytest.mark.usefixtures("unshared")
def test_gradients_on_other_devices_are_refused(rng):
    image, displacement = strict(rng.random(SHAPE)), rng.uniform(-5, 5, (2, 3, 4))
    with pytest.raises(TypeError, match=r"dY: got array_api_strict.*expected an array in the host's memory"):
        elasticnd.deform_grid_gradient(image, displacement)


def test_which():
    route = elasticnd.which(xp.asarray([1.0]))
    assert (route.library, route.engine) == ("array_api_strict", "cpu")
    assert "DLPack" in route.reason
    with pytest.raises(TypeError, match=r"X: got 3\.0"):
        elasticnd.which(3.0)


def test_refusals(rng):
    image, grid = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with pytest.raises((TypeError, ValueError), match=r"X\[1\]: got .*expected an array of the same library"):
        elasticnd.deform_grid([strict(image), image], grid)
    with pytest.raises(ValueError, match=r"X\[1\]: got an array on .*expected one on"):
        elasticnd.deform_grid([strict(image), xp.asarray(image, device=FAR)], grid)
    with pytest.raises(ValueError, match=r"displacement: got shape"):
        elasticnd.deform_grid(strict(image), strict(image))
    with pytest.raises(TypeError, match=r"displacement: got .*expected a NumPy array"):
        elasticnd.deform_grid(strict(image), range(3))


# ---- the engine that is asked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["numpy", "torch", "array_api_strict"])
def test_generic_engine_on_request(name, rng):
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    make = frameworks.get("torch").array if name == "torch" else strict if name == "array_api_strict" else np.asarray
    expected = elasticnd.deform_grid(image, displacement, affine=MATRIX)
    with elasticnd.engine("generic"):
        got = elasticnd.deform_grid(make(image), make(displacement), affine=MATRIX)
        route = elasticnd.which(make(image))
    assert (route.library, route.engine, route.reason) == (name, "generic", "it was asked for")
    assert type(got) is type(make(image))
    np.testing.assert_allclose(np.asarray(getattr(got, "_array", got)), expected, rtol=0, atol=10 * DOUBLE)
    assert elasticnd.which(make(image)).engine == "cpu"


def test_generic_engine_is_differentiated_by_the_library(rng):
    torch = frameworks.get("torch").module
    image, displacement = torch.tensor(rng.random((7, 6))), torch.tensor(rng.uniform(-1, 1, (2, 3, 2)))
    with elasticnd.engine("generic"):
        leaves = [tensor.clone().requires_grad_() for tensor in (image, displacement)]
        pulled = torch.autograd.grad(elasticnd.deform_grid(*leaves, mode="mirror").sum(), leaves)
    expected = elasticnd.deform_grid_vjp(torch.ones_like(image), image, displacement, mode="mirror")
    torch.testing.assert_close(pulled[0], expected.image)
    torch.testing.assert_close(pulled[1], expected.displacement)


def test_engines_that_do_not_fit(rng):
    image, grid = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with elasticnd.engine("cpu"):
        elasticnd.deform_grid(image, grid)
    with elasticnd.engine("cuda"), pytest.raises(ValueError, match=r"X: got .*which engine 'cpu' computes .*'cuda'"):
        elasticnd.deform_grid(image, grid)
    with pytest.raises(ValueError, match=r"name: got 'tpu', expected one of 'cpu', 'cuda', 'generic'"):
        elasticnd.engine("tpu").__enter__()


def test_variable_for_the_engine():
    code = "import numpy, elasticnd; print(elasticnd.which(numpy.zeros(3)).engine)"
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
