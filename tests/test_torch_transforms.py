"""Every transform of PyTorch within every compiler and tracer, for all arguments that have derivatives.

The expected values come from the same transform without a compiler or tracer. `test_torch_derivatives.py` compares
those with differences.
"""

import frameworks
import numpy as np
import pytest

import elasticnd

torch = frameworks.get("torch").module
from torch import func  # noqa: E402 - skipped without PyTorch
from torch.autograd import forward_ad  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

# The compilers themselves issue these warnings.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)

RNG = np.random.default_rng(1)
SHAPES = ((5, 4), (2, 3, 2), (2, 3))  # image, displacement, affine matrix
WEIGHT = torch.tensor(RNG.standard_normal(SHAPES[0]))
ALL = (0, 1, 2)


def arguments(seed):
    rng = np.random.default_rng(seed)
    image, displacement, change = (torch.tensor(rng.uniform(-1, 1, shape)) for shape in SHAPES)
    return image, displacement, torch.eye(2, 3, dtype=torch.float64) + 0.1 * change


def deform(image, displacement, affine):
    return elasticnd.deform_grid(image, displacement, 3, "mirror", 0.3, affine=affine)


def of_pytorch(image, displacement, affine):
    """Compute a function of the same arguments with PyTorch's own operations."""
    inverse = torch.linalg.inv(affine[:, :2])
    return (image + 0.1 * displacement.sin().sum()).sin() * inverse.pow(2).sum() + affine[:, 2].cos().sum()


def tangents(tensors):
    return tuple(tensor.cos() for tensor in tensors)


def pairs(tensors):
    return tuple(torch.stack([tensor, 1.1 * tensor]) for tensor in tensors)


def transforms(deform):
    """Return the transforms of a function, by name."""

    def energy(*tensors):
        return deform(*tensors).pow(3).sum()

    def pushed(*tensors):
        return func.jvp(deform, tensors, tangents(tensors))[1]

    def dual_numbers(*tensors):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(deform(*map(forward_ad.make_dual, tensors, tangents(tensors)))).tangent

    def dual_displacement(image, displacement, affine):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(displacement, displacement.cos())
            return forward_ad.unpack_dual(deform(image, dual, affine)).tangent

    def backward(*tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        return torch.autograd.grad(energy(*leaves), leaves)

    def double_backward(*tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        first = torch.autograd.grad(energy(*leaves), leaves, create_graph=True)
        return torch.autograd.grad(sum(part.pow(2).sum() for part in first), leaves)

    def checkpointed(*tensors):
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        return torch.autograd.grad(checkpoint(energy, *leaves, use_reentrant=False), leaves)

    return {
        "none": deform,
        "backward": backward,
        "backward of backward": double_backward,
        "checkpoint": checkpointed,
        "dual numbers": dual_numbers,
        "dual displacement": dual_displacement,
        "grad": func.grad(energy, ALL),
        "vjp": lambda *tensors: func.vjp(deform, *tensors)[1](WEIGHT),
        "jvp": pushed,
        "jacrev": func.jacrev(deform, ALL),
        "jacfwd": func.jacfwd(deform, ALL),
        "hessian": func.hessian(energy, ALL),
        "grad of grad": func.grad(lambda *t: sum(part.pow(2).sum() for part in func.grad(energy, ALL)(*t)), ALL),
        "grad of jvp": func.grad(lambda *tensors: pushed(*tensors).pow(2).sum(), ALL),
        "jvp of grad": lambda *tensors: func.jvp(func.grad(energy, ALL), tensors, tangents(tensors))[1],
        "jvp of jvp": lambda *tensors: func.jvp(pushed, tensors, tangents(tensors))[1],
        "linearize": lambda *tensors: func.linearize(deform, *tensors)[1](*tangents(tensors)),
        "vmap": lambda *tensors: func.vmap(deform)(*pairs(tensors)),
        "vmap of images": lambda x, d, a: func.vmap(deform, (0, None, None))(torch.stack([x, -x]), d, a),
        "vmap of displacements": lambda x, d, a: func.vmap(deform, (None, 0, None))(x, torch.stack([d, -d]), a),
        "vmap of grad": lambda *tensors: func.vmap(func.grad(energy, ALL))(*pairs(tensors)),
        "grad of vmap": func.grad(lambda *tensors: func.vmap(deform)(*pairs(tensors)).pow(2).sum(), ALL),
        "vmap of jvp": lambda *tensors: func.vmap(pushed)(*pairs(tensors)),
        "functionalize": func.functionalize(deform),
        "functionalize of grad": func.functionalize(func.grad(energy, ALL)),
    }


TRANSFORMS = transforms(deform)
# Transforms that create leaves, for which compilers make several programs.
WITH_LEAVES = {"backward", "backward of backward", "checkpoint"}


def compiled(function, inputs, **options):
    torch._dynamo.reset()
    return torch.compile(function, backend="aot_eager", **options)


def exported(function, inputs):
    class Module(torch.nn.Module):
        def forward(self, *tensors):
            return function(*tensors)

    return torch.export.export(Module(), inputs).module()


RECORDERS = {
    "compile": compiled,
    "compile with dynamic shapes": lambda function, inputs: compiled(function, inputs, dynamic=True),
    "make_fx real": lambda function, inputs: make_fx(function, tracing_mode="real")(*inputs),
    "make_fx fake": lambda function, inputs: make_fx(function, tracing_mode="fake")(*inputs),
    "make_fx symbolic": lambda function, inputs: make_fx(function, tracing_mode="symbolic")(*inputs),
    "make_fx before dispatch": lambda function, inputs: make_fx(function, pre_dispatch=True)(*inputs),
    "jit.trace": lambda function, inputs: torch.jit.trace(function, inputs, check_trace=False),
    "export": exported,
}
DUAL = {"dual numbers", "dual displacement"}
# Combinations that do not work for PyTorch's own functions either: PyTorch raises an error or returns wrong values, as
# `test_what_pytorch_does_not_do_itself` checks.
OF_PYTORCH = {
    "compile": {"linearize", "functionalize", "functionalize of grad", "backward of backward"},
    "compile with dynamic shapes": {
        "jacfwd",
        "hessian",
        "linearize",
        "functionalize",
        "functionalize of grad",
        "backward of backward",
    },
    "make_fx real": {"linearize"},
    "make_fx fake": {"vjp"},  # its weight is a constant that has values
    "make_fx symbolic": {"vjp", "linearize"},
    "make_fx before dispatch": set(TRANSFORMS) - {"none", "backward", "backward of backward"},
    "jit.trace": {"checkpoint", *DUAL, "linearize", "grad of vmap"},
    "export": set(TRANSFORMS)
    - {"none", "backward", "backward of backward", *DUAL, "jvp", "jvp of jvp", "linearize"}
    - {"vmap", "vmap of images", "vmap of displacements"},
}
# With PyTorch's own functions, these end the process.
FATAL = {("jit.trace", "checkpoint"), ("jit.trace", "linearize")}
# Combinations that are refused, because `torch.jit.trace` and others would silently return wrong values for them.
REFUSED = {
    *(("jit.trace", name) for name in set(TRANSFORMS) - WITH_LEAVES - OF_PYTORCH["jit.trace"] - {"none"}),
    *(("make_fx before dispatch", name) for name in OF_PYTORCH["make_fx before dispatch"] - DUAL),
    *((recorder, "linearize") for recorder in ("make_fx real", "make_fx fake", "export")),
    ("jit.trace", "checkpoint"),
    ("export", "checkpoint"),
}
EXCEPTIONS = [(recorder, transform) for recorder, names in OF_PYTORCH.items() for transform in sorted(names)]
CASES = [
    (recorder, transform)
    for recorder in RECORDERS
    for transform in TRANSFORMS
    if transform not in OF_PYTORCH[recorder] and (recorder, transform) not in REFUSED
]


@pytest.fixture(autouse=True)
def _levels():
    """Close the levels of dual numbers that an error in PyTorch left open."""
    yield
    while forward_ad._current_level >= 0:
        forward_ad.exit_dual_level()


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def record(recorder, transform, function):
    inputs = arguments(3)
    if recorder.startswith("compile"):
        dynamic = True if "dynamic" in recorder else None
        return compiled(function, inputs, fullgraph=transform not in WITH_LEAVES, dynamic=dynamic)
    return RECORDERS[recorder](function, inputs)


@pytest.mark.parametrize(("recorder", "transform"), CASES)
def test_recorded_transforms(recorder, transform):
    """A program that is recorded with some values is right for others."""
    function = TRANSFORMS[transform]
    inputs = arguments(2)
    expected = function(*inputs)
    same(record(recorder, transform, function)(*inputs), expected)


@pytest.mark.parametrize(("recorder", "transform"), [case for case in EXCEPTIONS if case not in FATAL])
def test_what_pytorch_does_not_do_itself(recorder, transform):
    """If PyTorch starts to support a combination, this test fails, and the exception can be removed."""
    function = transforms(of_pytorch)[transform]
    inputs = arguments(2)
    expected = function(*inputs)
    try:
        got = record(recorder, transform, function)(*inputs)
    except Exception:
        return
    with pytest.raises(AssertionError):
        same(got, expected)


@pytest.mark.parametrize(("recorder", "transform"), sorted(REFUSED))
def test_what_would_be_wrong_is_refused(recorder, transform):
    with pytest.raises(RuntimeError, match=r"^elasticnd: .* cannot record "):
        record(recorder, transform, TRANSFORMS[transform])


def along(function, tensors, ways, step):
    return [function(*(one + sign * step * way for one, way in zip(tensors, ways, strict=True))) for sign in (1, -1)]


def test_transforms_agree():
    """Transforms that are not compared with differences elsewhere agree with those that are."""
    tensors = arguments(4)
    ways = tangents(tensors)
    plus, minus = along(deform, tensors, ways, 1e-5)
    slope = TRANSFORMS["jvp"](*tensors)
    torch.testing.assert_close(slope, (plus - minus) / 2e-5, rtol=1e-6, atol=1e-6)
    for transform in ("dual numbers", "linearize"):
        same(TRANSFORMS[transform](*tensors), slope)
    gradient = TRANSFORMS["backward"](*tensors)
    for transform in ("grad", "checkpoint", "functionalize of grad"):
        same(TRANSFORMS[transform](*tensors), gradient)
    forward, reverse = TRANSFORMS["jacfwd"](*tensors), TRANSFORMS["jacrev"](*tensors)
    same(forward, reverse)
    same(sum((part * way).sum(tuple(range(2, part.dim()))) for part, way in zip(forward, ways, strict=True)), slope)
    same(TRANSFORMS["grad of grad"](*tensors), TRANSFORMS["backward of backward"](*tensors))
    hessian = TRANSFORMS["hessian"](*tensors)
    for k in ALL:
        expected = sum((hessian[k][l] * ways[l]).flatten(tensors[k].dim()).sum(-1) for l in ALL)
        same(TRANSFORMS["jvp of grad"](*tensors)[k], expected)
    plus, minus = along(TRANSFORMS["jvp"], tensors, ways, 1e-5)
    # The directions depend on the tensors, as in the transform.
    torch.testing.assert_close(TRANSFORMS["jvp of jvp"](*tensors), (plus - minus) / 2e-5, rtol=1e-6, atol=1e-6)


def test_recorded_with_symbols_takes_other_shapes():
    inputs = arguments(5)
    graph = make_fx(deform, tracing_mode="symbolic")(*inputs)
    larger = torch.rand(9, 7, dtype=torch.float64), torch.rand(2, 4, 4, dtype=torch.float64), inputs[2]
    same(graph(*larger), deform(*larger))


def test_traced_function_takes_other_shapes():
    traced = torch.jit.trace(deform, arguments(5), check_trace=False)
    larger = torch.rand(9, 7, dtype=torch.float64), torch.rand(2, 4, 4, dtype=torch.float64), arguments(5)[2]
    same(traced(*larger), deform(*larger))
