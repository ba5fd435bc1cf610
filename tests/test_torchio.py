"""The transforms for TorchIO, in its pipelines, with its history of transforms."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import hosts  # noqa: E402

tio = hosts.require("torchio")

import elasticnd  # noqa: E402
from elasticnd.torchio import ElasticGrid, RandomElasticGrid  # noqa: E402

SHAPE = (20, 24, 16)
AFFINE = np.array([[2.0, 0, 0, 5], [0, 0, 3, -7], [0, 1, 0, 2], [0, 0, 0, 1]])  # spacing 2, 1, 3
AXES = (1, 2, 3)
OPTIONS = {
    "grid": {},
    "all": {"rotate": 15, "zoom": (0.9, 1.1), "mirror": (0, 1, 2), "fold": "scale"},
    "patch": {"rotate": 15, "patch_size": (8, -1, 10)},
}


def subject(shape=SHAPE, **more):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, *shape), generator=generator)
    label = torch.randint(0, 4, (1, *shape), generator=generator, dtype=torch.uint8)
    images = {"image": tio.ScalarImage(tensor=image, affine=AFFINE), "label": tio.LabelMap(tensor=label, affine=AFFINE)}
    return tio.Subject(**images, name="x", number=3, **more)


def transform(**options):
    return RandomElasticGrid(**{"sigma": 2, "points": 4, **options})


def deformed(*, seed=0, of=None, **options):
    torch.manual_seed(seed)
    return transform(**options)(subject() if of is None else of)


def record_of(result):
    (one,) = result.get_applied_transforms()
    assert type(one) is ElasticGrid
    return one.record


@pytest.mark.parametrize("options", OPTIONS)
def test_equals_the_recorded_deformation(options):
    given = subject()
    before = copy.deepcopy(given)
    result = deformed(of=given, **OPTIONS[options])
    record = record_of(result)
    deformation = elasticnd.Deformation(record["displacement"], SHAPE, affine=record["affine"])
    window = tuple(slice(s, s + e) for s, e in zip(record["start"], record["extent"], strict=True))
    images = [given.image.data, given.label.data]
    expected = deformation.apply(images, [3, "labels"], "nearest", crop=window, axis=[AXES, AXES])
    for name, other in zip(("image", "label"), expected, strict=True):
        assert torch.equal(result[name].data, other)
        assert type(result[name]) is type(given[name])
        assert torch.equal(given[name].data, before[name].data)
        np.testing.assert_array_equal(given[name].affine, AFFINE)
        first = np.array([*record["start"], 1])
        np.testing.assert_array_equal(result[name].affine @ [0, 0, 0, 1], AFFINE @ first)
        np.testing.assert_array_equal(result[name].affine[:3, :3], AFFINE[:3, :3])
    assert (result["name"], result["number"]) == ("x", 3)


def test_sigma_is_in_mm_and_drawn_from_the_global_generator():
    record = record_of(deformed(seed=7))
    torch.manual_seed(7)
    torch.rand(1)  # TorchIO draws whether to apply the transform
    torch.rand(1, dtype=torch.float64)
    normal = torch.randn((3, 4, 4, 4), dtype=torch.float64).numpy()
    expected = normal * (2 / np.array([2.0, 1, 3])).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(record["displacement"], expected, rtol=1e-15)


def test_a_grid_alone_is_that_of_deform_grid():
    result = deformed()
    expected = elasticnd.deform_grid(
        subject().image.data, np.array(record_of(result)["displacement"]), mode="nearest", axis=AXES
    )
    assert torch.equal(result.image.data, expected)


def test_label_maps_are_those_of_the_host():
    image = torch.arange(20 * 24 * 16, dtype=torch.int32).reshape(1, *SHAPE)
    given = tio.Subject(numbers=tio.ScalarImage(tensor=image), labels=tio.LabelMap(tensor=image.float()))
    result = deformed(of=given)
    record = record_of(result)
    deform = elasticnd.Deformation(record["displacement"], SHAPE).apply
    assert torch.equal(result.numbers.data, deform(image, 3, "nearest", axis=AXES))
    assert torch.equal(result.labels.data, deform(image.float(), "labels", "nearest", axis=AXES))


def test_history_replays():
    result = deformed(**OPTIONS["all"], patch_size=(8, -1, 10))
    again = result.get_composed_history()(subject())
    for name in ("image", "label"):
        assert torch.equal(again[name].data, result[name].data)
        np.testing.assert_array_equal(again[name].affine, result[name].affine)


REPLAY = """
import json, sys
import numpy as np, torch, torchio
import elasticnd.torchio
image = torch.from_numpy(np.load(sys.argv[1]))
transform = elasticnd.torchio.ElasticGrid(**json.load(open(sys.argv[2])))
print(transform(torchio.ScalarImage(tensor=image)).numpy().tobytes().hex())
"""


def test_history_is_json_and_replays_in_another_process(tmp_path):
    result = deformed(**OPTIONS["all"])
    ((name, arguments),) = result.applied_transforms
    assert name == "ElasticGrid"
    (tmp_path / "history.json").write_text(json.dumps(arguments))
    np.save(tmp_path / "image.npy", subject().image.numpy())
    command = [sys.executable, "-W", "ignore", "-c", REPLAY, tmp_path / "image.npy", tmp_path / "history.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert bytes.fromhex(done.stdout) == result.image.numpy().tobytes()


def test_names_of_classes_are_those_of_no_other_transform():
    names = [kind.__name__ for kind in vars(tio.transforms).values() if isinstance(kind, type)]
    assert not {"ElasticGrid", "RandomElasticGrid"} & set(names)


def test_probability():
    results = [deformed(seed=seed, p=0.3) for seed in range(60)]
    are_deformed = [bool(result.applied_transforms) for result in results]
    assert 8 < sum(are_deformed) < 30
    assert torch.equal(results[are_deformed.index(False)].image.data, subject().image.data)


def test_included_and_excluded_images():
    result = deformed(exclude=["label"])
    assert torch.equal(result.label.data, subject().label.data)
    assert torch.equal(result.image.data, deformed().image.data)
    assert torch.equal(deformed(include=["image"]).label.data, subject().label.data)
    nothing = deformed(include=["missing"])
    assert torch.equal(nothing.image.data, subject().image.data)
    assert not nothing.applied_transforms


def test_different_shapes_are_refused_before_anything_is_drawn():
    given = subject()
    given.add_image(tio.LabelMap(tensor=torch.zeros(1, 20, 24, 17)), "other")
    torch.manual_seed(0)
    with pytest.raises(
        ValueError,
        match=r"subject\['other'\]: got spatial shape \(20, 24, 17\), expected \(20, 24, 16\), that of 'image'",
    ):
        transform()(given)
    after = torch.rand(())
    torch.manual_seed(0)
    torch.rand(1)  # TorchIO draws whether to apply the transform
    assert torch.rand(()) == after


def test_records_of_other_shapes_are_refused():
    again = deformed().get_composed_history()
    with pytest.raises(
        ValueError, match=r"subject: got images of shape \(8, 8, 8\), expected \(20, 24, 16\), as recorded"
    ):
        again(torch.zeros(1, 8, 8, 8))


def test_pictures_are_volumes_of_one_slice():
    image = torch.rand(3, 20, 24, 1)
    torch.manual_seed(0)
    result = transform(rotate=10, mirror=(0,), zoom=(0.9, 1))(image)
    torch.manual_seed(0)
    subject_ = transform(rotate=10, mirror=(0,), zoom=(0.9, 1))(tio.Subject(image=tio.ScalarImage(tensor=image)))
    record = record_of(subject_)
    displacement, affine = np.array(record["displacement"]), np.array(record["affine"])
    flat = elasticnd.Deformation(displacement[:2, ..., 0], (20, 24), affine=affine[:2, [0, 1, 3]])
    expected = flat.apply(image[..., 0], mode="nearest", axis=(1, 2))
    torch.testing.assert_close(result[..., 0], expected, rtol=0, atol=1e-5)


def test_transforms_can_be_copied_and_shown():
    deform = transform(sigma=(3, 7), rotate=(-5, 10), patch_size=8)
    torch.manual_seed(1)
    expected = deform(subject())
    for other in (copy.deepcopy(deform), pickle.loads(pickle.dumps(deform))):  # noqa: S301
        torch.manual_seed(1)
        assert torch.equal(other(subject()).image.data, expected.image.data)
    assert "sigma=(3, 7), points=4, rotate=(-5, 10)" in repr(deform)
    (replay,) = expected.get_applied_transforms()
    assert torch.equal(pickle.loads(pickle.dumps(replay))(subject()).image.data, expected.image.data)  # noqa: S301
    assert repr(replay).startswith("ElasticGrid(record={'displacement': ")


def test_in_a_pipeline():
    pipeline = tio.Compose(
        [tio.RandomFlip(0, flip_probability=1), transform(patch_size=(8, 8, 8)), tio.RescaleIntensity()]
    )
    result = pipeline(subject())
    assert result.spatial_shape == (8, 8, 8)
    assert [one.name for one in result.get_applied_transforms()] == ["Flip", "ElasticGrid", "RescaleIntensity"]


# ---- inverses --------------------------------------------------------------------------------------------------------

SMOOTH = (40, 44, 36)  # 5 control points are at least 8.75 voxels apart


def smooth_subject():
    image, label = (torch.tensor(array)[None] for array in hosts.smooth_sample(SMOOTH))
    return tio.Subject(image=tio.ScalarImage(tensor=image), label=tio.LabelMap(tensor=label))


@pytest.mark.parametrize("options", [{}, {"rotate": 5, "zoom": (0.95, 1.05), "mirror": (0, 1)}], ids=["grid", "affine"])
def test_inverses_restore_image_and_label(options):
    given = smooth_subject()
    result = tio.Compose([tio.RandomFlip(0, flip_probability=1), transform(sigma=1, points=5, **options)])(given)
    restored = result.apply_inverse_transform()
    hosts.check_restored(*(one.data[0].numpy() for held in (given, restored) for one in (held.image, held.label)))
    assert restored.applied_transforms == []


def test_inverses_of_patches():
    given = smooth_subject()
    result = deformed(of=given, sigma=1, points=5, patch_size=30, cval=7)
    restored = result.apply_inverse_transform()
    assert restored.spatial_shape == SMOOTH
    np.testing.assert_allclose(restored.image.affine, given.image.affine, atol=1e-12)
    start = record_of(result)["start"]
    middle = (0, *(slice(first + 8, first + 22) for first in start))
    assert (restored.image.data[middle] - given.image.data[middle]).abs().max() < 2e-2
    replay = ElasticGrid(record_of(result))
    with pytest.raises(ValueError, match=r"subject: got images of shape \(40, 44, 36\), expected \(30, 30, 30\)"):
        replay.inverse()(given)


def test_inverses_of_folded_maps_warn():
    result = deformed(of=smooth_subject(), sigma=12, points=5)
    with pytest.warns(UserWarning, match=r"folds: \d+ of 63360 voxels were not found, with a residual of up to"):
        result.apply_inverse_transform()
    deformed(of=smooth_subject(), sigma=12, points=5, fold="scale").apply_inverse_transform()


def test_workers():
    hosts.check_samples("torchio")
