"""A transform for Albumentations 2 that uses the pipeline's random generator."""

import os

# Otherwise, Albumentations asks a server for its latest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations
import numpy as np

import elasticnd


class ElasticDeform(albumentations.DualTransform):
    def get_params_dependent_on_data(self, params, data):
        deformation = elasticnd.Deformation.random(
            params["shape"][:2], sigma=4, points=4, rng=self.random_generator
        )
        return {"deformation": deformation}

    def apply(self, img, deformation, **params):
        return deformation.apply(img, order=3, mode="mirror", axis=(0, 1))

    def apply_to_mask(self, mask, deformation, **params):
        return deformation.apply(mask, order="labels", mode="mirror", axis=(0, 1))


if __name__ == "__main__":
    image = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    mask = (image[..., 0] > 99).astype(np.uint8)

    def run(seed):
        pipeline = albumentations.Compose(
            [ElasticDeform(p=1), albumentations.HorizontalFlip(p=0.5)], seed=seed
        )
        return pipeline(image=image, mask=mask)

    first, again, other = run(1), run(1), run(2)
    assert first["image"].shape == image.shape
    assert set(np.unique(first["mask"])) <= {0, 1}
    assert all(np.array_equal(first[name], again[name]) for name in ("image", "mask"))
    assert not np.array_equal(first["image"], other["image"])
