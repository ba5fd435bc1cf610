"""A transform for TorchIO 2, whose history records the seed of each grid."""

import torch
import torchio

import elasticnd


class ElasticGrid(torchio.SpatialTransform):
    def make_params(self, batch):
        return {"seed": int(torch.randint(2**31, ()))}

    def apply_transform(self, batch, params):
        images = list(self._get_images(batch).values())
        shape = tuple(images[0].data.shape[-3:])
        deformation = elasticnd.Deformation.random(
            shape, sigma=3, points=5, rng=params["seed"]
        )
        for image in images:
            order = "labels" if image._image_class is torchio.LabelMap else 3
            image.data = deformation.apply(
                image.data, order=order, mode="nearest", axis=(-3, -2, -1)
            )
        return batch


if __name__ == "__main__":
    image = torch.rand(1, 24, 24, 16)
    subject = torchio.Subject(
        image=torchio.ScalarImage(image), label=torchio.LabelMap((image > 0.5).byte())
    )

    def run(seed):
        torch.manual_seed(seed)
        return ElasticGrid()(subject)

    first, again, other = run(1), run(1), run(2)
    assert torch.equal(first.image.data, again.image.data)
    assert not torch.equal(first.image.data, other.image.data)
    assert set(first.label.data.unique().tolist()) <= {0, 1}
    assert first.applied_transforms[0].name == "ElasticGrid"
