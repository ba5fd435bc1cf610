"""From calm to folding: larger displacements, and control points closer together."""

import matplotlib.pyplot as plt
import numpy as np

import elasticnd

rows, columns = np.indices((240, 240)) // 20
board = (rows + columns) % 2 + 4 * ((rows < 6) == (columns < 6))

figure, panels = plt.subplots(2, 4, figsize=(10, 5.8))
for row, points in zip(panels, (4, 8), strict=True):
    for panel, sigma in zip(row, (2, 6, 12, 24), strict=True):
        deformation = elasticnd.Deformation.random(
            board.shape, sigma=sigma, points=points, rng=1
        )
        volume = deformation.jacobian_determinant()
        deformed = deformation.apply(board, order="labels", mode="mirror")
        panel.imshow(deformed, cmap="GnBu", vmin=-1, vmax=6)
        panel.contourf(volume, levels=[-np.inf, 0], colors=["#e5004f"], alpha=0.7)
        panel.set_title(f"points={points}, sigma={sigma}")
        panel.text(0, 257, f"folded: {(volume <= 0).mean():.0%}")
        panel.set_axis_off()
figure.savefig("folding.png")
