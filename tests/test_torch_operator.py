"""PyTorch's own checks of the operator that elasticnd registers."""

import pytest
from torch_support import arrays, ignore_warnings, torch

from elasticnd import _check, _spec
from elasticnd._autodiff import operators
from elasticnd._bridges import torch_tensors

pytestmark = ignore_warnings


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
    "every second voxel": lambda tensor: torch.stack([tensor, tensor], -1).flatten(-2)[..., ::2],
    "one value": lambda tensor: tensor[(0,) * tensor.dim()].expand(tensor.shape),
}


@pytest.mark.parametrize("is_batch", [False, True], ids=["one", "batch"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator_check(name, layout, is_batch, rng):
    """The operator passes PyTorch's checks: schema, fake tensors and their strides, registration, and dispatch."""
    from elasticnd._bridges import torch_operator

    operator, lay_out = OPERATORS[name], LAYOUTS[layout]
    batch = (2,) if is_batch else ()
    image, displacement, matrix = arrays(rng, batch=batch)
    if is_batch:
        matrix = torch.stack([matrix, 1.1 * matrix])
    image, displacement = lay_out(image), lay_out(displacement)
    if layout != "one value":  # an invertible matrix cannot have only one value
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
