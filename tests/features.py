"""The features that each framework supports, with the tests that prove it. The documentation contains this table.

Where there is no test, a text says what the framework has instead.
"""

NAMES = ("torch", "jax", "tensorflow")
TITLES = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}

FEATURES = {
    "same results as NumPy, bit for bit": dict.fromkeys(NAMES, "test_frameworks.py::test_results_are_those_of_numpy"),
    "no copy on the way in or out": dict.fromkeys(NAMES, "test_frameworks.py::test_nothing_is_copied"),
    "gradients of image, control grid and affine": dict.fromkeys(
        NAMES, "test_frameworks.py::test_gradients_are_those_of_numpy"
    ),
    "second derivatives": {
        "torch": "test_torch_derivatives.py::test_second_derivatives",
        "jax": "test_jax.py::test_derivatives_in_both_modes",
        "tensorflow": "test_tensorflow.py::test_second_derivatives",
    },
    "forward mode": {
        "torch": "test_torch_derivatives.py::test_first_derivatives",
        "jax": "test_jax.py::test_derivatives_in_both_modes",
        "tensorflow": "test_tensorflow.py::test_forward_accumulator",
    },
    "compiled": {
        "torch": "test_torch_compile.py::test_compile",
        "jax": "test_jax.py::test_jit",
        "tensorflow": "test_tensorflow.py::test_function_of_unknown_shapes",
    },
    "mapped over items (vmap)": {
        "torch": "test_torch_derivatives.py::test_vmap",
        "jax": "test_jax.py::test_vmap",
        "tensorflow": "test_tensorflow.py::test_vectorized_map",
    },
    "exported": {
        "torch": "test_torch_compile.py::test_export",
        "jax": "test_jax.py::test_export",
        "tensorflow": "test_tensorflow.py::test_saved_model",
    },
    "several devices of the host": {
        "torch": "has none",
        "jax": "test_jax.py::test_sharded_batches_stay_sharded",
        "tensorflow": "has none",
    },
    "CUDA devices": dict.fromkeys(NAMES, "written, but not yet run on one"),
    "random grids from its own generators": dict.fromkeys(NAMES, "test_frameworks.py::test_random_grids"),
    "layer": {
        "torch": "test_torch_layer.py::test_layer_modes",
        "jax": "test_keras.py::test_layer",
        "tensorflow": "test_keras.py::test_layer",
    },
}
