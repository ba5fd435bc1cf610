"""Features of JAX alone: combined transformations, sharding, export, and the fallback without a primitive."""

import re
import subprocess
import sys
from functools import partial

import frameworks
import numpy as np
import pytest

import elasticnd

jax = frameworks.get("jax").module
import jax.numpy as jnp  # noqa: E402
from jax import export  # noqa: E402 - not an attribute of jax in older versions
from jax.test_util import check_grads  # noqa: E402

from elasticnd._autodiff.operators import Operands, Operator, flatten  # noqa: E402
from elasticnd._bridges import jax_arrays, jax_handlers, jax_operations, jax_primitive  # noqa: E402
from elasticnd._check import normalize  # noqa: E402
from elasticnd._spec import Options  # noqa: E402

MATRIX = jnp.asarray([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]])


def arrays(rng, batch=()):
    image = jnp.asarray(rng.standard_normal((*batch, 7, 6)))
    return image, jnp.asarray(rng.uniform(-1, 1, (*batch, 2, 3, 2))), MATRIX


def function(mode="mirror", order=3, **options):
    return lambda x, d, a: elasticnd.deform_grid(x, d, order, mode, 0.3, affine=a, **options)


def energy(x, d, a):
    return (function()(x, d, a) ** 2).sum()


def same(left, right):
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def close(left, right):
    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


# ---- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "mirror", "grid-constant", "nearest"])
@pytest.mark.parametrize("order", [3, 5])
def test_derivatives_in_both_modes(order, mode, rng):
    check_grads(function(mode, order), arrays(rng), order=2, modes=["fwd", "rev"], eps=1e-5)


@pytest.mark.parametrize("options", [{"rotate": 20, "zoom": 1.1}, {"crop": (slice(1, 6), slice(5))}], ids=str)
def test_derivatives_with_options(options, rng):
    check_grads(function(**options), arrays(rng), order=2, modes=["fwd", "rev"], eps=1e-5)


def test_derivatives_of_batches(rng):
    def deform(x, d, a):
        return elasticnd.deform_grid(x, d, mode="grid-wrap", axis=(1, 2), affine=a)

    x, d, a = arrays(rng, batch=(2,))
    check_grads(deform, (x, d, a), order=2, modes=["fwd", "rev"], eps=1e-6)
    check_grads(deform, (x, d, jnp.stack([a, 1.1 * a])), order=2, modes=["fwd", "rev"], eps=1e-6)


def test_linear_transpose_and_linearize(rng):
    x, d, a = arrays(rng)
    deform = partial(elasticnd.deform_grid, displacement=d, mode="mirror")
    weight = jnp.asarray(rng.standard_normal(x.shape))
    (pulled,) = jax.linear_transpose(deform, x)(weight)
    same(pulled, elasticnd.deform_grid_gradient(weight, d, mode="mirror"))
    value, push = jax.linearize(lambda d: function()(x, d, a), d)
    way = jnp.asarray(rng.standard_normal(d.shape))
    close((value, push(way)), jax.jvp(lambda d: function()(x, d, a), (d,), (way,)))


def test_hessian_products_agree(rng):
    x, d, a = arrays(rng)
    way = jnp.asarray(rng.standard_normal(d.shape))
    f = lambda d: energy(x, d, a)  # noqa: E731
    forward_reverse = jax.jvp(jax.grad(f), (d,), (way,))[1]
    reverse_reverse = jax.grad(lambda d: (jax.grad(f)(d) * way).sum())(d)
    reverse_forward = jax.grad(lambda d: jax.jvp(f, (d,), (way,))[1])(d)
    close([forward_reverse] * 2, [reverse_reverse, reverse_forward])


def test_third_derivative(rng):
    x, d, _ = arrays(rng)
    way = jnp.asarray(rng.standard_normal(d.shape))
    along = lambda t: (elasticnd.deform_grid(x, d + t * way, order=5, mode="mirror") ** 3).sum()  # noqa: E731
    second = jax.grad(jax.grad(along))
    difference = (second(1e-4) - second(-1e-4)) / 2e-4
    assert abs(jax.grad(second)(0.0) - difference) < 1e-5 * abs(difference)


def test_complex_images_by_the_convention_of_jax(rng):
    image = jnp.asarray(rng.standard_normal((6, 5)) + 1j * rng.standard_normal((6, 5)))
    d = jnp.asarray(rng.uniform(-1, 1, (2, 3, 2)))
    check_grads(lambda x, d: elasticnd.deform_grid(x, d, cval=1 + 2j), (image, d), order=2, modes=["fwd", "rev"])


def test_residuals_hold_no_dense_field():
    x, d = jnp.zeros((40, 50)), jnp.zeros((2, 3, 3))
    _, pull = jax.vjp(elasticnd.deform_grid, x, d)
    sizes = [leaf.size for leaf in jax.tree.leaves(pull) if hasattr(leaf, "size")]
    assert sum(sizes) <= x.size + 2 * d.size, sizes


# ---- compilation -----------------------------------------------------------------------------------------------------


def test_jit(rng):
    inputs = arrays(rng)
    same(jax.jit(function())(*inputs), function()(*inputs))
    gradient = jax.value_and_grad(energy, argnums=(0, 1, 2))
    close(jax.jit(gradient)(*inputs), gradient(*inputs))


def test_jit_takes_grids_from_keys():
    image = jnp.arange(200.0).reshape(2, 10, 10)

    @jax.jit
    def augment(key, image):
        return elasticnd.deform_random_grid(image, sigma=2, rng=key, batch_dims=1)

    key = jax.random.key(0)
    same(augment(key, image), augment(key, image))
    same(augment(jax.random.PRNGKey(0), image), augment(key, image))
    assert not np.array_equal(augment(jax.random.key(1), image), augment(key, image))
    with pytest.raises(TypeError, match=r"rng: got 3 .*expected a key of jax.random"):
        jax.jit(lambda image: elasticnd.deform_random_grid(image, sigma=0.2, rng=3))(image)


def test_scan_and_remat(rng):
    x, d, _ = arrays(rng)

    def warp(image, _):
        return elasticnd.deform_grid(image, d, mode="mirror"), None

    def repeated(image):
        return jax.lax.scan(jax.checkpoint(warp), image, None, 3)[0]

    by_hand = elasticnd.deform_grid
    expected = by_hand(by_hand(by_hand(x, d, mode="mirror"), d, mode="mirror"), d, mode="mirror")
    same(jax.jit(repeated)(x), expected)
    check_grads(repeated, (x,), order=1, modes=["rev"])


WITHOUT_FLOAT64 = """
import sys
import jax, jax.numpy as jnp, numpy as np, elasticnd
rng = np.random.default_rng(0)
image = jnp.asarray(rng.integers(0, 200, (9, 8))).astype(sys.argv[1])
grid, matrix = rng.uniform(-2, 2, (2, 3, 3)).astype("f4"), np.array([[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]], "f4")
def deform(image, grid, matrix):
    return elasticnd.deform_grid(image, grid, mode="mirror", affine=matrix, rotate=10)
expected = deform(np.asarray(image), grid, matrix)
arrays = image, jnp.asarray(grid), jnp.asarray(matrix)
assert np.array_equal(deform(*arrays), expected)
assert np.array_equal(jax.jit(deform)(*arrays), expected)
if image.dtype == "float32":
    gradients = jax.grad(lambda *arrays: deform(*arrays).sum(), (1, 2))(*arrays)
    right = elasticnd.deform_grid_vjp(
        np.ones_like(expected), np.asarray(image), grid, mode="mirror", affine=matrix, rotate=10
    )
    for ours, theirs in zip(gradients, right[1:]):
        assert ours.dtype == "float32"
        assert np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()
"""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "uint8", "int32"])
def test_without_float64(dtype):
    command = [sys.executable, "-I", "-c", WITHOUT_FLOAT64, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ---- outside of programs ---------------------------------------------------------------------------------------------


@pytest.fixture
def compilations():
    """Return a list that receives the names of all programs that XLA compiles during a test."""
    names = []

    def listen(event, _duration, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(details.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.clear_event_listeners()


def random_options(k):
    """Return options that differ for each k. The shape of the crop is always the same, because batches require it."""
    start = k % 3
    return {
        "rotate": 3.0 + k,
        "zoom": 1.1 + 0.01 * k,
        "cval": 0.1 * k,
        "crop": (slice(start, start + 4), slice(start, start + 3)),
    }


def deform_anew(k):
    return lambda x, d, a: elasticnd.deform_grid(x, d, affine=a, **random_options(k))


OUTSIDE_OF_PROGRAMS = {
    "plain": lambda f, x, d, a: f(x, d, a),
    "grad": lambda f, x, d, a: jax.grad(lambda *inputs: f(*inputs).sum(), (0, 1, 2))(x, d, a),
    "hessian product": lambda f, x, d, a: jax.jvp(jax.grad(lambda d: f(x, d, a).sum()), (d,), (d,)),
    "vmap": lambda f, x, d, a: jax.vmap(f, (None, 0, None))(x, jnp.stack([d, 2 * d]), a),
    "grad of vmap": lambda f, x, d, a: jax.grad(lambda a: jax.vmap(f, (0, None, None))(x[None], d, a).sum())(a),
    "vjp": lambda f, x, d, a: elasticnd.deform_grid_vjp(x, x, d, affine=a, rotate=f(x, d, a).mean().item()),
    "complex": lambda f, x, d, a: f(x + 1j, d, a),
}


@pytest.mark.parametrize("way", OUTSIDE_OF_PROGRAMS)
def test_new_options_compile_nothing(way, compilations, rng):
    """Otherwise XLA would compile and keep a program for each set of options."""
    inputs = arrays(rng)
    call = OUTSIDE_OF_PROGRAMS[way]
    call(deform_anew(0), *inputs)  # JAX's own operations compile once for these shapes
    del compilations[:]
    for k in range(1, 6):
        call(deform_anew(k), *inputs)
    assert not compilations


def test_compilations_are_seen(compilations, rng):
    """The fixture of the test above detects compilations."""
    x, d, a = arrays(rng)
    jax.jit(deform_anew(99))(x, d, a)
    assert compilations


@pytest.mark.parametrize("way", OUTSIDE_OF_PROGRAMS)
def test_calls_outside_programs_equal_those_inside(way, monkeypatch, rng):
    inputs = arrays(rng)
    at_once = OUTSIDE_OF_PROGRAMS[way](deform_anew(1), *inputs)
    monkeypatch.setattr(jax_arrays, "are_at_hand", lambda flat: False)
    close(at_once, OUTSIDE_OF_PROGRAMS[way](deform_anew(1), *inputs))


def in_default_device(device, x, d):
    with jax.default_device(device):
        return elasticnd.deform_grid(jnp.asarray(x), d)


def made_for_another_default_device(device, x, d):
    with jax.default_device(device):
        x = jnp.asarray(x)
    return elasticnd.deform_grid(x, d)


def in_a_mesh(device, x, d):
    x, d = jnp.asarray(x), jnp.asarray(d)
    if not hasattr(jax, "set_mesh"):
        pytest.skip("this JAX has no jax.set_mesh")
    with jax.set_mesh(jax.make_mesh((2,), ("b",))):
        return elasticnd.deform_grid(x, d)


def in_pinned_memory(device, x, d):
    if "pinned_host" not in [memory.kind for memory in device.addressable_memories()]:
        pytest.skip("this JAX has only one kind of host memory")
    place = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
    return elasticnd.deform_grid(jax.device_put(x, place), d)


PLACES = {
    "nowhere": lambda device, x, d: elasticnd.deform_grid(jnp.asarray(x), d),
    "image on a device": lambda device, x, d: elasticnd.deform_grid(jax.device_put(x, device), d),
    "grid on a device": lambda device, x, d: elasticnd.deform_grid(jnp.asarray(x), jax.device_put(d, device)),
    "default device": in_default_device,
    "another default device": made_for_another_default_device,
    "mesh": in_a_mesh,
    "pinned memory": in_pinned_memory,
    "weak type": lambda device, x, d: elasticnd.deform_grid(jnp.full((9, 8), 1.0) * 1.0, d),
    "NumPy primal": lambda device, x, d: jax.jvp(lambda x: elasticnd.deform_grid(x, d), (x,), (x,))[1],
}


@pytest.mark.parametrize("place", PLACES)
def test_results_outside_programs_are_placed_as_inside(place, mesh, monkeypatch, rng):
    x, d = rng.standard_normal((9, 8)), rng.uniform(-1, 1, (2, 3, 3))
    ours = PLACES[place](jax.devices()[1], x, d)
    monkeypatch.setattr(jax_arrays, "are_at_hand", lambda flat: False)
    theirs = PLACES[place](jax.devices()[1], x, d)
    same(ours, theirs)
    for name in ("dtype", "weak_type", "committed"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.sharding.is_equivalent_to(theirs.sharding, ours.ndim)
    assert ours.sharding.memory_kind == theirs.sharding.memory_kind


def test_arrays_keep_64_bits_if_new_ones_have_32():
    code = """
import jax, jax.numpy as jnp, elasticnd
jax.config.update("jax_enable_x64", True)
image, grid = jnp.ones((9, 8)), jnp.zeros((2, 3, 3))
jax.config.update("jax_enable_x64", False)
assert elasticnd.deform_grid(image, grid).dtype == "float64"
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_transferred(rng):
    x, d, _ = arrays(rng)
    with jax.transfer_guard("disallow_explicit"):
        guarded = elasticnd.deform_grid(x, d)
    same(guarded, elasticnd.deform_grid(x, d))


def test_donated_and_deleted_arrays():
    image, d = jnp.ones((64, 64)), jnp.zeros((2, 3, 3))
    deformed = elasticnd.deform_grid(image, d)
    again = jax.jit(lambda x: x + 1, donate_argnums=0)(deformed)
    assert deformed.is_deleted()
    assert (again == 2).all()
    with pytest.raises(RuntimeError, match="deleted"):
        elasticnd.deform_grid(deformed, d)


@pytest.mark.parametrize("is_sharded", [False, True])
def test_without_jit(is_sharded, mesh, rng):
    x, d, _ = arrays(rng, batch=(2,))
    expected = elasticnd.deform_grid(x, d, axis=(1, 2))
    if is_sharded:
        x = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("b")))
        d = jax.device_put(d, x.sharding)
    with jax.disable_jit():
        same(elasticnd.deform_grid(x, d, axis=(1, 2)), expected)


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
@pytest.mark.parametrize(("value", "watch"), [(np.nan, "jax_debug_nans"), (np.inf, "jax_debug_infs")])
def test_watch_for_nan_and_infinity(value, watch, wrap, is_sharded, mesh):
    x, d = jnp.ones((2, 5, 5)).at[0, 2, 2].set(value), jnp.zeros((2, 2, 3, 3))
    if is_sharded:
        x = jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("b")))
        d = jax.device_put(d, x.sharding)
    deform = wrap(partial(elasticnd.deform_grid, order=0, axis=(1, 2)))
    jax.config.update(watch, True)
    try:
        with pytest.raises(FloatingPointError, match=r"elasticnd: (NaN|infinity) in a result"):
            deform(x, d)
    finally:
        jax.config.update(watch, False)


def test_errors_inside_of_a_program(rng):
    x, d, _ = arrays(rng)
    with pytest.raises(Exception, match="affine: got a singular matrix"):
        jax.block_until_ready(jax.jit(function())(x, d, jnp.zeros((2, 3))))
    with pytest.raises(ValueError, match="displacement: got shape"):
        jax.jit(elasticnd.deform_grid)(x, jnp.zeros((3, 3, 3)))
    with pytest.raises(TypeError, match="X: got"):
        elasticnd.deform_grid(jax.random.key(0), d)


# ---- vmap ------------------------------------------------------------------------------------------------------------

DIMS = [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (2, 1, 0)]


def stacked(inputs, dims):
    return [
        array if dim is None else jnp.stack([array, 2 * array, -array], dim)
        for array, dim in zip(inputs, dims, strict=True)
    ]


@pytest.mark.parametrize("dims", DIMS, ids=str)
def test_vmap(dims, rng):
    inputs = stacked(arrays(rng), dims)
    for f in (function(), jax.grad(energy, (0, 1, 2)), jax.jacfwd(energy, (0, 1, 2))):
        items = [
            f(*(a if dim is None else jnp.take(a, k, dim) for a, dim in zip(inputs, dims, strict=True)))
            for k in range(3)
        ]
        expected = jax.tree.map(lambda *parts: jnp.stack(parts), *items)
        close(jax.vmap(f, dims)(*inputs), expected)
        close(jax.jit(jax.vmap(f, dims))(*inputs), expected)


def test_nested_vmap_over_batches(rng):
    images = jnp.asarray(rng.standard_normal((2, 3, 7, 6)))
    grids = jnp.asarray(rng.uniform(-1, 1, (4, 3, 2, 2, 3)))
    matrices = MATRIX * jnp.asarray([1.0, 1.1])[:, None, None]

    def deform(image, grid, matrix):  # each argument has a batch axis of 3
        return elasticnd.deform_grid(image, grid, mode="mirror", axis=(1, 2), affine=matrix)

    got = jax.vmap(jax.vmap(deform, (None, 0, None)), (0, None, 0))(images, grids, matrices)
    close(got, jnp.stack([jnp.stack([deform(x, d, a) for d in grids]) for x, a in zip(images, matrices, strict=True)]))
    gradient = jax.grad(lambda a, x: (deform(x, grids[0], a) ** 2).sum())
    expected = jnp.stack([gradient(a, x) for a, x in zip(matrices, images, strict=True)])
    close(jax.vmap(gradient)(matrices, images), expected)


def test_vmap_of_the_dense_displacement(rng):
    grids = jnp.asarray(rng.standard_normal((3, 2, 3, 3)))
    dense = lambda d: elasticnd.dense_displacement(d, (6, 5))  # noqa: E731
    same(jax.vmap(dense)(grids), jnp.stack([dense(d) for d in grids]))
    check_grads(jax.vmap(dense), (grids,), order=2, modes=["fwd", "rev"])


# ---- many devices ----------------------------------------------------------------------------------------------------


@pytest.fixture
def mesh():
    if len(jax.devices()) < 2:
        pytest.skip("JAX was started with a single device")
    return jax.sharding.Mesh(np.array(jax.devices()[:2]), ("b",))


def test_sharded_batches_stay_sharded(mesh, rng):
    spec = jax.sharding.PartitionSpec("b")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    x, d, _ = (np.asarray(array) for array in arrays(rng, batch=(4,)))
    images, grids = jax.device_put(x, sharding), jax.device_put(d, sharding)
    gradient = jax.grad(lambda x, d: (elasticnd.deform_grid(x, d, axis=(1, 2)) ** 2).sum(), argnums=(0, 1))
    for f in (
        partial(elasticnd.deform_grid, axis=(1, 2)),
        gradient,
        lambda x, d: elasticnd.deform_grid(x, d, axis=(1, 2), affine=MATRIX),
    ):
        program = jax.jit(f)
        assert "all-gather" not in program.lower(images, grids).compile().as_text()
        result = program(images, grids)
        assert all(leaf.sharding.spec == spec for leaf in jax.tree.leaves(result))
        close(jax.device_get(result), jax.device_get(f(jnp.asarray(x), jnp.asarray(d))))


def test_shard_map(mesh, rng):
    if not hasattr(jax, "shard_map"):
        pytest.skip("this JAX has no jax.shard_map")
    split, whole = jax.sharding.PartitionSpec("b"), jax.sharding.PartitionSpec()
    x, d = jnp.asarray(rng.standard_normal((4, 7, 6))), jnp.asarray(rng.uniform(-1, 1, (2, 3, 2)))
    deform = partial(elasticnd.deform_grid, axis=(1, 2), mode="mirror")
    mapped = jax.shard_map(deform, mesh=mesh, in_specs=(split, whole), out_specs=split)
    same(jax.device_get(mapped(x, d)), jax.device_get(deform(x, d)))
    for argument in (0, 1):
        gradients = [jax.jit(jax.grad(lambda x, d, f=f: (f(x, d) ** 2).sum(), argument)) for f in (mapped, deform)]
        close(*(jax.device_get(gradient(x, d)) for gradient in gradients))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pmap(mesh, rng):
    x, d, _ = arrays(rng, batch=(2,))
    deform = partial(elasticnd.deform_grid, mode="mirror")
    both = zip(x, d, strict=True)
    close(jax.pmap(deform)(np.asarray(x), np.asarray(d)), jnp.stack([deform(image, grid) for image, grid in both]))


def test_many_calls_at_once_do_not_wait_for_each_other(mesh, rng):
    """Handlers run on threads of the same pool that runs their tasks, which must not cause a deadlock."""
    x, d = rng.standard_normal((2, 300, 300)), rng.uniform(-1, 1, (2, 2, 3, 3))

    def several(image, grid):
        return sum(elasticnd.deform_grid(image, grid * k) for k in range(6))

    program = jax.jit(jax.vmap(several))
    expected = program(x, d)
    for _ in range(30):
        same(program(x, d), expected)


def test_export(rng):
    inputs = arrays(rng)
    safe = [export.DisabledSafetyCheck.custom_call("elasticnd_sample")]
    exported = export.export(jax.jit(function()), disabled_checks=safe)(*inputs)
    again = export.deserialize(exported.serialize())
    same(again.call(*inputs), function()(*inputs))


def test_compiled_core_is_used():
    if not jax_handlers.has_handlers():
        pytest.skip("the core was compiled without XLA's headers, or this XLA is older than they are")
    # A new function, because JAX may reuse what another test has traced with another engine.
    function = jax.jit(lambda *arrays: elasticnd.deform_grid(*arrays, mode="mirror"))
    text = function.lower(jnp.zeros((5, 5)), jnp.zeros((2, 3, 3))).as_text()
    assert re.search("custom_call.*elasticnd_sample", text)


# ---- operations for other devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "mode", "tangents"),
    [(5, "mirror", 0), (4, "grid-constant", 0), (3, "grid-constant", 1), (3, "mirror", 2)],
)
@pytest.mark.usefixtures("lightly_optimized")
def test_plain_operations_do_the_same(order, mode, tangents, rng):
    """Every operator gives the same values with the core and with JAX's operations."""
    x, d, a = arrays(rng, batch=(2,))
    options = Options(order, mode, 0.3, crop=(slice(1, 6), slice(5)), axis=(1, 2), rotate=20, zoom=1.1)
    infos = map(jax_arrays.info, (x, d, a))
    spec = normalize((next(infos),), next(infos), next(infos), "X", options)
    pairs = tuple(
        (jnp.asarray(rng.standard_normal(d.shape)), jnp.asarray(rng.standard_normal(a.shape))) for _ in range(tangents)
    )
    weight = jnp.asarray(rng.standard_normal((2, 5, 5)))
    for verb, wants in [
        ("sample", {}),
        ("sample_adjoint", {"wants_image": True}),
        ("sample_adjoint", {"wants_image": True, "wants_transform": True}),
    ]:
        for linear in (False, True):
            operator = Operator(spec, verb, tangents, linear, **wants)
            flat = flatten(operator, Operands(weight, x, (d, a), pairs))
            by_operations = jax.jit(partial(jax_operations.by_operations, operator))(*flat)
            for ours, theirs in zip(by_operations, jax_handlers.call(operator, flat), strict=True):
                assert ours.dtype == theirs.dtype
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


def test_lowering_for_other_devices(rng):
    inputs = arrays(rng)
    traced = jax.jit(jax.grad(energy, (0, 1, 2))).trace(*inputs)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "elasticnd" not in re.sub(r"loc\(.*", "", text)
    dense = jax.jit(jax.grad(lambda d: (elasticnd.dense_displacement(d, (6, 5)) ** 2).sum())).trace(inputs[1])
    assert "elasticnd" not in re.sub(r"loc\(.*", "", dense.lower(lowering_platforms=("tpu",)).as_text())


# ---- the fallback for older versions of JAX --------------------------------------------------------------------------


@pytest.fixture(params=["custom_vjp", "custom_vjp through Python", "primitive through Python"])
def another_way(request, monkeypatch):
    if request.param.startswith("custom_vjp"):
        monkeypatch.setattr(jax_primitive, "_primitive", None)
    if request.param.endswith("Python"):
        monkeypatch.setattr(jax_handlers, "has_handlers", lambda: False)
    jax.clear_caches()
    jax_primitive._jitted.cache_clear()
    yield request.param
    jax.clear_caches()
    jax_primitive._jitted.cache_clear()


def test_fallbacks_give_the_same(another_way, rng):
    x, d, a = (np.asarray(array) for array in arrays(rng))
    expected = elasticnd.deform_grid(x, d, mode="mirror", cval=0.3, affine=a)
    inputs = tuple(map(jnp.asarray, (x, d, a)))
    for f in (function(), jax.jit(function())):
        same(f(*inputs), expected)
    pulled = elasticnd.deform_grid_vjp(2 * expected, x, d, mode="mirror", affine=a)
    gradient = jax.grad(energy, (0, 1, 2))
    for f in (gradient, jax.jit(gradient)):
        close(f(*inputs), tuple(pulled))
    batch = jnp.stack([inputs[1], 2 * inputs[1]])
    each = [energy(inputs[0], grid, inputs[2]) for grid in batch]
    close(jax.vmap(energy, (None, 0, None))(inputs[0], batch, inputs[2]), jnp.stack(each))


def test_custom_vjp_refuses_forward_mode(monkeypatch, rng):
    monkeypatch.setattr(jax_primitive, "_primitive", None)
    x, d, a = arrays(rng)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda d: function()(x, d, a), (d,), (d,))
