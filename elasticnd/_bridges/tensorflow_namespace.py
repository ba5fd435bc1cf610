"""TensorFlow's operations under the names of the array API standard, as far as the generic engine uses them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf

from .._spec import Shape

Tensor = Any

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
take = tf.gather
zeros = tf.zeros
zeros_like = tf.zeros_like


def argsort(x: Tensor) -> Tensor:
    """Sort; equal elements stay in order."""
    return tf.argsort(x, stable=True)


def asarray(values: Tensor, *, dtype: Tensor = None) -> Tensor:
    """Make a constant."""
    return tf.constant(np.asarray(values), dtype)


def concat(arrays: Sequence[Tensor], *, axis: int = 0) -> Tensor:
    """Join along an axis."""
    return tf.concat(arrays, axis)


def full(shape: Shape, value: Tensor, *, dtype: Tensor) -> Tensor:
    """Repeat a value."""
    return tf.fill(shape, tf.constant(value, dtype))


def searchsorted(x1: Tensor, x2: Tensor, *, side: str) -> Tensor:
    """Find places in sorted elements."""
    return tf.searchsorted(x1, x2, side=side)


def sum(x: Tensor, *, axis: int | Sequence[int]) -> Tensor:
    """Sum along axes."""
    return tf.reduce_sum(x, axis)


def where(condition: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """Choose; a number takes the dtype of the other."""
    if tf.is_tensor(x1):
        return tf.where(condition, x1, tf.cast(x2, x1.dtype))
    return tf.where(condition, tf.cast(x1, x2.dtype), x2)
