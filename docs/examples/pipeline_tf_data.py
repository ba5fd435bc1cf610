"""A pipeline of tf.data that uses TensorFlow's random generator."""

import tensorflow as tf

import elasticnd


def deform(image, mask):
    grid = tf.random.normal((2, 4, 4), stddev=4.0)
    return elasticnd.deform_grid(
        [image, mask], grid, order=[3, "labels"], mode="mirror", axis=[(0, 1), (0, 1)]
    )


if __name__ == "__main__":
    images = tf.random.uniform((4, 64, 48, 3), seed=0)
    masks = tf.cast(images[..., 0] > 0.4, tf.uint8)

    def run(seed):
        tf.random.set_seed(seed)
        data = tf.data.Dataset.from_tensor_slices((images, masks)).map(
            deform, num_parallel_calls=2
        )
        return list(data.batch(2))

    (first, mask), _ = run(1)
    assert first.shape == (2, 64, 48, 3)
    assert mask.dtype == tf.uint8
    assert set(tf.unique(tf.reshape(mask, [-1]))[0].numpy()) <= {0, 1}
    assert not tf.reduce_all(first == images[:2])
