"""On a CUDA device: the results of the CPU, for arrays of CuPy, PyTorch and JAX. Without a device all are skipped.

By NVIDIA's checker: ``compute-sanitizer --tool memcheck pytest tests/test_gpu.py -k cupy``, and ``--tool racecheck``.
"""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import first_light
import frameworks
import numpy as np
import pytest
import scipy.ndimage
from tables import DOUBLE, MODES, ORDERS, SINGLE

import elasticnd


def missing():
    """Return why there is nothing to test on."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    try:
        return None if cupy.cuda.runtime.getDeviceCount() else "there is no CUDA device"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy finds no CUDA device: {error}"


REASON = missing()
pytestmark = [
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.filterwarnings("default"),  # other libraries warn of their own affairs
]
SHAPE = (41, 37)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])


if REASON is None and os.environ.get("ELASTICND_WITHOUT_POOLS"):  # which hide what checkers look for
    import cupy

    cupy.cuda.set_allocator(None)


@pytest.fixture(autouse=True)
def _sound_device():
    """End the process after an error that all later calls would repeat: pytest-xdist starts another one."""
    yield
    import cupy

    try:
        cupy.cuda.runtime.deviceSynchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        print(f"the device is lost: {error}", file=sys.stderr, flush=True)
        os._exit(70)


class Library(NamedTuple):
    """How tests use a library on the device."""

    array: Any  # from NumPy
    to_numpy: Any
    owns: Any
    gradient: Any  # gradient(f, arrays), of the real number f(*arrays)


def _cupy():
    import cupy

    return Library(cupy.asarray, cupy.asnumpy, lambda x: isinstance(x, cupy.ndarray), None)


def _torch():
    torch = frameworks.get("torch").module
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA device")
    gradient = frameworks.get("torch").gradient
    return Library(
        lambda x: torch.as_tensor(np.ascontiguousarray(x)).cuda(),
        lambda x: x.detach().cpu().numpy(),
        lambda x: x.is_cuda,
        gradient,
    )


def _jax():
    jax = frameworks.get("jax").module
    try:
        device = jax.devices("gpu")[0]
    except RuntimeError as error:
        pytest.skip(f"this JAX has no CUDA device: {error}")
    gradient = frameworks.get("jax").gradient
    return Library(lambda x: jax.device_put(x, device), np.asarray, lambda x: x.device == device, gradient)


@pytest.fixture(params=[_cupy, _torch, _jax], ids=["cupy", "torch", "jax"])
def library(request):
    return request.param()


def agree(library, ours, theirs, tolerance):
    assert library.owns(ours)
    got = library.to_numpy(ours)
    assert got.dtype == theirs.dtype
    scale = max(1.0, np.abs(theirs.astype(np.float64)).max(initial=0))
    np.testing.assert_allclose(got.astype(np.float64), theirs.astype(np.float64), rtol=0, atol=tolerance * scale)


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


def test_autodiff_of_second_order(library, rng):
    if library.gradient is None:
        pytest.skip("CuPy has no automatic derivatives")
    image, displacement = rng.random((9, 8)), rng.uniform(-1, 1, (2, 3, 3))

    def energy(grid):
        return (elasticnd.deform_grid(library.array(image), grid, mode="mirror") ** 2).sum()

    way, step = rng.standard_normal(displacement.shape), 1e-5
    (ours,) = library.gradient(energy, [library.array(displacement)])
    values = [float(energy(library.array(displacement + sign * step * way))) for sign in (1, -1)]
    # Differences lose 1e-16 / 1e-5 by rounding, and as much by the third derivative.
    assert abs((values[0] - values[1]) / (2 * step) - np.sum(library.to_numpy(ours) * way)) < 1e-6 * image.size


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


def test_jit_of_jax(rng):
    library = _jax()
    jax = frameworks.get("jax").module
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    deform = jax.jit(lambda x, d: elasticnd.deform_grid(x, d, mode="mirror"))
    expected = elasticnd.deform_grid(image, displacement, mode="mirror")
    agree(library, deform(library.array(image), library.array(displacement)), expected, DOUBLE)


def test_compiled_by_torch(rng):
    library = _torch()
    torch = frameworks.get("torch").module
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    deform = torch.compile(elasticnd.deform_grid, fullgraph=True, backend="aot_eager")
    expected = elasticnd.deform_grid(image, displacement)
    agree(library, deform(library.array(image), library.array(displacement)), expected, DOUBLE)


def test_streams_of_torch(rng):
    library = _torch()
    torch = frameworks.get("torch").module
    image, displacement = rng.random((600, 600)), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(elasticnd.deform_grid(image, displacement), displacement)
    arrays = library.array(image), library.array(displacement)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = [elasticnd.deform_grid(elasticnd.deform_grid(*arrays), arrays[1]) for _ in range(20)]
    stream.synchronize()
    for result in results:
        agree(library, result, expected, DOUBLE)


def test_graphs_of_torch(rng):
    """A graph captures kernels that are loaded, and computes for whatever its inputs hold when it runs."""
    library = _torch()
    torch = frameworks.get("torch").module
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    arrays = library.array(image).requires_grad_(), library.array(displacement).requires_grad_()
    options = {"order": 4, "mode": "wrap", "rotate": 10}

    def step():
        result = elasticnd.deform_grid(*arrays, **options)
        return result.detach(), *torch.autograd.grad(result.square().sum(), arrays)

    with pytest.raises(RuntimeError, match="first use of a kernel"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        elasticnd.deform_grid(*arrays, **options)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step()
    with pytest.raises(RuntimeError, match="copy from the host"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        elasticnd.deform_grid(arrays[0], displacement, **options)
    for factor in (1, 0.5):
        with torch.no_grad():
            arrays[1].copy_(library.array(factor * displacement))
        spoilt = [torch.full((size,), torch.nan, device="cuda") for size in (1000, 10000) for _ in range(8)]
        graph.replay()
        expected = step()
        del spoilt
        for one, other in zip(results, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_tensors_of_tensorflow(rng):
    tf = frameworks.get("tensorflow").module
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("this TensorFlow has no GPU")
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with tf.device("GPU:0"):
        ours = elasticnd.deform_grid(tf.constant(image), tf.constant(displacement))
    assert "GPU" in ours.device
    np.testing.assert_allclose(ours.numpy(), elasticnd.deform_grid(image, displacement), rtol=0, atol=DOUBLE)


def test_mixed_devices(rng):
    import cupy

    image, grid = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with pytest.raises(TypeError, match=r"displacement: got .*expected a NumPy array"):
        elasticnd.deform_grid(image, cupy.asarray(grid))
    with pytest.raises(ValueError, match=r"X\[1\]: got .*expected an array of the same"):
        elasticnd.deform_grid([cupy.asarray(image), image], grid)
    if cupy.cuda.runtime.getDeviceCount() < 2:
        return
    with cupy.cuda.Device(1):
        other = cupy.asarray(image)
    with pytest.raises(ValueError, match=r"X\[1\]: got an array on CUDA device 1, expected one on device 0"):
        elasticnd.deform_grid([cupy.asarray(image), other], grid)
    assert elasticnd.deform_grid(other, grid).device.id == 1


# ---- arrays of every kind --------------------------------------------------------------------------------------------


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
    """Eight and eleven bits; CuPy has no bfloat16."""
    torch, library = frameworks.get("torch").module, _torch()
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
    library, jnp = _jax(), frameworks.get("jax").module.numpy
    image, displacement = rng.random(SHAPE).astype(np.float32), rng.uniform(-5, 5, (2, 3, 4))
    narrow = library.array(image).astype(jnp.bfloat16)
    ours = elasticnd.deform_grid(narrow, library.array(displacement), mode="mirror")
    expected = elasticnd.deform_grid(np.asarray(narrow.astype(jnp.float32)), displacement, mode="mirror")
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(ours.astype(jnp.float32)), expected, rtol=0, atol=8e-3)


LAYOUTS = {
    "reversed axes": lambda array: array.copy().transpose(2, 1, 0).copy().transpose(2, 1, 0),
    "a part": lambda array: array[1:],
    "every second": lambda array: array[:, ::2],
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
    agree(_cupy(), ours, expected, DOUBLE)


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
def test_positions_that_are_none(library, order, rng):
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    displacement[0, 0, 0], displacement[1, 2, 3] = np.nan, np.inf
    for mode in MODES:
        expected = elasticnd.deform_grid(image, displacement, order, mode)
        got = library.to_numpy(elasticnd.deform_grid(library.array(image), library.array(displacement), order, mode))
        np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_positions_on_the_border(library, order, mode, rng):
    """Whole voxels and right angles: rounding must not decide what lies inside."""
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


# ---- the same bits ---------------------------------------------------------------------------------------------------


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


def test_memory_that_was_used_before(rng):
    """Scratch memory comes from a pool, full of what was there."""
    import cupy

    image, displacement = cupy.asarray(rng.random((60, 50))), cupy.asarray(rng.uniform(-5, 5, (2, 3, 4)))

    def results():
        values = elasticnd.deform_grid(image, displacement, 3, "nearest")
        return [values, *elasticnd.deform_grid_vjp(image, image, displacement, 3, "nearest")[:2]]

    first = results()
    spoilt = [cupy.full(size, np.nan) for size in (100, 1000, 3000, 5000, 10000) for _ in range(8)]
    del spoilt
    for one, other in zip(first, results(), strict=True):
        cupy.testing.assert_allclose(one, other, rtol=0, atol=DOUBLE)


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


# ---- streams, threads and graphs -------------------------------------------------------------------------------------


def test_two_streams_in_turn(rng):
    """A stream that is busy must not be overtaken by another one that uses its tables or its memory."""
    import cupy

    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement)
    arrays = cupy.asarray(image), cupy.asarray(displacement)
    spin = cupy.RawKernel(
        'extern "C" __global__ void spin() { for (long long start = clock64(); clock64() - start < 20000000;) ; }',
        "spin",
    )
    cupy.cuda.runtime.deviceSynchronize()
    streams, results = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)], []
    with streams[0]:
        spin((1,), (1,), ())
    for turn in range(20):
        with streams[turn % 2]:
            results.append(elasticnd.deform_grid(*arrays))
    cupy.cuda.runtime.deviceSynchronize()
    for result in results:
        agree(_cupy(), result, expected, DOUBLE)


@pytest.mark.parametrize("own_streams", [False, True])
def test_threads(own_streams, rng):
    import cupy

    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement)

    def work(_):
        with cupy.cuda.Stream.ptds if own_streams else cupy.cuda.Stream.null:
            results = [elasticnd.deform_grid(cupy.asarray(image), cupy.asarray(displacement)) for _ in range(10)]
            return [cupy.asnumpy(result) for result in results]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(16)):
            for result in results:
                np.testing.assert_allclose(result, expected, rtol=0, atol=DOUBLE)


def test_graphs_of_cupy(rng):
    import cupy

    arrays = cupy.asarray(rng.random(SHAPE)), cupy.asarray(rng.uniform(-5, 5, (2, 3, 4)))
    options = {"order": 2, "mode": "reflect"}
    stream = cupy.cuda.Stream(non_blocking=True)

    def captured():
        stream.begin_capture()
        try:
            return elasticnd.deform_grid(*arrays, **options)
        finally:
            captured.graph = stream.end_capture()

    with stream:
        with pytest.raises(RuntimeError, match="first use of a kernel"):
            captured()
        expected = elasticnd.deform_grid(*arrays, **options)
        result = captured()
        spoilt = [cupy.full(size, np.nan) for size in (100, 1000, 3000, 5000) for _ in range(8)]
        captured.graph.launch(stream)
        del spoilt
    stream.synchronize()
    assert cupy.array_equal(result, expected)


def test_scratch_memory_is_that_of_torch(rng):
    import cupy

    torch, library = frameworks.get("torch").module, _torch()
    image, grid = library.array(rng.random((512, 512))), library.array(rng.uniform(-5, 5, (2, 3, 4)))
    elasticnd.deform_grid(image, grid)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    for _ in range(3):
        elasticnd.deform_grid_vjp(image, image, grid)
    assert pool.total_bytes() == before
    assert torch.cuda.max_memory_allocated() - held > 2 * image.nbytes


def test_nothing_waits_for_the_device(rng):
    import cupyx

    torch, library = frameworks.get("torch").module, _torch()
    from elasticnd.torch import ElasticDeform

    image, displacement = rng.random((2, 1, *SHAPE)), rng.uniform(-5, 5, (2, 3, 4))
    tensor = library.array(image).float().requires_grad_()
    layer = ElasticDeform(sigma=(1.0, 2.0)).train()

    def step():
        layer(tensor).sum().backward()
        elasticnd.deform_grid(tensor, displacement, axis=(2, 3)).sum().backward()

    step()  # kernels are loaded and tables made
    torch.cuda.set_sync_debug_mode("error")
    try:
        with cupyx.allow_synchronize(False):
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_is_given_back(rng):
    import cupy

    image, displacement = cupy.asarray(rng.random((256, 256))), cupy.asarray(rng.uniform(-5, 5, (2, 3, 4)))
    pool = cupy.get_default_memory_pool()

    def calls(count):
        for k in range(count):
            elasticnd.deform_grid(image, displacement, 3, crop=(slice(k % 50, 200), slice(0, 100)))
        cupy.cuda.runtime.deviceSynchronize()
        return pool.used_bytes()

    first = calls(100)
    assert calls(200) <= first + 2**20
    before = pool.used_bytes()
    elasticnd.deform_grid_vjp(image, image, displacement, 3)
    assert pool.used_bytes() <= before + 2**20


# ---- frameworks ------------------------------------------------------------------------------------------------------


def test_compiled_gradients_of_torch(rng):
    library, torch = _torch(), frameworks.get("torch").module
    image, displacement = rng.random(SHAPE), rng.uniform(-2, 2, (4, 3, 2))

    def energy(x, d):
        return elasticnd.deform_grid(x, d, mode="mirror").square().sum()

    def gradient(function):
        d = library.array(displacement).permute(2, 1, 0).detach().requires_grad_()
        function(library.array(image), d).backward()
        return d.grad

    expected = gradient(energy)
    for options in ({}, {"mode": "reduce-overhead"}):
        compiled = torch.compile(energy, fullgraph=True, **options)
        for _ in range(3):
            torch.testing.assert_close(gradient(compiled), expected, rtol=0, atol=1e-9)


def test_functions_of_torch(rng):
    library, torch = _torch(), frameworks.get("torch").module
    images = library.array(rng.random((3, 6, 5)))
    grids = library.array(rng.uniform(-1, 1, (3, 2, 3, 3)))

    def deform(x, d):
        return elasticnd.deform_grid(x, d, mode="mirror")

    mapped = torch.func.vmap(deform)(images, grids)
    for result, image, grid in zip(mapped, images, grids, strict=True):
        torch.testing.assert_close(result, deform(image, grid), rtol=0, atol=DOUBLE)
    slope = torch.func.grad(lambda d: deform(images[0], d).sum())(grids[0])
    _, along = torch.func.jvp(lambda d: deform(images[0], d).sum(), (grids[0],), (grids[1],))
    torch.testing.assert_close((slope * grids[1]).sum(), along, rtol=1e-9, atol=1e-9)
    inputs = images[0].clone().requires_grad_(), grids[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(deform, inputs)
    assert torch.autograd.gradgradcheck(deform, inputs)


def test_autocast_and_training(rng):
    library, torch = _torch(), frameworks.get("torch").module
    from elasticnd.torch import ElasticDeform

    images = library.array(rng.random((4, 1, 12, 12))).float()
    model = torch.nn.Sequential(ElasticDeform(sigma=1.0), torch.nn.Conv2d(1, 2, 3)).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = model(images).float().square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_transformations_of_jax(rng):
    library, jax = _jax(), frameworks.get("jax").module
    images = library.array(rng.random((3, 9, 8)))
    grids = library.array(rng.uniform(-1, 1, (3, 2, 3, 3)))

    def deform(x, d):
        return elasticnd.deform_grid(x, d, mode="mirror")

    mapped = jax.jit(jax.vmap(deform))(images, grids)
    for k in range(3):
        np.testing.assert_allclose(mapped[k], deform(images[k], grids[k]), rtol=0, atol=DOUBLE)
    slope = jax.grad(lambda d: deform(images[0], d).sum())(grids[0])
    _, along = jax.jvp(lambda d: deform(images[0], d).sum(), (grids[0],), (grids[1],))
    np.testing.assert_allclose((slope * grids[1]).sum(), along, rtol=1e-9)
    scanned, _ = jax.lax.scan(lambda x, d: (deform(x, d), None), images[0], grids)
    chosen = jax.jit(lambda flag, x: jax.lax.cond(flag, lambda x: deform(x, grids[0]), lambda x: x, x))(True, images[0])
    donated = jax.jit(deform, donate_argnums=0)(images[0] + 0, grids[0])
    np.testing.assert_allclose(chosen, donated, rtol=0, atol=DOUBLE)
    expected = images[0]
    for grid in grids:
        expected = deform(expected, grid)
    np.testing.assert_allclose(scanned, expected, rtol=0, atol=DOUBLE)


def test_many_devices_of_jax(rng):
    _jax()
    jax = frameworks.get("jax").module
    devices = jax.devices("gpu")
    if len(devices) < 2:
        pytest.skip("there is one device")
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid(image, displacement)
    second = [jax.device_put(array, devices[1]) for array in (image, displacement)]
    ours = elasticnd.deform_grid(*second)
    assert ours.device == devices[1]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=DOUBLE)
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    batch = [jax.device_put(np.stack([array] * len(devices)), place) for array in (image, displacement)]
    results = jax.jit(lambda x, d: elasticnd.deform_grid(x, d, axis=(1, 2)))(*batch)
    for result in np.asarray(results):
        np.testing.assert_allclose(result, expected, rtol=0, atol=DOUBLE)


def test_the_first_call_of_a_process_in_another_thread(rng):
    """Where no context of CUDA is current yet."""
    code = (
        "import threading, cupy, numpy, elasticnd\n"
        "image, grid = cupy.ones((9, 8)), cupy.zeros((2, 3, 3))\n"
        "found = []\n"
        "thread = threading.Thread(target=lambda: found.append(elasticnd.deform_grid(image, grid).get()))\n"
        "thread.start(), thread.join()\n"
        "assert numpy.allclose(found[0], 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
