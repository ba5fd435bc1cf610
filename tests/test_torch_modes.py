"""Calls within autocast and inference mode, which do not change results."""

import pytest
from torch_support import arrays, function, ignore_warnings, torch

import elasticnd

pytestmark = ignore_warnings


def test_autocast(rng):
    x, d, a = arrays(rng, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(function()(x, d, a), elasticnd.deform_grid(x, d, mode="mirror", cval=0.3, affine=a))
        layer = torch.nn.Conv2d(1, 1, 1)
        deformed = elasticnd.deform_grid(layer(x[None, None]), d, axis=(2, 3))
        assert deformed.dtype == torch.bfloat16
        deformed.sum().backward()


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_autocast_changes_nothing(kind, rng):
    def gradients(enabled):
        leaves = [tensor.clone().requires_grad_() for tensor in given]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            result = function()(*leaves)
            result.square().sum().backward()  # within the context, where matrix products have low precision
        return [result.detach(), *(leaf.grad for leaf in leaves)]

    given = arrays(rng, kind)
    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)  # the error of float32; bfloat16 would have 1e-2


def test_autocast_leaves_tangents_as_they_are(rng):
    given = arrays(rng, torch.float32)
    ways = arrays(rng, torch.float32)
    expected = torch.func.jvp(function(), given, ways)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.func.jvp(function(), given, ways)
    torch.testing.assert_close(found, expected)  # to the precision of float32


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
