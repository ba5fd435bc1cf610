"""Tensors on devices that only PyTorch can access, computed with its own operations, and copies to CUDA devices."""

from types import SimpleNamespace

import numpy as np
import pytest
from torch_support import MATRIX, arrays, function, ignore_warnings, leaves, torch

import elasticnd
from elasticnd import _core
from elasticnd._bridges import torch_tensors

pytestmark = ignore_warnings


def test_numbers_reach_the_device_without_waiting(monkeypatch):
    """CUDA copies pinned memory while the host continues."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)  # PyTorch for the CPU lacks this
    like = SimpleNamespace(is_cuda=True, is_cpu=False, is_meta=False, device="meta")
    assert torch_tensors.small_array("displacement", np.ones((2, 3, 3)), like).is_meta
    assert pinned
    assert torch_tensors.small_array("displacement", np.ones((2, 3, 3)), torch.zeros(3)).is_cpu
    assert len(pinned) == 1


@pytest.fixture
def foreign(monkeypatch):
    """Let tensors count as tensors on a device that neither the core nor the CUDA kernels can access."""

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
