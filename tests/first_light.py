"""The first run on a CUDA device, rung by rung: first single kernels against the core, then calls through libraries.

``first_light.sh`` climbs all rungs, each in a separate process. ``python tests/first_light.py`` lists the rungs, and
``python tests/first_light.py RUNG`` climbs one and prints its error.
"""

import csv
import importlib.metadata
import platform
import sys
import time
from functools import partial

import numpy as np

LIBRARIES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "jaxlib", "tensorflow", "elasticnd", "pytest")
SHAPES = {1: (300,), 2: (41, 37), 3: (19, 21, 35), 4: (5, 6, 7, 8)}
TOLERANCE = 1e-11
RUNGS = {}


def rung(name, *arguments):
    """Register a function(engine, array) that returns arrays. Those of the CUDA engine and of the core are compared."""

    def register(function):
        RUNGS[name] = partial(function, arguments) if arguments else function
        return function

    return register


def inputs(axes, **options):
    """Return an image, a displacement and their job."""
    from elasticnd._job import make_job
    from elasticnd._modes import Mode

    rng = np.random.default_rng(axes)
    shape, points = SHAPES[axes], (4, 5, 3, 4)[:axes]
    options = {"order": 3, "mode": Mode.MIRROR, "prefilter": True} | options
    job = make_job(image=shape, grid_shape=points, **options)
    return rng.random(shape), rng.uniform(-3, 3, (axes, *points)), job


@rung("weights of the control grid")
def weights(engine, array):
    *_, job = inputs(2)
    if engine.__name__.endswith("cpu"):
        return [np.ones(sum(SHAPES[2]))]
    from elasticnd._engines.cuda import control_grid

    return [control_grid.tables_of(job, 2).weights.sum(1)]


@rung("coefficients of the control grid")
def grid_coefficients(engine, array):
    from elasticnd._job import make_job
    from elasticnd._modes import Mode

    _, displacement, job = inputs(3)
    if engine.__name__.endswith("cpu"):
        own = make_job(image=displacement.shape[1:], grid_shape=(1, 1, 1), order=3, mode=Mode.MIRROR, prefilter=True)
        return [np.stack([engine.prefilter(own, component) for component in displacement])]
    from elasticnd._engines.cuda import control_grid

    return [control_grid.grid_coefficients(array(displacement), job, 1)[:, 1:-1, 1:-1, 1:-1]]


def displace(arguments, engine, array):
    (axes,) = arguments
    _, displacement, job = inputs(axes)
    output = array(np.zeros((axes, *SHAPES[axes])))
    engine.displace(job, array(displacement), output)
    back = array(np.zeros(displacement.shape))
    engine.displace_adjoint(job, output, back)
    return [output, back]


def prefilter(arguments, engine, array):
    axes, order = arguments
    image, _, job = inputs(axes, order=order)
    coefficients = engine.prefilter(job, array(image))
    back = array(np.zeros(image.shape))
    engine.prefilter_adjoint(job, coefficients, back)
    return [coefficients, back]


def sample(arguments, engine, array):
    import elasticnd

    axes, order = arguments
    image, displacement, _ = inputs(axes)
    modes = ("mirror", "constant", "grid-wrap")
    return [elasticnd.deform_grid(array(image), array(displacement), order, mode) for mode in modes]


def gradients(arguments, engine, array):
    import elasticnd

    axes, deterministic = arguments
    image, displacement, _ = inputs(axes)
    elasticnd.set_deterministic(deterministic)
    try:
        arrays = array(image[::-1].copy()), array(image), array(displacement)
        return list(elasticnd.deform_grid_vjp(*arrays, 3, "mirror")[:2])
    finally:
        elasticnd.set_deterministic(False)


def affine(arguments, engine, array):
    import elasticnd

    (axes,) = arguments
    image, displacement, _ = inputs(axes)
    matrix = np.concatenate([np.eye(axes) + 0.1 * np.arange(axes), np.ones((axes, 1))], 1)
    return [elasticnd.deform_grid(array(image), array(displacement), 1, "mirror", affine=array(matrix))]


for _axes in SHAPES:
    rung(f"displace {_axes}-D", _axes)(displace)
for _axes in (1, 3):
    rung(f"prefilter {_axes}-D", _axes, 3)(prefilter)
rung("prefilter 2-D order 5", 2, 5)(prefilter)
for _axes in SHAPES:
    for _order in (0, 1, 3):
        rung(f"sample {_axes}-D order {_order}", _axes, _order)(sample)
for _axes in SHAPES:
    rung(f"gradients {_axes}-D", _axes, False)(gradients)
rung("gradients in integers", 3, True)(gradients)
for _axes in (2, 3, 4):
    rung(f"affine {_axes}-D", _axes)(affine)
KERNEL_RUNGS = tuple(RUNGS)


# ---- libraries -------------------------------------------------------------------------------------------------------


def torch_arrays(image, displacement):
    import torch

    return [torch.as_tensor(array).cuda() for array in (image, displacement)]


@rung("PyTorch")
def through_torch(engine, array):
    import elasticnd

    image, displacement, _ = inputs(2)
    if engine.__name__.endswith("cpu"):
        return [elasticnd.deform_grid(image, displacement, mode="mirror")]
    return [elasticnd.deform_grid(*torch_arrays(image, displacement), mode="mirror").cpu()]


@rung("PyTorch, backward on another stream")
def torch_backward(engine, array):
    import elasticnd

    image, displacement, _ = inputs(2)
    if engine.__name__.endswith("cpu"):
        return list(elasticnd.deform_grid_vjp(np.ones_like(image), image, displacement, mode="mirror")[:2])
    import torch

    tensors = [tensor.requires_grad_() for tensor in torch_arrays(image, displacement)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        elasticnd.deform_grid(*tensors, mode="mirror").sum().backward()
    stream.synchronize()
    return [tensor.grad.cpu() for tensor in tensors]


@rung("JAX", False)
@rung("JAX in a program", True)
def through_jax(arguments, engine, array):
    import elasticnd

    image, displacement, _ = inputs(2)
    if engine.__name__.endswith("cpu"):
        return [elasticnd.deform_grid(image, displacement, mode="mirror")]
    import jax

    jax.config.update("jax_enable_x64", True)
    device = jax.devices("gpu")[0]
    deform = partial(elasticnd.deform_grid, mode="mirror")
    on_device = [jax.device_put(array, device) for array in (image, displacement)]
    return [(jax.jit(deform) if arguments[0] else deform)(*on_device)]


# ---- on a device -----------------------------------------------------------------------------------------------------

LAYOUT = """
extern "C" __global__ void job_layout(long long* places) {
    const elasticnd::Job job = {};
    const char* start = reinterpret_cast<const char*>(&job);
    int k = 0;
#define ELASTICND_PLACE(field) places[k++] = reinterpret_cast<const char*>(&job.field) - start;
    ELASTICND_JOB_FIELDS(ELASTICND_PLACE)
    places[k] = sizeof(elasticnd::Job);
}
"""


def layout():
    """Return the offsets of a job's members on the device and in Python."""
    import cupy

    from elasticnd._engines.cuda.compile import OPTIONS, source
    from elasticnd._job import JOB

    expected = [JOB.fields[name][1] for name in JOB.names] + [JOB.itemsize]
    places = cupy.zeros(len(expected), np.int64)
    kernel = cupy.RawModule(code=source("grid.cu") + LAYOUT, options=OPTIONS).get_function("job_layout")
    kernel((1,), (1,), (places,))
    return cupy.asnumpy(places).tolist(), expected


def error_of(ours, theirs):
    """Return the largest difference, relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, f"{ours.shape} instead of {theirs.shape}"
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(theirs).max()))


def climb(name):
    import cupy

    from elasticnd._engines import cpu, cuda

    if name == "layout of a job":
        ours, theirs = layout()
        print(f"{name}: {ours} and {theirs}")
        return ours == theirs
    ours = [value.get() if hasattr(value, "get") else np.asarray(value) for value in RUNGS[name](cuda, cupy.asarray)]
    errors = [error_of(*both) for both in zip(ours, RUNGS[name](cpu, np.asarray), strict=True)]
    print(f"{name}: largest error {max(errors):.1e}")
    return max(errors) <= TOLERANCE


def kernels(path):
    """Write a table of the resources that each kernel uses, and print the memory that the first affine call takes."""
    import cupy

    from elasticnd._engines import cuda
    from elasticnd._engines.cuda.devices import device

    free = cupy.cuda.runtime.memGetInfo()[0]
    RUNGS["affine 3-D"](cuda, cupy.asarray)
    cupy.cuda.runtime.deviceSynchronize()
    print(f"the first affine call took {(free - cupy.cuda.runtime.memGetInfo()[0]) / 2**20:.0f} MiB")
    for name in KERNEL_RUNGS:
        RUNGS[name](cuda, cupy.asarray)
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("kernel", "registers", "local bytes", "shared bytes"))
        for (name, _), function in sorted(device()._kernels.items()):
            sizes = function.attributes
            table.writerow((name, *(sizes[key] for key in ("num_regs", "local_size_bytes", "shared_size_bytes"))))


def small():
    """Print the time that a call on a small array takes on the host."""
    import cupy

    import elasticnd

    image, displacement = cupy.zeros((16, 16), np.float32), cupy.zeros((2, 5, 5))
    times = []
    for _ in range(40):
        cupy.cuda.get_current_stream().synchronize()
        start = time.perf_counter()
        for _ in range(50):
            elasticnd.deform_grid(image, displacement, mode="mirror")
        times.append((time.perf_counter() - start) / 50)
    print(f"a call on 16 x 16 voxels returns after {1e6 * min(times):.1f} to {1e6 * np.median(times):.1f} us")


def versions():
    print("Python", platform.python_version(), platform.platform())
    for name in LIBRARIES:
        try:
            print(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue


def main(arguments):
    tasks = {"versions": versions, "kernels": kernels, "small": small}
    match arguments:
        case []:
            print("\n".join(("layout of a job", *RUNGS)))
        case [name, *rest] if name in tasks:
            tasks[name](*rest)
        case [name]:
            return 0 if climb(name) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
