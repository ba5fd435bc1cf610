"""The CUDA kernels, compiled for the host: a part of their instances against the core, and what only they have.

All of the tests of accuracy and gradients run on them by ``pytest --engine cuda-host``; the instances are compiled for
devices in test_nvrtc.py, and run on one in test_gpu.py.
"""

import contextlib
import importlib.machinery
import re
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import frameworks
import host_device
import ml_dtypes
import numpy as np
import pytest
import world_grids
from tables import DOUBLE, FLOATS, INTEGERS, MODES, ORDERS, SINGLE, values

import elasticnd
from elasticnd import _check, _core, _job, _modes, _recall, _spec
from elasticnd._autodiff import compute, operators
from elasticnd._autodiff.operators import Operands, Operator
from elasticnd._bridges import eager
from elasticnd._engines import cuda
from elasticnd._engines.cuda import call as calls
from elasticnd._engines.cuda import control_grid, devices, plans
from elasticnd._engines.cuda.compile import FOLDER, FUNCTIONS, TEMPLATES, source
from elasticnd._engines.cuda.devices import import_cupy

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on the path")

MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])
SHAPES = {1: (300,), 2: (41, 37), 3: (11, 9, 35), 5: (4, 3, 5, 3, 4)}


def on_cuda(function, *arguments, backward=False, **options):
    with host_device.installed(host_device.HostDevice(backward=backward)):
        return function(*arguments, **options)


def recording_device():
    """Return a device, and the list of kernels that are launched on it."""
    device, launched = host_device.HostDevice(), []
    launch = device.launch
    device.launch = lambda kernel, *rest, **options: launched.append(kernel) or launch(kernel, *rest, **options)
    return device, launched


def agree(ours, theirs, tolerance):
    assert ours.dtype == theirs.dtype
    scale = max(1.0, np.abs(theirs.astype(np.float64)).max(initial=0))
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale)


def tolerance(dtype):
    """Of float64, of float32, and the steps of narrow floats."""
    dtype = np.dtype(dtype)
    return {8: DOUBLE, 4: SINGLE, 2: 8e-3}[dtype.itemsize]


# ---- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3, 4])
def test_modes(order, mode, rng):
    image = rng.random(SHAPES[2])
    displacement = rng.uniform(-30, 30, (2, 3, 4))
    arguments = (image, displacement, order, mode, 0.3)
    agree(on_cuda(elasticnd.deform_grid, *arguments), elasticnd.deform_grid(*arguments), DOUBLE)


def dyadic(rng, axes):
    """A map to multiples of 1/64 of a voxel, at which the sums of votes are exact and often tied."""
    forward = np.zeros((axes, axes + 1))
    forward[np.arange(axes), rng.permutation(axes)] = rng.choice([0.5, 1, 2, -1, -2, 4], axes)
    return {"displacement": rng.integers(-200, 200, (axes, *[1] * axes)) / 64, "affine": forward}


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("mode", MODES)
def test_labels(mode, axes, rng):
    image = rng.integers(0, 4, (*SHAPES[axes], 2)).astype(np.uint8)
    options = {"order": "labels", "mode": mode, "cval": 7, "axis": tuple(range(axes))}
    displacement = rng.uniform(-3, 3, (axes, *(3, 4, 2, 1, 3)[:axes]))
    for transform in ({"displacement": displacement}, dyadic(rng, axes), dyadic(rng, axes)):
        ours = on_cuda(elasticnd.deform_grid, image, **transform, **options)
        assert ours.tobytes() == elasticnd.deform_grid(image, **transform, **options).tobytes()


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
def test_labels_of_every_type(dtype, rng):
    labels = rng.integers(-100, 100, 9).astype(dtype)
    if dtype in FLOATS:
        labels[:4] = np.nan, -0.0, 0.0, np.inf
    elif dtype.itemsize > 1:
        labels[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    image = labels[rng.integers(0, 9, SHAPES[2])]
    for mode in ("mirror", "grid-constant"):
        for _ in range(3):
            arguments = {"order": "labels", "mode": mode, "cval": 1, **dyadic(rng, 2)}
            ours = on_cuda(elasticnd.deform_grid, image, **arguments)
            assert ours.tobytes() == elasticnd.deform_grid(image, **arguments).tobytes()


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_evaluations(axes, order, rng):
    extent, points = (9, 7, 5, 6)[:axes], (3, 1, 4, 2)[:axes]
    spec = _spec.EvaluationSpec((2,), extent, points, 700)
    job = _job.evaluation_job(spec, order)
    values = rng.normal(size=(2, axes, *points))
    positions = rng.uniform(-1, 2, (2, 700, axes)) * np.array(extent)
    positions[1, 3, 0] = np.nan
    gradient = rng.normal(size=(2, 700, axes, axes**order))
    agree(
        on_cuda(cuda.evaluate, job, values, positions),
        _core.evaluate(job, values, positions),
        DOUBLE,
    )
    for backward in (False, True):
        ours = on_cuda(cuda.evaluate_adjoint, job, gradient, positions, backward=backward)
        agree(ours, _core.evaluate_adjoint(job, gradient, positions), DOUBLE)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
@pytest.mark.parametrize("order", [0, 3])
def test_element_types(order, dtype, rng):
    image = values(rng, SHAPES[2], dtype)
    arguments = (image, rng.uniform(-5, 5, (2, 3, 4)), order, "nearest")
    ours, theirs = on_cuda(elasticnd.deform_grid, *arguments), elasticnd.deform_grid(*arguments)
    if order == 0:
        assert ours.tobytes() == theirs.tobytes()
    elif np.dtype(dtype).kind in "iub":  # a tie may be rounded to either side, and double cannot hold all of 64 bits
        largest = np.abs(theirs.astype(np.float64)).max()
        error = largest * (DOUBLE if np.dtype(dtype).itemsize >= 4 else 0)
        difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        assert difference.max() <= 1 + error
        assert np.mean(difference > error) < 0.02
    else:
        agree(ours, theirs, tolerance(dtype))


@pytest.mark.parametrize("axes", SHAPES)
@pytest.mark.parametrize("order", ORDERS)
def test_axes(order, axes, rng):
    image = rng.random(SHAPES[axes]).astype(np.float32)
    displacement = rng.uniform(-3, 3, (axes, *(3, 4, 2, 1, 3)[:axes]))
    arguments = (image, displacement, order, "mirror")
    agree(on_cuda(elasticnd.deform_grid, *arguments), elasticnd.deform_grid(*arguments), SINGLE)


OPTIONS = {
    "crop": {"crop": (slice(5, 30), slice(2, 35))},
    "affine, rotate, zoom": {"affine": MATRIX, "rotate": 20, "zoom": (1.1, 0.8)},
    "no prefilter": {"prefilter": False},
    "channels last": {"axis": (0, 1), "shape": (*SHAPES[2], 3)},
    "batch": {"axis": (2, 3), "batch": 2, "shape": (2, 3, *SHAPES[2])},
    "batch of matrices": {
        "axis": (1, 2),
        "batch": 2,
        "shape": (2, *SHAPES[2]),
        "affine": np.stack([MATRIX, MATRIX * 1.1]),
    },
    "complex": {"complex": True, "cval": 1 + 2j},
    "a grid finer than the image": {"points": (50, 60)},
    "one point": {"points": (1, 1)},
    "a long filter": {"points": (70, 3)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name, rng):
    options = dict(OPTIONS[name])
    image = rng.random(options.pop("shape", SHAPES[2]))
    if options.pop("complex", False):
        image = image + 1j * rng.random(image.shape)
    lead = (options.pop("batch"),) if "batch" in options else ()
    displacement = rng.uniform(-5, 5, (*lead, 2, *options.pop("points", (3, 4))))
    ours = on_cuda(elasticnd.deform_grid, image, displacement, **options)
    theirs = elasticnd.deform_grid(image, displacement, **options)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=DOUBLE)
    if image.dtype.kind == "c":
        return
    weight = rng.standard_normal(theirs.shape)
    ours = on_cuda(elasticnd.deform_grid_vjp, weight, image, displacement, **options)
    theirs = elasticnd.deform_grid_vjp(weight, image, displacement, **options)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            agree(one, other, DOUBLE)


def test_crop_is_part_of_the_whole(rng):
    image = rng.random(SHAPES[3]).astype(np.float32)
    displacement = rng.uniform(-3, 3, (3, 3, 4, 2))
    crop = (slice(2, 9), slice(1, 7), slice(3, 34))
    whole = on_cuda(elasticnd.deform_grid, image, displacement)
    assert np.array_equal(on_cuda(elasticnd.deform_grid, image, displacement, crop=crop), whole[crop])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_extents_beyond_32_bits(order, axes, monkeypatch, rng):
    """Kernels for few axes count in 32 bits; others take over where that may be too few."""
    monkeypatch.setattr(calls, "_LARGEST_STRIDE", 1)
    image, weight = rng.random((2, 2, *SHAPES[axes]))
    displacement = rng.uniform(-9, 9, (axes, *(3, 4, 2)[:axes]))
    options = {"order": order, "mode": "mirror", "axis": tuple(range(1, axes + 1))}
    agree(
        on_cuda(elasticnd.deform_grid, image, displacement, **options),
        elasticnd.deform_grid(image, displacement, **options),
        DOUBLE,
    )
    for one, other in zip(
        on_cuda(elasticnd.deform_grid_vjp, weight, image, displacement, **options)[:2],
        elasticnd.deform_grid_vjp(weight, image, displacement, **options)[:2],
        strict=True,
    ):
        agree(one, other, DOUBLE)


@pytest.mark.parametrize(
    ("image", "grid_shape", "padding", "planes", "axes"),
    [
        ((256, 256, 256), (5, 5, 5), 0, 1, 3),
        ((1300, 1300, 1300), (5, 5, 5), 0, 1, 3),  # more than 2^31 voxels
        ((65535 * 2, 4, 4), (5, 5, 5), 0, 1, 3),
        ((65535 * 2 + 1, 4, 4), (5, 5, 5), 0, 1, 0),  # blocks along z
        ((65535 * 2 - 24, 4, 4), (5, 5, 5), 12, 1, 3),
        ((65535 * 2 - 23, 4, 4), (5, 5, 5), 12, 1, 0),
        ((4, 65535 * 4 + 1, 4), (5, 5, 5), 0, 1, 0),  # blocks along y
        ((65535 * 8, 9), (5, 5), 0, 1, 2),
        ((65535 * 8 + 1, 9), (5, 5), 0, 1, 0),
        ((9, 2**22), (5, 5), 0, 1, 0),  # a table too long
        ((2**29,), (5,), 0, 1, 1),
        ((2**29 + 1,), (5,), 0, 1, 0),
        ((9,), (2**29 - 1,), 0, 1, 0),
        ((9, 9, 9), (5, 2**16, 2**16), 0, 1, 0),  # stride of the control grid
        ((9, 9), (5, 5), 0, 2**31, 0),
        ((9, 9, 9, 9), (5, 5, 5, 5), 0, 1, 0),
    ],
)
def test_kernels_are_chosen_by_extents(image, grid_shape, padding, planes, axes):
    job = _job.make_job(image=image, grid_shape=grid_shape).copy()
    job["padding"] = padding
    assert calls.voxel_kernel_axes(job, planes) == axes


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("grid", ["finer", "coarser", "flipped and beyond", "oblique"])
def test_images_of_other_resolution(grid, n, rng):
    deformation = world_grids.make(n, rng, "all")
    output_to_world, output_shape = world_grids.grid_of(grid, deformation.to_world, n)
    image = rng.random(world_grids.SHAPES[n])
    worlds = {"output_to_world": output_to_world, "output_shape": output_shape}
    agree(on_cuda(deformation.apply, image, **worlds), deformation.apply(image, **worlds), DOUBLE)


def test_dense_displacement(rng):
    for axes, shape in SHAPES.items():
        displacement = rng.standard_normal((axes, *(3, 4, 2, 1, 3)[:axes]))
        ours = on_cuda(elasticnd.dense_displacement, displacement, shape)
        agree(ours, elasticnd.dense_displacement(displacement, shape), DOUBLE)


def test_not_a_number_and_infinity_stay_inside(rng):
    image = rng.random(SHAPES[2])
    image[20, 20] = np.nan
    displacement = rng.uniform(-3, 3, (2, 3, 4))
    displacement[0, 0, 0] = np.inf
    displacement[1, 2, 3] = np.nan
    for mode in MODES:
        ours = on_cuda(elasticnd.deform_grid, image, displacement, 1, mode, 0.3)
        np.testing.assert_array_equal(ours, elasticnd.deform_grid(image, displacement, 1, mode, 0.3))


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("order", [1, 3])
def test_gradients(order, dtype, rng):
    image, weight = (values(rng, SHAPES[2], dtype) for _ in range(2))
    arguments = (weight, image, rng.uniform(-5, 5, (2, 3, 4)), order, "nearest")
    ours = on_cuda(elasticnd.deform_grid_vjp, *arguments, affine=MATRIX)
    theirs = elasticnd.deform_grid_vjp(*arguments, affine=MATRIX)
    for one, other in zip(ours, theirs, strict=True):
        agree(one, other, tolerance(dtype))


@pytest.mark.parametrize("axes", SHAPES)
def test_gradients_of_axes(axes, rng):
    image, weight = rng.random((2, *SHAPES[axes]))
    arguments = (weight, image, rng.uniform(-3, 3, (axes, *(3, 4, 2, 1, 3)[:axes])), 2, "reflect")
    for one, other in zip(
        on_cuda(elasticnd.deform_grid_vjp, *arguments), elasticnd.deform_grid_vjp(*arguments), strict=True
    ):
        assert (one is None) == (other is None)
        if other is not None:
            agree(one, other, DOUBLE)


@pytest.mark.parametrize("axes", SHAPES)
def test_gradients_of_matrices(axes, rng):
    image, weight = rng.random((2, *SHAPES[axes]))
    matrix = np.eye(axes, axes + 1) + rng.uniform(-0.1, 0.1, (axes, axes + 1))
    arguments = (weight, image, rng.uniform(-1, 1, (axes, *[2] * axes)), 1, "mirror")
    ours = on_cuda(elasticnd.deform_grid_vjp, *arguments, affine=matrix)
    agree(ours.affine, elasticnd.deform_grid_vjp(*arguments, affine=matrix).affine, 10 * DOUBLE)  # of sums that cancel


# An output of other voxels than those of the image, both of them others than those of the frame.
GRID = _spec.OutputGrid((9, 14), _spec.Frame((16, 12), (0.5, 0.25), (1.7, 0.8)), ((1.2, 0.1, 0.5), (-0.1, 0.8, 0.3)))


@pytest.mark.parametrize("grid", [None, GRID], ids=["own voxels", "other voxels"])
@pytest.mark.parametrize("crop", [None, (slice(2, 9), slice(1, 11))])
@pytest.mark.parametrize("verb", ["sample", "sample_adjoint", "displace", "displace_adjoint"])
def test_operators_along_tangents(verb, crop, grid, rng):
    """What derivatives of higher order, and those in forward mode, are made of; for patches of a frame's map too."""
    image = rng.random((2, 13, 12))
    points, change = rng.uniform(-1, 1, (2, 2, 3, 4)), rng.uniform(-0.1, 0.1, (2, 2, 3))
    options = _spec.Options(mode="mirror", cval=0.3, crop=crop, axis=(1, 2), frame=image.shape[1:], output_grid=grid)
    infos = (_spec.ArrayInfo(image.shape, "float64"), _spec.ArrayInfo(points[0].shape, "float64"))
    spec = _check.normalize(infos[:1], infos[1], _spec.ArrayInfo(MATRIX.shape, "float64"), "X", options)
    if verb.startswith("displace"):
        field = rng.random(spec.field_shape)
        operator = Operator(spec, verb)
        operands = Operands(transform=(points[0],)) if verb == "displace" else Operands(gradient=field)
    else:
        wants = verb == "sample_adjoint"
        operator = Operator(spec, verb, tangents=2, wants_image=wants, wants_transform=wants)
        tangents = tuple(zip(points, change, strict=True))
        weight = rng.random(spec.output_shape(spec.images[0]))
        operands = Operands(weight if wants else None, image, (points[0], MATRIX), tangents)
    run = partial(compute.run, operator, spec, operands)
    for one, other in zip(on_cuda(run), run(), strict=True):
        agree(np.asarray(one), other, DOUBLE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_deterministic_gradients_do_not_depend_on_the_order(dtype, rng):
    image, weight = rng.standard_normal((2, *SHAPES[2])).astype(dtype)
    weight *= np.exp2(rng.integers(-20, 20, weight.shape)).astype(dtype)
    arguments = (weight, image, rng.uniform(-20, 20, (2, 3, 4)), 3, "mirror")

    def theirs(backward):
        return on_cuda(elasticnd.deform_grid_vjp, *arguments, backward=backward)

    one, other = theirs(False), theirs(True)
    assert not np.array_equal(one.image, other.image), "by chance"
    assert np.array_equal(one.displacement, other.displacement)
    elasticnd.set_deterministic(True)
    try:
        assert elasticnd.is_deterministic()
        one, other = theirs(False), theirs(True)
        assert np.array_equal(one.image, other.image)
        # Steps of the integers: 2^-26 or 2^-57 of the largest, a few of them, magnified by the transposed filter.
        exact = elasticnd.deform_grid_vjp(*arguments).image
        largest = np.abs(weight).max()
        np.testing.assert_allclose(one.image, exact, rtol=0, atol=largest * (1e-6 if dtype == np.float32 else 1e-14))
        weight[3, 3], weight[30, 30] = np.nan, np.inf
        one, other = theirs(False), theirs(True)
        np.testing.assert_array_equal(one.image, other.image)
        assert np.isnan(one.image).any()
    finally:
        elasticnd.set_deterministic(False)


def test_determinism_by_the_switch_of_pytorch():
    torch = frameworks.get("torch").module
    torch.use_deterministic_algorithms(True)
    try:
        assert elasticnd.is_deterministic()
    finally:
        torch.use_deterministic_algorithms(False)
    with pytest.raises(TypeError, match=r"deterministic: got 1 .*expected True or False"):
        elasticnd.set_deterministic(1)


def test_results_do_not_depend_on_the_order_of_threads(rng):
    """Or a thread reads what another has yet to write."""
    image = rng.random((70, 66))
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    assert np.array_equal(
        on_cuda(elasticnd.deform_grid, image, displacement),
        on_cuda(elasticnd.deform_grid, image, displacement, backward=True),
    )


@pytest.mark.parametrize(
    ("shape", "sections"), [((1_000_000,), 489), ((300,), 2), ((200,), 1), ((9, 4000), 125), ((4096, 4096), 1)]
)
def test_rows_are_cut_where_they_are_few(shape, sections):
    """One block would walk along all of a long signal."""
    axes = len(shape)
    call = object.__new__(calls.Call)
    inner, second, _ = _core.tiles[axes]
    rows = tuple(-(-extent // second) for extent in shape[:-1])
    call.__dict__.update(items=1, axes=axes, output=shape, grid_shape=(5,) * axes, row_blocks=(1, *rows))
    call.tiles = -(-shape[-1] // inner)
    count, length = call._sections(inner)
    assert count == sections
    assert (count - 1) * length < shape[-1] <= count * length
    assert length % inner == 0


@pytest.mark.parametrize("sections", [1, 2, 3, 7])
def test_gradients_of_sections(sections, monkeypatch, rng):
    """However rows are cut, with a section that is shorter, or empty."""
    monkeypatch.setattr(calls, "_ENOUGH_BLOCKS", sections)
    image, weight = rng.random((2, 1800))
    displacement = rng.uniform(-9, 9, (1, 7))
    for one, other in zip(
        on_cuda(elasticnd.deform_grid_vjp, weight, image, displacement, affine=[[1.1, 0.3]]),
        elasticnd.deform_grid_vjp(weight, image, displacement, affine=[[1.1, 0.3]]),
        strict=True,
    ):
        agree(one, other, 10 * DOUBLE)  # of sums of 1800 products with indices, which cancel


# ---- plans -----------------------------------------------------------------------------------------------------------

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


def without_plans(monkeypatch):
    monkeypatch.setattr(cuda, "run_planned", lambda compute, job, arrays: compute(job, arrays))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("name", PLANNED)
def test_planned_calls(name, dtype, monkeypatch, rng):
    """A call by a plan has the bits of one without, and arrays may lie elsewhere."""
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


def test_scratch_memory_is_used_again(stubbed):
    """Three passes of the prefilter need two volumes at a time, and the gradient three."""
    job = _job.make_job(image=(64,) * 3, grid_shape=(5,) * 3, order=3, mode=_modes.Mode.MIRROR, prefilter=True)
    volume, doubles = 8 * 64**3, np.dtype(np.float64)
    displacement, image = ((3, 5, 5, 5), doubles), ((64,) * 3, doubles)
    plan = plans.plan_of(cuda._sample_flat, plans._Same(job), (displacement, None, image, image), None)
    assert 2 * volume <= plan.scratch < 2.1 * volume
    kinds = (displacement, None, image, image, image, displacement, None)
    plan = plans.plan_of(cuda._adjoint_flat, plans._Same(job), kinds, None)
    assert 3 * volume <= plan.scratch < 3.4 * volume  # of which a third is for the sums of rows


@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8], ids=lambda dtype: dtype.__name__)
def test_items_of_a_batch_are_filtered_some_at_a_time(dtype, matrices, monkeypatch, rng):
    """The bits do not depend on it, and memory is that of those together."""
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


def test_layout_of_scratch_memory(rng):
    """Parts that are in use at a time lie apart, and bytes that were given back are used first."""
    scratch, used = plans._Scratch(), {}
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


class CupyArray(np.ndarray):
    """What stands in for an array of CuPy."""

    device = SimpleNamespace(id=0)


@pytest.fixture
def stubbed(monkeypatch):
    """Return a device of CuPy that launches nothing."""
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


@pytest.mark.quick
def test_a_small_call_takes_few_steps_on_the_host(stubbed, rng):
    """Time depends on the machine; the number of functions that are called does not. Without plans it was 250."""
    call = small_call(rng)
    assert type(call()) is CupyArray
    calls = []
    sys.setprofile(lambda frame, event, what: calls.append(event) if event in ("call", "c_call") else None)
    try:
        call()
    finally:
        sys.setprofile(None)
    once = ["grid_coefficients", "filter", "filter", "sample"]
    assert [kernel.partition("<")[0] for kernel in stubbed.launched] == ["tabulate", *once, *once]
    assert len(calls) < 110  # it was 100 when this was written


@pytest.mark.quick
def test_a_small_gradient_takes_few_steps_on_the_host(stubbed, rng):
    """Without plans it was 3800."""
    stubbed.xp = np
    arrays = *rng.random((2, 16, 16)), rng.uniform(-2, 2, (2, 5, 5))
    calls = []
    for _ in range(2):
        calls.clear()
        sys.setprofile(lambda frame, event, what: calls.append(event) if event in ("call", "c_call") else None)
        try:
            elasticnd.deform_grid_vjp(*arrays, mode="mirror")
        finally:
            sys.setprofile(None)
    assert len(stubbed.launched) == 1 + 2 * 12
    assert len(calls) < 450


def test_arrays_of_two_devices_are_not_recalled(stubbed, rng):
    image, displacement = (array.view(CupyArray) for array in (rng.random((16, 16)), rng.uniform(-2, 2, (2, 5, 5))))
    options = _spec.Options()
    assert _recall.recall(image, displacement, None, options) is not None
    displacement.device = SimpleNamespace(id=1)
    assert _recall.recall(image, displacement, None, options) is None


# ---- the way there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [*TEMPLATES, *FUNCTIONS])
def test_the_source_needs_no_header(file):
    text = source(file)
    assert text.count("struct Job {") == 1
    assert not re.search(r'^ *#include "', text, re.MULTILINE)
    assert "std::" not in text


def test_tables_are_made_once(rng):
    image, displacement = rng.random(SHAPES[2]), rng.uniform(-3, 3, (2, 3, 4))
    device, launched = recording_device()
    with host_device.installed(device):
        for _ in range(2):
            elasticnd.deform_grid(image, displacement)
    assert launched.count("tabulate") == 1
    assert launched[-1].startswith("sample<")
    # The control grid, the image along two axes, and the voxels.
    assert len(launched) == 1 + 2 * 4


def test_a_device_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"X: got a tensor on cuda:0, which needs CuPy .*Install the CuPy for your"):
        import_cupy("X", "a tensor on cuda:0")


def test_cupy_without_a_device(monkeypatch):
    class Runtime:
        @staticmethod
        def getDeviceCount():  # noqa: N802 - CuPy's name
            raise RuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    broken = type(sys)("cupy")
    broken.__version__ = "14.2.0"
    broken.cuda = type(sys)("cupy.cuda")
    broken.cuda.runtime = Runtime
    monkeypatch.setitem(sys.modules, "cupy", broken)
    with pytest.raises(RuntimeError, match=r"X: got a tensor on cuda:0, but CuPy finds no device .*cudaErrorNoDevice"):
        import_cupy("X", "a tensor on cuda:0")


def test_a_cupy_that_is_too_old(monkeypatch):
    old = SimpleNamespace(__version__="13.6.0", cuda=SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1)))
    monkeypatch.setitem(sys.modules, "cupy", old)
    with pytest.raises(ImportError, match=r"CuPy is of version 13\.6\.0\. Install the CuPy .*>=14\.2"):
        import_cupy("X", "a tensor on cuda:0")


def lend_buffers(monkeypatch, bridge):
    """Let the host stand in for a device of XLA, and return the sizes of what it lends."""
    lent = []
    monkeypatch.setattr(bridge, "_place_of", lambda context, output: (np, contextlib.nullcontext()))

    def allocating_in(xp, scratch):
        lent.extend(xp.asarray(buffer).nbytes for buffer in scratch)
        return contextlib.nullcontext()

    monkeypatch.setattr(bridge, "_allocating_in", allocating_in)
    return lent


def test_memory_of_xla_is_scratch_memory(fake):
    frameworks.get("jax")
    from elasticnd._bridges import jax as bridge

    buffer = SimpleNamespace(nbytes=1000, data=SimpleNamespace(ptr=512))
    fake.asarray = lambda array: array
    with bridge._allocating_in(fake, [buffer]):
        addresses = [fake.cuda.get_allocator()(size).memory.pointer for size in (100, 1001, 990, 990)]
    assert addresses == [4096, 4096, 512, 4096]
    with bridge._allocating_in(fake, []):
        assert fake.cuda.get_allocator() == fake.allocate


def test_buffers_of_xla(monkeypatch, rng):
    """What serves JAX on a device, inside of jit, here on buffers of the CPU."""
    jax = frameworks.get("jax").module
    from elasticnd._bridges import jax as bridge

    if not bridge.compat.HAS_BUFFER_CALLBACKS:
        pytest.skip("this JAX has no buffer_callback")
    lent, planned = lend_buffers(monkeypatch, bridge), []
    run_planned = cuda.run_planned

    def noting(compute, job, arrays):
        kinds = [None if array is None else (array.shape, array.dtype) for array in arrays]
        planned.append((compute, plans._Same(job), kinds, devices.device().stream()))
        run_planned(compute, job, arrays)

    monkeypatch.setattr(cuda, "run_planned", noting)
    image, points = rng.random((7, 6)), rng.uniform(-1, 1, (2, 3, 2))
    options = _spec.Options(mode="mirror", cval=0.3)
    infos = [bridge.info(jax.numpy.asarray(array)) for array in (image, points)]
    spec = _check.normalize((infos[0],), infos[1], None, "X", options)
    for operator in (
        Operator(spec, "sample"),
        Operator(spec, "sample_adjoint", wants_image=True, wants_transform=True),
        Operator(spec, "displace"),
    ):
        operands = Operands(image, image, (points,))
        flat = operators.flatten(operator, operands)
        run = jax.jit(partial(bridge._call_on_buffers, operator))
        with host_device.installed():
            ours = [np.asarray(result) for result in run(*flat)]
            if operator.verb != "displace":
                plan = plans.plan_of.__wrapped__(*planned.pop())
                assert plan.scratch <= lent.pop() < plan.scratch + 1024  # tables are kept outside of it
        for one, other in zip(ours, compute.run(operator, spec, operands), strict=True):
            agree(one, other, DOUBLE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_shards_of_a_batch_on_buffers(monkeypatch, rng):
    """By `jax.shard_map` each device computes its own items; a batch that is only sharded is gathered first."""
    jax = frameworks.get("jax").module
    from elasticnd._bridges import jax as bridge

    if not bridge.compat.HAS_BUFFER_CALLBACKS or not hasattr(jax, "shard_map") or len(jax.devices()) < 2:
        pytest.skip("this JAX lacks buffer_callback, jax.shard_map, or a second device")
    lend_buffers(monkeypatch, bridge)
    monkeypatch.setattr(bridge, "_has_target", lambda operator: False)
    monkeypatch.setattr(bridge, "_call_by_operator", bridge._call_on_buffers)
    device, lock, shapes = host_device.HostDevice(), threading.Lock(), []
    launch = device.launch

    def launch_alone(kernel, grid, threads, arguments, shared=0):
        with lock:  # the shim knows one block of threads at a time
            shapes.append(kernel)
            launch(kernel, grid, threads, arguments, shared)

    device.launch = launch_alone
    split = jax.sharding.PartitionSpec("b")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("b",))
    images, grids = rng.random((4, 7, 6)), rng.uniform(-1, 1, (4, 2, 3, 2))
    expected = elasticnd.deform_grid(images, grids, axis=(1, 2), mode="mirror")
    gradients = elasticnd.deform_grid_vjp(expected, images, grids, axis=(1, 2), mode="mirror")

    def deform(x, d):
        return elasticnd.deform_grid(x, d, axis=(1, 2), mode="mirror")

    mapped = jax.shard_map(deform, mesh=mesh, in_specs=(split, split), out_specs=split)
    place = jax.sharding.NamedSharding(mesh, split)
    arrays = jax.device_put(images, place), jax.device_put(grids, place)
    jax.clear_caches()
    with host_device.installed(device):
        program = jax.jit(mapped)
        text = program.lower(*arrays).compile().as_text()
        result = program(*arrays)
        slopes = jax.jit(jax.grad(lambda x, d: (mapped(x, d) ** 2).sum() / 2, (0, 1)))(*arrays)
        agree(np.asarray(result), expected, DOUBLE)
        for one, other in zip(slopes, gradients, strict=False):
            agree(np.asarray(one), other, DOUBLE)
    jax.clear_caches()
    assert "xla_buffer_python_cpu_callback" in text
    assert "all-gather" not in text
    assert result.sharding.spec == split
    assert sum(kernel.startswith("sample<") for kernel in shapes) == 2 * 2  # devices, and calls of the forward pass


def test_jax_is_lowered_to_buffers_on_cuda(monkeypatch):
    jax = frameworks.get("jax").module
    from elasticnd._bridges import jax as bridge

    if not bridge.compat.HAS_BUFFER_CALLBACKS:
        pytest.skip("this JAX has no buffer_callback")
    traced = jax.jit(elasticnd.deform_grid).trace(jax.numpy.zeros((5, 5)), jax.numpy.zeros((2, 3, 3)))
    for has_cupy, way in ((True, "xla_buffer_python_gpu_callback"), (False, "gather")):
        monkeypatch.setattr(bridge, "_has_cupy", lambda has_cupy=has_cupy: has_cupy)
        jax.clear_caches()
        assert way in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_a_cupy_that_cannot_compute_is_left_out_of_jax(monkeypatch):
    frameworks.get("jax")
    from elasticnd._bridges import jax as bridge

    if not bridge.compat.HAS_BUFFER_CALLBACKS:
        pytest.skip("this JAX has no buffer_callback")
    old = type(sys)("cupy")
    old.__version__, old.__spec__ = "13.6.0", importlib.machinery.ModuleSpec("cupy", None)
    old.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))
    monkeypatch.setitem(sys.modules, "cupy", old)
    bridge._has_cupy.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"operations of JAX compute .*CuPy is of version 13\.6\.0"):
            assert not bridge._has_cupy()
    finally:
        bridge._has_cupy.cache_clear()


def test_jax_exports_operations_for_cuda(monkeypatch):
    """A program that calls Python cannot be written to a file; one of JAX's operations can."""
    jax = frameworks.get("jax").module
    from elasticnd._bridges import jax as bridge

    if not bridge.compat.HAS_BUFFER_CALLBACKS:
        pytest.skip("this JAX has no buffer_callback")
    export = pytest.importorskip("jax.export")
    monkeypatch.setattr(bridge, "_has_cupy", lambda: True)
    jax.clear_caches()
    with elasticnd.use_engine("generic"):
        exported = export.export(jax.jit(elasticnd.deform_grid), platforms=["cuda"])(
            jax.numpy.zeros((5, 5)), jax.numpy.zeros((2, 3, 3))
        )
    assert exported.serialize()


class FakeMemory:
    ptr = 4096


class FakeCupy:
    """What the engine asks of CuPy besides arrays."""

    def __init__(self):
        self.number, self.pointer, self.capturing, self.entered = 0, 7, False, []
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(getDevice=lambda: self.number),
            get_current_stream=lambda: SimpleNamespace(ptr=self.pointer, is_capturing=lambda: self.capturing),
            Device=self.enter,
            Stream=SimpleNamespace(from_external=lambda stream: self.enter(stream.__cuda_stream__())),
            get_allocator=lambda: self.allocators[-1],
            using_allocator=self.using_allocator,
            UnownedMemory=lambda pointer, size, holder, device: SimpleNamespace(pointer=pointer, holder=holder),
            MemoryPointer=lambda memory, offset: SimpleNamespace(memory=memory),
        )
        self.allocators = [self.allocate]
        self.RawModule = lambda **options: SimpleNamespace(get_function=lambda name: self.enter)

    def allocate(self, size):
        return FakeMemory()

    @contextlib.contextmanager
    def using_allocator(self, allocator):
        self.allocators.append(allocator)
        yield
        self.allocators.pop()

    def enter(self, *what, **options):
        self.entered.append(what[0])
        return contextlib.nullcontext()


@pytest.fixture
def fake(monkeypatch):
    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_default_streams_of_threads_are_told_apart(fake):
    """All have one pointer."""
    device = devices.CupyDevice()

    def streams():
        with ThreadPoolExecutor(1) as pool:
            return {device.stream(), pool.submit(device.stream).result()}

    assert len(streams()) == 1
    fake.pointer = 2
    assert len(streams()) == 2


def test_kernels_are_captured_once_they_are_loaded(fake):
    device = devices.CupyDevice()
    fake.capturing = True
    with pytest.raises(RuntimeError, match="cannot capture the first use of a kernel: before the capture, make the"):
        device.launch("tabulate", (1,), 1, [])
    fake.capturing = False
    device.launch("tabulate", (1,), 1, [])
    fake.capturing = True
    device.launch("tabulate", (1,), 1, [])
    assert fake.entered == [(1,), (1,)]
    assert not device.keeps_tables
    fake.pointer = 0  # which is never captured, and must not be asked
    assert device.keeps_tables


def test_a_captured_call_reads_nothing_that_was_kept(rng):
    """What is kept may be gone when the graph runs; the bits are the same."""
    image, displacement = rng.random(SHAPES[2]), rng.uniform(-3, 3, (2, 3, 4))
    device, launched = recording_device()
    with host_device.installed(device):
        results = []
        for device.keeps_tables in (True, False, False):
            results.append(elasticnd.deform_grid(image, displacement, rotate=20))
            results += elasticnd.deform_grid_vjp(image, image, displacement, rotate=20)[:2]
        assert [kept.cache_info().misses for kept in (control_grid.kept_tables, calls.kept_map)] == [1, 1]
    for one, other in zip(results[:3] * 2, results[3:], strict=True):
        assert one.tobytes() == other.tobytes()
    assert launched.count("tabulate") == launched.count("invert<2>") == 1 + 2 * 2


def test_memory_of_a_captured_call_lives_as_long_as_its_results(fake):
    device = devices.CupyDevice()
    fake.capturing = True
    array = SimpleNamespace(device=contextlib.nullcontext())
    with device.holding(array):
        scratch, result = (fake.cuda.get_allocator()(8) for _ in range(2))
    assert fake.cuda.get_allocator() == fake.allocate
    scratch = weakref.ref(scratch.memory.holder[0])
    assert scratch() is not None
    del result
    assert scratch() is None


def test_memory_that_is_lent(fake):
    """What is kept for later calls does not lie in it."""
    lent = []

    def lend(size):
        lent.append(size)
        return 512, lent

    with devices.allocating_by(lend):
        assert fake.cuda.get_allocator()(0).memory.pointer == 512
        assert lent == [1]
        with devices.keeping_memory():
            assert fake.cuda.get_allocator() == fake.allocate
        with devices.allocating_by(lend), devices.keeping_memory():
            assert fake.cuda.get_allocator() == fake.allocate
    assert fake.cuda.get_allocator() == fake.allocate
    with devices.keeping_memory():
        assert fake.cuda.get_allocator() == fake.allocate


def test_kernels_run_on_the_device_of_buffers(fake):
    """XLA calls from threads of its own, in which another device may be current."""
    frameworks.get("jax")
    from elasticnd._bridges import jax as bridge

    output = SimpleNamespace(__dlpack_device__=lambda: (2, 1))
    _, place = bridge._place_of(SimpleNamespace(stream=99), output)
    with place:
        assert fake.entered == [1, (0, 99)]


def test_tables_that_are_kept_are_few():
    bytes_of_output = 5 * 8
    kept = control_grid.kept_tables.cache_parameters()["maxsize"] * control_grid._LONGEST_KEPT_TABLE
    assert kept * bytes_of_output < 50e6


BRIDGED = [
    Operator(None, "sample"),
    Operator(None, "sample_adjoint", wants_image=True),
    Operator(None, "sample_adjoint", wants_image=True, wants_transform=True),
    Operator(None, "displace"),
]


def bridged_call(operator, dtype, rng):
    """A specification, and operands for it in NumPy."""
    image, points = values(rng, (7, 6), np.dtype(dtype)), rng.uniform(-1, 1, (2, 3, 2))
    options = _spec.Options(mode="mirror", cval=0.3)
    shape = _spec.ArrayInfo(image.shape, np.dtype(dtype).name), _spec.ArrayInfo(points.shape, "float64")
    spec = _check.normalize((shape[0],), shape[1], None, "X", options)
    return operator._replace(call=spec), operators.flatten(
        operator._replace(call=spec), Operands(image, image, (points,))
    )


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("operator", BRIDGED, ids=lambda operator: operator.verb)
def test_tensors_of_torch(operator, dtype, monkeypatch, rng):
    """What PyTorch's bridge does with CUDA tensors, here with tensors of the host."""
    framework = frameworks.get("torch")
    from elasticnd._bridges import torch_tensors as bridge

    nothing = contextlib.nullcontext
    monkeypatch.setattr(framework.module.cuda, "device", lambda device: nothing())
    monkeypatch.setattr(framework.module.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(bridge, "external_stream", lambda pointer: nothing())
    monkeypatch.setattr(bridge, "allocating_by", lambda lend: lent.append(lend) or nothing())
    monkeypatch.setattr(bridge, "_to_cupy", bridge.to_numpy)
    lent = []
    operator, flat = bridged_call(operator, dtype, rng)
    tensors = [framework.array(array) for array in flat]
    ours = on_cuda(bridge.compute_on_device, operator, operator.call, tensors)
    for one, other in zip(ours, bridge.compute(operator, tensors), strict=True):
        agree(framework.to_numpy(one), framework.to_numpy(other), tolerance(dtype))
    (lend,) = lent
    pointer, memory = lend(1000)
    assert memory.data_ptr() == pointer
    assert memory.nbytes() == 1000


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("operator", BRIDGED, ids=lambda operator: operator.verb)
def test_tensors_of_tensorflow(operator, dtype, monkeypatch, rng):
    framework = frameworks.get("tensorflow")
    from elasticnd._bridges import tensorflow as bridge

    fake = type(sys)("cupy")
    fake.from_dlpack, fake.ascontiguousarray = np.from_dlpack, np.ascontiguousarray
    fake.cuda = type(sys)("cupy.cuda")
    fake.cuda.Device = lambda number: contextlib.nullcontext()
    fake.cuda.get_current_stream = lambda: SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(bridge, "import_cupy", lambda argument, got: fake)
    monkeypatch.setattr(bridge, "_gpu_of", lambda tensors: "CPU:0")
    monkeypatch.setattr(bridge, "_number_of", lambda array: 0)
    monkeypatch.setattr(bridge._Capsule, "__dlpack_device__", lambda self: (1, 0))
    operator, flat = bridged_call(operator, dtype, rng)
    tensors = [framework.array(array) for array in flat]
    dtypes = [like.dtype for like in operators.likes(operator, operators.unflatten(operator, tensors))]
    ours = on_cuda(bridge._run_on_gpu, operator, dtypes, *tensors)
    for one, other in zip(ours, compute.run(operator, operator.call, operators.unflatten(operator, flat)), strict=True):
        agree(framework.to_numpy(one), other.astype(one.dtype.as_numpy_dtype), tolerance(dtype))


# ---- launches


@pytest.mark.quick
def test_launches_use_the_constants_of_the_kernels():
    """The engine has them from the core, the kernels from their text: both are of one build."""
    text = (FOLDER / "launch.hpp").read_text(encoding="utf-8")
    constants = {name: int(value) for name, value in re.findall(r"^constexpr int (\w+) = (\d+);", text, re.MULTILINE)}
    shared = constants.keys() & _core.launch.keys()
    assert shared == _core.launch.keys() - {"filter_stride"}
    assert {name: _core.launch[name] for name in shared} == {name: constants[name] for name in shared}
    assert _core.launch["filter_stride"] > _core.launch["filter_lines"]
    for inner, second, third in _core.tiles:
        assert inner * second * third == _core.launch["tile_threads"]
