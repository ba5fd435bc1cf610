"""All kinds of tensors: memory layouts, subclasses, and tensors that are refused."""

import copy

import pytest
from torch_support import arrays, function, gradients_of, ignore_warnings, layer, torch

import elasticnd

pytestmark = ignore_warnings


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


class Picture(torch.Tensor):
    """A subclass like those of torchvision: functions return plain tensors, which `as_subclass` wraps."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        return result.as_subclass(torch.Tensor) if isinstance(result, cls) else result


class Mask(Picture):
    """Another subclass of this kind."""


class Simple(torch.Tensor):
    """A subclass that adds nothing."""


class Untouched(torch.Tensor):
    """A subclass that, like `Parameter`, is not kept: functions return plain tensors."""

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
    """A subclass that, like those of torchvision, has properties that compilers cannot trace."""

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
