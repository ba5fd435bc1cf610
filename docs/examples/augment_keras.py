"""Train a small U-Net in Keras: ``python augment_keras.py pipeline|model``.

Images and labels are deformed in a `tf.data` pipeline, or by a layer of the model.
The task is to tell round cells from ring-shaped ones, in noise.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from cells import CLASSES, SIZE, draw

import elasticnd.keras


def deformation(seed):
    """Make the layer: order 3 for the image, order 0 for its labels."""
    return elasticnd.keras.ElasticDeform(
        sigma=3, points=5, order=(3, 0), mode="nearest", seed=seed
    )


def pipeline(images, labels, deform):
    """Read batches, and deform each of them if there is a layer."""
    data = (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=0)
        .batch(4)
    )
    if deform is not None:
        data = data.map(
            lambda *pair: tuple(deform(list(pair), training=True)), num_parallel_calls=2
        )
    return data.map(
        lambda images, labels: {"images": images, "labels": labels}
    ).prefetch(2)


def small_unet(width=8):
    """Return a U-Net with two levels."""

    def convolutions(x, channels):
        for _ in range(2):
            x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
            x = keras.layers.Activation("relu")(
                keras.layers.BatchNormalization(momentum=0.9)(x)
            )
        return x

    x = first = keras.Input((SIZE, SIZE, 1))
    skips = []
    for channels in (width, 2 * width):
        skips.append(convolutions(x, channels))
        x = keras.layers.MaxPooling2D()(skips[-1])
    x = convolutions(x, 2 * width)
    for skip in reversed(skips):
        x = keras.layers.Concatenate()([keras.layers.UpSampling2D()(x), skip])
        x = convolutions(x, width)
    return keras.Model(first, keras.layers.Conv2D(CLASSES, 1)(x))


class Segmenter(keras.Model):
    """Segment images; in training, deform them and their labels first, if asked to."""

    def __init__(self, deform):
        super().__init__()
        self.deform = deform
        self.network = small_unet()
        self.entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def call(self, pair, training=False):
        """Return a score for each class, and add the loss."""
        images, labels = pair["images"], pair["labels"]
        if self.deform is not None:
            images, labels = self.deform([images, labels], training=training)
        scores = self.network(images, training=training)
        self.add_loss(self.entropy(labels, scores))
        return scores


def dice(scores, labels):
    """Return the mean overlap of cells and of rings; 1 is perfect."""
    found = scores.argmax(axis=-1)[..., None]
    pairs = [(found == kind, labels == kind) for kind in range(1, CLASSES)]
    return float(
        np.mean(
            [
                2 * (mine & true).sum() / (mine.sum() + true.sum())
                for mine, true in pairs
            ]
        )
    )


def main(place="pipeline", epochs=12, seed=0):
    """Train, deforming in the pipeline or the model, and print the results."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    images, labels, unseen, truth = (
        array[..., None] for array in (*draw(16, rng), *draw(32, rng))
    )
    data = pipeline(images, labels, deformation(seed) if place == "pipeline" else None)
    model = Segmenter(deformation(seed) if place == "model" else None)
    model.compile(keras.optimizers.Adam(1e-2))

    test = {"images": unseen, "labels": truth}
    before = dice(model.predict(test, verbose=0), truth)
    losses = model.fit(data, epochs=epochs, shuffle=False, verbose=0).history["loss"]
    after = dice(model.predict(test, verbose=0), truth)

    deform = model.deform or (lambda pair, training: pair)
    seen = [deform([pair["images"], pair["labels"]], training=True)[1] for pair in data]
    ids = sorted(
        {
            int(label)
            for batch in seen
            for label in np.unique(keras.ops.convert_to_numpy(batch))
        }
    )
    print(f"deformed in the {place}, backend {keras.backend.backend()}:")
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}, Dice {before:.3f} to {after:.3f}")
    return {"losses": losses, "dice": [before, after], "labels": ids}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "place", choices=["pipeline", "model"], nargs="?", default="pipeline"
    )
    parser.add_argument("--epochs", type=int, default=12)
    main(**vars(parser.parse_args()))
