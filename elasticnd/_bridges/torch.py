"""The bridge for PyTorch: an autograd function for tensors with values, otherwise an operator of the dispatcher.

The function is fast and relies on little of PyTorch; the operator serves compilers, tracers and `torch.func`. On
devices that neither the core nor the CUDA kernels support, PyTorch operations compute everything, with derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _check
from .._autodiff import calls
from .._autodiff.framework import Delegated
from .._autodiff.operators import Operands, Operator, flatten, image_operators
from .._spec import Options, Shape
from .._types import NumpyArray, Seed
from . import array_api, eager
from . import torch_tensors as tensors
from .torch_ops import Context, FrameworkOps, jvp, remember, vjp, without_derivatives

check = tensors.check
info = tensors.info
small_array = tensors.small_array


def engine_name(tensor: Tensor) -> tuple[str, str]:
    if tensors.is_foreign(tensor):
        return "generic", f"PyTorch operations, on a device of type {tensor.device.type}"
    return ("cuda" if tensor.is_cuda else "cpu"), f"a tensor on {tensor.device}"


def standard_normal(shape: Shape, batch_axes: int, like: Tensor, rng: Seed) -> Tensor | None:
    """Draw from PyTorch's generators, on the device of the image."""
    if rng is not None and not isinstance(rng, torch.Generator):
        return None
    if tensors.is_foreign(like):  # its device may lack float64, and has its own generator
        drawn = torch.randn(shape, generator=rng, device="cpu" if rng is None else rng.device)
        return array_api.real_array(tensors.operations_on(like), drawn.cpu().numpy())
    device = like.device if rng is None else rng.device
    return torch.randn(shape, generator=rng, dtype=torch.float64, device=device).to(like.device)


def delegate(images: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> Delegated | None:
    """Return NumPy arrays for ordinary tensors in the host's memory that need no derivatives.

    Calls without images are left to `apply`, which knows the dtype of their results.
    """
    if not images or torch.compiler.is_compiling() or tensors.is_foreign(images[0]):
        return None
    given = [tensor for tensor in (*images, *others) if tensor is not None]
    if tensors.needs_derivatives(given) or not tensors.are_like_numpy(given) or tensors.needs_dispatcher(given):
        return None
    return eager, list(map(_to_numpy, images)), list(map(_to_numpy, others))


def _to_numpy(tensor: Tensor | None) -> NumpyArray | None:
    return None if tensor is None else tensors.to_numpy(tensor)


def restored(result: NumpyArray, image: Tensor) -> Tensor:
    return torch.from_numpy(result)


def algebra(tensor: Tensor) -> FrameworkOps:
    return _OPS


def values(tensor: Tensor, *, wait: bool = True) -> NumpyArray | None:
    if tensors.needs_dispatcher((tensor,)) or not (wait or tensor.is_cpu):
        return None
    return tensor.detach().cpu().double().numpy()


# ---- calls that are recorded -----------------------------------------------------------------------------------------


def is_recorded(arrays: Sequence[object]) -> bool:
    """Return whether a call is being recorded to run later, perhaps with other shapes."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return any(isinstance(array, Tensor) and _has_symbols(array) for array in arrays)


def _has_symbols(tensor: Tensor) -> bool:
    return tensors.needs_dispatcher((tensor,)) and not all(type(extent) is int for extent in tensor.shape)


def record(images: Sequence[Tensor], displacement: object, affine: object, options: Options) -> list[Tensor]:
    """Record a call, or run it between two programs."""
    from . import torch_operator  # noqa: PLC0415 - see there

    torch_operator.check_recorder()
    is_wrapped = torch.compiler.is_dynamo_compiling() and not all(map(tensors.is_basic, images))
    if is_wrapped or tensors.is_foreign(images[0]):
        between: list[Tensor] = torch_operator.between_programs(_deform, images, displacement, affine, options)
        return between
    return torch_operator.record(images, displacement, affine, options)


def _deform(images: Sequence[Tensor], displacement: object, affine: object, options: Options) -> list[Tensor]:
    matrix = None if affine is None else small_array("affine", affine, images[0])
    displacement = small_array("displacement", displacement, images[0])
    of_matrix = None if matrix is None else info(matrix)
    spec = _check.normalize(tuple(map(info, images)), info(displacement), of_matrix, "X", options)
    transform = calls.transform_of(values, displacement, matrix)
    operators = zip(image_operators(spec, "sample"), images, strict=True)
    return [apply(operator, Operands(image=image, transform=transform))[0] for operator, image in operators]


# ---- application -----------------------------------------------------------------------------------------------------


def apply(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    """Apply an operator, differentiably. Image-like results have the class of the image or of its gradient."""
    if torch.compiler.is_dynamo_compiling() and operator.verb != "evaluate":
        from . import torch_operator  # noqa: PLC0415 - see there

        results: Sequence[Tensor] = torch_operator.between_programs(apply, operator, operands)
        return results
    like = operands.gradient if operands.image is None else operands.image
    if like is None:
        return _apply_to_tensors(operator, operands)
    gradient, image = (None if one is None else tensors.unwrapped(one) for one in (operands.gradient, operands.image))
    inner = operands._replace(gradient=gradient, image=image)
    first, *rest = _apply_to_tensors(operator, inner)
    return [tensors.wrapped_like(first, like), *rest]


def _apply_to_tensors(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    if torch.compiler.is_compiling() and operator.verb == "evaluate":
        from . import torch_operator  # noqa: PLC0415 - see there

        return [torch_operator.evaluate(operator.call, operator.order, operands.transform[0], operands.positions)]
    flat = flatten(operator, operands)
    if tensors.is_foreign(flat[0]):
        results = array_api.apply(tensors.operations_on(flat[0]), operator, operands)
        return [result.detach() for result in results] if operator.call.votes else results
    return _apply(operator, operands)


def _apply(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    """Apply an operator to tensors on devices that the engines support."""
    flat = flatten(operator, operands)
    if tensors.needs_dispatcher(flat):
        from . import torch_operator  # noqa: PLC0415 - see there

        return torch_operator.apply(operator, flat)
    if tensors.needs_derivatives(flat):
        return _Function.apply(operator, *flat)
    return tensors.compute(operator, flat)


class _Function(torch.autograd.Function):
    """An operator with its derivatives, for autograd and forward mode."""

    @staticmethod
    def forward(ctx: Context, operator: Operator, *flat: Tensor) -> tuple[Tensor, ...]:
        remember(ctx, operator, flat)
        return without_derivatives(ctx, tensors.compute(operator, flat))

    @staticmethod
    def backward(ctx: Context, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *vjp(_OPS, ctx.operator, ctx.saved_tensors, cotangents, ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Context, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        return jvp(_OPS, ctx.operator, ctx.saved_tensors, tangents)


_OPS = FrameworkOps(_apply)
