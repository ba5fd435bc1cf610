"""A CUDA device gives the results of the CPU, for arrays of CuPy, PyTorch and JAX. Without one, all are skipped.

NVIDIA's checker runs them too: ``compute-sanitizer --tool memcheck pytest tests/test_gpu_values.py -k cupy``, also with
``--tool racecheck``.
"""

import first_light
import frameworks
import numpy as np
import pytest
import scipy.ndimage
from gpu_support import MARKS, MATRIX, SHAPE, agree, cupy_library, jax_library, torch_library
from tables import DOUBLE, MODES, ORDERS, SINGLE

import elasticnd

pytestmark = MARKS


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ORDERS)
def test_modes(library, order, mode, rng):
    displacement = rng.uniform(-30, 30, (2, 3, 4))
    for dtype, tolerance in ((np.float64, DOUBLE), (np.float32, SINGLE)):
        image = rng.random(SHAPE).astype(dtype)
        ours = elasticnd.deform_grid(library.array(image), library.array(displacement), order, mode, 0.3)
        agree(library, ours, elasticnd.deform_grid(image, displacement, order, mode, 0.3), tolerance)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64", "float16"])
def test_element_types(library, dtype, rng):
    image = (rng.random(SHAPE) * 100).astype(dtype)
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    arrays = library.array(image), library.array(displacement)
    agree(library, elasticnd.deform_grid(*arrays, 0), elasticnd.deform_grid(image, displacement, 0), 0)
    agree(library, elasticnd.deform_grid(*arrays, 3), elasticnd.deform_grid(image, displacement, 3), 0.011)


@pytest.mark.parametrize("axes", [1, 3, 4, 5])
def test_axes(library, axes, rng):
    image, displacement = rng.random((7,) * axes), rng.uniform(-2, 2, (axes, *(3,) * axes))
    for order in (1, 3):
        ours = elasticnd.deform_grid(library.array(image), library.array(displacement), order, "mirror")
        agree(library, ours, elasticnd.deform_grid(image, displacement, order, "mirror"), DOUBLE)


def test_batches_channels_and_lists(library, rng):
    images, labels = rng.random((3, 2, *SHAPE)), (rng.random((3, *SHAPE)) * 9).astype(np.int64)
    grids = rng.uniform(-5, 5, (3, 2, 3, 4))
    options = {"axis": [(2, 3), (1, 2)], "order": [3, 0], "affine": MATRIX, "rotate": 10}
    ours = elasticnd.deform_grid([library.array(images), library.array(labels)], grids, **options)
    for one, other in zip(ours, elasticnd.deform_grid([images, labels], grids, **options), strict=True):
        agree(library, one, other, DOUBLE)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_gradients(library, order, rng):
    image, weight = rng.random((2, *SHAPE))
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    arrays = [library.array(array) for array in (weight, image, displacement)]
    ours = elasticnd.deform_grid_vjp(*arrays, order, "mirror", affine=library.array(MATRIX))
    theirs = elasticnd.deform_grid_vjp(weight, image, displacement, order, "mirror", affine=MATRIX)
    for one, other in zip(ours, theirs, strict=True):
        agree(library, one, other, DOUBLE)


def test_the_same_bits_again(library, rng):
    image, displacement = rng.random((130, 120)).astype(np.float32), rng.uniform(-9, 9, (2, 3, 4))
    arrays = [library.array(array) for array in (image, image, displacement)]
    first = [library.to_numpy(elasticnd.deform_grid(*arrays[1:])) for _ in range(3)]
    assert all(np.array_equal(first[0], other) for other in first)
    elasticnd.set_deterministic(True)
    try:
        gradients = [library.to_numpy(elasticnd.deform_grid_vjp(*arrays).image) for _ in range(3)]
    finally:
        elasticnd.set_deterministic(False)
    assert all(np.array_equal(gradients[0], other) for other in gradients)


def test_a_job_has_the_layout_that_python_gives_it():
    ours, expected = first_light.layout()
    assert ours == expected


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", "complex64", "complex128"])
def test_other_element_types(library, dtype, rng):
    image = (rng.random(SHAPE) * 100).astype(dtype)
    if image.dtype.kind == "c":
        image = image + 1j * image[::-1]
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    arrays = library.array(image), library.array(displacement)
    for order in (0, 1):
        expected = elasticnd.deform_grid(image, displacement, order)
        got = library.to_numpy(elasticnd.deform_grid(*arrays, order))
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=SINGLE, atol=1 if image.dtype.kind == "u" and order else 1e-3)


def test_bfloat16_and_float16(rng):
    """The significands have 8 and 11 bits. CuPy has no bfloat16."""
    torch, library = frameworks.get("torch").module, torch_library()
    image, displacement = rng.random(SHAPE).astype(np.float32), rng.uniform(-5, 5, (2, 3, 4))
    for dtype, tolerance in ((torch.bfloat16, 8e-3), (torch.float16, 1e-3)):
        tensors = [library.array(array).to(dtype).requires_grad_() for array in (image, displacement)]
        ours = elasticnd.deform_grid(tensors[0], library.array(displacement), mode="mirror")
        assert ours.dtype == dtype
        expected = elasticnd.deform_grid(tensors[0].detach().float().cpu().numpy(), displacement, mode="mirror")
        np.testing.assert_allclose(ours.detach().float().cpu().numpy(), expected, rtol=0, atol=tolerance)
        ours.float().sum().backward()
        assert torch.isfinite(tensors[0].grad).all()


def test_bfloat16_of_jax(rng):
    library, jnp = jax_library(), frameworks.get("jax").module.numpy
    image, displacement = rng.random(SHAPE).astype(np.float32), rng.uniform(-5, 5, (2, 3, 4))
    narrow = library.array(image).astype(jnp.bfloat16)
    ours = elasticnd.deform_grid(narrow, library.array(displacement), mode="mirror")
    expected = elasticnd.deform_grid(np.asarray(narrow.astype(jnp.float32)), displacement, mode="mirror")
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(ours.astype(jnp.float32)), expected, rtol=0, atol=8e-3)


LAYOUTS = {
    "reversed axes": lambda array: array.copy().transpose(2, 1, 0).copy().transpose(2, 1, 0),
    "a part": lambda array: array[1:],
    "every second voxel": lambda array: array[:, ::2],
    "backward": lambda array: array[:, :, ::-1],
}


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, order, rng):
    import cupy

    lay_out, image = LAYOUTS[name], rng.random((5, *SHAPE))
    displacement = rng.uniform(-5, 5, (2, 3, 4))
    options = {"order": order, "axis": (1, 2)}
    expected = elasticnd.deform_grid(lay_out(image), displacement, **options)
    ours = elasticnd.deform_grid(lay_out(cupy.asarray(image)), cupy.asarray(displacement.T.copy()).T, **options)
    agree(cupy_library(), ours, expected, DOUBLE)


def test_channels_last(library, rng):
    image, displacement = rng.random((*SHAPE, 3)), rng.uniform(-5, 5, (2, 3, 4))
    ours = elasticnd.deform_grid(library.array(image), library.array(displacement), axis=(0, 1))
    agree(library, ours, elasticnd.deform_grid(image, displacement, axis=(0, 1)), DOUBLE)


@pytest.mark.parametrize("shape", [(1, 37), (41, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_short_axes(library, order, shape, rng):
    image, displacement = rng.random(shape), rng.uniform(-2, 2, (2, 3, 1))
    for mode in ("mirror", "grid-wrap", "constant"):
        ours = elasticnd.deform_grid(library.array(image), library.array(displacement), order, mode)
        agree(library, ours, elasticnd.deform_grid(image, displacement, order, mode), DOUBLE)


def test_empty_batches(library, rng):
    images, grids = np.empty((0, *SHAPE)), np.empty((0, 2, 3, 4))
    result = elasticnd.deform_grid(library.array(images), library.array(grids), axis=(1, 2))
    assert tuple(result.shape) == images.shape


def test_more_voxels_than_32_bits_count():
    import cupy

    extent = 1300
    if cupy.cuda.runtime.memGetInfo()[0] < 16 * extent**3:
        pytest.skip("too little memory")
    image = cupy.arange(extent**3, dtype=cupy.uint32).astype(cupy.uint8).reshape((extent,) * 3)
    displacement = np.random.default_rng(0).uniform(-3, 3, (3, 4, 4, 4))
    crop = (slice(extent - 9, extent),) * 3
    corner = cupy.asnumpy(image[-40:, -40:, -40:])
    field = elasticnd.dense_displacement(displacement, (extent,) * 3, crop=crop)
    for order in (0, 1):
        ours = cupy.asnumpy(elasticnd.deform_grid(image, displacement, order, "mirror")[crop])
        index = [np.arange(extent - 9, extent) - (extent - 40)] * 3
        places = field + np.stack(np.meshgrid(*index, indexing="ij"))
        expected = scipy.ndimage.map_coordinates(corner.astype(float), places, order=order, mode="mirror")
        assert np.abs(ours - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("order", [0, 1, 3])
def test_positions_that_do_not_exist(library, order, rng):
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    displacement[0, 0, 0], displacement[1, 2, 3] = np.nan, np.inf
    for mode in MODES:
        expected = elasticnd.deform_grid(image, displacement, order, mode)
        got = library.to_numpy(elasticnd.deform_grid(library.array(image), library.array(displacement), order, mode))
        np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_positions_on_the_border(library, order, mode, rng):
    """For shifts by whole voxels and right angles, rounding must not decide which positions are inside."""
    image = rng.random((9, 9))
    for shift in (-9, -1, 0, 3, 8):
        displacement = np.full((2, 3, 3), float(shift))
        expected = elasticnd.deform_grid(image, displacement, order, mode, 0.3)
        ours = elasticnd.deform_grid(library.array(image), library.array(displacement), order, mode, 0.3)
        agree(library, ours, expected, DOUBLE)
    for turn in (90, 180, 270):
        arguments = np.zeros((2, 3, 3)), order, mode, 0.3
        expected = elasticnd.deform_grid(image, *arguments, rotate=turn)
        ours = elasticnd.deform_grid(library.array(image), library.array(arguments[0]), *arguments[1:], rotate=turn)
        agree(library, ours, expected, DOUBLE)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_constants_of_every_size(library, dtype, rng):
    image = (rng.random(SHAPE) * 9).astype(dtype)
    displacement = np.full((2, 2, 2), 30.0)
    ours = elasticnd.deform_grid(library.array(image), library.array(displacement), 0, "constant", 7)
    agree(library, ours, elasticnd.deform_grid(image, displacement, 0, "constant", 7), 0)


@pytest.mark.parametrize("points", [4, 41])
@pytest.mark.parametrize("order", [0, 1, 3])
def test_parts_have_the_bits_of_the_whole(order, points, rng):
    import cupy

    images = cupy.asarray(rng.random((3, 2, *SHAPE), dtype=np.float32))
    grids = cupy.asarray(rng.uniform(-2, 2, (3, 2, points, points)))
    options = {"order": order, "mode": "mirror"}
    whole = elasticnd.deform_grid(images, grids, axis=(2, 3), **options)
    crop = (slice(7, 30), slice(5, 33))
    part = elasticnd.deform_grid(images, grids, axis=(2, 3), crop=crop, **options)
    assert cupy.array_equal(part, whole[..., 7:30, 5:33])
    for item in range(3):
        for channel in range(2):
            alone = elasticnd.deform_grid(images[item, channel], grids[item], **options)
            assert cupy.array_equal(alone, whole[item, channel])


def test_integer_sums_are_those_of_the_host(library, rng):
    image, displacement = rng.random((2, *SHAPE)).astype(np.float32), rng.uniform(-5, 5, (2, 3, 4))
    elasticnd.set_deterministic(True)
    try:
        arrays = [library.array(array) for array in (image, image, displacement)]
        ours = elasticnd.deform_grid_vjp(*arrays, axis=(1, 2)).image
        theirs = elasticnd.deform_grid_vjp(image, image, displacement, axis=(1, 2)).image
    finally:
        elasticnd.set_deterministic(False)
    agree(library, ours, theirs, SINGLE)
