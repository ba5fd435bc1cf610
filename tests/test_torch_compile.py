"""Calls inside `torch.compile`, `torch.export` and tracers, and on tensors without values."""

import io

import frameworks
import pytest
from torch_support import arrays, function, gradients_of, ignore_warnings, torch

import elasticnd

pytestmark = ignore_warnings


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
    """Numbers become part of the program, even after the compiler has seen them change."""
    image, grid, _ = arrays(rng)
    torch._dynamo.reset()  # older compilers have one limit for the programs of all tests
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


def test_tensors_without_values(rng):
    x, d, a = (tensor.to("meta") for tensor in arrays(rng))
    assert elasticnd.deform_grid(x, d, affine=a, crop=(slice(0, 3), slice(0, 4))).shape == (3, 4)
    from torch.fx.experimental.proxy_tensor import make_fx

    inputs = arrays(rng)
    graph = make_fx(function(), tracing_mode="fake")(*inputs)
    assert torch.equal(graph(*inputs), function()(*inputs))


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

WHOLE = {"source_points", "jacobian", "apply"}  # part of the graph; the others break it


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_programs_of_other_functions(name, rng):
    x, d, _ = arrays(rng)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, d: COMPILED[name](2 * x, d) + 1, backend="eager", fullgraph=name in WHOLE)
    torch.testing.assert_close(compiled(x, d), COMPILED[name](2 * x, d) + 1)


def test_the_first_deformation_of_a_class_is_made_in_a_compiled_program(rng):
    jax = frameworks.get("jax").module

    class Unregistered(elasticnd.Deformation):
        pass

    x, d, _ = arrays(rng)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, d: Unregistered(d, (6, 5)).jacobian(x[:, :2]), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, d), elasticnd.Deformation(d, (6, 5)).jacobian(x[:, :2]))
    assert jax.tree.leaves(Unregistered(d, (6, 5)))[0] is not None
