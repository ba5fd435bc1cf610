"""Labels by votes in every framework: the results of NumPy, and derivatives only of other images in the list."""

import frameworks
import numpy as np
import pytest
from features import NAMES

import elasticnd
from elasticnd import _check, _spec
from elasticnd._serialize import options_from_text, spec_from_text, text_of_options, text_of_spec
from elasticnd._spec import Options

SHAPE = (19, 14)
DTYPES = (np.bool_, np.uint8, np.int16, np.int64, np.float32, np.float64)
OPTIONS = {
    "whole": {},
    "crop": {"crop": (slice(2, 9), slice(3, None))},
    "turned": {"rotate": 20, "zoom": (1.2, 0.8), "mode": "mirror"},
    "constant": {"mode": "grid-constant", "cval": 1},
}


@pytest.fixture(params=NAMES)
def framework(request):
    return frameworks.get(request.param)


def inputs(rng, dtype=np.uint8):
    """Return an image, labels and a displacement."""
    labels = rng.integers(0, 4, SHAPE) if dtype is not np.bool_ else rng.random(SHAPE) < 0.5
    return rng.random(SHAPE), labels.astype(dtype), rng.uniform(-4, 4, (2, 3, 4))


def same(framework, result, expected):
    got = framework.to_numpy(result)
    assert framework.owns(result)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_those_of_numpy(framework, dtype, rng):
    _, labels, displacement = inputs(rng, dtype)
    for options in OPTIONS.values():
        expected = elasticnd.deform_grid(labels, displacement, "labels", **options)
        got = elasticnd.deform_grid(framework.array(labels), framework.array(displacement), "labels", **options)
        same(framework, got, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64])
def test_compiled(dtype, rng):
    """Programs of JAX and TensorFlow give the same labels, with and without XLA, and with unknown shapes."""
    _, labels, displacement = inputs(rng, dtype)

    def call(labels, displacement):
        return elasticnd.deform_grid(labels, displacement, "labels", "nearest")

    expected = call(labels, displacement)
    jax = frameworks.get("jax")
    same(jax, jax.module.jit(call)(labels, displacement), expected)
    tensorflow = frameworks.get("tensorflow")
    tf = tensorflow.module
    same(tensorflow, tf.function(call)(tf.constant(labels), tf.constant(displacement)), expected)
    unknown = [tf.TensorSpec(None, labels.dtype), tf.TensorSpec(None, tf.float64)]
    same(tensorflow, tf.function(call, input_signature=unknown)(labels, displacement), expected)
    compiled = tf.function(call, jit_compile=True)
    same(tensorflow, compiled(tf.constant(labels), tf.constant(displacement)), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_compiled_by_torch(dtype, rng):
    """Recorded and compiled programs of PyTorch give the same labels."""
    torch = frameworks.get("torch").module
    from torch.fx.experimental.proxy_tensor import make_fx

    _, labels, displacement = inputs(rng, dtype)
    arrays = torch.from_numpy(labels), torch.from_numpy(displacement)

    def call(labels, displacement):
        return elasticnd.deform_grid(labels, displacement, "labels", "nearest")

    expected = elasticnd.deform_grid(labels, displacement, "labels", "nearest")
    for program in (make_fx(call)(*arrays), make_fx(call, tracing_mode="symbolic")(*arrays)):
        np.testing.assert_array_equal(program(*arrays), expected)
    mapped = torch.vmap(call, (0, None))(arrays[0][None].repeat(3, 1, 1), arrays[1])
    np.testing.assert_array_equal(mapped, [expected] * 3)
    np.testing.assert_array_equal(torch.compile(call, backend="eager")(*arrays), expected)


def total(framework, array):
    return framework.module.reduce_sum(array) if framework.name == "tensorflow" else array.sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_an_image_beside_labels_is_deformed_as_if_alone(framework, dtype, rng):
    """An image in a list with labels has the same bits and gradients as alone."""
    image, labels, displacement = inputs(rng, dtype)
    weight, own = framework.array(rng.random(SHAPE)), framework.array(labels)

    def alone(image, displacement):
        return total(framework, elasticnd.deform_grid(image, displacement, 3, "mirror") * weight)

    def among(image, displacement):
        deformed, _ = elasticnd.deform_grid([image, own], displacement, (3, "labels"), ("mirror", "nearest"))
        return total(framework, deformed * weight)

    arrays = [framework.array(image), framework.array(displacement)]
    deformed = elasticnd.deform_grid([arrays[0], own], arrays[1], (3, "labels"), ("mirror", "nearest"))
    same(framework, deformed[0], elasticnd.deform_grid(image, displacement, 3, "mirror"))
    same(framework, deformed[1], elasticnd.deform_grid(labels, displacement, "labels", "nearest"))
    for got, expected in zip(framework.gradient(among, arrays), framework.gradient(alone, arrays), strict=True):
        np.testing.assert_array_equal(framework.to_numpy(got), framework.to_numpy(expected))


# ---- no derivatives --------------------------------------------------------------------------------------------------


def test_labels_of_torch_require_no_gradient(rng):
    """For autograd, neither integer nor float labels require a gradient."""
    torch = frameworks.get("torch").module
    _, labels, displacement = inputs(rng)
    for dtype in (torch.uint8, torch.float64):
        moved = torch.tensor(displacement, requires_grad=True)
        result = elasticnd.deform_grid(torch.tensor(labels, dtype=dtype), moved, "labels")
        with pytest.raises(RuntimeError, match="does not require grad"):
            result.sum().backward()
    image = torch.tensor(labels, dtype=torch.float64, requires_grad=True)
    assert not elasticnd.deform_grid(image, moved, "labels").requires_grad
    recorded = torch.compile(lambda *arrays: elasticnd.deform_grid(*arrays, "labels"), backend="aot_eager")
    assert not recorded(image, moved).requires_grad


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch itself issues this
def test_labels_of_torch_do_not_change_along_tangents(rng):
    torch = frameworks.get("torch").module
    _, labels, displacement = inputs(rng, np.float64)
    primals = torch.tensor(labels), torch.tensor(displacement)
    tangents = tuple(map(torch.ones_like, primals))
    result, tangent = torch.func.jvp(lambda *arrays: elasticnd.deform_grid(*arrays, "labels"), primals, tangents)
    np.testing.assert_array_equal(result, elasticnd.deform_grid(labels, displacement, "labels"))
    assert not tangent.any()
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(*both) for both in zip(primals, tangents, strict=True)]
        assert forward_ad.unpack_dual(elasticnd.deform_grid(*duals, "labels")).tangent is None


@pytest.mark.parametrize("generic", [False, True])
def test_labels_of_tensorflow_have_no_gradient(generic, rng):
    tf = frameworks.get("tensorflow").module
    _, labels, displacement = inputs(rng, np.float64)
    labels, displacement = tf.constant(labels), tf.constant(displacement)
    for signature in (None, [tf.TensorSpec(None, tf.float64)] * 2):
        if generic and signature:
            continue  # requires known shapes

        def deform(*arrays):
            with elasticnd.use_engine("generic" if generic else None):
                return elasticnd.deform_grid(*arrays, "labels")

        function = deform if signature is None else tf.function(deform, input_signature=signature)
        with tf.GradientTape() as tape:
            tape.watch([labels, displacement])
            result = function(labels, displacement)
        assert tape.gradient(result, [labels, displacement]) == [None, None]


def test_labels_of_jax_are_constants(rng):
    """JAX treats all labels as constants, as it does integers."""
    jax = frameworks.get("jax").module
    _, labels, displacement = inputs(rng, np.float64)
    arrays = jax.numpy.asarray(labels), jax.numpy.asarray(displacement)

    def deform(*arrays):
        return elasticnd.deform_grid(*arrays, "labels")

    result, tangent = jax.jvp(deform, arrays, arrays)
    np.testing.assert_array_equal(result, deform(labels, displacement))
    assert not tangent.any()
    for gradient in jax.grad(lambda *own: deform(*own).sum(), (0, 1))(*arrays):
        assert not gradient.any()


# ---- calls as strings ------------------------------------------------------------------------------------------------


def test_calls_as_texts(rng):
    options = Options(order=("labels", 3))
    assert list(options_from_text(text_of_options(options)).order) == ["labels", 3]
    infos = (_spec.ArrayInfo((5, 6), "uint8"),), _spec.ArrayInfo((2, 3, 3), "float64"), None
    spec = _check.normalize(*infos, "X", Options(order="labels"))
    assert spec.images[0].votes
    assert spec_from_text(text_of_spec(spec)) == spec


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_layer_of_torch(rng):
    torch = frameworks.get("torch").module
    import elasticnd.torch

    image, labels, displacement = inputs(rng)
    layer = elasticnd.torch.ElasticDeform(displacement, order=(3, "labels"), mode=("mirror", "nearest"))
    assert "'labels'" in repr(layer)
    _, result = layer(torch.tensor(image)[None, None], torch.tensor(labels)[None, None])
    np.testing.assert_array_equal(result[0, 0], elasticnd.deform_grid(labels, displacement, "labels", "nearest"))
