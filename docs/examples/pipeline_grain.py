"""A transform for grain, which passes a NumPy generator for each element."""

import grain
import numpy as np

import elasticnd


class ElasticDeform(grain.transforms.RandomMap):
    def random_map(self, element, rng):
        image, mask = element["image"], element["mask"]
        deformation = elasticnd.Deformation.random(
            mask.shape, sigma=4, points=4, rng=rng
        )
        image, mask = deformation.apply(
            [image, mask], order=[3, "labels"], mode="mirror", axis=(0, 1)
        )
        return {**element, "image": image, "mask": mask}


if __name__ == "__main__":
    image = np.random.default_rng(0).random((64, 48, 3), np.float32)
    element = {
        "image": image,
        "mask": (image[..., 0] > 0.4).astype(np.uint8),
        "label": 3,
    }

    def run(seed):
        return list(
            grain.MapDataset.source([element] * 3)
            .seed(seed)
            .random_map(ElasticDeform())
        )

    first, again, other = run(1), run(1), run(2)
    assert all(
        np.array_equal(one["image"], same["image"])
        for one, same in zip(first, again, strict=True)
    )
    assert len({one["image"].tobytes() for one in (*first, *other)}) == 6
    assert first[0]["mask"].shape == (64, 48)
    assert first[0]["label"] == 3
