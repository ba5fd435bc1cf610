"""The transforms for MONAI, in its pipelines, with its metadata and records of transforms."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
import hosts  # noqa: E402

hosts.require("monai")

from monai.data import CacheDataset, MetaTensor, ThreadDataLoader, decollate_batch, list_data_collate  # noqa: E402
from monai.data.meta_obj import set_track_meta  # noqa: E402
from monai.transforms import Compose, Flipd, Invertd, RandFlipd, Spacingd  # noqa: E402

import elasticnd  # noqa: E402
from elasticnd._adapters.draws import Drawn  # noqa: E402
from elasticnd.monai import RandElasticDeform, RandElasticDeformd  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # from MONAI
SHAPE = (20, 24, 16)
AFFINE = torch.tensor([[2.0, 0, 0, 5], [0, 3, 0, -7], [0, 0, 1, 2], [0, 0, 0, 1]], dtype=torch.float64)
OPTIONS = {
    "grid": {},
    "all": {"rotate": 15, "zoom": (0.9, 1.1), "mirror": (0, 1, 2), "fold": "scale"},
    "patch": {"rotate": 15, "roi_size": (8, -1, 10)},
}


def sample(shape=SHAPE, *, track=True):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((2, *shape), generator=generator)
    label = torch.randint(0, 4, (1, *shape), generator=generator, dtype=torch.uint8)
    if track:
        affine = AFFINE if len(shape) == 3 else AFFINE[np.ix_([0, 1, 3], [0, 1, 3])]
        image = MetaTensor(image, affine=affine, meta={"filename_or_obj": "a.nii"})
        label = MetaTensor(label, affine=affine)
    return {"image": image, "label": label, "name": "x", "number": 3}


def transform(prob=1.0, seed=0, **options):
    made = RandElasticDeformd(
        ["image", "label"], 1.5, 4, prob, mode=[3, "labels"], padding_mode=["reflection", "border"], **options
    )
    return made.set_random_state(seed)


def bare(tensor):
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def record_of(image):
    return image.applied_operations[-1]["extra_info"]


@pytest.mark.parametrize("track", [True, False], ids=["metadata", "tensors"])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2], (*SHAPE[:2], 1)], ids=["3-D", "2-D", "2-D as volume"])
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_the_recorded_deformation(options, shape, track):
    chosen = dict(OPTIONS[options])
    if "mirror" in chosen:
        chosen["mirror"] = tuple(range(len(shape)))
    if "roi_size" in chosen:
        chosen["roi_size"] = (8, -1, 10 if shape[-1] > 1 else 1)[: len(shape)]
    given = sample(shape, track=track)
    before = copy.deepcopy(given)
    result = transform(**chosen)(given)
    record = record_of(result["image"])
    deformation = elasticnd.Deformation(record["displacement"], shape, affine=record["affine"])
    window = tuple(slice(s, s + e) for s, e in zip(record["start"], record["extent"], strict=True))
    axes = tuple(range(1, 1 + len(shape)))
    images = [bare(given[key]) for key in ("image", "label")]
    expected = deformation.apply(images, [3, "labels"], ["reflect", "nearest"], crop=window, axis=[axes, axes])
    for key, other in zip(("image", "label"), expected, strict=True):
        assert torch.equal(bare(result[key]), other)
        assert result[key].dtype == given[key].dtype
        assert torch.equal(bare(given[key]), bare(before[key]))
        assert np.array_equal(record_of(result[key])["displacement"], record["displacement"])
    assert (result["name"], result["number"]) == ("x", 3)
    if track:
        assert given["image"].applied_operations == []
        assert result["image"].meta["filename_or_obj"] == "a.nii"


def test_a_grid_alone_is_that_of_deform_grid():
    given = sample()
    result = transform()(given)["image"]
    expected = elasticnd.deform_grid(
        bare(given["image"]), record_of(result)["displacement"], mode="reflect", axis=(1, 2, 3)
    )
    assert torch.equal(bare(result), expected)


def test_the_grid_is_drawn_from_the_state_of_the_transform():
    record = record_of(transform(seed=7)(sample())["image"])
    state = np.random.RandomState(7)
    state.rand()
    state.random_sample((1,))
    np.testing.assert_array_equal(record["displacement"], 1.5 * state.standard_normal((3, 4, 4, 4)))


def test_affine_matrices_follow_patches():
    given = sample()["image"]
    result = transform(roi_size=(8, -1, 10))(sample())["image"]
    start = record_of(result)["start"]
    assert start.any()
    first = torch.tensor([*start, 1.0], dtype=torch.float64)
    assert torch.equal(result.affine @ torch.tensor([0.0, 0, 0, 1], dtype=torch.float64), given.affine @ first)
    assert torch.equal(transform()(sample())["image"].affine, given.affine)


def test_probability():
    deform = transform(prob=0.3)
    results = [deform(sample())["image"] for _ in range(100)]
    records = [record_of(result) for result in results]
    are_deformed = [record["displacement"].any() for record in records]
    assert 20 < sum(are_deformed) < 40
    kept = results[are_deformed.index(False)]
    assert torch.equal(bare(kept), bare(sample()["image"]))
    assert len({str([(key, np.shape(value)) for key, value in record.items()]) for record in records}) == 1


def test_arrays_become_tensors_with_metadata():
    given = {"image": np.random.default_rng(0).random((1, *SHAPE)), "label": np.zeros((1, *SHAPE), np.int16)}
    result = transform()(given)
    assert type(result["image"]) is MetaTensor
    assert result["image"].dtype == torch.float64
    assert result["label"].dtype == torch.int16


def test_without_metadata():
    set_track_meta(False)
    try:
        result = transform()(sample(track=False))
    finally:
        set_track_meta(True)
    assert type(result["image"]) is torch.Tensor
    assert torch.equal(result["image"], bare(transform()(sample())["image"]))


def test_missing_keys():
    given = sample()
    del given["label"]
    with pytest.raises(KeyError, match="label"):
        transform()(given)
    result = transform(allow_missing_keys=True)(given)
    assert torch.equal(bare(result["image"]), bare(transform()(sample())["image"]))
    nothing = transform(allow_missing_keys=True)
    state = nothing.R.get_state()[1].copy()
    assert nothing({"name": "x"}) == {"name": "x"}
    assert np.array_equal(nothing.R.get_state()[1], state)


def test_different_shapes_are_refused_before_anything_is_drawn():
    given = sample()
    given["label"] = torch.zeros(1, 20, 24, 17)
    deform = transform()
    state = deform.R.get_state()[1].copy()
    with pytest.raises(ValueError, match=r"data\['label'\]: got spatial shape \(20, 24, 17\), expected \(20, 24, 16\)"):
        deform(given)
    assert np.array_equal(deform.R.get_state()[1], state)


def test_transforms_can_be_copied_and_shown():
    deform = transform(rotate=(-5, 10), roi_size=8)
    expected = transform(rotate=(-5, 10), roi_size=8)(sample())["image"]
    for other in (copy.deepcopy(deform), pickle.loads(pickle.dumps(deform))):  # noqa: S301
        assert torch.equal(bare(other(sample())["image"]), bare(expected))
    assert "keys=('image', 'label')" in repr(deform)
    assert "sigma=1.5, points=4, rotate=(-5, 10)" in repr(deform)
    assert "roi_size=8" in repr(deform)


def test_the_twin_for_arrays():
    expected = transform()(sample())["image"]
    deform = RandElasticDeform(1.5, 4, 1.0, padding_mode="reflection").set_random_state(0)
    result = deform(sample()["image"])
    assert torch.equal(bare(result), bare(expected))
    assert len(result.applied_operations) == 1
    assert torch.equal(bare(deform(sample()["image"], randomize=False)), bare(expected))
    assert not torch.equal(bare(deform(sample()["image"])), bare(expected))
    with pytest.raises(ValueError, match="randomize: got False, expected True in the first call"):
        RandElasticDeform()(sample()["image"], randomize=False)


REPLAY = """
import sys
import numpy as np
from elasticnd._adapters.draws import Drawn
held = dict(np.load(sys.argv[1]))
image = held.pop("image")
print(Drawn.replay(held).apply([image], [3], "reflect", 0, [(1, 2, 3)])[0].tobytes().hex())
"""


def test_records_replay_in_another_process(tmp_path):
    given = sample()
    result = transform(**OPTIONS["all"], roi_size=(8, -1, 10))(given)["image"]
    record = {
        name: value for name, value in record_of(result).items() if name in Drawn.replay(record_of(result)).record()
    }
    np.savez(tmp_path / "record.npz", image=given["image"].numpy(), **record)
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, tmp_path / "record.npz"],
        cwd=tmp_path,  # the checkout has a package without the compiled module
        capture_output=True,
        text=True,
        check=True,
    )
    assert bytes.fromhex(done.stdout) == bare(result).numpy().tobytes()


def test_in_a_lazy_pipeline():
    keys = ["image", "label"]
    steps = [Flipd(keys, 0), Spacingd(keys, (2.0, 2.0, 2.0), mode=["bilinear", "nearest"])]
    deform = transform()
    pipeline = Compose([*steps, deform], lazy=True)  # reseeds its transforms
    deform.set_random_state(0)
    lazy = pipeline(sample())
    expected = transform()(Compose(steps, lazy=True)(sample()))
    assert torch.equal(bare(lazy["image"]), bare(expected["image"]))
    assert not lazy["image"].pending_operations
    assert lazy["image"].applied_operations[-1]["class"] == "RandElasticDeformd"


def test_pending_operations_are_warned_of():
    given = sample()
    given["image"] = Flipd("image", 0, lazy=True)(given)["image"]
    with pytest.warns(UserWarning, match="data\\['image'\\] has pending operations"):
        transform()(given)


def test_batches_of_samples_that_are_deformed_or_not():
    deform = transform(prob=0.5)
    samples = [deform(sample()) for _ in range(6)]
    batch = list_data_collate(samples)
    assert batch["image"].shape == (6, 2, *SHAPE)
    for single, again in zip(samples, decollate_batch(batch), strict=True):
        assert torch.equal(bare(single["image"]), bare(again["image"]))
        records = [record_of(one["image"]) for one in (single, again)]
        np.testing.assert_array_equal(*(np.asarray(record["displacement"]) for record in records))


def test_caches_and_threads():
    deform = Compose([Flipd(["image", "label"], 0), transform()])
    data = CacheDataset([sample() for _ in range(4)], deform, progress=False, num_workers=None)
    first, second = data[0]["image"], data[0]["image"]
    assert not torch.equal(bare(first), bare(second)), "only deterministic transforms are cached"
    loader = ThreadDataLoader(data, num_workers=0, batch_size=2, buffer_size=2)
    batches = [batch["image"] for batch in loader]
    assert [tuple(batch.shape) for batch in batches] == [(2, 2, *SHAPE)] * 2


def test_threads_do_not_share_what_was_drawn():
    data = CacheDataset([sample() for _ in range(8)], transform(), progress=False, num_workers=None)
    loader = ThreadDataLoader(
        data, num_workers=2, use_thread_workers=True, batch_size=1, collate_fn=lambda batch: batch[0]
    )
    for one in loader:
        record = record_of(one["image"])
        deformation = elasticnd.Deformation(record["displacement"], SHAPE)
        expected = deformation.apply(bare(sample()["image"]), 3, "reflect", axis=(1, 2, 3))
        assert torch.equal(bare(one["image"]), expected)


def test_seeds_of_pipelines():
    def run():
        pipeline = Compose([transform(seed=None), RandFlipd("image", 0.5, 0)]).set_random_state(3)
        return [bare(pipeline(sample())["image"]) for _ in range(2)]

    first, second = run(), run()
    assert all(map(torch.equal, first, second))
    assert not torch.equal(*first)


@pytest.mark.parametrize("options", [{"mode": "cubic"}, {"padding_mode": "around"}, {"roi_size": 30}, {"sigma": -1}])
def test_wrong_options(options):
    with pytest.raises((TypeError, ValueError), match=r"got .*expected"):
        RandElasticDeformd("image", **{"prob": 1, **options})(sample())


# ---- inverses --------------------------------------------------------------------------------------------------------

SMOOTH = (40, 44, 36)  # 5 control points are at least 8.75 voxels apart


def smooth_sample():
    image, label = hosts.smooth_sample(SMOOTH)
    affine = AFFINE.clone()
    return {
        "image": MetaTensor(torch.tensor(image)[None], affine=affine),
        "label": MetaTensor(torch.tensor(label)[None]),
    }


def inverting(**options):
    return RandElasticDeformd(["image", "label"], 0.12 * 8.75, 5, 1.0, mode=[3, "labels"], **options).set_random_state(
        1
    )


@pytest.mark.parametrize("options", [{}, {"rotate": 5, "zoom": (0.95, 1.05), "mirror": (0, 1)}], ids=["grid", "affine"])
@pytest.mark.parametrize("way", ["inverse", "Compose", "Invertd", "decollated"])
def test_inverses_restore_image_and_label(way, options):
    given = smooth_sample()
    deform = inverting(**options)
    pipeline = Compose([Flipd(["image", "label"], 0), deform])
    result = pipeline(given)
    assert len(result["image"].applied_operations) == 2
    if way == "inverse":
        held = copy.deepcopy(result)
        once = deform.inverse(result)
        assert len(result["image"].applied_operations) == 2, "the input must not change"
        assert torch.equal(bare(result["image"]), bare(held["image"]))
        restored = pipeline.transforms[0].inverse(once)
    elif way == "Compose":
        restored = pipeline.inverse(result)
    elif way == "Invertd":
        prediction = {"pred": result["label"].clone(), "label": result["label"], "image": result["image"]}
        nearest = Invertd("pred", pipeline, orig_keys="image", nearest_interp=True)(prediction)["pred"]
        assert set(bare(nearest).unique().tolist()) == {0, 1}, "nearest_interp replaces the order 3 of the image"
        inverted = Invertd("pred", pipeline, orig_keys="label", nearest_interp=True)(prediction)
        restored = pipeline.inverse(result) | {"label": inverted["pred"]}
    else:
        restored = pipeline.inverse(decollate_batch(list_data_collate([result]))[0])
    hosts.check_restored(
        *(bare(one)[0].numpy() for held in (given, restored) for one in (held["image"], held["label"]))
    )
    if way != "Invertd":
        assert restored["image"].applied_operations == []
    torch.testing.assert_close(restored["image"].affine, AFFINE)


def test_inverses_of_patches():
    given = smooth_sample()
    deform = inverting(roi_size=(30, 30, 30), cval=7.0)
    result = deform(given)
    assert result["image"].affine[:3, 3].tolist() != AFFINE[:3, 3].tolist()
    restored = deform.inverse(result)["image"]
    assert restored.shape == given["image"].shape
    torch.testing.assert_close(restored.affine, AFFINE)
    start = record_of(result["image"])["start"]
    middle = (0, *(slice(first + 8, first + 22) for first in start))
    assert (bare(restored)[middle] - bare(given["image"])[middle]).abs().max() < 2e-2
    corners = [bare(restored)[0][index] for index in ((0, 0, 0), (-1, -1, -1))]
    assert max(corners) > 6.9


def test_inverses_of_samples_that_were_not_deformed():
    for options in ({}, {"roi_size": (30, 30, 30)}):
        deform = RandElasticDeformd("image", 1, 5, 0.0, cval=5.0, **options)
        result = deform(smooth_sample())
        restored = deform.inverse(result)["image"]
        kept = bare(restored) != 5
        assert torch.equal(bare(restored)[kept], bare(smooth_sample()["image"])[kept])
        assert kept.sum() == np.prod(options.get("roi_size", SMOOTH))
        assert restored.applied_operations == []


def test_inverses_of_folded_maps_warn():
    deform = RandElasticDeformd("image", 12, 5, 1.0).set_random_state(0)
    result = deform(smooth_sample())
    with pytest.warns(UserWarning, match=r"folds: \d+ of 63360 voxels were not found, with a residual of up to"):
        deform.inverse(result)
    unfolded = RandElasticDeformd("image", 12, 5, 1.0, fold="scale").set_random_state(0)
    unfolded.inverse(unfolded(smooth_sample()))


def test_the_inverse_of_the_twin_for_arrays():
    image = smooth_sample()["image"]
    deform = RandElasticDeform(1, 5, 1.0).set_random_state(0)
    restored = deform.inverse(deform(image))
    hosts.check_restored(*(bare(one)[0].numpy() for one in (image, image > 0.5, restored, restored > 0.5)))
    assert restored.applied_operations == []


def test_workers():
    hosts.check_samples("monai")
