"""Streams, threads, graphs and memory on a CUDA device. Without a device, all tests are skipped."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import frameworks
import numpy as np
import pytest
from gpu_support import MARKS, SHAPE, agree, cupy_library, torch_library
from tables import DOUBLE

import elasticnd

pytestmark = MARKS


def test_streams_of_torch(rng):
    library = torch_library()
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
    """A graph can capture calls whose kernels are loaded, and reads its inputs when it runs."""
    library = torch_library()
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


def test_memory_that_was_used_before(rng):
    """Scratch memory comes from a pool and contains arbitrary values."""
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


def test_two_streams_in_turn(rng):
    """A stream must not use tables or memory of another stream that is still busy."""
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
        agree(cupy_library(), result, expected, DOUBLE)


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

    torch, library = frameworks.get("torch").module, torch_library()
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

    torch, library = frameworks.get("torch").module, torch_library()
    from elasticnd.torch import ElasticDeform

    image, displacement = rng.random((2, 1, *SHAPE)), rng.uniform(-5, 5, (2, 3, 4))
    tensor = library.array(image).float().requires_grad_()
    layer = ElasticDeform(sigma=(1.0, 2.0)).train()

    def step():
        layer(tensor).sum().backward()
        elasticnd.deform_grid(tensor, displacement, axis=(2, 3)).sum().backward()

    step()  # loads kernels and creates tables
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


def test_the_first_call_of_a_process_in_another_thread(rng):
    """In a new thread, no CUDA context is current yet."""
    code = (
        "import threading, cupy, numpy, elasticnd\n"
        "image, grid = cupy.ones((9, 8)), cupy.zeros((2, 3, 3))\n"
        "found = []\n"
        "thread = threading.Thread(target=lambda: found.append(elasticnd.deform_grid(image, grid).get()))\n"
        "thread.start(), thread.join()\n"
        "assert numpy.allclose(found[0], 1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_backward_on_a_side_stream(rng):
    """Autograd computes gradients on the stream of the forward pass, but in another thread."""
    torch, library = frameworks.get("torch").module, torch_library()
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    expected = elasticnd.deform_grid_vjp(np.ones(SHAPE), image, displacement)
    tensors = [library.array(array).requires_grad_() for array in (image, displacement)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        elasticnd.deform_grid(*tensors).sum().backward()
    stream.synchronize()
    for tensor, gradient in zip(tensors, expected, strict=False):
        agree(library, tensor.grad, gradient, DOUBLE)


def test_peak_memory(rng):
    """Besides the image and the result, memory holds at most two volumes of coefficients, and the sums of rows."""
    torch, library = frameworks.get("torch").module, torch_library()
    image = library.array(rng.random((128, 128, 128), dtype=np.float32))
    grid = library.array(rng.uniform(-5, 5, (3, 4, 4, 4)))
    for call in (
        lambda: elasticnd.deform_grid(image, grid, mode="mirror"),
        lambda: elasticnd.deform_grid_vjp(image, image, grid, mode="mirror"),
    ):
        call()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        rows = 3 * 128**2 * 6 * 8
        assert torch.cuda.max_memory_allocated() - held < 3 * image.nbytes + 2 * rows
