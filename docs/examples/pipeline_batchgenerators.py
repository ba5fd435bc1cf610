"""The spatial step of nnU-Net's pipelines, batchgeneratorsv2, in one resampling.

It rotates, zooms and deforms elastically, and computes only the patch.
"""

from itertools import combinations

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

import elasticnd


class Spatial(BasicTransform):
    def get_parameters(self, image, patch_size=(32, 32, 16), **rest):
        shape, uniform = tuple(image.shape[1:]), np.random.uniform
        deformation = elasticnd.Deformation.random(
            shape,
            sigma=3,
            points=5,
            rng=np.random.randint(2**31),
            rotate={plane: uniform(-15, 15) for plane in combinations(range(3), 2)},
            zoom=uniform(0.8, 1.2),
        )
        starts = [(n - m) // 2 for n, m in zip(shape, patch_size, strict=True)]
        patch = tuple(slice(i, i + m) for i, m in zip(starts, patch_size, strict=True))
        return {"deformation": deformation, "where": {"crop": patch, "axis": (1, 2, 3)}}

    def _apply_to_image(self, img, deformation, where):
        return deformation.apply(img, order=3, **where)

    def _apply_to_segmentation(self, segmentation, deformation, where):
        return deformation.apply(segmentation, order="labels", cval=-1, **where)


if __name__ == "__main__":
    image = torch.rand(2, 48, 48, 24)
    segmentation = (image[:1] > 0.5).short()

    def run(seed):
        np.random.seed(seed)
        return Spatial()(image=image, segmentation=segmentation)

    first, again, other = run(1), run(1), run(2)
    assert first["image"].shape == (2, 32, 32, 16)
    assert first["segmentation"].shape == (1, 32, 32, 16)
    assert set(first["segmentation"].unique().tolist()) <= {-1, 0, 1}
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
