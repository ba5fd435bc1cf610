"""elasticnd for TensorFlow: the public functions, which make tensors of whatever they get, and a layer.

The functions of the package itself do the same with tensors and variables. All are differentiable with respect to
image, control grid and affine matrix, in `tf.function` as well; with ``jit_compile=True``, where shapes must be known,
by plain operations of TensorFlow. `ElasticDeform` is the layer of `elasticnd.keras`.

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
    """Import Keras for the layer alone."""
    if name != "ElasticDeform":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .keras import ElasticDeform  # noqa: PLC0415

    return ElasticDeform
