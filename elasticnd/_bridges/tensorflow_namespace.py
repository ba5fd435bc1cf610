"""TensorFlow operations under the names of the array API standard, as far as the generic engine uses them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import tensorflow as tf

from .._spec import Shape

bool = tf.bool
float32, float64, int32, int64 = tf.float32, tf.float64, tf.int32, tf.int64

abs = tf.abs
astype = tf.cast
broadcast_to = tf.broadcast_to
floor = tf.floor
imag = tf.math.imag
linalg = SimpleNamespace(det=tf.linalg.det, inv=tf.linalg.inv)
matmul = tf.matmul
matrix_transpose = tf.linalg.matrix_transpose
permute_dims = tf.transpose
real = tf.math.real
reshape = tf.reshape
stack = tf.stack
stop_gradient = tf.stop_gradient
take = tf.gather
zeros = tf.zeros
zeros_like = tf.zeros_like


def argsort(x: tf.Tensor) -> tf.Tensor:
    """Return the indices that sort an array; equal elements keep their order."""
    return tf.argsort(x, stable=True)


def asarray(values: tf.Tensor, *, dtype: tf.Tensor = None) -> tf.Tensor:
    """Return a constant tensor."""
    return tf.constant(np.asarray(values), dtype)


def concat(arrays: Sequence[tf.Tensor], *, axis: int = 0) -> tf.Tensor:
    """Join arrays along an axis."""
    return tf.concat(arrays, axis)


def full(shape: Shape, value: tf.Tensor, *, dtype: tf.Tensor) -> tf.Tensor:
    """Return an array filled with one value."""
    return tf.fill(shape, tf.constant(value, dtype))


def searchsorted(x1: tf.Tensor, x2: tf.Tensor, *, side: str) -> tf.Tensor:
    """Find the insertion points in sorted elements."""
    return tf.searchsorted(x1, x2, side=side)


def sum(x: tf.Tensor, *, axis: int | Sequence[int]) -> tf.Tensor:
    """Sum along axes."""
    return tf.reduce_sum(x, axis)


def where(condition: tf.Tensor, x1: tf.Tensor, x2: tf.Tensor) -> tf.Tensor:
    """Choose between elements; a number takes the dtype of the other argument."""
    if tf.is_tensor(x1):
        return tf.where(condition, x1, tf.cast(x2, x1.dtype))
    return tf.where(condition, tf.cast(x1, x2.dtype), x2)
