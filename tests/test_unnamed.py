"""Libraries that the package does not know by name: results are arrays of the same library, with NumPy's values."""

import importlib
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import elasticnd

# The module of a library, the functions that create and read its arrays, the engine, and the reason for it.
LIBRARIES = {
    "mlx": ("mlx.core", "array", np.asarray, "cpu", "the core reads the array's memory by DLPack"),
    "ndonnx": (
        "ndonnx",
        "asarray",
        lambda array: array.unwrap_numpy(),
        "generic",
        "only the array's library can access its memory",
    ),
}
MATRIX = np.array([[0.1, 1.1, 0.3], [-0.9, 0.0, 0.2]])


@pytest.fixture(params=LIBRARIES)
def library(request):
    module, maker, *rest = LIBRARIES[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries issue warnings on import
        try:
            found = importlib.import_module(module)
        except ImportError:
            pytest.skip(f"{request.param} is not installed")
    return request.param, getattr(found, maker), *rest


def test_results_are_those_of_numpy(library, rng):
    name, make, read, engine, reason = library
    weight, image = rng.random((2, 9, 12)).astype(np.float32)
    displacement, matrix = rng.uniform(-3, 3, (2, 3, 4)).astype(np.float32), MATRIX.astype(np.float32)
    route = elasticnd.backend_info(make(image))
    assert (route.library, route.engine, route.reason) == (name, engine, reason)
    assert route.bridge == "dlpack"
    options = {"mode": "mirror", "rotate": 20.0}
    got = [
        elasticnd.deform_grid(make(image), displacement, affine=make(matrix), **options),
        elasticnd.deform_grid(make(image), make(displacement), order=1, **options),
        *elasticnd.deform_grid_vjp(*map(make, (weight, image, displacement)), affine=make(matrix), **options),
    ]
    expected = [
        elasticnd.deform_grid(image, displacement, affine=matrix, **options),
        elasticnd.deform_grid(image, displacement, order=1, **options),
        *elasticnd.deform_grid_vjp(weight, image, displacement, affine=matrix, **options),
    ]
    for ours, theirs in zip(got, expected, strict=True):
        assert type(ours) is type(make(image))
        # Positions of about ten voxels are rounded to 1e-6, whereas the core uses double precision.
        np.testing.assert_allclose(read(ours), theirs, rtol=0, atol=2e-5 * np.max(abs(theirs), initial=1.0))


def test_bfloat16(library, rng):
    """The core supports bfloat16, although NumPy does not."""
    name, make, _, engine, _ = library
    if engine == "generic":
        pytest.skip(f"{name} has no bfloat16")
    module = importlib.import_module(LIBRARIES[name][0])
    values, displacement = rng.random((9, 12)).astype(np.float32), rng.uniform(-3, 3, (2, 3, 4)).astype(np.float32)
    image = make(values).astype(module.bfloat16)
    expected_image = np.asarray(image.view(module.uint16)).view(ml_dtypes.bfloat16)
    got = elasticnd.deform_grid(image, displacement, mode="mirror")
    assert got.dtype == module.bfloat16
    expected = elasticnd.deform_grid(expected_image, displacement, mode="mirror")
    np.testing.assert_array_equal(np.asarray(got.view(module.uint16)), expected.view(np.uint16))
    pulled = elasticnd.deform_grid_vjp(got, image, displacement, mode="mirror")
    assert pulled.image.dtype == module.bfloat16
    wanted = elasticnd.deform_grid_vjp(expected, expected_image, displacement, mode="mirror")
    np.testing.assert_array_equal(np.asarray(pulled.image.view(module.uint16)), wanted.image.view(np.uint16))


def test_labels_survive(library, rng):
    _, make, read, *_ = library
    labels, displacement = rng.integers(-(2**31), 2**31, (9, 12), np.int32), rng.uniform(-3, 3, (2, 3, 4))
    got = elasticnd.deform_grid(make(labels), displacement, order=0, mode="nearest")
    np.testing.assert_array_equal(read(got), elasticnd.deform_grid(labels, displacement, order=0, mode="nearest"))


def test_the_package_does_not_name_them():
    text = "".join(path.read_text() for path in Path(elasticnd.__file__).parent.rglob("*.py"))
    assert not [name for name in LIBRARIES if name in text]
