"""A chain: two deformations in one resampling, and back again."""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import elasticnd

picture = data.camera()[::2, ::2]
shape = picture.shape
bend = elasticnd.Deformation.random(shape, sigma=9, points=4, rng=3, fold="scale")
turn = elasticnd.Deformation(np.zeros((2, 1, 1)), shape, rotate=20, zoom=0.8)
chain = bend.then(turn)

both = chain.apply(picture)
single, rms = chain.fit(9)
shown = {
    "image": picture,
    "bend": bend.apply(picture),
    "bend.then(turn)": both,
    "inverse()": chain.inverse().apply(both),
    f"fit(9), {rms:.1f} pixels off": single.apply(picture),
}

figure, panels = plt.subplots(1, 5, figsize=(10, 2.4))
for panel, (title, result) in zip(panels, shown.items(), strict=True):
    panel.imshow(result, cmap="gray", vmin=0, vmax=255)
    panel.set_title(title)
    panel.set_axis_off()
figure.savefig("chain.png")
