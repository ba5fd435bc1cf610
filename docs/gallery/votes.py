"""Labels by the nearest voxel and by votes, with the exact outlines over both."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import elasticnd


def shapes_at(rows, columns):
    """Return two functions of the position, negative inside a disc and a ring."""
    disc = np.hypot(rows - 14, columns - 14) - 8.3
    ring = abs(np.hypot(rows - 33, columns - 34) - 8) - 2.4
    return disc, ring


labels = np.zeros((48, 48), np.uint8)
for number, shape in enumerate(shapes_at(*np.indices(labels.shape)), start=1):
    labels[shape < 0] = number
labels[4:44, 4] = labels[43, 8:30] = 3  # lines of one voxel
labels[4:20:5, 28:44:5] = 4  # single voxels

deformation = elasticnd.Deformation.random(labels.shape, sigma=1.5, points=5, rng=5)
fine = np.stack(np.meshgrid(*[np.linspace(0, 47, 480)] * 2, indexing="ij"), axis=-1)
sources = deformation.source_points(fine)

figure, panels = plt.subplots(1, 3, figsize=(10, 3.6))
colours = ListedColormap(["#f2f2f0", "#8ecae6", "#ffd166", "#5d626c", "#e5004f"])
for panel, title, shown, where in [
    (panels[0], "labels", labels, fine),
    (panels[1], "order=0", deformation.apply(labels, order=0), sources),
    (panels[2], 'order="labels"', deformation.apply(labels, order="labels"), sources),
]:
    panel.imshow(shown, cmap=colours, vmin=0, vmax=4)
    for outline in shapes_at(where[..., 0], where[..., 1]):
        panel.contour(fine[..., 1], fine[..., 0], outline, [0], colors="black")
    panel.set_title(title, family="monospace")
    panel.set_axis_off()
figure.savefig("votes.png")
