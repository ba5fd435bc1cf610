"""How far the transforms for augmentation move voxels: all the same distance, so that their times can be compared.

The distance is the root mean square of the displacement along an axis: 3.6 voxels in a volume of 128³ and 4 pixels in
a picture of 512², as elasticnd's grid of 3 points with a sigma of 5 gives. It follows from what each library draws, and
a test measures it:

- MONAI smooths uniform noise in 3-D: magnitude / √3 · (Σ g²)^(3/2), where g is its Gaussian. In 2-D it enlarges a grid
  of normal numbers with a cubic kernel.
- torchvision smooths uniform noise as well: alpha / 2 / √3 · Σ g².
- TorchIO moves the control points of a cubic B-spline by uniform numbers, except for two at every border.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

ELASTICND: Settings = {"sigma": 5, "points": 3}
MONAI_3D: Settings = {"sigma_range": (5, 5), "magnitude_range": (464, 464)}
MONAI_2D: Settings = {"spacing": (256, 256), "magnitude_range": (5.04, 5.04)}
TORCHIO: Settings = {"num_control_points": 7, "max_displacement": 24.5}
TORCHVISION: Settings = {"alpha": 246.0, "sigma": 5.0}
