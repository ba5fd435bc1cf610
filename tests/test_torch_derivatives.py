"""Derivatives in PyTorch, with autograd and `torch.func`, of single images and batches; numbers have none."""

import pytest
from torch_support import MATRIX, arrays, function, ignore_warnings, layer, leaves, torch

import elasticnd

pytestmark = ignore_warnings


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

    def deform(image, grid, matrix):  # each argument has a batch axis of 3
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


def test_batched_gradients_are_refused(rng):
    x, d, a = (tensor.requires_grad_() for tensor in arrays(rng))
    result = function()(x, d, a)
    with pytest.raises(RuntimeError, match="Batching rule not implemented"):
        torch.autograd.grad(result, [x, d, a], torch.ones((2, *result.shape)), is_grads_batched=True)


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
