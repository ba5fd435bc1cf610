"""The chain rule for PyTorch: the operations that `rules` requires, and an operator's derivatives for autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .._autodiff import operators, rules
from .._autodiff.operators import Operands, Operator, flatten, unflatten
from .._compat import torch as compat
from .._engines.generic.matrices import eliminated
from .torch_tensors import moved, operations_on


class FrameworkOps:
    """The operations that the chain rule requires."""

    def __init__(self, apply: Callable[[Operator, Operands], Sequence[Tensor]]) -> None:
        self.apply = apply

    zeros_like = staticmethod(torch.zeros_like)
    broadcast = staticmethod(torch.broadcast_to)
    reshaped = staticmethod(torch.reshape)
    summed = staticmethod(torch.sum)
    reordered = staticmethod(torch.permute)
    determinant = staticmethod(torch.linalg.det)
    where = staticmethod(torch.where)
    without_gradient = staticmethod(torch.Tensor.detach)

    @staticmethod
    def converted(tensor: Tensor, like: Tensor) -> Tensor:
        """Convert to the dtype of `like`."""
        return tensor.to(like.dtype)

    @staticmethod
    def inverse(matrices: Tensor) -> Tensor:
        """Invert matrices without reading values, since that would wait for the device."""
        if torch.jit.is_tracing() or compat.is_recorded_before_dispatch():
            # Even with PyTorch's own functions, these recorders lose results that autograd keeps for derivatives.
            recorded: Tensor = eliminated(operations_on(matrices), matrices)
            return recorded
        inverse: Tensor = torch.linalg.inv_ex(matrices).inverse
        return inverse

    @staticmethod
    def product(left: Tensor, right: Tensor) -> Tensor:
        """Multiply matrices in full precision: `torch.autocast` leaves doubles unchanged.

        Autocasting cannot be turned off here, because transforms of `torch.func` keep it on.
        """
        if not _autocasts(left):
            return left @ right
        return (left.double() @ right.double()).to(left.dtype)

    @staticmethod
    def transposed(matrices: Tensor) -> Tensor:
        """Swap the last two axes."""
        return matrices.mT

    @staticmethod
    def joined(left: Tensor, right: Tensor, axis: int = -1) -> Tensor:
        """Concatenate along an axis."""
        return torch.cat([left, right], axis)

    @staticmethod
    def constant(values: object, like: Tensor) -> Tensor:
        """Make a tensor of the dtype and on the device of `like`."""
        return moved(torch.as_tensor(np.array(values), dtype=like.dtype), like)


def _autocasts(tensor: Tensor) -> bool:
    return tensor.device.type in ("cpu", "cuda") and torch.is_autocast_enabled(tensor.device.type)


class Context(Protocol):
    """What an autograd function stores for its derivatives."""

    operator: Operator
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Store tensors for reverse mode."""

    def save_for_forward(self, *tensors: Tensor) -> None:
        """Store tensors for forward mode."""

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Set which outputs have no derivatives."""

    def set_materialize_grads(self, value: bool) -> None:
        """Set whether zero gradients are passed as zeros or as None."""


def remember(ctx: Context, operator: Operator, flat: Sequence[Tensor]) -> None:
    """Store what both modes of differentiation need."""
    ctx.operator = operator
    ctx.save_for_backward(*flat)
    ctx.save_for_forward(*flat)
    ctx.set_materialize_grads(False)


def without_derivatives(ctx: Context, results: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the results of a forward pass, marked if they have no derivatives, such as labels by votes."""
    if ctx.operator.call.votes:
        ctx.mark_non_differentiable(*results)
    return tuple(results)


def vjp(
    ops: FrameworkOps,
    operator: Operator,
    flat: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Compute the gradients of the operands from the cotangents of the results."""
    if operator.call.votes or all(cotangent is None for cotangent in cotangents):
        return [None] * len(flat)
    gradients = rules.vjp(ops, operator, unflatten(operator, flat), cotangents, unflatten(operator, needed))
    return flatten(operator, gradients)


def jvp(
    ops: FrameworkOps, operator: Operator, flat: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """Compute the tangents of the results from those of the operands."""
    operands = unflatten(operator, flat)
    if operator.call.votes:
        return (None,) * len(operators.likes(operator, operands))
    results = rules.jvp(ops, operator, operands, unflatten(operator, tangents))
    outputs = zip(results, operators.likes(operator, operands), strict=True)
    return tuple(None if result is None else result.to(like.dtype) for result, like in outputs)
