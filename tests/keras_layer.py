"""Checks that the Keras layer trains, can be saved, and runs in tf.data. test_keras.py runs this for each backend."""

import sys

import keras
import numpy as np
import pytest

import elasticnd
import elasticnd.keras


def train(folder, images, labels, **options):
    """Train a small model that contains the layer, check that every weight has changed, and count the weights."""
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


def check_dictionaries(rng, images, ids):
    """Check that images and masks of a dictionary are deformed alike, and that its other entries are kept."""
    sample = {"images": images, "segmentation_masks": ids, "labels": np.arange(16), "name": np.zeros(16)}
    layer = elasticnd.keras.ElasticDeform(displacement=2 * rng.standard_normal((2, 3, 3)), mode="nearest")
    expected = elasticnd.deform_grid(
        [images, ids], layer.initial, order=[3, "labels"], mode="nearest", axis=[(1, 2), (1, 2)]
    )
    for given, flat in ((sample, False), ({**sample, "segmentation_masks": ids[..., 0]}, True)):
        results = {name: keras.ops.convert_to_numpy(one) for name, one in layer(given).items()}
        np.testing.assert_array_equal(results["images"], expected[0])
        np.testing.assert_array_equal(results["segmentation_masks"], expected[1][..., 0] if flat else expected[1])
        np.testing.assert_array_equal(results["labels"], sample["labels"])
        assert results["segmentation_masks"].dtype == np.uint8
        assert sorted(results) == sorted(sample)
    (alone,) = layer({"images": images}).values()
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(alone), expected[0])

    keras.config.set_image_data_format("channels_first")
    first = layer({"images": np.moveaxis(images, -1, 1), "segmentation_masks": ids[..., 0]})
    keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(first["images"])[:, 0], expected[0][..., 0])
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(first["segmentation_masks"]), expected[1][..., 0])

    random = elasticnd.keras.ElasticDeform(sigma=3, order=0, mask_order=0, seed=0)
    same = random({"images": images, "segmentation_masks": images}, training=True)
    np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, same.values()))
    assert not np.array_equal(keras.ops.convert_to_numpy(same["images"]), images)
    assert random(sample)["images"] is images, "while not training"
    both = elasticnd.keras.ElasticDeform(sigma=3, order=(1, 3), seed=0)(
        {**sample, "segmentation_masks": images}, training=True
    )
    assert not np.array_equal(*(keras.ops.convert_to_numpy(both[name]) for name in ("images", "segmentation_masks")))

    assert random.compute_output_shape({"images": (None, 16, 16, 1)}) == {"images": (None, 16, 16, 1)}
    symbolic = random({"images": keras.Input((16, 16, 1)), "segmentation_masks": keras.Input((16, 16), dtype="uint8")})
    assert symbolic["segmentation_masks"].shape == (None, 16, 16)
    with pytest.raises(ValueError, match="bounding_box_format: got None, expected xyxy or yxyx"):
        layer({**sample, "bounding_boxes": {"boxes": np.zeros((16, 1, 4))}})
    with pytest.raises(ValueError, match="inputs: got a dictionary of 'labels', expected one with 'images'"):
        layer({"labels": images})


CANVAS = (96, 128)
CORNERS = np.array([[30.0, 20, 60, 50], [70, 30, 110, 70], [0, 0, 0, 0]])  # the last box is padding
FORMATS = {
    "xyxy": lambda x, y, right, bottom: (x, y, right, bottom),
    "yxyx": lambda x, y, right, bottom: (y, x, bottom, right),
    "xywh": lambda x, y, right, bottom: (x, y, right - x, bottom - y),
    "center_xywh": lambda x, y, right, bottom: ((x + right) / 2, (y + bottom) / 2, right - x, bottom - y),
    "center_yxhw": lambda x, y, right, bottom: ((y + bottom) / 2, (x + right) / 2, bottom - y, right - x),
    "rel_xyxy": lambda x, y, right, bottom: (x / 128, y / 96, right / 128, bottom / 96),
    "rel_yxyx": lambda x, y, right, bottom: (y / 96, x / 128, bottom / 96, right / 128),
    "rel_xywh": lambda x, y, right, bottom: (x / 128, y / 96, (right - x) / 128, (bottom - y) / 96),
    "rel_center_xywh": lambda x, y, right, bottom: (
        *((x + right) / 256, (y + bottom) / 192),
        *((right - x) / 128, (bottom - y) / 96),
    ),
}


def in_format(corners, name):
    """Convert boxes from corners to one of Keras's formats."""
    return np.stack(FORMATS[name](*np.moveaxis(corners, -1, 0)), -1)


def check_boxes(rng):
    """Check that boxes of every format enclose the deformed masks, in batches and for single images."""
    masks = np.zeros((2, *CANVAS, 2), "uint8")
    for k, (left, top, right, bottom) in enumerate(CORNERS[:2].astype(int)):
        masks[:, top:bottom, left:right, k] = 1
    grid = 4 * rng.standard_normal((2, 5, 5))
    corners, labels = np.stack([CORNERS] * 2), np.array([[3, 4, -1]] * 2)
    for name in FORMATS:
        options = {"displacement": grid, "mask_order": 0, "bounding_box_format": name}
        layer = elasticnd.keras.ElasticDeform(**options)
        boxes = {"boxes": in_format(corners, name), "labels": labels}
        whole = layer({"images": masks, "segmentation_masks": masks, "bounding_boxes": boxes})
        alone = layer({"images": masks[0], "bounding_boxes": {key: one[0] for key, one in boxes.items()}})
        got = keras.ops.convert_to_numpy(whole["bounding_boxes"]["boxes"])
        places = [
            np.nonzero(one) for one in np.moveaxis(keras.ops.convert_to_numpy(whole["segmentation_masks"])[0], -1, 0)
        ]
        around = np.array([(x.min(), y.min(), x.max() + 1, y.max() + 1) for y, x in places], float)
        unit = np.array([128, 96, 128, 96]) if name.startswith("rel_") else np.ones(4)
        unit = unit[[1, 0, 3, 2]] if name == "rel_yxyx" else unit
        assert (np.abs(got[0, :2] - in_format(around, name)) * unit).max() <= 1
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(alone["bounding_boxes"]["boxes"]), got[0])
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(whole["bounding_boxes"]["labels"]), labels)
        assert tuple(alone["images"].shape) == (*CANVAS, 2)
    far = elasticnd.keras.ElasticDeform(displacement=np.full((2, 1, 1), 60.0), bounding_box_format="xyxy")
    left = far({"images": masks, "bounding_boxes": {"boxes": corners, "labels": labels}})["bounding_boxes"]
    assert keras.ops.convert_to_numpy(left["labels"]).tolist() == [[-1, 4, -1]] * 2, "the first box has left the image"
    with pytest.raises(ValueError, match=r"^bounding_box_format: got 'xxyy'"):
        elasticnd.keras.ElasticDeform(sigma=1, bounding_box_format="xxyy")


def main(folder):
    """Run all checks."""
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

    check_dictionaries(rng, images, ids)
    check_boxes(rng)

    import tensorflow as tf  # needed only for the pipeline

    data = tf.data.Dataset.from_tensor_slices((images, ids)).batch(4)
    data = data.map(lambda *pair: tuple(layer(list(pair), training=True)), num_parallel_calls=2)
    assert [(x.shape.as_list(), y.dtype) for x, y in data] == [([4, 16, 16, 1], tf.uint8)] * 4
    unfolded = elasticnd.keras.ElasticDeform(sigma=6, points=4, fold="scale", seed=0)
    single = tf.data.Dataset.from_tensor_slices(images).map(lambda image: unfolded(image, training=True))
    assert [one.shape.as_list() for one in single] == [[16, 16, 1]] * 16
    named = tf.data.Dataset.from_tensor_slices({"images": images, "segmentation_masks": ids}).batch(4)
    named = named.map(lambda sample: layer(sample, training=True))
    assert [one["segmentation_masks"].dtype for one in named] == [tf.uint8] * 4
    if keras.backend.backend() == "tensorflow":
        from elasticnd import tf as own_module

        assert own_module.ElasticDeform is elasticnd.keras.ElasticDeform

    with pytest.raises(ValueError, match=r"tensors: got shape \(16, 16\), expected 4 axes for ndim=2"):
        elasticnd.keras.ElasticDeform(sigma=1, ndim=2)(images[0, ..., 0], training=True)
    of_two_axes = elasticnd.keras.ElasticDeform(sigma=1, ndim=2)(images, training=True)
    assert tuple(of_two_axes.shape) == images.shape

    wrong = ({"displacement": np.zeros((2, 1, 1))}, {"axis": (1, 2)}, {"order": 6}, {"mode": "a"}, {"mask_order": "a"})
    for options in ({}, *({"sigma": 1} | one for one in wrong)):
        with pytest.raises((TypeError, ValueError), match=r"^(displacement|axis|order|mode|mask_order): got"):
            elasticnd.keras.ElasticDeform(**options)


if __name__ == "__main__":
    main(sys.argv[1])
