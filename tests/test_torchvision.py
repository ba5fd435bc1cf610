"""The transform for torchvision: in its own pipelines, on its own tensors."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import hosts  # noqa: E402

hosts.require("torchvision")

import PIL.Image  # noqa: E402
from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

import elasticnd  # noqa: E402
from elasticnd.torchvision import RandomElasticDeform  # noqa: E402

SIZE = (32, 40)
KINDS = {
    "image": (tv_tensors.Image, (3, *SIZE), torch.uint8),
    "grey": (tv_tensors.Image, (1, *SIZE), torch.float32),
    "batch": (tv_tensors.Image, (2, 3, *SIZE), torch.float64),
    "video": (tv_tensors.Video, (5, 3, *SIZE), torch.uint8),
    "mask": (tv_tensors.Mask, SIZE, torch.int64),
    "masks": (tv_tensors.Mask, (4, *SIZE), torch.bool),
    "no masks": (tv_tensors.Mask, (0, *SIZE), torch.uint8),
    "tensor": (torch.Tensor, (3, *SIZE), torch.float16),
}
OPTIONS = {
    "grid": {},
    "all": {"rotate": 15, "zoom": (0.9, 1.1), "mirror": (0, 1), "fold": "scale"},
    "patch": {"rotate": 15, "size": (16, 24)},
}


def made(kind):
    wrap, shape, dtype = KINDS[kind]
    values = (4 * torch.rand(shape, generator=torch.Generator().manual_seed(0))).to(dtype)
    return values if wrap is torch.Tensor else wrap(values)


def bare(tensor):
    return tensor.as_subclass(torch.Tensor)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_deformation_that_was_drawn(kind, options):
    transform = RandomElasticDeform(2, 4, mode="mirror", **OPTIONS[options])
    tensor = made(kind)
    before = bare(tensor).clone()
    torch.manual_seed(3)
    result = transform(tensor)
    torch.manual_seed(3)
    drawn = transform.make_params([tensor])["drawn"]
    order = transform.mask_order if isinstance(tensor, tv_tensors.Mask) else 3
    expected = drawn.deformation.apply(bare(tensor), order, "mirror", crop=drawn.window.slices, axis=(-2, -1))
    assert type(result) is type(tensor)
    assert result.dtype == tensor.dtype
    assert torch.equal(bare(result), expected)
    assert torch.equal(bare(tensor), before)


def test_a_grid_alone_is_that_of_deform_grid():
    transform = RandomElasticDeform(2, 4)
    image = made("grey")
    torch.manual_seed(3)
    result = transform(image)
    torch.manual_seed(3)
    grid = transform.make_params([image])["drawn"].deformation.displacement
    assert torch.equal(bare(result), elasticnd.deform_grid(bare(image), grid, axis=(1, 2)))


def test_a_sample_is_deformed_alike_and_the_rest_is_kept():
    sample = {"image": made("image"), "mask": made("mask"), "name": "x", "number": 3, "other": torch.ones(5)}
    result = RandomElasticDeform(2, 4)(sample)
    assert result["name"] == "x"
    assert result["number"] == 3
    assert result["other"] is sample["other"]
    image = tv_tensors.Image(torch.rand(1, *SIZE))
    mask = tv_tensors.Mask(bare(image)[0].clone())
    image, mask = RandomElasticDeform(2, 4, order=1, mask_order=1)(image, mask)
    assert torch.equal(bare(image)[0], bare(mask))


def test_pictures():
    rng = np.random.default_rng(0)
    for mode, shape in {"L": SIZE, "RGB": (*SIZE, 3), "RGBA": (*SIZE, 4), "F": SIZE}.items():
        values = (255 * rng.random(shape)).astype(np.float32 if mode == "F" else np.uint8)
        picture = PIL.Image.fromarray(values)
        torch.manual_seed(0)
        result = RandomElasticDeform(2, 4, size=16)(picture)
        assert result.mode == mode
        torch.manual_seed(0)
        channels_first = torch.from_numpy(values.reshape(*SIZE, -1)).permute(2, 0, 1)
        expected = RandomElasticDeform(2, 4, size=16)(channels_first)
        np.testing.assert_array_equal(np.array(result).reshape(16, 16, -1), expected.permute(1, 2, 0))
    for mode in ("P", "1"):
        with pytest.raises(ValueError, match=f"inputs: got a picture of mode '{mode}'"):
            RandomElasticDeform(2)(PIL.Image.new(mode, (8, 8)))


def test_probability():
    image = made("grey")
    transform = RandomElasticDeform(2, 4, p=0.3)
    torch.manual_seed(0)
    are_equal = [torch.equal(bare(transform(image)), bare(image)) for _ in range(200)]
    assert 120 < sum(are_equal) < 160
    torch.manual_seed(0)
    assert RandomElasticDeform(2, 4, p=0.0, size=16)(image).shape == (1, 16, 16)
    after = torch.rand(())
    torch.manual_seed(0)
    torch.rand(()), torch.rand(2, dtype=torch.float64)
    assert torch.rand(()) == after, "the coin and the place of the patch, but no grid"


def test_different_sizes_are_refused_before_anything_is_drawn():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"(?s)32, 40.*32, 41"):
        RandomElasticDeform(2)(made("image"), tv_tensors.Mask(torch.zeros(32, 41)))
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.rand(()) == after


def test_samples_without_images_are_refused():
    with pytest.raises(TypeError, match="image"):
        RandomElasticDeform(2)({"name": "x"})


def test_transforms_can_be_copied_and_shown():
    transform = RandomElasticDeform((3, 7), 4, rotate=(-5, 10), fold="scale", size=16, p=0.5)
    image = made("image")
    torch.manual_seed(1)
    expected = transform(image)
    for other in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):  # noqa: S301
        torch.manual_seed(1)
        assert torch.equal(bare(other(image)), bare(expected))
        assert repr(other) == repr(transform)
    assert "sigma=(3, 7), points=4, rotate=(-5, 10)" in repr(transform)


def test_in_a_pipeline():
    pipeline = v2.Compose(
        [RandomElasticDeform(2, 4, size=24), v2.RandomHorizontalFlip(p=1), v2.ToDtype(torch.float32, scale=True)]
    )
    image, mask = pipeline(made("image"), made("mask"))
    assert image.shape == (3, 24, 24)
    assert image.dtype == torch.float32
    assert type(mask) is tv_tensors.Mask
    assert mask.dtype == torch.int64


def test_gradients_of_images():
    image = torch.rand(3, *SIZE, requires_grad=True)
    RandomElasticDeform(2)(image).sum().backward()
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_wrong_probabilities(p):
    with pytest.raises(ValueError, match=r"^p: got"):
        RandomElasticDeform(2, p=p)


def test_workers():
    hosts.check_samples("torchvision")
