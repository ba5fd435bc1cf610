"""Run by test_keras.py, once for each backend: the layer builds, trains, is saved and loaded, and runs in tf.data."""

import sys

import keras
import numpy as np
import pytest

import elasticnd
import elasticnd.keras


def train(folder, images, labels, **options):
    """Train a small model with the layer inside; give its layer, and whether every weight was trained."""
    inputs = keras.Input((16, 16, 1))
    hidden = keras.layers.Conv2D(2, 3, padding="same")(inputs)
    hidden = elasticnd.keras.ElasticDeform(mode="mirror", **options)(hidden)
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(hidden))
    assert model.output_shape == (None, 16, 16, 1)
    model.compile("adam", "binary_crossentropy")
    before = [keras.ops.convert_to_numpy(weight).copy() for weight in model.trainable_weights]
    history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
    assert not any(np.array_equal(*pair) for pair in zip(before, after, strict=True)), "every weight was trained"
    expected = model.predict(images, verbose=0)
    model.save(f"{folder}/model.keras")
    again = keras.models.load_model(f"{folder}/model.keras")
    np.testing.assert_allclose(again.predict(images, verbose=0), expected, rtol=1e-6, atol=1e-6)
    return len(after)


def main(folder):
    """Check the layer."""
    rng = np.random.default_rng(0)
    images = rng.random((16, 16, 16, 1)).astype("float32")
    labels = (images > 0.5).astype("float32")
    assert train(folder, images, labels, sigma=2.0, seed=1) == 4
    assert train(folder, images, labels, displacement=np.zeros((2, 3, 3)), learnable=True) == 5
    assert train(folder, images, labels, displacement=np.ones((2, 3, 3))) == 4

    layer = elasticnd.keras.ElasticDeform(sigma=4, order=(3, 0), seed=0)
    ids = (images * 5).astype("uint8")
    deformed, deformed_ids = layer([images, ids], training=True)
    got = keras.ops.convert_to_numpy(deformed_ids)
    assert got.dtype == np.uint8
    assert set(np.unique(got)) <= set(np.unique(ids))
    first = keras.ops.convert_to_numpy(deformed)
    assert not np.array_equal(keras.ops.convert_to_numpy(layer([images, ids], training=True)[0]), first)
    assert keras.ops.convert_to_numpy(layer([images, ids])[1]).tobytes() == ids.tobytes()

    fixed = elasticnd.keras.ElasticDeform(displacement=rng.standard_normal((2, 3, 3)))
    expected = elasticnd.deform_grid(images, fixed.initial, axis=(1, 2))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(fixed(images)), expected)

    channels_first = elasticnd.keras.ElasticDeform(displacement=np.ones((2, 1, 1)), axis=(-2, -1))
    moved = keras.ops.convert_to_numpy(channels_first(np.moveaxis(images, -1, 1)))
    np.testing.assert_allclose(moved[:, 0, :-1, :-1], images[:, 1:, 1:, 0], atol=5e-6)

    assert layer.compute_output_shape((None, 16, 16, 1)) == (None, 16, 16, 1)
    assert layer.compute_output_shape([(8, 16, 16, 1), [8, None, 16, 2]]) == [(8, 16, 16, 1), (8, None, 16, 2)]
    over_time = keras.layers.TimeDistributed(elasticnd.keras.ElasticDeform(displacement=np.zeros((2, 3, 3))))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(over_time(images[None])), images[None], atol=5e-6)

    same = elasticnd.keras.ElasticDeform.from_config(layer.get_config())
    assert same.get_config() == layer.get_config()

    import tensorflow as tf  # only for the pipeline

    data = tf.data.Dataset.from_tensor_slices((images, ids)).batch(4)
    data = data.map(lambda *pair: tuple(layer(list(pair), training=True)), num_parallel_calls=2)
    assert [(x.shape.as_list(), y.dtype) for x, y in data] == [([4, 16, 16, 1], tf.uint8)] * 4
    if keras.backend.backend() == "tensorflow":
        from elasticnd import tf as own_module

        assert own_module.ElasticDeform is elasticnd.keras.ElasticDeform

    with pytest.raises(ValueError, match=r"tensors: got shape \(16, 16, 1\), expected 4 axes for ndim=2"):
        elasticnd.keras.ElasticDeform(sigma=1, ndim=2)(images[0], training=True)
    of_two_axes = elasticnd.keras.ElasticDeform(sigma=1, ndim=2)(images, training=True)
    assert tuple(of_two_axes.shape) == images.shape

    for options in ({}, {"sigma": 1, "displacement": np.zeros((2, 1, 1))}, {"sigma": 1, "axis": (1, 2)}):
        with pytest.raises((TypeError, ValueError), match=r"^(displacement|axis): got"):
            elasticnd.keras.ElasticDeform(**options)


if __name__ == "__main__":
    main(sys.argv[1])
