"""Frameworks call the CUDA kernels on the host: with buffers of XLA, and with tensors of PyTorch and TensorFlow."""

import contextlib
import importlib.machinery
import sys
import threading
import weakref
from functools import partial
from types import SimpleNamespace

import frameworks
import host_device
import ml_dtypes
import numpy as np
import pytest
from cuda_stubs import agree, on_cuda, tolerance
from tables import DOUBLE, values

import elasticnd
from elasticnd import _check, _spec
from elasticnd._autodiff import compute, operators
from elasticnd._autodiff.operators import Operands, Operator

pytestmark = pytest.mark.skipif(not host_device.COMPILER, reason="no g++ on PATH")


@pytest.fixture
def jax_buffers():
    """Return the module through which JAX calls the CUDA kernels."""
    frameworks.get("jax")
    from elasticnd._bridges import jax_buffers

    if not jax_buffers.compat.HAS_BUFFER_CALLBACKS:
        pytest.skip("this JAX has no buffer_callback")
    return jax_buffers


class CountingNumpy:
    """NumPy on buffers of XLA, which counts the bytes of all arrays that it has created and that still exist."""

    def __init__(self):
        self.now = self.most = 0

    def __getattr__(self, name):
        return getattr(np, name)

    def counted(self, array):
        size = -(-max(1, array.nbytes) // 256) * 256
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(array, self.release, size)
        return array

    def release(self, size):
        self.now -= size

    def empty(self, shape, dtype=float):
        return self.counted(np.empty(shape, dtype).view(CountedArray))

    def zeros(self, shape, dtype=float):
        return self.counted(np.zeros(shape, dtype).view(CountedArray))

    def ascontiguousarray(self, array, dtype=None):
        result = np.ascontiguousarray(array, dtype)
        return result if result is array or np.shares_memory(result, array) else self.counted(result.view(CountedArray))


class CountedArray(np.ndarray):
    """An array that allows weak references."""


def lend_buffers(monkeypatch, jax_buffers, xp=np):
    """Let the host act as a device of XLA, and return a list that receives the sizes of the buffers it lends."""
    lent = []
    monkeypatch.setattr(jax_buffers, "_place_of", lambda context, output: (xp, contextlib.nullcontext()))

    def allocating_in(xp, scratch):
        lent.extend(xp.asarray(buffer).nbytes for buffer in scratch)
        return contextlib.nullcontext()

    monkeypatch.setattr(jax_buffers, "_allocating_in", allocating_in)
    return lent


def test_memory_of_xla_is_scratch_memory(jax_buffers, fake_cupy):
    buffer = SimpleNamespace(nbytes=1000, data=SimpleNamespace(ptr=512))
    fake_cupy.asarray = lambda array: array
    with jax_buffers._allocating_in(fake_cupy, [buffer]):
        pointers = [fake_cupy.cuda.get_allocator()(size).memory for size in (100, 1001, 400, 990)]
    assert [memory.pointer for memory in pointers] == [512, 4096, 512 + 256, 4096]
    with jax_buffers._allocating_in(fake_cupy, []):
        assert fake_cupy.cuda.get_allocator() == fake_cupy.allocate


def operators_on(spec, points, rng):
    """Yield every operator that uses scratch memory, with operands."""
    image, weight = rng.random(spec.images[0].shape), rng.random(spec.output_shape(spec.images[0]))
    yield Operator(spec, "sample"), Operands(image=image, transform=(points,))
    for wants in ((True, False), (False, True), (True, True)):
        operator = Operator(spec, "sample_adjoint", wants_image=wants[0], wants_transform=wants[1])
        yield operator, Operands(weight, image, (points,))
    yield Operator(spec, "displace"), Operands(transform=(points,))
    yield Operator(spec, "displace_adjoint"), Operands(gradient=rng.random(spec.field_shape))
    at = _spec.EvaluationSpec(spec.batch, spec.extent, spec.grid_shape, 700)
    positions = rng.uniform(0, 6, (*spec.batch, 700, 2))
    for order in (0, 1):
        yield Operator(at, "evaluate", order=order), Operands(positions=positions, transform=(points,))
        gradient = rng.random(at.values_shape(order))
        yield Operator(at, "evaluate_adjoint", order=order), Operands(gradient, positions=positions)


CALLS = {
    "an image": ((41, 37), (2, 3, 2), {}),
    "channels last": ((41, 37, 3), (2, 3, 2), {"axis": (0, 1)}),
    "a batch": ((2, 41, 37), (2, 2, 3, 2), {"axis": (1, 2)}),
    "padded": ((41, 37), (2, 3, 2), {"mode": "nearest"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_buffers_of_xla(name, jax_buffers, monkeypatch, rng):
    """The code for JAX on a device gives the same results on buffers of the host, in memory that XLA lends."""
    jax = frameworks.get("jax").module
    shape, points_shape, options = CALLS[name]
    options = _spec.Options(**{"mode": "mirror", "cval": 0.3} | options)
    infos = _spec.ArrayInfo(shape, "float64"), _spec.ArrayInfo(points_shape, "float64")
    spec = _check.normalize(infos[:1], infos[1], None, "X", options)
    for operator, operands in operators_on(spec, rng.uniform(-1, 1, points_shape), rng):
        counting = CountingNumpy()
        lent = lend_buffers(monkeypatch, jax_buffers, counting)
        device = host_device.HostDevice()
        device.xp = counting
        flat = operators.flatten(operator, operands)
        with host_device.installed(device):
            run = jax.jit(partial(jax_buffers._call_on_buffers, operator))
            run(*flat)  # the first call caches tables
            kept = counting.now
            counting.most, lent[:] = counting.now, []
            ours = [np.asarray(result) for result in run(*flat)]
        (size,) = lent
        assert counting.most - kept <= size <= counting.most + 1024, operator  # tables are lent too, but not used
        for one, other in zip(ours, compute.run(operator, operator.call, operands), strict=True):
            agree(one, other, DOUBLE)


@contextlib.contextmanager
def lowered_to_buffers(jax_buffers, monkeypatch):
    """Let JAX programs for the host call the kernels as on a CUDA device, and return a list of the launched kernels."""
    jax = frameworks.get("jax").module
    from elasticnd._bridges import jax_handlers, jax_primitive

    lend_buffers(monkeypatch, jax_buffers)
    monkeypatch.setattr(jax_buffers, "has_cupy", lambda: True)
    device, lock, launched = host_device.HostDevice(), threading.Lock(), []
    launch = device.launch

    def launch_alone(kernel, grid, threads, arguments, shared=0):
        with lock:  # the shim runs only one block of threads at a time
            launched.append(kernel)
            launch(kernel, grid, threads, arguments, shared)

    device.launch = launch_alone
    register = partial(jax_primitive.mlir.register_lowering, jax_primitive._primitive, platform="cpu")
    register(jax_buffers.lower)
    jax.clear_caches()
    with host_device.installed(device):
        yield launched
    register(jax_handlers.lower)
    jax.clear_caches()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dtype", [np.float64, ml_dtypes.bfloat16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("is_mapped", [False, True])
def test_sharded_batches_on_buffers(is_mapped, dtype, jax_buffers, monkeypatch, rng):
    """Each device computes its own items, with `jax.shard_map` or because XLA partitions the batch."""
    jax = frameworks.get("jax").module
    if not hasattr(jax, "shard_map") or len(jax.devices()) < 2:
        pytest.skip("this JAX lacks jax.shard_map, or a second device")
    split = jax.sharding.PartitionSpec("b")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("b",))
    images, grids = values(rng, (4, 7, 6, 3), np.dtype(dtype)), rng.uniform(-1, 1, (4, 2, 3, 2))
    options = {"axis": (1, 2), "mode": "mirror"}

    def deform(x, d):
        return elasticnd.deform_grid(x, d, **options)

    def slopes(x, d):
        return jax.grad(lambda x, d: deform(x, d).astype(float).sum(), (0, 1))(x, d)

    place = jax.sharding.NamedSharding(mesh, split)
    arrays = jax.device_put(images, place), jax.device_put(grids, place)
    expected = deform(images, grids)
    gradients = elasticnd.deform_grid_vjp(np.ones_like(images), images, grids, **options)[:2]
    with lowered_to_buffers(jax_buffers, monkeypatch) as launched:
        for function, outputs, own in ((deform, split, [expected]), (slopes, (split, split), gradients)):
            mapped = jax.shard_map(function, mesh=mesh, in_specs=(split, split), out_specs=outputs)
            program = jax.jit(mapped if is_mapped else function)
            text = program.lower(*arrays).compile().as_text()
            assert "xla_buffer_python_cpu_callback" in text
            assert "all-gather" not in text
            for result, other in zip(jax.tree.leaves(program(*arrays)), own, strict=True):
                assert result.sharding.spec == split
                agree(np.asarray(result), other, tolerance(dtype))
    assert sum(kernel.startswith("splat_transform<") for kernel in launched) == 2  # once on each device


def test_jax_is_lowered_to_buffers_on_cuda(jax_buffers, monkeypatch):
    jax = frameworks.get("jax").module
    traced = jax.jit(elasticnd.deform_grid).trace(jax.numpy.zeros((5, 5)), jax.numpy.zeros((2, 3, 3)))
    for has_cupy, way in ((True, "xla_buffer_python_gpu_callback"), (False, "gather")):
        monkeypatch.setattr(jax_buffers, "has_cupy", lambda has_cupy=has_cupy: has_cupy)
        jax.clear_caches()
        assert way in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_a_cupy_that_cannot_compute_is_left_out_of_jax(jax_buffers, monkeypatch):
    old = type(sys)("cupy")
    old.__version__, old.__spec__ = "13.6.0", importlib.machinery.ModuleSpec("cupy", None)
    old.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=lambda: 1))
    monkeypatch.setitem(sys.modules, "cupy", old)
    jax_buffers.has_cupy.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"JAX operations are used .*CuPy has version 13\.6\.0"):
            assert not jax_buffers.has_cupy()
    finally:
        jax_buffers.has_cupy.cache_clear()


def test_jax_exports_operations_for_cuda(jax_buffers, monkeypatch):
    """A program that calls Python cannot be exported, but one that consists of JAX's operations can."""
    jax = frameworks.get("jax").module
    export = pytest.importorskip("jax.export")
    monkeypatch.setattr(jax_buffers, "has_cupy", lambda: True)
    jax.clear_caches()
    with elasticnd.use_engine("generic"):
        exported = export.export(jax.jit(elasticnd.deform_grid), platforms=["cuda"])(
            jax.numpy.zeros((5, 5)), jax.numpy.zeros((2, 3, 3))
        )
    assert exported.serialize()


def test_kernels_run_on_the_device_of_buffers(jax_buffers, fake_cupy):
    """XLA calls from its own threads, in which another device may be current."""
    output = SimpleNamespace(__dlpack_device__=lambda: (2, 1))
    _, place = jax_buffers._place_of(SimpleNamespace(stream=99), output)
    with place:
        assert fake_cupy.entered == [1, (0, 99)]


BRIDGED = [
    Operator(None, "sample"),
    Operator(None, "sample_adjoint", wants_image=True),
    Operator(None, "sample_adjoint", wants_image=True, wants_transform=True),
    Operator(None, "displace"),
]


def bridged_call(operator, dtype, rng):
    """Return a specification and matching NumPy operands."""
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
    """PyTorch's bridge treats these tensors of the host like CUDA tensors."""
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

    lent, fake = [], type(sys)("cupy")
    fake.from_dlpack, fake.ascontiguousarray = np.from_dlpack, np.ascontiguousarray
    monkeypatch.setattr(bridge, "allocating_by", lambda lend: lent.append(lend) or contextlib.nullcontext())
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
    (lend,) = lent
    fake.from_dlpack = lambda tensor: SimpleNamespace(data=SimpleNamespace(ptr=np.from_dlpack(tensor).ctypes.data))
    pointer, memory = lend(1001)
    assert np.from_dlpack(memory).ctypes.data == pointer
    assert np.from_dlpack(memory).nbytes == 1008
    assert lend.args[-1][-1] is memory  # the bridge keeps the memory alive
