"""The private names of Keras that the package uses, all of them."""

from __future__ import annotations

import keras


def keep_arguments(layer: keras.layers.Layer) -> None:
    """Turn off what Keras does to the arguments of `call`: several tensors keep their types, and may be arrays."""
    layer._convert_input_args = False
    layer._allow_non_tensor_positional_args = True
