"""On a CUDA device: the results of the CPU, for arrays of CuPy, PyTorch and JAX. Without a device all are skipped.

By NVIDIA's checker: ``compute-sanitizer --tool memcheck pytest tests/test_gpu.py -k cupy``, and ``--tool racecheck``.
"""

import importlib.util
from typing import Any, NamedTuple

import frameworks
import numpy as np
import pytest
from tables import DOUBLE, MODES, ORDERS, SINGLE

import elasticnd


def missing():
    """Tell why there is nothing to test on."""
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
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
SHAPE = (41, 37)
MATRIX = np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])


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
        pulled = [library.to_numpy(elasticnd.deform_grid_vjp(*arrays).image) for _ in range(3)]
    finally:
        elasticnd.set_deterministic(False)
    assert all(np.array_equal(pulled[0], other) for other in pulled)


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


def test_capture_is_refused(rng):
    library = _torch()
    torch = frameworks.get("torch").module
    arrays = library.array(rng.random(SHAPE)), library.array(rng.uniform(-5, 5, (2, 3, 4)))
    elasticnd.deform_grid(*arrays)
    with pytest.raises(RuntimeError, match="cannot be captured"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        elasticnd.deform_grid(*arrays)


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
