"""Pictures to train on: cells and rings in noise."""

import numpy as np

SIZE = 48
CLASSES = 3  # background, cell, ring


def draw(count, rng):
    """Draw pictures of cells and rings, with their labels."""
    images = np.empty((count, SIZE, SIZE), np.float32)
    labels = np.zeros((count, SIZE, SIZE), np.uint8)
    rows, columns = np.indices((SIZE, SIZE))
    for image, label in zip(images, labels, strict=True):
        for kind in (1, 2):
            row, column = rng.uniform(10, SIZE - 10, 2)
            angle = np.arctan2(rows - row, columns - column)
            bumps = 1 + 0.2 * np.sin(
                rng.integers(2, 5) * angle + rng.uniform(0, 2 * np.pi)
            )
            distance = np.hypot(rows - row, columns - column) / bumps
            label[(distance < 9) & ((kind == 1) | (distance > 5))] = kind
        image[:] = (label > 0) + rng.normal(0, 0.3, label.shape)
    return images, labels
