"""The transform for torchvision, in its pipelines and on its tensors."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import hosts  # noqa: E402

hosts.require("torchvision")

import PIL.Image  # noqa: E402
from torchvision import tv_tensors  # noqa: E402
from torchvision.ops import masks_to_boxes  # noqa: E402
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
    assert torch.rand(()) == after, "draws whether to apply, and the patch, but no grid"


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


# ---- boxes and key points --------------------------------------------------------------------------------------------

CANVAS = (96, 128)
CORNERS = torch.tensor([[30.0, 20, 60, 50], [70, 30, 110, 70], [20, 60, 50, 80]])
MOVES = {
    "grid": {},
    "affine": {"rotate": {(0, 1): (90, 90)}, "mirror": (0, 1)},
    "small rotation": {"zoom": (0.9, 1.1), "rotate": 3},
    "patch": {"size": (80, 100)},
}
needs_key_points = pytest.mark.skipif(
    not hasattr(tv_tensors, "KeyPoints"), reason="torchvision has no key points before 0.23"
)


def boxes_of(corners=CORNERS, format="XYXY", **options):
    converted = v2.functional.convert_bounding_box_format(
        corners, old_format=tv_tensors.BoundingBoxFormat.XYXY, new_format=tv_tensors.BoundingBoxFormat[format]
    )
    return tv_tensors.BoundingBoxes(converted, format=format, canvas_size=CANVAS, **options)


def masks_of(corners=CORNERS):
    masks = torch.zeros((len(corners), *CANVAS), dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, corners.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    return tv_tensors.Mask(masks)


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_those_of_deformed_masks(moves, seed):
    torch.manual_seed(seed)
    boxes, masks = RandomElasticDeform(3, 5, **MOVES[moves])(boxes_of(), masks_of())
    assert boxes.canvas_size == masks.shape[-2:]
    expected = masks_to_boxes(bare(masks)) + torch.tensor([0, 0, 1, 1])  # from inclusive indices to edges
    assert (bare(boxes) - expected).abs().max() <= 1


@pytest.mark.parametrize("format", ["XYXY", "XYWH", "CXCYWH"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_formats_and_dtypes_of_boxes(format, dtype):
    given = boxes_of(format=format)
    given = tv_tensors.wrap(bare(given).to(dtype), like=given)
    before = bare(given).clone()
    torch.manual_seed(0)
    result = RandomElasticDeform(4, 5)(given)
    torch.manual_seed(0)
    expected = v2.functional.convert_bounding_box_format(
        RandomElasticDeform(4, 5)(boxes_of()), new_format=tv_tensors.BoundingBoxFormat[format]
    )
    assert result.format.value == format
    assert result.dtype == dtype
    assert torch.equal(bare(given), before)
    torch.testing.assert_close(
        bare(result).double(), bare(expected).double(), rtol=0, atol=0.5001 if dtype == torch.int64 else 1e-4
    )


def test_boxes_are_clamped_and_removed_as_the_host_does():
    far = torch.tensor([[0.0, 0, 128, 96], [100, 70, 127, 95]])
    result = RandomElasticDeform(0, 1, zoom=(2, 2))(boxes_of(far))
    assert bare(result)[0].tolist() == [0, 0, 128, 96]
    width_and_height = bare(result)[1, 2:] - bare(result)[1, :2]
    assert (width_and_height == 0).any(), "a box should leave the image"
    sample = {"boxes": result, "labels": torch.tensor([1, 2])}
    assert v2.SanitizeBoundingBoxes()(sample)["labels"].tolist() == [1]
    if hasattr(result, "clamping_mode"):
        free = RandomElasticDeform(0, 1, zoom=(2, 2))(boxes_of(far, clamping_mode=None))
        assert free.clamping_mode is None
        torch.testing.assert_close(bare(free)[0], torch.tensor([-64.0, -48, 192, 144]), rtol=0, atol=1e-4)


def test_no_boxes():
    result = RandomElasticDeform(4, 5, size=64)(boxes_of(torch.zeros(0, 4)))
    assert result.shape == (0, 4)
    assert result.canvas_size == (64, 64)


@pytest.mark.skipif(not hasattr(tv_tensors, "KeyPoints"), reason="torchvision has no rotated boxes before 0.23")
def test_rotated_boxes_are_refused():
    rotated = tv_tensors.BoundingBoxes([[30.0, 20, 10, 20, 45]], format="XYWHR", canvas_size=CANVAS)
    with pytest.raises(ValueError, match="inputs: got boxes of format XYWHR, expected XYXY or XYWH or CXCYWH"):
        RandomElasticDeform(4, 5)(rotated)


@needs_key_points
@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("seed", range(3))
def test_key_points_are_centres_of_deformed_blobs(moves, seed):
    places = torch.tensor([[40.5, 30.5], [80.25, 60.75], [60.0, 45.0]])
    rows, columns = (torch.arange(extent, dtype=torch.float64) + 0.5 for extent in CANVAS)
    distances = [(rows[:, None] - y) ** 2 + (columns - x) ** 2 for x, y in places.tolist()]
    blobs = tv_tensors.Image(torch.stack([torch.exp(-distance / 2.9) for distance in distances]))
    points = tv_tensors.KeyPoints(places, canvas_size=CANVAS)
    torch.manual_seed(seed)
    blobs, points = RandomElasticDeform(2, 4, **MOVES[moves])(blobs, points)
    weights = bare(blobs) / bare(blobs).sum((1, 2), keepdim=True)
    rows, columns = (torch.arange(extent, dtype=torch.float64) + 0.5 for extent in weights.shape[1:])
    centres = torch.stack([(weights * columns).sum((1, 2)), (weights * rows[:, None]).sum((1, 2))], -1)
    assert points.canvas_size == weights.shape[1:]
    assert points.dtype == torch.float32
    assert (bare(points) - centres).abs().max() < 0.1


@needs_key_points
def test_key_points_of_any_shape():
    places = 10 + 80 * torch.rand((3, 4, 2), generator=torch.Generator().manual_seed(0))
    points = tv_tensors.KeyPoints(places, canvas_size=CANVAS)
    torch.manual_seed(0)
    result = RandomElasticDeform(4, 5)(points)
    torch.manual_seed(0)
    flat = RandomElasticDeform(4, 5)(tv_tensors.KeyPoints(places.reshape(-1, 2), canvas_size=CANVAS))
    assert torch.equal(bare(result).reshape(-1, 2), bare(flat))
    assert RandomElasticDeform(4, 5)(tv_tensors.KeyPoints(torch.zeros(0, 2), canvas_size=CANVAS)).shape == (0, 2)


def test_boxes_that_are_not_found_give_a_warning(monkeypatch):
    def move_boxes(_, b):
        return SimpleNamespace(boxes=b, converged=np.array([True, False, True]), residual=np.array([1e-7, 1.5, 1e-7]))

    monkeypatch.setattr(elasticnd.Deformation, "move_boxes", move_boxes)
    with pytest.warns(UserWarning, match=r"folds: 1 of 3 boxes was not found, with a residual of up to 1.5 voxels"):
        RandomElasticDeform(4, 5)(boxes_of())


def test_workers():
    hosts.check_samples("torchvision")
