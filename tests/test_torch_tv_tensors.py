"""The tensors of torchvision, in functions, layers and torchvision's transforms.

`test_torch_tensors.py` tests similar subclasses in environments without torchvision.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import hosts  # noqa: E402

hosts.require("torchvision")

from torchvision import tv_tensors  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

import elasticnd  # noqa: E402
import elasticnd.torch  # noqa: E402

SIZE = (32, 40)
BOTH = {"order": [3, 0], "axis": [(1, 2), (0, 1)]}


@pytest.fixture
def image():
    return tv_tensors.Image(torch.rand(3, *SIZE))


@pytest.fixture
def mask():
    return tv_tensors.Mask(torch.randint(0, 4, SIZE))


@pytest.fixture
def grid(rng):
    return torch.tensor(2 * rng.standard_normal((2, 3, 3)))


def plain(tensor):
    return tensor.as_subclass(torch.Tensor)


def both_as(results, expected):
    assert [type(result) for result in results] == [tv_tensors.Image, tv_tensors.Mask]
    assert all(torch.equal(plain(result), plain(other)) for result, other in zip(results, expected, strict=True))


CALLS = {
    "deform_grid": lambda images, grid: elasticnd.deform_grid(images, grid, **BOTH),
    "torch.deform_grid": lambda images, grid: elasticnd.torch.deform_grid(images, grid, **BOTH),
    "Deformation.apply": lambda images, grid: elasticnd.Deformation(grid, SIZE).apply(images, **BOTH),
    "layer": lambda images, grid: elasticnd.torch.ElasticDeform(grid, axis=(-2, -1), order=(3, 0))(*images),
    "random": lambda images, grid: elasticnd.deform_random_grid(images, 2, rng=0, **BOTH),
    "compiled": lambda images, grid: torch.compile(
        lambda images: elasticnd.deform_grid(images, grid, **BOTH), backend="eager"
    )(images),
}


@pytest.mark.parametrize("call", CALLS)
def test_images_and_masks_keep_their_classes(call, image, mask, grid):
    torch._dynamo.reset()
    both_as(CALLS[call]([image, mask], grid), CALLS[call]([plain(image), plain(mask)], grid))


def test_videos(grid):
    video = tv_tensors.Video(torch.rand(5, 3, *SIZE))
    result = elasticnd.deform_grid(video, grid, axis=(2, 3))
    assert type(result) is tv_tensors.Video
    assert torch.equal(plain(result), elasticnd.deform_grid(plain(video), grid, axis=(2, 3)))


def test_coordinates_are_refused(image, grid):
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[1.0, 2, 10, 12]]), format="XYXY", canvas_size=SIZE)
    with pytest.raises(TypeError, match=r"^X: got .*BoundingBoxes.*coordinates"):
        elasticnd.deform_grid(boxes, grid)
    with pytest.raises(TypeError, match=r"^X\[1\]: got .*BoundingBoxes.*coordinates"):
        elasticnd.deform_grid([image, boxes], grid, **BOTH)


def test_gradients(image, grid):
    def gradient(one):
        leaf = grid.clone().requires_grad_()
        plain(elasticnd.deform_grid(one, leaf, axis=(1, 2))).square().sum().backward()
        return leaf.grad

    assert torch.equal(gradient(image), gradient(plain(image)))
    assert type(elasticnd.deform_grid_gradient(image, grid, axis=(1, 2))) is tv_tensors.Image
    source = plain(image).clone().requires_grad_()
    elasticnd.deform_grid(tv_tensors.Image(source), grid, axis=(1, 2)).sum().backward()
    expected = elasticnd.deform_grid_gradient(torch.ones_like(source), grid, axis=(1, 2))
    torch.testing.assert_close(source.grad, expected)


def test_transforms_after_a_layer_change_image_and_mask_alike(image, mask):
    layer = elasticnd.torch.ElasticDeform(sigma=2, order=(3, 0), axis=(-2, -1), per_sample=False)
    flipped = v2.Compose([layer, v2.RandomHorizontalFlip(p=1.0)])
    torch.manual_seed(0)
    results = flipped(image, mask)
    torch.manual_seed(0)
    both_as(results, [plain(one).flip(-1) for one in layer(image, mask)])
    assert not np.array_equal(results[1], mask)
