"""Every framework gives the results of NumPy in its own arrays, with gradients, and errors that name the argument."""

import re
import subprocess
import sys
from pathlib import Path

import frameworks
import ml_dtypes
import numpy as np
import pytest
from features import FEATURES, NAMES
from tables import COMPLEX, FLOATS, INTEGERS, MODES, ORDERS, values

import elasticnd
from elasticnd import _core

DTYPES = (*FLOATS, *INTEGERS, *COMPLEX)
SHAPE = (19, 14)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
BATCH = np.random.default_rng(1).standard_normal((3, 2, 4, 3))
OPTIONS = {
    "plain": {},
    "crop": {"crop": (slice(2, 9), slice(3, None))},
    "affine": {"affine": MATRIX},
    "homogeneous affine": {"affine": np.vstack([MATRIX, [0, 0, 1]])},
    "rotate and zoom": {"rotate": 20, "zoom": (1.2, 0.8)},
    "everything": {"affine": MATRIX, "rotate": -30, "zoom": 1.1, "crop": (slice(1, 12), slice(0, 9)), "mode": "mirror"},
    "no prefilter": {"prefilter": False, "cval": 0.5},
}


@pytest.fixture(params=NAMES)
def framework(request):
    return frameworks.get(request.param)


def own(framework, options):
    """Return the options with the affine matrix as an array of a framework."""
    if "affine" not in options:
        return options
    return options | {"affine": framework.array(options["affine"])}


def same(framework, result, expected):
    assert framework.owns(result)
    got = framework.to_numpy(result)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tobytes() == np.ascontiguousarray(expected).tobytes()


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_are_those_of_numpy(framework, dtype, rng):
    image = values(rng, SHAPE, dtype)
    displacement = rng.uniform(-4, 4, (2, 3, 4))
    for order in ORDERS:
        for mode in MODES if order in (1, 3) else ("constant", "nearest"):
            expected = elasticnd.deform_grid(image, displacement, order, mode, 1)
            got = elasticnd.deform_grid(framework.array(image), framework.array(displacement), order, mode, 1)
            same(framework, got, expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(framework, name, rng):
    image = rng.random(SHAPE).astype(np.float32)
    displacement = rng.uniform(-4, 4, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement, **OPTIONS[name])
    arrays = framework.array(image), framework.array(displacement)
    same(framework, elasticnd.deform_grid(*arrays, **own(framework, OPTIONS[name])), expected)
    # Images of any framework accept a NumPy array as their grid.
    same(framework, elasticnd.deform_grid(arrays[0], displacement, **OPTIONS[name]), expected)
    same(framework, elasticnd.deform_grid(arrays[0], displacement.tolist(), **OPTIONS[name]), expected)


def test_lists_batches_and_channels(framework, rng):
    images = rng.random((3, 2, *SHAPE)), rng.integers(0, 200, (3, *SHAPE)).astype(np.uint8)
    options = {"axis": [(2, 3), (1, 2)], "order": [3, 0], "mode": ["mirror", "nearest"]}
    expected = elasticnd.deform_grid(list(images), BATCH, **options)
    got = elasticnd.deform_grid([framework.array(image) for image in images], framework.array(BATCH), **options)
    assert isinstance(got, list)
    for one, other in zip(got, expected, strict=True):
        same(framework, one, other)


def test_integer_grids(framework, rng):
    image = rng.random(SHAPE)
    displacement = rng.integers(-3, 4, (2, 3, 3))
    expected = elasticnd.deform_grid(image, displacement)
    same(framework, elasticnd.deform_grid(framework.array(image), framework.array(displacement)), expected)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)], ids=str)
def test_empty_and_single(framework, shape):
    image, displacement = np.ones(shape), np.zeros((2, 2, 2))
    same(
        framework,
        elasticnd.deform_grid(framework.array(image), framework.array(displacement)),
        elasticnd.deform_grid(image, displacement),
    )


def test_dense_displacement(framework, rng):
    displacement = rng.standard_normal((2, 3, 4))
    expected = elasticnd.dense_displacement(displacement, (12, 9), crop=(slice(2, 8), slice(0, 9)))
    got = elasticnd.dense_displacement(framework.array(displacement), (12, 9), crop=(slice(2, 8), slice(0, 9)))
    same(framework, got, expected)


def test_own_module_takes_anything(framework, rng):
    name = "tf" if framework.name == "tensorflow" else framework.name
    module = __import__(f"elasticnd.{name}", fromlist=["deform_grid"])
    image, displacement = rng.random(SHAPE), rng.standard_normal((2, 3, 3))
    expected = elasticnd.deform_grid(image, displacement)
    same(framework, module.deform_grid(image, displacement), expected)
    same(framework, module.deform_grid(X=image, displacement=displacement), expected)
    same(framework, module.deform_grid([image, image], displacement)[1], expected)
    same(framework, module.dense_displacement(displacement, SHAPE), elasticnd.dense_displacement(displacement, SHAPE))


def test_nothing_is_copied(framework, rng, monkeypatch):
    """The core reads the image in place, and the result uses the memory that the core wrote."""
    image = framework.array(rng.random((256, 256)))  # so large that outputs are aligned
    displacement = framework.array(rng.standard_normal((2, 3, 3)))
    if framework.name == "jax":  # XLA passes its own buffers to the core
        program = framework.module.jit(elasticnd.deform_grid).lower(image, displacement).compile().as_text()
        assert "elasticnd_sample" in program
        assert not re.search(r"\bf64\[256,256\]\S* copy\(", program)
        return
    seen = []
    sample = _core.sample

    def spy(*arguments):
        seen.extend(argument.ctypes.data for argument in (*arguments[1], *arguments[3]))
        return sample(*arguments)

    monkeypatch.setattr(_core, "sample", spy)
    result = elasticnd.deform_grid(image, displacement)
    assert seen == [address(framework, image), address(framework, result)]


def address(framework, tensor):
    return tensor.data_ptr() if framework.name == "torch" else np.asarray(tensor).ctypes.data


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, ml_dtypes.bfloat16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("name", ["plain", "everything", "homogeneous affine"])
def test_gradients_are_those_of_numpy(framework, name, dtype, rng):
    image = values(rng, SHAPE, np.dtype(dtype))
    displacement = rng.uniform(-2, 2, (2, 3, 4))
    options = {"mode": "mirror"} | OPTIONS[name]
    output = elasticnd.deform_grid(image, displacement, **options)
    weight = values(rng, output.shape, np.dtype(dtype))
    expected = elasticnd.deform_grid_vjp(weight, image, displacement, **options)
    arrays = [framework.array(array) for array in (image, displacement, options.get("affine")) if array is not None]
    given = dict(zip(("affine",), arrays[2:], strict=False))
    got = elasticnd.deform_grid_vjp(framework.array(weight), *arrays[:2], **(options | given))
    # Without float64, JAX and TensorFlow would round to float32. Sums in another order differ in the last bits.
    for one, other in zip(got, expected, strict=True):
        if other is None:
            assert one is None
            continue
        assert framework.owns(one)
        scale = np.abs(other.astype(complex)).max()
        precision = (
            1e-12
            if other.dtype.itemsize >= 8 and dtype != np.float32
            else 1e-2
            if dtype == ml_dtypes.bfloat16
            else 1e-5
        )
        difference = np.abs(framework.to_numpy(one).astype(complex) - other.astype(complex)).max()
        assert difference <= precision * scale


@pytest.mark.parametrize("dtype", [np.float64, np.complex128], ids=lambda t: t.__name__)
def test_gradients_are_differentiable(framework, dtype, rng):
    """Gradients from `deform_grid_vjp` have derivatives, which equal differences of the gradients with NumPy."""
    image, weight = values(rng, (7, 6), np.dtype(dtype)), values(rng, (7, 6), np.dtype(dtype))
    displacement, way, step = rng.uniform(-1, 1, (2, 3, 3)), rng.normal(0, 1, (2, 3, 3)), 1e-5

    def along(d):
        return elasticnd.deform_grid_vjp(weight, image, d, order=4, mode="mirror").displacement * way

    x, w, by = map(framework.array, (image, weight, way))
    summed = getattr(framework.module, "reduce_sum", None) or (lambda x: x.sum())

    def total(d):
        return summed(elasticnd.deform_grid_vjp(w, x, d, order=4, mode="mirror").displacement * by)

    (got,) = framework.gradient(total, [framework.array(displacement)])
    change = rng.normal(0, 1, displacement.shape)
    forward, backward = (along(displacement + sign * step * change).sum() for sign in (1, -1))
    assert abs((framework.to_numpy(got) * change).sum() - (forward - backward) / (2 * step)) < 1e-6 * abs(forward)


def test_gradient_of_the_image_alone(framework, rng):
    weight, displacement = rng.random(SHAPE), rng.standard_normal((2, 3, 3))
    expected = elasticnd.deform_grid_gradient(weight, displacement)
    same(framework, elasticnd.deform_grid_gradient(framework.array(weight), framework.array(displacement)), expected)


def test_gradients_in_a_sum_of_outputs(framework, rng):
    """The framework differentiates a sum over several outputs; the gradients equal differences."""
    images = [rng.random(SHAPE), rng.random((2, *SHAPE))]
    displacement = rng.uniform(-1, 1, (2, 3, 3))
    axis = [(0, 1), (1, 2)]

    def energy(first, second, grid):
        one, other = elasticnd.deform_grid([first, second], grid, mode="mirror", axis=axis)
        return (one**3).sum() + (other**2).sum() if framework.name != "tensorflow" else total(one**3) + total(other**2)

    total = getattr(framework.module, "reduce_sum", None)
    arrays = [framework.array(array) for array in (*images, displacement)]
    gradients = framework.gradient(energy, arrays)
    for k, array in enumerate((*images, displacement)):
        way = rng.standard_normal(array.shape)
        step = 1e-6
        both = []
        for sign in (1, -1):
            moved = list(arrays)
            moved[k] = framework.array(array + sign * step * way)
            both.append(float(framework.to_numpy(energy(*moved))))
        slope = (both[0] - both[1]) / (2 * step)
        # The difference has a rounding error of 1e-16 / 1e-6 times a sum of about 1000.
        assert abs(slope - np.sum(framework.to_numpy(gradients[k]) * way)) < 1e-6 * max(1, abs(slope)) + 1e-6


def test_labels_have_no_gradient_and_do_not_harm(framework, rng):
    image, labels = rng.random(SHAPE), rng.integers(0, 9, SHAPE).astype(np.int32)
    displacement = rng.uniform(-1, 1, (2, 3, 3))
    total = getattr(framework.module, "reduce_sum", None) or (lambda x: x.sum())

    def energy(image, grid):
        return total(elasticnd.deform_grid([image, framework.array(labels)], grid, order=[3, 0])[0])

    gradients = framework.gradient(energy, [framework.array(image), framework.array(displacement)])
    expected = elasticnd.deform_grid_vjp(np.ones(SHAPE), image, displacement)
    np.testing.assert_allclose(framework.to_numpy(gradients[1]), expected.displacement, rtol=1e-10, atol=1e-10)


def test_gradient_of_the_nearest_voxel(framework, rng):
    total = getattr(framework.module, "reduce_sum", None) or (lambda x: x.sum())
    arrays = [framework.array(rng.random(SHAPE)), framework.array(rng.standard_normal((2, 3, 3)))]
    gradients = framework.gradient(lambda x, d: total(elasticnd.deform_grid(x, d, order=0)), arrays)
    assert framework.to_numpy(gradients[0]).sum() > 0
    assert not framework.to_numpy(gradients[1]).any()


def test_gradient_of_the_dense_displacement(framework, rng):
    displacement = rng.standard_normal((2, 3, 4))
    weight = rng.standard_normal((2, 9, 8))
    total = getattr(framework.module, "reduce_sum", None) or (lambda x: x.sum())

    def energy(grid):
        return total(elasticnd.dense_displacement(grid, (9, 8)) * framework.array(weight))

    (gradient,) = framework.gradient(energy, [framework.array(displacement)])
    way = rng.standard_normal(displacement.shape)
    slope = np.sum(elasticnd.dense_displacement(way, (9, 8)) * weight)  # the map is linear
    assert abs(np.sum(framework.to_numpy(gradient) * way) - slope) < 1e-12 * np.abs(weight).sum()


@pytest.mark.parametrize("name", ["rotate", "zoom", "cval"])
def test_numbers_have_no_derivatives(framework, name, rng):
    """Numbers are constants: differentiating with respect to them is refused, instead of giving zero."""
    image, grid = framework.array(rng.random(SHAPE)), framework.array(rng.random((2, 3, 3)))
    total = getattr(framework.module, "reduce_sum", None) or (lambda x: x.sum())
    one = framework.array(np.array(1.0))
    with pytest.raises(ValueError, match=rf"{name}: got .*differentiated or traced, expected a constant: .*affine"):
        framework.gradient(lambda number: total(elasticnd.deform_grid(image, grid, **{name: number})), [one])
    same(
        framework,
        elasticnd.deform_grid(image, grid, **{name: one}),
        elasticnd.deform_grid(framework.to_numpy(image), framework.to_numpy(grid), **{name: 1.0}),
    )


# ---- random grids ----------------------------------------------------------------------------------------------------


def own_generator(framework, seed):
    if framework.name == "torch":
        return framework.module.Generator().manual_seed(seed)
    if framework.name == "jax":
        return framework.module.random.key(seed)
    return framework.module.random.Generator.from_seed(seed)


def test_random_grids(framework, rng):
    images = framework.array(rng.random((2, *SHAPE)))
    options = {"sigma": (2, 4), "points": (3, 4), "batch_dims": 1}
    one, same_one, other = (
        framework.to_numpy(elasticnd.deform_random_grid(images, **options, rng=own_generator(framework, seed)))
        for seed in (1, 1, 2)
    )
    assert one.shape == images.shape
    assert np.array_equal(one, same_one)
    assert not np.array_equal(one, other)
    # An integer seed gives the same grid as with NumPy.
    expected = elasticnd.deform_random_grid(framework.to_numpy(images), **options, rng=5)
    same(framework, elasticnd.deform_random_grid(images, **options, rng=5), expected)
    assert elasticnd.deform_random_grid(images, 3, 1).shape == images.shape


# ---- errors ----------------------------------------------------------------------------------------------------------


def refused(match, function, *arguments, **options):
    with pytest.raises((TypeError, ValueError), match=match):
        function(*arguments, **options)


def test_refusals(framework, rng):
    image, grid = framework.array(rng.random(SHAPE)), framework.array(rng.random((2, 3, 3)))
    deform = elasticnd.deform_grid
    refused(r"displacement: got shape \(3, 3, 3\)", deform, image, framework.array(np.zeros((3, 3, 3))))
    refused(r"displacement: got dtype bool", deform, image, framework.array(np.zeros((2, 3, 3), bool)))
    refused(r"displacement: got 3", deform, image, 3)
    refused(r"order: got 9", deform, image, grid, order=9)
    refused(r"affine: got a singular matrix", deform, image, grid, affine=framework.array(np.zeros((2, 3))))
    refused(r"affine: got shape", deform, image, grid, affine=framework.array(np.zeros((4, 3))))
    refused(r"X\[1\]: got .*expected an array of the same library as X\[0\]", deform, [image, np.zeros(SHAPE)], grid)
    refused(r"X\[1\]: got .*expected an array of the same library", deform, [np.zeros(SHAPE), image], grid)
    refused(r"displacement: got .*expected a NumPy array", deform, np.zeros(SHAPE), grid)
    refused(r"dY: got .*expected an array of the same library", elasticnd.deform_grid_vjp, np.zeros(SHAPE), image, grid)
    integers = framework.array(np.zeros(SHAPE, np.int32))
    refused(r"dY: got .*integers have no gradient", elasticnd.deform_grid_gradient, integers, grid)


@pytest.mark.parametrize("name", NAMES)
def test_others_are_not_imported(name):
    frameworks.get(name)
    others = [other for other in NAMES if other != name]
    make = {
        "torch": "import torch; x = torch.zeros(5, 4)",
        "jax": "import jax.numpy as jnp; x = jnp.zeros((5, 4))",
        "tensorflow": "import tensorflow as tf; x = tf.zeros((5, 4))",
    }[name]
    code = f"""
import sys
{make}
before = set(sys.modules)
import elasticnd
elasticnd.deform_grid(x, [[[0.0]], [[0.0]]])
print([name for name in {others} if name in set(sys.modules) - before])
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


# ---- the table of features -------------------------------------------------------------------------------------------


def named_tests():
    return sorted({place for row in FEATURES.values() for place in row.values() if "::" in place})


@pytest.mark.parametrize("place", named_tests())
def test_features_name_tests(place):
    file, name = place.split("::")
    assert f"def {name}(" in (Path(__file__).parent / file).read_text()
