"""The border modes: a picture, shrunk to show what lies beyond its border."""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import elasticnd

picture = data.cat()[20:230, 120:400]
height, width, _ = picture.shape
modes = ["constant", "grid-constant", "nearest", "reflect"]
modes += ["grid-mirror", "mirror", "wrap", "grid-wrap"]
zoom = 0.36
nothing = np.zeros((2, 1, 1))  # no displacement, only the zoom

figure, panels = plt.subplots(2, 4, figsize=(8, 3.4))
for panel, mode in zip(panels.flat, modes, strict=True):
    shrunk = elasticnd.deform_grid(
        picture, nothing, mode=mode, cval=128, axis=(0, 1), zoom=zoom
    )
    panel.imshow(shrunk)
    corner = (1 - zoom) * width / 2 - 0.5, (1 - zoom) * height / 2 - 0.5
    border = plt.Rectangle(corner, zoom * width, zoom * height, fill=False, ec="yellow")
    panel.add_patch(border)
    panel.set_title(mode, family="monospace")
    panel.set_axis_off()
figure.savefig("border_modes.png")
