"""The Jacobian: where volumes grow and shrink, and where the mapping folds."""

import matplotlib.pyplot as plt

import elasticnd

deformation = elasticnd.Deformation.random((64, 96), sigma=7, points=(4, 6), rng=2)
volume = deformation.jacobian_determinant()

figure, (lines, values) = plt.subplots(1, 2)
deformation.plot(lines)
lines.set_title("the control grid in the image")

shown = values.imshow(volume, cmap="BrBG_r", vmin=0, vmax=2)
values.contour(volume, levels=[0], colors=["#e5004f"], linewidths=2.5)
values.set_title(f"Jacobian determinant, at least {volume.min():.2f}")
figure.colorbar(shown, ax=values, shrink=0.7)
figure.savefig("jacobian.png")
