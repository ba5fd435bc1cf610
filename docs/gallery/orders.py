"""The spline orders: twelve pixels with a ring and a dot, enlarged."""

import matplotlib.pyplot as plt
import numpy as np

import elasticnd

rows, columns = np.indices((12, 12))
distance = np.hypot(rows - 5, columns - 6)
detail = (abs(distance - 4) < 0.7) + 0.8 * (distance < 1)
# From pixels of the output to those of the input.
enlarged = np.diag([1 / 16, 1 / 16, 1])
nothing = elasticnd.Deformation.identity(detail.shape, to_world=np.eye(3))

figure, panels = plt.subplots(1, 5, figsize=(10, 2.4))
for panel, order in zip(panels, (0, 1, 2, 3, 5), strict=True):
    shown = nothing.apply(
        detail,
        order=order,
        mode="nearest",
        to_world=np.eye(3),
        output_to_world=enlarged,
        output_shape=(177, 177),
    )
    panel.imshow(shown, cmap="viridis", vmin=-0.2, vmax=1.2)
    panel.set_title(f"order={order}, {shown.min():.2f} to {shown.max():.2f}")
    panel.set_axis_off()
figure.savefig("orders.png")
