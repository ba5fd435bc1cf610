"""elasticnd for TensorFlow: the public functions, which convert their input to tensors, and a layer.

The functions of the package itself accept tensors and variables too. All are differentiable with respect to image,
control grid and affine matrix, also inside `tf.function`. With ``jit_compile=True``, shapes must be known, and
TensorFlow operations compute everything. `ElasticDeform` is the layer of `elasticnd.keras`.

>>> import tensorflow as tf
>>> import elasticnd.tf
>>> image = tf.reshape(tf.range(12.0), (3, 4))
>>> displacement = tf.Variable(tf.zeros((2, 3, 3)))
>>> with tf.GradientTape() as tape:
...     energy = tf.reduce_sum(
...         elasticnd.tf.deform_grid(image, displacement, mode="mirror") ** 2
...     )
>>> tape.gradient(energy, displacement).shape
TensorShape([2, 3, 3])
"""

from __future__ import annotations

import tensorflow as tf

from . import _namespaces

__all__ = ["deform_grid", "deform_random_grid", "dense_displacement"]

deform_grid, deform_random_grid, dense_displacement = _namespaces.functions(tf.convert_to_tensor)


def __getattr__(name: str) -> type:
    """Import Keras only for the layer."""
    if name != "ElasticDeform":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .keras import ElasticDeform  # noqa: PLC0415

    return ElasticDeform
