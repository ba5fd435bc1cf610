"""Plans of the CUDA engine: repeated calls give the same bits and need little time and memory."""

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import host_device
import ml_dtypes
import numpy as np
import pytest
from cuda_stubs import MATRIX, SHAPES, CupyArray, on_cuda, recording_device
from tables import values

import elasticnd
from elasticnd import _job, _modes, _recall, _spec
from elasticnd._bridges import eager
from elasticnd._engines import cuda
from elasticnd._engines.cuda import plans
from elasticnd._engines.cuda import scratch as scratch_memory

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")


PLANNED = {
    "order 0": {"order": 0},
    "order 1": {"order": 1, "mode": "nearest"},
    "padded": {"order": 3, "mode": "nearest"},
    "rotated": {"order": 2, "rotate": 30, "mode": "mirror"},
    "affine": {"order": 3, "affine": MATRIX},
    "cropped": {"order": 5, "crop": (slice(3, 20), slice(1, 30)), "mode": "wrap"},
    "large grid": {"order": 1, "points": 70},
    "two images": {"order": 3, "images": 2},
}


PACKAGE = str(Path(elasticnd.__file__).parent)
COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}


def without_plans(monkeypatch):
    monkeypatch.setattr(cuda, "run_planned", lambda compute, job, arrays: compute(job, arrays))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", PLANNED)
def test_planned_calls(name, dtype, monkeypatch, rng):
    """A call with a plan gives the same bits as one without, even if its arrays are at other addresses."""
    options = dict(PLANNED[name])
    points, count = options.pop("points", 4), options.pop("images", 1)

    def call(seed):
        rng = np.random.default_rng(seed)
        images = [values(rng, SHAPES[2], np.dtype(dtype)) for _ in range(count)]
        return elasticnd.deform_grid(images, rng.uniform(-5, 5, (2, points, points)), **options)

    with host_device.installed():
        planned = [call(seed) for seed in (1, 2, 3)]
        assert plans.plan_of.cache_info().misses == 1
        without_plans(monkeypatch)
        for seed, ours in enumerate(planned, 1):
            for one, other in zip(ours, call(seed), strict=True):
                assert one.tobytes() == other.tobytes()


PLANNED_GRADIENTS = {**{name: PLANNED[name] for name in ("order 0", "order 1", "padded", "cropped", "large grid")}}


PLANNED_GRADIENTS |= {"affine": PLANNED["affine"] | {"mode": "mirror"}, "one point": {"order": 2, "points": 1}}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", PLANNED_GRADIENTS)
def test_planned_gradients(name, dtype, monkeypatch, rng):
    options = dict(PLANNED_GRADIENTS[name])
    points = options.pop("points", 4)
    shape = elasticnd.deform_grid(np.zeros(SHAPES[2]), np.zeros((2, points, points)), **options).shape

    def call(seed):
        rng = np.random.default_rng(seed)
        weight, image = values(rng, shape, np.dtype(dtype)), values(rng, SHAPES[2], np.dtype(dtype))
        return elasticnd.deform_grid_vjp(weight, image, rng.uniform(-5, 5, (2, points, points)), **options)

    with host_device.installed():
        planned = [call(seed) for seed in (1, 2, 3)]
        assert plans.plan_of.cache_info().misses == 1
        without_plans(monkeypatch)
        for seed, ours in enumerate(planned, 1):
            for one, other in zip(ours, call(seed), strict=True):
                assert (one is None and other is None) or one.tobytes() == other.tobytes()


VOLUMES = {
    "values": (cuda._sample_flat, 2),
    "gradient of the image": (cuda._adjoint_flat, 1),
    "gradients": (cuda._adjoint_flat, 2),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", VOLUMES)
def test_scratch_memory_is_used_again(name, dtype, stubbed):
    """The passes of the prefilter alternate between two buffers, one of which becomes the result."""
    compute, volumes = VOLUMES[name]
    job = _job.make_job(
        image=(64,) * 3,
        grid_shape=(5,) * 3,
        order=3,
        mode=_modes.Mode.MIRROR,
        prefilter=True,
        dtype=np.dtype(dtype).name,
        compute_dtype=np.dtype(dtype).name,
    )
    volume = (64,) * 3, np.dtype(dtype)
    displacement = (3, 5, 5, 5), np.dtype(np.float64)
    kinds = (displacement, None, volume, volume)
    if compute is not cuda._sample_flat:
        both = name.startswith("gradients")
        kinds = (displacement, None, volume, volume if both else None, volume, displacement if both else None, None)
    rows = 3 * 64**2 * 7 * 8 if name.startswith("gradients") else 0
    size = np.dtype(dtype).itemsize * 64**3
    scratch = plans.plan_of(compute, plans._Same(job), kinds, None).scratch
    assert volumes * size + rows <= scratch < (volumes + 0.05) * size + rows * 1.3


@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8], ids=lambda dtype: dtype.__name__)
def test_items_of_a_batch_are_filtered_some_at_a_time(dtype, matrices, monkeypatch, rng):
    """Filtering only some items at a time limits the memory to that of these items, and does not change the bits."""
    images = values(rng, (2, 3, 2, 20, 30), np.dtype(dtype))
    grids = rng.uniform(-3, 3, (2, 3, 2, 3, 4))
    options = {"axis": (3, 4), "mode": "nearest"}
    if matrices:
        options["affine"] = MATRIX + rng.uniform(-0.1, 0.1, (2, 3, 1, 1))
    whole = on_cuda(elasticnd.deform_grid, images, grids, **options)
    for items in (1, 4):
        monkeypatch.setattr(cuda, "_BYTES_TOGETHER", items * 2 * 20 * 30 * 4)
        device, launched = recording_device()
        with host_device.installed(device):
            assert elasticnd.deform_grid(images, grids, **options).tobytes() == whole.tobytes()
        assert sum(kernel.startswith("sample<") for kernel in launched) == -(-6 // items)


def test_memory_is_lent_until_none_is_left():
    lend = scratch_memory.lender(4096, 1000, "buffer", lambda size: (0, "more"))
    first, second = lend(300), lend(488)
    assert [first[0], second[0]] == [4096, 4096 + 512]
    assert second[1][1] == "buffer"
    assert lend(1) == (0, "more")
    assert lend(2000) == (0, "more")
    del first
    assert lend(500)[0] == 4096


def test_layout_of_scratch_memory(rng):
    """Parts in use at the same time do not overlap, and freed bytes are reused first."""
    scratch, used = scratch_memory.Scratch(), {}
    for step in range(500):
        if used and rng.random() < 0.5:
            begin = list(used)[rng.integers(len(used))]
            scratch.give_back(begin, used.pop(begin))
        else:
            size = int(rng.integers(1, 9))
            begin = scratch.take(size)
            assert all(begin + size <= other or other + extent <= begin for other, extent in used.items()), step
            used[begin] = size
        assert scratch.size >= sum(used.values())
    while used:
        scratch.give_back(*used.popitem())
    size = scratch.size
    assert scratch.take(size) == 0
    assert scratch.size == size


@pytest.fixture
def stubbed(monkeypatch):
    """Return a CuPy device that only records launches."""
    device = host_device.HostDevice()
    device.xp = SimpleNamespace(empty=lambda shape, dtype: np.empty(shape, dtype).view(CupyArray))
    device.launched = []
    device.launch = lambda kernel, *rest, **options: device.launched.append(kernel)
    monkeypatch.setattr(_recall, "known_bridge", {np.ndarray: eager, CupyArray: eager}.get)
    monkeypatch.setattr(_recall, "engine_of", lambda array: cuda)
    with host_device.installed(device):
        yield device


def small_call(rng):
    image, displacement = rng.random((16, 16)), rng.uniform(-2, 2, (2, 5, 5))
    return partial(elasticnd.deform_grid, image.view(CupyArray), displacement.view(CupyArray), mode="mirror")


def steps_of(call):
    """Return the functions of the package that a call enters.

    Other functions do not count: some belong to the stand-ins, and some versions of Python enter one per comprehension.
    """
    entered = []

    def note(frame, event, what):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name not in COMPREHENSIONS:
            entered.append(code.co_name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return entered


@pytest.mark.quick
def test_a_small_call_takes_few_steps_on_the_host(stubbed, rng):
    """The number of called functions, unlike time, does not depend on the machine. Without plans it is 123."""
    call = small_call(rng)
    assert type(call()) is CupyArray
    steps = steps_of(call)
    once = ["grid_coefficients", "filter", "filter", "sample"]
    assert [kernel.partition("<")[0] for kernel in stubbed.launched] == ["tabulate", *once, *once]
    # The number must not grow: each step takes more than half a microsecond, and all of them 22.
    assert len(steps) <= 32, steps


@pytest.mark.quick
def test_a_small_gradient_takes_few_steps_on_the_host(stubbed, rng):
    """The number of steps is 335 without plans."""
    stubbed.xp = np
    arrays = *rng.random((2, 16, 16)), rng.uniform(-2, 2, (2, 5, 5))
    call = partial(elasticnd.deform_grid_vjp, *arrays, mode="mirror")
    call()
    steps = steps_of(call)
    assert len(stubbed.launched) == 1 + 2 * 12
    assert len(steps) <= 94, steps


def test_arrays_of_two_devices_are_not_recalled(stubbed, rng):
    image, displacement = (array.view(CupyArray) for array in (rng.random((16, 16)), rng.uniform(-2, 2, (2, 5, 5))))
    options = _spec.Options()
    assert _recall.recall(image, displacement, None, options) is not None
    displacement.device = SimpleNamespace(id=1)
    assert _recall.recall(image, displacement, None, options) is None
