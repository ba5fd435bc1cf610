"""Features of TensorFlow alone: tapes, tf.function with unknown shapes, tf.data, SavedModel, and XLA."""

import subprocess
import sys

import frameworks
import numpy as np
import pytest

import elasticnd

tf = frameworks.get("tensorflow").module
# TensorFlow itself issues these warnings.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])


def arrays(rng):
    return tf.constant(rng.standard_normal((7, 6))), tf.constant(rng.uniform(-1, 1, (2, 3, 2))), tf.constant(MATRIX)


def function(mode="mirror", order=3, **options):
    return lambda x, d, a: elasticnd.deform_grid(x, d, order, mode, 0.3, affine=a, **options)


def gradients_of(f, inputs):
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        energy = tf.reduce_sum(tf.sin(f(*inputs)))
    return tape.gradient(energy, inputs)


def check(f, inputs):
    theory, numeric = tf.test.compute_gradient(f, inputs, delta=1e-5)
    for one, other in zip(theory, numeric, strict=True):
        # Differences have a rounding error of 1e-16 / 1e-5, and a similar error from the third derivative.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["constant", "mirror", "grid-constant"])
@pytest.mark.parametrize("order", [3, 5])
def test_first_derivatives(order, mode, rng):
    check(function(mode, order), list(arrays(rng)))


@pytest.mark.parametrize("options", [{}, {"rotate": 20, "crop": (slice(1, 6), slice(5))}], ids=str)
def test_second_derivatives(options, rng):
    """The derivatives of a random sum of all first derivatives."""
    weights = [rng.standard_normal(array.shape) for array in arrays(rng)]

    def weighted(*inputs):
        gradients = gradients_of(function(**options), inputs)
        return tf.add_n([tf.reduce_sum(weight * gradient) for weight, gradient in zip(weights, gradients, strict=True)])

    check(weighted, list(arrays(rng)))


def test_forward_accumulator(rng):
    inputs = arrays(rng)
    for k, array in enumerate(inputs):
        way = tf.constant(rng.standard_normal(array.shape))
        with tf.autodiff.ForwardAccumulator(array, way) as accumulator:
            output = function()(*inputs)
        moved = [[*inputs[:k], array + sign * 1e-5 * way, *inputs[k + 1 :]] for sign in (1, -1)]
        slope = (function()(*moved[0]) - function()(*moved[1])) / 2e-5
        np.testing.assert_allclose(accumulator.jvp(output), slope, rtol=1e-5, atol=1e-5)


def test_variables_have_real_gradients(rng):
    x, d, a = map(tf.Variable, arrays(rng))
    with tf.GradientTape() as tape:
        energy = tf.reduce_sum(tf.sin(function()(x, d, a)))
    for ours, theirs in zip(tape.gradient(energy, [x, d, a]), gradients_of(function(), arrays(rng)), strict=True):
        assert ours.shape == theirs.shape
        assert np.isfinite(ours).all()


# ---- graphs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank_known", [True, False])
def test_function_of_unknown_shapes(rank_known, rng):
    shapes = ([None, None], [2, None, None], [2, 3]) if rank_known else (None, None, [2, 3])
    signature = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
    inputs = arrays(rng)
    deform = tf.function(function(rotate=10, crop=(slice(1, 6), slice(5))), input_signature=signature)
    expected = function(rotate=10, crop=(slice(1, 6), slice(5)))(*inputs)
    assert np.array_equal(deform(*inputs), expected)
    gradient = tf.function(lambda *own: gradients_of(function(), own), input_signature=signature)
    for ours, theirs in zip(gradient(*inputs), gradients_of(function(), inputs), strict=True):
        assert np.array_equal(ours, theirs)
    larger = tf.constant(rng.random((12, 9))), *inputs[1:]
    assert deform(*larger).shape == (5, 5)


def test_function_knows_the_shapes_of_its_results():
    seen = []

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 3]), tf.TensorSpec([2, 3, 3])])
    def deform(x, d):
        seen.append(elasticnd.deform_grid(x, d, axis=(0, 1)).shape)
        seen.append(elasticnd.deform_grid(tf.zeros([5, 8, 3]), d, axis=(0, 1), crop=(slice(2), slice(3))).shape)

    deform.get_concrete_function()
    assert seen[0].as_list() == [None, 8, 3]
    assert seen[1].as_list() == [2, 3, 3]


def test_complex_images_and_lists_of_unknown_shapes(rng):
    image = tf.constant(rng.random((7, 6)) + 1j * rng.random((7, 6)))
    labels = tf.constant(rng.integers(0, 9, (7, 6)))
    grid = tf.constant(rng.random((2, 3, 3)))

    def deform(image, labels, grid):
        return elasticnd.deform_grid([image, labels], grid, order=[3, 0], cval=[1j, 2])

    unknown = [tf.TensorSpec([None, None], tensor.dtype) for tensor in (image, labels)]
    graph = tf.function(deform, input_signature=[*unknown, tf.TensorSpec(None, tf.float64)])
    for one, other in zip(graph(image, labels, grid), deform(image, labels, grid), strict=True):
        assert np.array_equal(one, other)


def test_gradients_in_a_graph(rng):
    """tf.gradients works in graphs, as in TensorFlow 1."""
    x, d, a = (np.asarray(array) for array in arrays(rng))
    weight = rng.random(x.shape)
    with tf.Graph().as_default():
        inputs = [tf.constant(array) for array in (x, d, a)]
        outputs = tf.gradients(function()(*inputs), inputs, tf.constant(weight))
        with tf.compat.v1.Session() as session:
            ours = session.run(outputs)
    for one, other in zip(ours, elasticnd.deform_grid_vjp(weight, x, d, 3, "mirror", 0.3, affine=a), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_bad_calls_are_refused_when_they_run():
    deform = tf.function(elasticnd.deform_grid, input_signature=[tf.TensorSpec(None), tf.TensorSpec(None)])
    with pytest.raises(Exception, match=r"displacement: got shape \(3, 3, 3\)"):
        deform(tf.zeros((5, 5)), tf.zeros((3, 3, 3)))


def line(rng):
    """Return arrays for one axis, for which XLA compiles faster."""
    return tf.constant(rng.random(7)), tf.constant(rng.uniform(-1, 1, (1, 3))), tf.constant([[0.9, 0.2]], tf.float64)


@pytest.mark.parametrize(("order", "mode"), [(0, "constant"), (4, "nearest")])
def test_xla_compiles_operations_of_tensorflow(order, mode, rng):
    inputs = line(rng)
    f = function(mode, order, crop=(slice(1, 6),))
    compiled = tf.function(lambda *inputs: (f(*inputs), gradients_of(f, inputs)), jit_compile=True)
    (output, gradients), expected = compiled(*inputs), (f(*inputs), gradients_of(f, inputs))
    np.testing.assert_allclose(output, expected[0], rtol=0, atol=1e-12)
    for one, other in zip(gradients, expected[1], strict=True):
        # At order 0, the core returns a gradient of zeros for positions, and TensorFlow returns None.
        np.testing.assert_allclose(0 if one is None else one, other, rtol=0, atol=1e-11)


def test_all_functions_under_xla(rng):
    x, d, a = line(rng)
    images = [tf.complex(x, 2 * x), tf.cast(10 * x, tf.int8)]

    def call(images, x, d, a):
        return (
            *elasticnd.deform_grid(images, d, order=[3, 0], affine=a, zoom=2),
            elasticnd.deform_grid_gradient(x, d, mode="wrap", affine=a),
            elasticnd.deform_grid_vjp(x, x, d, mode="wrap", affine=a)[1],
            elasticnd.dense_displacement(d, (7,)),
        )

    for got, expected in zip(tf.function(call, jit_compile=True)(images, x, d, a), call(images, x, d, a), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)
    random = tf.function(lambda x: elasticnd.deform_random_grid(x, 1.0), jit_compile=True)
    assert random(x).shape == x.shape


def test_what_xla_cannot_compile_is_refused_with_advice():
    x, d = tf.zeros((5, 5)), tf.zeros((2, 3, 3))
    sizes = [tf.TensorSpec([None, 5]), tf.TensorSpec([2, 3, 3])]
    with pytest.raises(ValueError, match=r"X: got shape \(None, 5\), expected a known shape"):
        tf.function(elasticnd.deform_grid, jit_compile=True, input_signature=sizes)(x, d)
    inner = tf.function(elasticnd.deform_grid)
    inner(x, d)  # traced before it is known that XLA will compile it
    with pytest.raises(Exception, match=r"for_XLA_or_SavedModel_trace_it_with_elasticnd\.engine_generic"):
        tf.function(lambda *inputs: inner(*inputs), jit_compile=True)(x, d)  # noqa: PLW0108


def test_generic_engine_on_request(rng):
    inputs = arrays(rng)
    expected, gradients = function()(*inputs), gradients_of(function(), inputs)
    with elasticnd.use_engine("generic"):
        route = elasticnd.backend_info(inputs[0])
        assert (route.library, route.engine, route.reason) == ("tensorflow", "generic", "requested by the caller")
        np.testing.assert_allclose(function()(*inputs), expected, rtol=0, atol=1e-12)
        for one, other in zip(gradients_of(function(), inputs), gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-11)


def test_data_pipeline():
    images = tf.random.normal((12, 16, 16))
    data = tf.data.Dataset.from_tensor_slices(images).map(
        lambda image: elasticnd.deform_random_grid([image, tf.cast(image > 0, tf.uint8)], 2.0, order=[3, 0]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    shapes = [(image.shape.as_list(), labels.dtype) for image, labels in data.batch(4)]
    assert shapes == [([4, 16, 16], tf.uint8)] * 3
    again = [image.numpy() for image, _ in data]
    assert not np.array_equal(again[0], again[1])


def test_random_grids_of_unknown_batches():
    @tf.function(input_signature=[tf.TensorSpec([None, 9, 8])])
    def deform(images):
        return elasticnd.deform_random_grid(images, 3.0, axis=(1, 2), batch_dims=1)

    images = tf.repeat(tf.random.normal((1, 9, 8)), 3, 0)
    results = deform(images)
    assert results.shape == (3, 9, 8)
    assert not np.array_equal(results[0], results[1])
    with pytest.raises(TypeError, match=r"rng: got 3 .*tf.random.Generator"):
        tf.function(lambda: elasticnd.deform_random_grid(images, 0.5, rng=3))()
    seeded = [elasticnd.deform_random_grid(images, 0.5, rng=tf.constant([1, 2])) for _ in range(2)]
    assert np.array_equal(*seeded)


def test_vectorized_map(rng):
    grids = tf.constant(rng.standard_normal((3, 2, 3, 3)))
    image = tf.constant(rng.random((7, 6)))
    got = tf.map_fn(lambda grid: elasticnd.deform_grid(image, grid), grids)
    assert np.array_equal(got, tf.stack([elasticnd.deform_grid(image, grid) for grid in grids]))
    got = tf.vectorized_map(lambda grid: elasticnd.deform_grid(image, grid), grids, fallback_to_while_loop=True)
    assert np.array_equal(got[2], elasticnd.deform_grid(image, grids[2]))


def test_saved_model(tmp_path, rng):
    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float64), tf.TensorSpec(None, tf.float64)])
        def __call__(self, x, d):
            return elasticnd.deform_grid(x, d)

    x, d, _ = arrays(rng)
    module = Module()
    tf.saved_model.save(module, str(tmp_path))
    assert np.array_equal(tf.saved_model.load(str(tmp_path))(x, d), module(x, d))


def test_saved_model_of_plain_operations_runs_in_another_process(tmp_path, rng):
    """The process does not import elasticnd. A model that calls Python fails with advice."""
    x, d, _ = arrays(rng)
    sizes = [tf.TensorSpec(x.shape, x.dtype), tf.TensorSpec(d.shape, d.dtype)]

    def by_operations(x, d):
        with elasticnd.use_engine("generic"):
            return elasticnd.deform_grid(x, d, mode="mirror")

    np.savez(tmp_path / "arrays.npz", x=x, d=d, expected=elasticnd.deform_grid(x, d, mode="mirror"))
    code = """
import sys
import numpy as np
import tensorflow as tf
arrays = np.load(sys.argv[2])
got = tf.saved_model.load(sys.argv[1]).function(arrays["x"], arrays["d"])
np.testing.assert_allclose(got, arrays["expected"], rtol=0, atol=1e-11)
assert not any(name.startswith("elasticnd") for name in sys.modules)
"""
    for name, function in (("operations", by_operations), ("python", elasticnd.deform_grid)):
        module = tf.Module()
        module.function = tf.function(function, input_signature=sizes)
        tf.saved_model.save(module, str(tmp_path / name))
        command = [sys.executable, "-c", code, str(tmp_path / name), str(tmp_path / "arrays.npz")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (done.returncode == 0) == (name == "operations"), done.stderr
    assert "SavedModel_trace_it_with_elasticnd.engine_generic" in done.stderr


def test_gradients_that_are_indexed_slices(rng):
    """The gradient of `tf.gather` is `tf.IndexedSlices`."""
    x, d, _ = arrays(rng)
    rows = [2, 0]

    def energy(x, d, part):
        return tf.reduce_sum(part(elasticnd.deform_grid(x, d, mode="mirror")) ** 2)

    pulled = []
    for part in (lambda y: tf.gather(y, rows), lambda y: tf.stack([y[k] for k in rows])):
        with tf.GradientTape() as tape:
            tape.watch([x, d])
            value = energy(x, d, part)
        pulled.append(tape.gradient(value, [x, d]))
    for one, other in zip(*pulled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_mixed_precision(rng):
    x, d, _ = arrays(rng)
    for dtype in (tf.float16, tf.bfloat16):
        half = tf.cast(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch([half, d])
            energy = tf.reduce_sum(elasticnd.deform_grid(half, d))
        gradients = tape.gradient(energy, [half, d])
        assert [gradient.dtype for gradient in gradients] == [dtype, tf.float64]


def test_refused_tensors():
    with pytest.raises(TypeError, match=r"X: got .*expected a dense tensor of numbers"):
        elasticnd.deform_grid(tf.constant(["a"]), tf.zeros((1, 3)))


def test_variables_as_numbers(rng):
    image, grid = tf.constant(rng.random((7, 6))), tf.constant(rng.random((2, 3, 3)))
    angle = tf.Variable(1.0)
    for watching in (tf.GradientTape(), tf.autodiff.ForwardAccumulator(angle, tf.constant(1.0))):
        with watching, pytest.raises(ValueError, match=r"rotate: got .*differentiated or traced"):
            elasticnd.deform_grid(image, grid, rotate=angle)
    np.testing.assert_array_equal(
        elasticnd.deform_grid(image, grid, rotate=angle), elasticnd.deform_grid(image, grid, rotate=1.0)
    )
