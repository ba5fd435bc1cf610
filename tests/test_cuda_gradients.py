"""Gradients from the CUDA kernels, compiled for the host, compared with those of the core."""

from functools import partial

import frameworks
import host_device
import numpy as np
import pytest
from cuda_stubs import MATRIX, SHAPES, agree, on_cuda, tolerance
from tables import DOUBLE, FLOATS, values

import elasticnd
from elasticnd import _check, _core, _spec
from elasticnd._autodiff import compute
from elasticnd._autodiff.operators import Operands, Operator
from elasticnd._engines.cuda import call as calls

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")


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
    agree(ours.affine, elasticnd.deform_grid_vjp(*arguments, affine=matrix).affine, 10 * DOUBLE)  # terms cancel


# Output, image and frame all have different voxels.
GRID = _spec.OutputGrid((9, 14), _spec.Frame((16, 12), (0.5, 0.25), (1.7, 0.8)), ((1.2, 0.1, 0.5), (-0.1, 0.8, 0.3)))


@pytest.mark.parametrize("grid", [None, GRID], ids=["own voxels", "other voxels"])
@pytest.mark.parametrize("crop", [None, (slice(2, 9), slice(1, 11))])
@pytest.mark.parametrize("verb", ["sample", "sample_adjoint", "displace", "displace_adjoint"])
def test_operators_along_tangents(verb, crop, grid, rng):
    """Higher derivatives and those in forward mode consist of these operators. They also work on patches of a frame."""
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
        # The sums are integers with steps of 2^-26 or 2^-57 of the largest weight. The error is a few steps, which the
        # transposed filter magnifies.
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
    """If results did, a thread would be reading values that another thread has not written yet."""
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
    """Without a cut, a single block would process a whole long signal."""
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
    """Gradients do not depend on how rows are cut, even if a section is shorter than the others or empty."""
    monkeypatch.setattr(calls, "_ENOUGH_BLOCKS", sections)
    image, weight = rng.random((2, 1800))
    displacement = rng.uniform(-9, 9, (1, 7))
    for one, other in zip(
        on_cuda(elasticnd.deform_grid_vjp, weight, image, displacement, affine=[[1.1, 0.3]]),
        elasticnd.deform_grid_vjp(weight, image, displacement, affine=[[1.1, 0.3]]),
        strict=True,
    ):
        agree(one, other, 10 * DOUBLE)  # the sums have 1800 terms that nearly cancel
