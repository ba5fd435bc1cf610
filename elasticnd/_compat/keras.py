"""All private names of Keras that the package uses."""

from __future__ import annotations

import keras


def keep_arguments(layer: keras.layers.Layer) -> None:
    """Turn off Keras' conversion of the arguments of `call`: tensors keep their types, and may be arrays."""
    layer._convert_input_args = False
    layer._allow_non_tensor_positional_args = True
