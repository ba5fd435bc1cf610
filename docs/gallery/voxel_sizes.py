"""Voxel sizes: one deformation, in mm, of two scans with different voxels."""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import elasticnd

photograph = data.camera().astype(np.float32)
scans = {
    "1 × 1 mm": (photograph[::2, ::2], (1, 1), (0, 0)),
    "6 × 2 mm, of a part": (photograph[64:448:12, 100:420:4], (6, 2), (32, 50)),
}


def to_world(voxel, start):
    """Return the matrix from voxels to mm; the first voxel is at `start`."""
    matrix = np.diag([*voxel, 1.0])
    matrix[:2, 2] = start
    return matrix


deformation = elasticnd.Deformation.random(
    (256, 256), sigma=14, points=4, rng=7, to_world=np.eye(3), fold="scale"
)
figure, panels = plt.subplots(1, 4, figsize=(10, 3), sharex=True, sharey=True)
for (before, after), (title, (scan, voxel, start)) in zip(
    panels.reshape(2, 2), scans.items(), strict=True
):
    moved = deformation.apply(scan, mode="nearest", to_world=to_world(voxel, start))
    low = np.array(start) - np.array(voxel) / 2
    high = low + np.array(voxel) * scan.shape
    for panel, shown in ((before, scan), (after, moved)):
        extent = low[1], high[1], high[0], low[0]
        panel.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=extent)
    before.set_title(title)
    after.set_title("deformed")
panels[0].set_xlim(-0.5, 255.5)
panels[0].set_ylim(255.5, -0.5)
panels[0].set_ylabel("mm")
figure.savefig("voxel_sizes.png")
