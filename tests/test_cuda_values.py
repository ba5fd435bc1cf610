"""Values from some instances of the CUDA kernels, compiled for the host, compared with the core.

``pytest --engine cuda-host`` runs all tests of accuracy and gradients with these kernels. test_nvrtc.py compiles every
instance for devices, and test_gpu_*.py runs the kernels on a device.
"""

import host_device
import numpy as np
import pytest
import world_grids
from cuda_stubs import MATRIX, SHAPES, agree, on_cuda, tolerance
from tables import DOUBLE, FLOATS, INTEGERS, MODES, ORDERS, SINGLE, values

import elasticnd
from elasticnd import _core, _job, _spec
from elasticnd._engines import cuda
from elasticnd._engines.cuda import call as calls

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3, 4])
def test_modes(order, mode, rng):
    image = rng.random(SHAPES[2])
    displacement = rng.uniform(-30, 30, (2, 3, 4))
    arguments = (image, displacement, order, mode, 0.3)
    agree(on_cuda(elasticnd.deform_grid, *arguments), elasticnd.deform_grid(*arguments), DOUBLE)


def dyadic(rng, axes):
    """Return a map to multiples of 1/64 of a voxel, at which the sums of votes are exact and often tied."""
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
    elif np.dtype(dtype).kind in "iub":  # ties may be rounded either way, and float64 cannot hold all 64-bit integers
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
    """Kernels for few axes use 32-bit indices. Other kernels take over if these may overflow."""
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
        ((9, 2**22), (5, 5), 0, 1, 0),  # the table is too long
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
