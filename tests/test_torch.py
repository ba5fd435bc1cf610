"""What only PyTorch has: gradcheck, compilation, export, torch.func, autocast, layouts, data loaders and the layer."""

import copy
import io
import pickle
from types import SimpleNamespace

import frameworks
import numpy as np
import pytest

import elasticnd
from elasticnd import _check, _config, _core, _spec
from elasticnd._autodiff import operators

torch = frameworks.get("torch").module
from elasticnd._bridges import torch_tensors  # noqa: E402 - skipped without PyTorch

# What the compiler itself warns of on the way, in versions of PyTorch that tests meet.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

MATRIX = [[1.1, 0.1, 0.3], [-0.2, 0.9, 0.2]]


def arrays(rng, dtype=torch.float64, batch=()):
    image = torch.tensor(rng.standard_normal((*batch, 7, 6)), dtype=dtype)
    displacement = torch.tensor(rng.uniform(-1, 1, (*batch, 2, 3, 2)), dtype=dtype)
    return image, displacement, torch.tensor(MATRIX, dtype=dtype)


def leaves(tensors):
    return tuple(tensor.clone().requires_grad_() for tensor in tensors)


def function(mode="mirror", order=3, **options):
    return lambda x, d, a: elasticnd.deform_grid(x, d, order, mode, 0.3, affine=a, **options)


# ---- derivatives -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["constant", "mirror", "wrap", "grid-constant", "nearest"])
@pytest.mark.parametrize("order", [1, 3, 5])
def test_first_derivatives(order, mode, rng):
    assert torch.autograd.gradcheck(function(mode, order), leaves(arrays(rng)), check_forward_ad=True)


@pytest.mark.parametrize(
    ("order", "mode", "options"),
    [
        (3, "mirror", {}),
        (3, "grid-constant", {"rotate": 20}),
        (5, "wrap", {"zoom": 1.1, "crop": (slice(1, 6), slice(5))}),
    ],
    ids=str,
)
def test_second_derivatives(order, mode, options, rng):
    inputs = leaves(arrays(rng))
    assert torch.autograd.gradgradcheck(function(mode, order, **options), inputs, check_fwd_over_rev=True)


def test_second_derivatives_of_batches(rng):
    def deform(x, d, a):
        return elasticnd.deform_grid(x, d, mode="mirror", axis=(1, 2), affine=a)

    inputs = leaves(arrays(rng, batch=(2,)))
    assert torch.autograd.gradgradcheck(deform, inputs)
    own = torch.stack([inputs[2], 1.1 * inputs[2]]).detach().requires_grad_()
    assert torch.autograd.gradgradcheck(deform, (*inputs[:2], own))


def test_third_derivative(rng):
    x, d, _ = arrays(rng)
    way = torch.tensor(rng.standard_normal(d.shape))

    def along(t):
        return elasticnd.deform_grid(x, d + t * way, order=5, mode="mirror").pow(3).sum()

    zero = torch.zeros((), dtype=torch.float64)
    third = torch.func.grad(torch.func.grad(torch.func.grad(along)))(zero)
    step = 1e-4
    second = torch.func.grad(torch.func.grad(along))
    difference = (second(zero + step) - second(zero - step)) / (2 * step)
    assert abs(third - difference) < 1e-5 * abs(third)


def test_gradients_of_complex_images(rng):
    image = torch.tensor(rng.standard_normal((6, 5)) + 1j * rng.standard_normal((6, 5)), requires_grad=True)
    displacement = torch.tensor(rng.uniform(-1, 1, (2, 3, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, d: elasticnd.deform_grid(x, d, cval=1 + 2j), (image, displacement))
    conjugate = image.detach().conj()
    assert conjugate.is_conj()
    expected = elasticnd.deform_grid(conjugate.resolve_conj(), displacement.detach())
    assert torch.equal(elasticnd.deform_grid(conjugate, displacement.detach()), expected)


def test_gradients_have_the_types_of_their_arguments(rng):
    for dtypes in [(torch.float32, torch.float64), (torch.float64, torch.float32), (torch.bfloat16, torch.float16)]:
        x, d, a = leaves(arrays(rng))
        image, grid = x.detach().to(dtypes[0]).requires_grad_(), d.detach().to(dtypes[1]).requires_grad_()
        elasticnd.deform_grid(image, grid, mode="mirror", affine=a).sum().backward()
        assert (image.grad.dtype, grid.grad.dtype, a.grad.dtype) == (*dtypes, torch.float64)


# ---- compilation -----------------------------------------------------------------------------------------------------


def gradients_of(deform, inputs):
    own = leaves(inputs)
    output = deform(*own)
    return output, *torch.autograd.grad(output.square().sum(), own)


@pytest.mark.parametrize("options", [{}, {"rotate": 15, "zoom": 1.2}, {"crop": (slice(1, 6), slice(None, 4))}], ids=str)
def test_compile(options, rng):
    deform = function(**options)
    compiled = torch.compile(deform, fullgraph=True, backend="aot_eager")
    inputs = arrays(rng)
    for ours, theirs in zip(gradients_of(compiled, inputs), gradients_of(deform, inputs), strict=True):
        assert torch.equal(ours, theirs)


def test_compile_with_inductor(rng):
    inputs = arrays(rng)
    deform = function()
    assert torch.equal(torch.compile(deform, fullgraph=True)(*inputs), deform(*inputs))


def test_compile_with_dynamic_shapes(rng):
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module

    compiled = torch.compile(elasticnd.deform_grid, fullgraph=True, dynamic=True, backend=backend)
    for extent in (7, 9, 30):
        image, grid = torch.tensor(rng.random((extent, extent + 2))), torch.tensor(rng.random((2, 3, 4)))
        assert torch.equal(compiled(image, grid), elasticnd.deform_grid(image, grid))
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("option", "numbers"), [("cval", (0.1, 0.2, -1e-300, float("nan"), float("-inf"), 3)), ("rotate", (0.1, 0.2, 30))]
)
def test_compile_with_numbers_that_change(option, numbers, rng):
    """They become part of the program, also where the compiler has seen them vary."""
    image, grid, _ = arrays(rng)
    torch._dynamo.reset()  # older compilers count the programs of all tests together
    compiled = torch.compile(elasticnd.deform_grid, fullgraph=True, backend="eager")
    for number in numbers:
        options = {option: number}
        ours, theirs = compiled(image, grid, **options), elasticnd.deform_grid(image, grid, **options)
        assert torch.equal(ours.view(torch.int64), theirs.view(torch.int64))


def test_compile_lists_and_complex(rng):
    image = torch.tensor(rng.random((7, 6)) + 1j * rng.random((7, 6)))
    labels = torch.tensor(rng.integers(0, 9, (7, 6)))
    grid = torch.tensor(rng.random((2, 3, 3)))

    def deform(image, labels, grid):
        return elasticnd.deform_grid([image, labels], grid, order=[3, 0], cval=[1j, 2])

    compiled = torch.compile(deform, fullgraph=True, backend="aot_eager")(image, labels, grid)
    for one, other in zip(compiled, deform(image, labels, grid), strict=True):
        assert torch.equal(one, other)


def test_bad_calls_are_refused_when_compiled(rng):
    compiled = torch.compile(elasticnd.deform_grid, backend="aot_eager")
    with pytest.raises(Exception, match=r"displacement: got shape \(3, 3, 3\)"):
        compiled(torch.zeros(5, 5), torch.zeros(3, 3, 3))


def test_export(rng):
    class Module(torch.nn.Module):
        def forward(self, x, d, a):
            return elasticnd.deform_grid(x, d, mode="mirror", affine=a, rotate=10)

    inputs = arrays(rng)
    memory = io.BytesIO()
    torch.export.save(torch.export.export(Module(), inputs), memory)
    memory.seek(0)
    assert torch.equal(torch.export.load(memory).module()(*inputs), Module()(*inputs))


OPERATORS = {
    "sample": operators.Operator(None, "sample"),
    "sample along two tangents": operators.Operator(None, "sample", tangents=2, homogeneous=True),
    "gradient of the image": operators.Operator(None, "sample_adjoint", wants_image=True),
    "gradient of the transform": operators.Operator(None, "sample_adjoint", wants_transform=True),
    "both gradients": operators.Operator(None, "sample_adjoint", tangents=1, wants_image=True, wants_transform=True),
    "displace": operators.Operator(None, "displace"),
    "transpose of displace": operators.Operator(None, "displace_adjoint"),
}
LAYOUTS = {
    "C": lambda tensor: tensor,
    "transposed": lambda tensor: tensor.mT.contiguous().mT,
    "reversed axes": lambda tensor: (
        tensor.permute(*reversed(range(tensor.dim()))).contiguous().permute(*reversed(range(tensor.dim())))
    ),
    "every second": lambda tensor: torch.stack([tensor, tensor], -1).flatten(-2)[..., ::2],
    "one value": lambda tensor: tensor[(0,) * tensor.dim()].expand(tensor.shape),
}


@pytest.mark.parametrize("is_batch", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_check(name, layout, is_batch, rng):
    """The checks that PyTorch has for operators: schema, fake tensors and their strides, registration, dispatch."""
    from elasticnd._bridges import torch_operator

    operator, lay_out = OPERATORS[name], LAYOUTS[layout]
    batch = (2,) if is_batch else ()
    image, displacement, matrix = arrays(rng, batch=batch)
    if is_batch:
        matrix = torch.stack([matrix, 1.1 * matrix])
    image, displacement = lay_out(image), lay_out(displacement)
    if layout != "one value":  # which no matrix with an inverse has
        matrix = lay_out(matrix)
    motion = (displacement,) if "displace" in operator.verb else (displacement, matrix)
    infos = [torch_tensors.info(tensor) for tensor in (image, *motion)]
    options = _spec.Options(mode="mirror", axis=(-2, -1))
    spec = _check.normalize((infos[0],), infos[1], infos[2] if len(infos) > 2 else None, "X", options)
    gradient = (
        lay_out(torch.zeros(spec.field_shape, dtype=image.dtype)) if operator.verb == "displace_adjoint" else image
    )
    operator = operator._replace(call=spec)
    pairs = (motion,) * (1 + operator.tangents) if operator.verb != "displace_adjoint" else ((),)
    flat = operators.flatten(operator, operators.Operands(gradient, image, pairs[0], pairs[1:]))
    program = torch_operator.program_of(operator)
    arguments = ([tensor.detach().requires_grad_() for tensor in flat], list(image.shape), program)
    result = torch.library.opcheck(torch_operator.OPERATOR, arguments)
    assert set(result.values()) == {"SUCCESS"}


POINT_OPERATORS = {
    "values": operators.Operator(None, "evaluate"),
    "slopes": operators.Operator(None, "evaluate", order=1),
    "transpose of slopes": operators.Operator(None, "evaluate_adjoint", order=1),
    "moved points": operators.Operator(None, "move_points"),
    "extremes of boxes": operators.Operator(None, "find_extremes"),
}


@pytest.mark.parametrize("is_batch", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", POINT_OPERATORS)
def test_operator_check_at_positions(name, layout, is_batch, rng):
    from elasticnd._bridges import torch_operator

    operator, lay_out, batch = POINT_OPERATORS[name], LAYOUTS[layout], (2,) * is_batch
    displacement = lay_out(torch.tensor(rng.uniform(-1, 1, (*batch, 2, 3, 2))))
    positions = lay_out(torch.tensor(rng.uniform(0, 5, (*batch, 4, 2))))
    is_search = operator.verb in operators.SEARCHES
    shapes = {"batch": batch, "extent": (7, 6), "grid_shape": (3, 2), "count": 4}
    spec = _spec.MovementSpec(**shapes, tolerance=1e-6) if is_search else _spec.EvaluationSpec(**shapes)
    operator = operator._replace(call=spec)
    gradient = lay_out(torch.tensor(rng.standard_normal(spec.values_shape(operator.order))))
    transform = () if operator.verb == "evaluate_adjoint" else (displacement,)
    flat = operators.flatten(operator, operators.Operands(gradient, None, transform, positions=positions))
    arguments = ([tensor.detach().requires_grad_(not is_search) for tensor in flat], [])
    result = torch.library.opcheck(torch_operator.OPERATOR, (*arguments, torch_operator.program_of(operator)))
    assert set(result.values()) == {"SUCCESS"}


def test_numbers_reach_the_device_without_waiting(monkeypatch):
    """CUDA copies what lies in pinned memory while the host goes on."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # PyTorch for the CPU cannot tell
    like = SimpleNamespace(is_cuda=True, is_cpu=False, is_meta=False, device="meta")
    assert torch_tensors.small_array("displacement", np.ones((2, 3, 3)), like).is_meta
    assert pinned
    assert torch_tensors.small_array("displacement", np.ones((2, 3, 3)), torch.zeros(3)).is_cpu
    assert len(pinned) == 1


def test_tensors_without_values(rng):
    x, d, a = (tensor.to("meta") for tensor in arrays(rng))
    assert elasticnd.deform_grid(x, d, affine=a, crop=(slice(0, 3), slice(0, 4))).shape == (3, 4)
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs = arrays(rng)
    graph = make_fx(function(), tracing_mode="fake")(*inputs)
    assert torch.equal(graph(*inputs), function()(*inputs))


# ---- devices that only PyTorch knows ---------------------------------------------------------------------------------


@pytest.fixture
def foreign(monkeypatch):
    """Let tensors count as those of a device that neither the core nor the CUDA kernels know."""

    def refuse(*arguments):
        raise AssertionError("the core has been called")

    monkeypatch.setattr(torch_tensors, "is_foreign", lambda tensor: True)
    return lambda: [monkeypatch.setattr(_core, name, refuse) for name in ("sample", "sample_adjoint", "displace")]


@pytest.mark.parametrize(("order", "mode"), [(0, "constant"), (1, "wrap"), (3, "grid-constant"), (4, "nearest")])
def test_other_devices_by_operations_of_pytorch(order, mode, foreign, rng):
    given = arrays(rng)
    weight = torch.tensor(rng.standard_normal((7, 6)))
    options = {"order": order, "mode": mode, "cval": 0.3}
    plain = [tensor.numpy() for tensor in (weight, *given[:2])]
    expected = elasticnd.deform_grid_vjp(*plain, affine=given[2].numpy(), **options)
    deformed = elasticnd.deform_grid(*plain[1:], affine=given[2].numpy(), **options)
    foreign()
    inputs = leaves(given)
    output = elasticnd.deform_grid(*inputs[:2], affine=inputs[2], **options)
    torch.testing.assert_close(output.detach(), torch.tensor(deformed), rtol=0, atol=1e-12)
    own = torch.autograd.grad(output, inputs, weight, allow_unused=True, materialize_grads=True)
    pulled = elasticnd.deform_grid_vjp(weight, *given[:2], affine=given[2], **options)
    alone = elasticnd.deform_grid_gradient(weight, given[1], affine=given[2], **options)
    for got in (own, pulled, (alone,)):
        for ours, theirs in zip(got, expected, strict=False):
            torch.testing.assert_close(ours, torch.tensor(theirs), rtol=0, atol=1e-11)


def test_transformations_on_other_devices(foreign, rng):
    given = arrays(rng)
    expected = function()(*given)
    foreign()
    torch.testing.assert_close(torch.compile(function(), backend="eager")(*given), expected)
    both = torch.func.vmap(function(), (0, None, None))(torch.stack([given[0]] * 2), *given[1:])
    torch.testing.assert_close(both[1], expected)
    assert torch.autograd.gradgradcheck(lambda d: function()(given[0], d, given[2]), leaves(given[1:2]))


def test_everything_lies_on_the_device_of_the_image(foreign, rng):
    foreign()
    image, displacement, affine = (tensor.to("meta").requires_grad_() for tensor in arrays(rng))
    for mode in ("mirror", "grid-constant"):
        output = elasticnd.deform_grid(image, displacement, mode=mode, affine=affine, rotate=20)
        pulled = elasticnd.deform_grid_vjp(image, image, displacement, mode=mode, affine=affine, zoom=2)
        alone = elasticnd.deform_grid_gradient(image, displacement, mode=mode)
        listed = elasticnd.deform_grid(image, np.zeros((2, 3, 2)), mode=mode, affine=MATRIX)
        random = elasticnd.deform_random_grid(image, mode=mode, rng=torch.Generator().manual_seed(1))
        field = elasticnd.dense_displacement(displacement, (7, 6))
        assert {result.device.type for result in (output, *pulled, alone, listed, random, field)} == {"meta"}


def test_device_without_doubles(foreign, monkeypatch, rng):
    from elasticnd._bridges import array_api

    made = array_api.Namespace.asarray

    def asarray(self, values, *, dtype=None):
        if (values.dtype if dtype is None else dtype) in (np.float64, torch.float64):
            raise TypeError("this device has no float64")
        return made(self, values, dtype=dtype)

    image, displacement, _ = arrays(rng, torch.float32)
    expected = elasticnd.deform_grid(image, displacement.round(), affine=MATRIX)
    foreign()
    monkeypatch.setattr(array_api.Namespace, "asarray", asarray)
    for grid in (displacement.round().int(), displacement.round().numpy()):
        got = elasticnd.deform_grid(image, grid, affine=MATRIX)
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
    random = elasticnd.deform_random_grid(image, rng=torch.Generator().manual_seed(1))
    assert random.dtype == torch.float32


def test_which_engine_on_other_devices(monkeypatch):
    monkeypatch.setattr(torch_tensors, "is_foreign", lambda tensor: tensor.device.type == "meta")
    route = elasticnd.backend_info(torch.zeros(3, device="meta"))
    assert route == ("torch", "torch", "generic", "meta", "PyTorch operations, on a device of type meta")
    assert elasticnd.backend_info(torch.zeros(3)).engine == "cpu"


# ---- torch.func ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, None, 0), (0, 0, None), (1, 2, 0)], ids=str)
def test_vmap(dims, rng):
    stacked = [
        tensor if dim is None else torch.stack([tensor, 2 * tensor, -tensor], dim)
        for tensor, dim in zip(arrays(rng), dims, strict=True)
    ]

    def energy(x, d, a):
        return function()(x, d, a).square().sum()

    def each(f):
        return [
            f(*(t if dim is None else t.select(dim, k) for t, dim in zip(stacked, dims, strict=True))) for k in range(3)
        ]

    torch.testing.assert_close(torch.func.vmap(function(), dims)(*stacked), torch.stack(each(function())))
    gradient = torch.func.grad(energy, argnums=(0, 1, 2))
    for one, other in zip(torch.func.vmap(gradient, dims)(*stacked), zip(*each(gradient), strict=True), strict=True):
        torch.testing.assert_close(one, torch.stack(other))


def test_nested_vmap_over_batches(rng):
    images = torch.tensor(rng.standard_normal((2, 3, 7, 6)))
    grids = torch.tensor(rng.uniform(-1, 1, (4, 3, 2, 2, 3)))
    matrices = torch.tensor(MATRIX) * torch.tensor([1.0, 1.1])[:, None, None]

    def deform(image, grid, matrix):  # each with a batch axis of 3
        return elasticnd.deform_grid(image, grid, mode="mirror", axis=(1, 2), affine=matrix)

    inner = torch.func.vmap(deform, (None, 0, None))
    got = torch.func.vmap(inner, (0, None, 0))(images, grids, matrices)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(got[i, j], deform(images[i], grids[j], matrices[i]))
    gradient = torch.func.vmap(torch.func.grad(lambda m, x: deform(x, grids[0], m).square().sum()))(matrices, images)
    expected = torch.func.grad(lambda m: deform(images[1], grids[0], m).square().sum())(matrices[1])
    torch.testing.assert_close(gradient[1], expected)


def test_func_transforms_agree(rng):
    x, d, a = arrays(rng)

    def deform(d):
        return function()(x, d, a)

    forward, reverse = torch.func.jacfwd(deform)(d), torch.func.jacrev(deform)(d)
    torch.testing.assert_close(forward, reverse)
    way = torch.tensor(rng.standard_normal(d.shape))
    torch.testing.assert_close(torch.func.jvp(deform, (d,), (way,))[1], torch.einsum("ijklm,klm->ij", forward, way))

    def energy(d):
        return deform(d).square().sum()

    hessian = torch.func.hessian(energy)(d).reshape(d.numel(), d.numel())
    torch.testing.assert_close(hessian, hessian.T)
    torch.testing.assert_close(hessian, torch.autograd.functional.hessian(energy, d).reshape(d.numel(), d.numel()))


# ---- tensors of every kind -------------------------------------------------------------------------------------------


def test_layouts(rng):
    images = torch.tensor(rng.random((2, 3, 8, 9)))
    grid = torch.tensor(rng.standard_normal((2, 3, 3)))
    expected = elasticnd.deform_grid(images, grid, axis=(2, 3))
    last = images.to(memory_format=torch.channels_last)
    assert torch.equal(elasticnd.deform_grid(last, grid, axis=(2, 3)), expected)
    padded = torch.zeros(2, 3, 16, 10, dtype=torch.float64)[:, :, ::2, 1:]
    padded[...] = images
    assert torch.equal(elasticnd.deform_grid(padded, grid.mT.contiguous().mT, axis=(2, 3)), expected)
    assert torch.equal(elasticnd.deform_grid(images[:1].expand(4, 3, 8, 9), grid, axis=(2, 3))[3], expected[0])
    assert torch.equal(elasticnd.deform_grid(torch.nn.Parameter(images), grid, axis=(2, 3)).detach(), expected)


def test_inputs_stay_as_they_are(rng):
    inputs = arrays(rng)
    before = copy.deepcopy(inputs)
    gradients_of(function(), inputs)
    assert all(map(torch.equal, inputs, before))


def test_autocast(rng):
    x, d, a = arrays(rng, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function()(x, d, a), elasticnd.deform_grid(x, d, mode="mirror", cval=0.3, affine=a))
        layer = torch.nn.Conv2d(1, 1, 1)
        deformed = elasticnd.deform_grid(layer(x[None, None]), d, axis=(2, 3))
        assert deformed.dtype == torch.bfloat16
        deformed.sum().backward()


def test_refused_tensors(rng):
    grid = torch.zeros(2, 3, 3)
    with pytest.raises(TypeError, match=r"X: got .*expected a dense tensor"):
        elasticnd.deform_grid(torch.eye(3).to_sparse(), grid)
    with pytest.raises(TypeError, match="dtype"):
        elasticnd.deform_grid(torch.zeros(4, 4), torch.zeros(2, 3, 3, dtype=torch.complex64))
    with pytest.raises(TypeError, match=r"displacement: got .*expected a dense tensor"):
        elasticnd.deform_grid(torch.zeros(4, 4), grid.to_sparse())
    with pytest.raises(TypeError, match=r"affine: got .*expected a dense tensor"):
        elasticnd.deform_grid(torch.zeros(4, 4), grid, affine=torch.eye(2, 3).to_sparse())


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged], ids=str)
def test_nested_tensors_are_refused(layout):
    nested = torch.nested.nested_tensor([torch.zeros(4, 4), torch.zeros(3, 4)], layout=layout)
    for call in (
        lambda: elasticnd.deform_grid(nested, torch.zeros(2, 3, 3)),
        lambda: elasticnd.deform_grid(torch.zeros(4, 4), nested),
        lambda: elasticnd.deform_grid([torch.zeros(4, 4), nested], torch.zeros(2, 3, 3)),
    ):
        with pytest.raises(TypeError, match=r"(X|X\[1\]|displacement): got a nested tensor, expected a dense tensor"):
            call()


# ---- data loaders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning", "ignore:.*fork:DeprecationWarning")
def test_data_loader(method, monkeypatch):
    from datasets import Deformed

    monkeypatch.setattr(_config, "_chosen", False)  # as if no test had set the number of threads
    elasticnd.deform_grid(torch.zeros(300, 300), torch.zeros(2, 3, 3))  # the pool of this process has begun
    loader = torch.utils.data.DataLoader(
        Deformed(), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=120
    )
    batches = list(loader)
    means = torch.cat([images.mean((1, 2)) for images, _ in batches])
    torch.testing.assert_close(means, torch.arange(6.0))
    assert {int(count) for _, counts in batches for count in counts} == {1}, "one thread in every worker"


# ---- the layer -------------------------------------------------------------------------------------------------------


def layer(**options):
    from elasticnd.torch import ElasticDeform

    return ElasticDeform(**options)


def test_layer_modes(rng):
    images = torch.tensor(rng.random((4, 3, 12, 10)), dtype=torch.float32)
    random = layer(sigma=3, points=(3, 4), mode="mirror")
    torch.manual_seed(0)
    one = random(images)
    torch.manual_seed(0)
    assert torch.equal(random(images), one)
    assert not torch.equal(random(images), one)
    assert not torch.equal(one[0], images[0])
    assert random.eval()(images) is images

    torch.manual_seed(0)
    shared = layer(sigma=3, per_sample=False)(images[:1].repeat(2, 1, 1, 1))
    assert torch.equal(shared[0], shared[1])

    grid = rng.standard_normal((2, 3, 3))
    fixed = layer(displacement=grid)
    assert torch.equal(fixed(images), elasticnd.deform_grid(images, torch.tensor(grid), axis=(2, 3)))
    assert list(fixed.state_dict()) == ["displacement"]
    assert not list(fixed.parameters())


def test_layer_copies_no_numbers_to_the_device(monkeypatch):
    """The host would wait for the device in each step of a training."""
    layers = layer(sigma=(1, 2)), layer(sigma=3, per_sample=False)
    images = torch.rand(2, 3, 9, 8)
    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, lambda *_, name=name, **__: pytest.fail(f"torch.{name} is called"))
    for one in layers:
        assert one._random_displacement(images).shape[-3:] == (2, 3, 3)


def test_layer_draws_with_a_sigma_for_each_axis():
    torch.manual_seed(0)
    drawn = layer(sigma=(1, 20), points=40)._random_displacement(torch.zeros(3, 1, 9, 8))
    assert drawn.shape == (3, 2, 40, 40)
    # The deviation of a deviation of 4800 numbers is 1 %.
    np.testing.assert_allclose(drawn.std((0, 2, 3)), [1, 20], rtol=0.05)


def test_layer_of_several_tensors(rng):
    images, labels = torch.rand(2, 3, 9, 8), torch.randint(0, 5, (2, 1, 9, 8), dtype=torch.uint8)
    pair = layer(displacement=np.ones((2, 1, 1)), order=(3, 0), mode=("mirror", "nearest"))(images, labels)
    assert isinstance(pair, tuple)
    assert torch.equal(pair[1][:, :, :-1, :-1], labels[:, :, 1:, 1:])


def test_layer_learns(rng):
    image = torch.tensor(rng.random((1, 1, 16, 16)).cumsum(2).cumsum(3) / 64, dtype=torch.float32)
    target = elasticnd.deform_grid(image, torch.full((2, 1, 1), 0.7), axis=(2, 3), mode="nearest")
    learnt = layer(displacement=torch.zeros(2, 1, 1), learnable=True, mode="nearest")
    optimiser = torch.optim.LBFGS(learnt.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = (learnt(image) - target).square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    torch.testing.assert_close(learnt.displacement.detach(), torch.full((2, 1, 1), 0.7), atol=1e-3, rtol=0)


def test_layer_is_pickled_and_compiled(rng):
    images = torch.rand(2, 3, 9, 8)
    for made in (layer(sigma=2), layer(displacement=np.ones((2, 2, 2)), learnable=True)):
        again = pickle.loads(pickle.dumps(made))  # noqa: S301
        assert repr(again) == repr(made)
        torch.manual_seed(1)
        expected = made(images)
        torch.manual_seed(1)
        assert torch.equal(again(images), expected)
        torch.manual_seed(1)
        assert torch.equal(torch.compile(made, fullgraph=True, backend="aot_eager")(images), expected)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "displacement: got None with sigma None"),
        ({"sigma": 1, "displacement": np.zeros((2, 1, 1))}, "displacement: got"),
        ({"sigma": 1, "learnable": True}, "learnable: got True"),
        ({"sigma": 1, "axis": (1, 2)}, "axis: got"),
        ({"sigma": 1, "order": 6}, "order: got 6"),
        ({"sigma": 1, "order": (3, "label")}, "order: got 'label'"),
        ({"sigma": 1, "mode": "zeros"}, "mode: got 'zeros'"),
    ],
    ids=str,
)
def test_layer_refuses(options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        layer(**options)


def test_layer_of_given_rank(rng):
    images = torch.tensor(rng.random((3, 9, 8)))
    displacement = rng.standard_normal((2, 3, 3))
    with pytest.raises(ValueError, match=r"tensors: got shape \(3, 9, 8\), expected 4 axes for ndim=2"):
        layer(displacement=displacement, ndim=2)(images)
    with pytest.raises(ValueError, match=r"tensors: got shape \(3, 9, 8\), expected 4 axes for ndim=2"):
        layer(sigma=1, ndim=2)(images)
    deformed = layer(displacement=displacement, ndim=2)(images[None])
    assert torch.equal(deformed, layer(displacement=displacement)(images[None]))
    assert torch.equal(deformed[0], layer(displacement=displacement, ndim=2, axis=(-2, -1))(images))
    for options in ({"ndim": 0}, {"ndim": 2, "axis": (-1,)}):
        with pytest.raises(ValueError, match=r"^(ndim|axis): got"):
            layer(sigma=1, **options)


# ---- modes of PyTorch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_autocast_changes_nothing(kind, rng):
    def gradients(enabled):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            result = function()(*leaves)
            result.square().sum().backward()  # inside of the context, where products of matrices are coarse
        return [result.detach(), *(leaf.grad for leaf in leaves)]

    given = arrays(rng, kind)
    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)  # single precision; bfloat16 is off by 1e-2


def test_autocast_leaves_tangents_as_they_are(rng):
    given = arrays(rng, torch.float32)
    ways = arrays(rng, torch.float32)
    expected = torch.func.jvp(function(), given, ways)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.func.jvp(function(), given, ways)
    torch.testing.assert_close(found, expected)  # of single precision


def test_autocast_leaves_maps_of_points_as_they_are(rng):
    def results():
        deformation = elasticnd.Deformation(d, x.shape, affine=a, rotate=10)
        return (
            deformation.affine,
            deformation.source_points(positions),
            deformation.jacobian(positions),
            deformation.jacobian_determinant(),
        )

    x, d, a = arrays(rng, torch.float32)
    positions = 5 * torch.rand(7, x.ndim)
    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results()
    torch.testing.assert_close(found, expected)


def test_inference_mode(rng):
    x, d, a = arrays(rng)
    expected = function()(x, d, a)
    with torch.inference_mode():
        of_ordinary = function()(x, d, a)
        of_inference = function()(x.clone(), d.clone(), a.clone())
    for result in (of_ordinary, of_inference):
        assert result.is_inference()
        assert torch.equal(result, expected)
    with torch.inference_mode():
        kept = x.clone()
    assert torch.equal(function()(kept, d, a), expected)


def test_batched_gradients_are_refused(rng):
    x, d, a = (tensor.requires_grad_() for tensor in arrays(rng))
    result = function()(x, d, a)
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        torch.autograd.grad(result, [x, d, a], torch.ones((2, *result.shape)), is_grads_batched=True)


COMPILED = {
    "dense_displacement": lambda x, d: elasticnd.dense_displacement(d, x.shape),
    "deform_grid_gradient": elasticnd.deform_grid_gradient,
    "deform_grid_vjp": lambda x, d: elasticnd.deform_grid_vjp(x, x, d).displacement,
    "field": lambda x, d: elasticnd.Deformation(d, tuple(x.shape)).field(),
    "source_points": lambda x, d: elasticnd.Deformation(d, tuple(x.shape)).source_points(x[:, :2]),
    "jacobian": lambda x, d: elasticnd.Deformation(d, tuple(x.shape)).jacobian(x[:, :2]),
    "jacobian_determinant": lambda x, d: elasticnd.Deformation(d, tuple(x.shape)).jacobian_determinant(),
    "apply": lambda x, d: elasticnd.Deformation(d, tuple(x.shape)).apply(x),
}
WHOLE = {"source_points", "jacobian", "apply"}  # become part of the program, which breaks at the others


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_programs_of_other_functions(name, rng):
    x, d, _ = arrays(rng)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, d: COMPILED[name](2 * x, d) + 1, backend="eager", fullgraph=name in WHOLE)
    torch.testing.assert_close(compiled(x, d), COMPILED[name](2 * x, d) + 1)


# ---- subclasses ------------------------------------------------------------------------------------------------------


class Picture(torch.Tensor):
    """As the tensors of torchvision: functions give plain tensors, and `as_subclass` wraps their results."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        return result.as_subclass(torch.Tensor) if isinstance(result, cls) else result


class Mask(Picture):
    """Another kind."""


class Simple(torch.Tensor):
    """A subclass that adds nothing."""


class Untouched(torch.Tensor):
    """As parameters: functions give plain tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl


@pytest.mark.parametrize(("kind", "expected"), [(Picture, Picture), (Simple, Simple), (Untouched, torch.Tensor)])
def test_results_are_of_the_class_of_images(kind, expected, rng):
    import elasticnd.torch

    x, d, _ = arrays(rng, torch.float32)
    plain = elasticnd.deform_grid(x, d)
    image = x.as_subclass(kind)
    image.note = ["kept"]
    for result in (elasticnd.deform_grid(image, d), elasticnd.torch.deform_grid(image, d)):
        assert type(result) is expected
        assert torch.equal(result.as_subclass(torch.Tensor), plain)
        if expected is kind:
            assert result.note == image.note
            assert result.note is not image.note
    assert type(elasticnd.deform_grid(x, d.as_subclass(kind))) is torch.Tensor
    assert type(elasticnd.deform_grid_gradient(image, d)) is expected
    assert type(elasticnd.deform_grid_vjp(x, image, d).image) is expected
    assert type(elasticnd.deform_random_grid(image, 1)) is expected


def test_images_and_masks_keep_their_classes(rng):
    image = torch.rand(1, 3, 9, 8).as_subclass(Picture)
    mask = torch.randint(0, 3, (1, 1, 9, 8)).as_subclass(Mask)
    grid = torch.tensor(rng.standard_normal((2, 3, 3)))
    results = (
        elasticnd.deform_grid([image, mask], grid, order=[3, 0], axis=(2, 3)),
        elasticnd.deform_random_grid([image, mask], 1, order=[3, 0], axis=(2, 3)),
        layer(sigma=1, order=(3, 0))(image, mask),
    )
    for result in results:
        assert [type(one) for one in result] == [Picture, Mask]


class Guarded(Picture):
    """As those of torchvision in this, too: a compiler cannot see through its properties."""

    @property
    def device(self):
        with torch._C.DisableTorchFunctionSubclass():
            return super().device


@pytest.mark.parametrize("kind", [Picture, Simple, Guarded])
def test_compiled_programs_break_at_subclasses(kind, rng):
    x, d, _ = arrays(rng, torch.float32)
    image = x.as_subclass(kind)

    def doubled(image, d):
        return elasticnd.deform_grid(2 * image.as_subclass(torch.Tensor), d), elasticnd.deform_grid(image, d)

    torch._dynamo.reset()
    plain, wrapped = torch.compile(doubled, backend="eager")(image, d)
    assert type(wrapped) is kind
    torch.testing.assert_close(plain, elasticnd.deform_grid(2 * x, d))
    assert torch.equal(wrapped.as_subclass(torch.Tensor), elasticnd.deform_grid(x, d))


def test_derivatives_through_subclasses(rng):
    x, d, a = arrays(rng)
    way = torch.tensor(rng.standard_normal(d.shape))
    expected = torch.func.jvp(lambda d: function()(x, d, a), (d,), (way,))[1]
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(d, way)
        pushed = function()(x.as_subclass(Simple), dual, a)
        tangent = torch.autograd.forward_ad.unpack_dual(pushed.as_subclass(torch.Tensor)).tangent
    torch.testing.assert_close(tangent.as_subclass(torch.Tensor), expected)
    leaf = d.clone().requires_grad_()
    function()(x.as_subclass(Picture), leaf, a).as_subclass(torch.Tensor).sum().backward()
    other = d.clone().requires_grad_()
    function()(x, other, a).sum().backward()
    assert torch.equal(leaf.grad, other.grad)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("rotate", lambda number: number),
        ("rotate", lambda number: {(0, 1): number}),
        ("rotate", lambda number: [[number, 0.0], [0.0, 1.0]]),
        ("zoom", lambda number: number),
        ("zoom", lambda number: (1.0, number)),
        ("cval", lambda number: number),
    ],
)
def test_numbers_have_no_derivatives(name, wrap, rng):
    x, d, _ = arrays(rng)
    one = torch.ones((), dtype=torch.float64)

    def energy(number):
        return elasticnd.deform_grid(x, d, **{name: wrap(number)}).sum()

    match = rf"{name}.*: got torch\.Tensor.*differentiated or traced, expected a constant: .*affine"
    with pytest.raises(ValueError, match=match):
        energy(one.clone().requires_grad_())
    with pytest.raises(ValueError, match=match):
        torch.func.grad(energy)(one)
    with pytest.raises(ValueError, match=match):
        torch.func.jvp(energy, (one,), (one,))
    with torch.no_grad():
        assert torch.equal(energy(one.clone().requires_grad_()), energy(1.0))
    assert torch.equal(energy(one), energy(1.0))


def test_sigma_has_no_derivative():
    sigma = torch.ones((), requires_grad=True)
    with pytest.raises(ValueError, match=r"sigma: got .*differentiated or traced"):
        elasticnd.deform_random_grid(torch.zeros(4, 4), sigma)
    with pytest.raises(ValueError, match=r"sigma: got .*differentiated or traced"):
        layer(sigma=sigma)(torch.zeros(1, 1, 4, 4))
