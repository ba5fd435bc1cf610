"""Strengths at which all augmentation transforms move voxels by the same distance, so that their times are comparable.

The distance is the root mean square of the displacement along an axis: 3.6 voxels in a volume of 128³, and 4 pixels in
a picture of 512². elasticnd moves voxels this far with a grid of 3 points and a sigma of 5. The strengths follow from
the random fields of each library, and a test measures the distances:

- MONAI smooths uniform noise in 3-D, which gives magnitude / √3 · (Σ g²)^(3/2), where g is its Gaussian. In 2-D it
  enlarges a grid of normally distributed numbers with a cubic kernel.
- torchvision smooths uniform noise as well, which gives alpha / 2 / √3 · Σ g².
- TorchIO moves the control points of a cubic B-spline by uniformly distributed numbers, except the outer two at each
  border.
"""

from __future__ import annotations

from typing import Any

Settings = dict[str, Any]

ELASTICND: Settings = {"sigma": 5, "points": 3}
MONAI_3D: Settings = {"sigma_range": (5, 5), "magnitude_range": (464, 464)}
MONAI_2D: Settings = {"spacing": (256, 256), "magnitude_range": (5.04, 5.04)}
TORCHIO: Settings = {"num_control_points": 7, "max_displacement": 24.5}
TORCHVISION: Settings = {"alpha": 246.0, "sigma": 5.0}
