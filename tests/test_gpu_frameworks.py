"""Calls in programs of PyTorch, JAX and TensorFlow on a CUDA device. Without a device, all tests are skipped."""

import os
import subprocess
import sys

import frameworks
import numpy as np
import pytest
from gpu_support import MARKS, SHAPE, agree, jax_library, torch_library
from tables import DOUBLE

import elasticnd

pytestmark = MARKS


def test_autodiff_of_second_order(library, rng):
    if library.gradient is None:
        pytest.skip("CuPy has no automatic derivatives")
    image, displacement = rng.random((9, 8)), rng.uniform(-1, 1, (2, 3, 3))

    def energy(grid):
        return (elasticnd.deform_grid(library.array(image), grid, mode="mirror") ** 2).sum()

    way, step = rng.standard_normal(displacement.shape), 1e-5
    (ours,) = library.gradient(energy, [library.array(displacement)])
    values = [float(energy(library.array(displacement + sign * step * way))) for sign in (1, -1)]
    # Differences have a rounding error of 1e-16 / 1e-5, and a similar error from the third derivative.
    assert abs((values[0] - values[1]) / (2 * step) - np.sum(library.to_numpy(ours) * way)) < 1e-6 * image.size


def test_jit_of_jax(rng):
    library = jax_library()
    jax = frameworks.get("jax").module
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    deform = jax.jit(lambda x, d: elasticnd.deform_grid(x, d, mode="mirror"))
    expected = elasticnd.deform_grid(image, displacement, mode="mirror")
    agree(library, deform(library.array(image), library.array(displacement)), expected, DOUBLE)


def test_compiled_by_torch(rng):
    library = torch_library()
    torch = frameworks.get("torch").module
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    deform = torch.compile(elasticnd.deform_grid, fullgraph=True, backend="aot_eager")
    expected = elasticnd.deform_grid(image, displacement)
    agree(library, deform(library.array(image), library.array(displacement)), expected, DOUBLE)


def test_tensors_of_tensorflow(rng):
    tf = frameworks.get("tensorflow").module
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("this TensorFlow has no GPU")
    image, displacement = rng.random(SHAPE), rng.uniform(-5, 5, (2, 3, 4))
    with tf.device("GPU:0"):
        ours = elasticnd.deform_grid(tf.constant(image), tf.constant(displacement))
    assert "GPU" in ours.device
    np.testing.assert_allclose(ours.numpy(), elasticnd.deform_grid(image, displacement), rtol=0, atol=DOUBLE)


def test_compiled_gradients_of_torch(rng):
    library, torch = torch_library(), frameworks.get("torch").module
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
    library, torch = torch_library(), frameworks.get("torch").module
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
    library, torch = torch_library(), frameworks.get("torch").module
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
    library, jax = jax_library(), frameworks.get("jax").module
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
    jax_library()
    jax = frameworks.get("jax").module
    devices = jax.devices("gpu")
    if len(devices) < 2:
        pytest.skip("there is only one device")
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


def test_layouts_of_torch(rng):
    library = torch_library()
    image, displacement = rng.random((5, *SHAPE)), rng.uniform(-5, 5, (2, 3, 4))
    tensor, grid = library.array(image), library.array(displacement.T.copy()).permute(2, 1, 0)
    for lay_out in (lambda x: x[1:], lambda x: x[:, ::2]):
        ours = elasticnd.deform_grid(lay_out(tensor), grid, axis=(1, 2))
        agree(library, ours, elasticnd.deform_grid(lay_out(image), displacement, axis=(1, 2)), DOUBLE)
    ours = elasticnd.deform_grid(tensor.permute(2, 1, 0), grid, axis=(1, 0))
    agree(library, ours, elasticnd.deform_grid(image.transpose(2, 1, 0), displacement, axis=(1, 0)), DOUBLE)


def test_jax_without_float64():
    jax_library()
    code = (
        "import jax, numpy, elasticnd\n"
        "device = jax.devices('gpu')[0]\n"
        "rng = numpy.random.default_rng(0)\n"
        "x, d = rng.random((9, 8), dtype='f'), rng.uniform(-1, 1, (2, 3, 3)).astype('f')\n"
        "f = jax.jit(jax.value_and_grad(lambda x, d: elasticnd.deform_grid(x, d, mode='mirror').sum(), (0, 1)))\n"
        "value, slopes = f(*(jax.device_put(array, device) for array in (x, d)))\n"
        "expected = elasticnd.deform_grid_vjp(numpy.ones((9, 8), 'f'), x, d, mode='mirror')\n"
        "for one, other in zip(slopes, expected):\n"
        "    assert one.dtype == 'f' and numpy.allclose(one, other, atol=1e-4)\n"
    )
    environment = os.environ | {"JAX_ENABLE_X64": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
