"""TensorFlow tensors, which Keras layers receive in tf.data pipelines, whatever their backend is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._types import Array, NumpyArray


def is_of_tensorflow(tensor: Array) -> bool:
    """Return whether a tensor is one of TensorFlow's, without importing it."""
    return type(tensor).__module__.partition(".")[0] == "tensorflow"


def compute_with_numpy(function: Callable[..., Array], first: Array, *others: Array) -> Array:
    """Compute a function of NumPy arrays, in a graph when it runs; the result has the shape and dtype of the first."""
    import tensorflow as tf  # noqa: PLC0415 - the caller has its tensors

    def call(*arrays: NumpyArray) -> NumpyArray:
        return np.asarray(function(*arrays), arrays[0].dtype)

    results = tf.numpy_function(call, [first, *others], first.dtype, stateful=False)
    results.set_shape(first.shape)
    return results
