"""The bridge for PyTorch: an autograd function where tensors hold values, an operator of the dispatcher where not.

The function is quick, and needs little of PyTorch; the operator serves compilers, tracers and `torch.func`. On devices
that neither the core nor the CUDA kernels know, operations of PyTorch do all, derivatives included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _affine
from .._autodiff import operators
from .._autodiff.operators import Operands, Operator, TransformArrays, flatten
from .._spec import DeformSpec, EvaluationSpec, Options
from . import eager, operations
from . import torch_tensors as tensors
from .torch_calculus import FrameworkOps, pulled, pushed, remember

check = tensors.check
info = tensors.info
small_array = tensors.small_array


def engine_name(tensor: Tensor) -> tuple[str, str]:
    if tensors.is_foreign(tensor):
        return "generic", f"operations of PyTorch, on a device of kind {tensor.device.type}"
    return ("cuda" if tensor.is_cuda else "cpu"), f"a tensor on {tensor.device}"


# ---- calls -----------------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Tensor], displacement: Tensor, affine: Tensor | None) -> list[Tensor]:
    if tensors.is_foreign(images[0]):
        return operations.forward(tensors.operations_on(images[0]), spec, images, displacement, affine)
    sources = list(map(tensors.unwrapped, images))
    transform = _transform(spec, displacement, affine)
    if sources[0].is_cpu and _is_plain((*sources, *transform)):
        arrays = eager.deform(spec, list(map(tensors.to_numpy, sources)), tuple(map(tensors.to_numpy, transform)))
        outputs = [tensors.from_numpy(array, source.dtype) for array, source in zip(arrays, sources, strict=True)]
    else:
        parts = operators.real_components(spec)
        outputs = [_deform(own, source, transform) for own, source in zip(parts, sources, strict=True)]
    return list(map(tensors.wrapped_like, outputs, images))


def _deform(parts: Sequence[DeformSpec], image: Tensor, transform: TransformArrays) -> Tensor:
    if len(parts) == 1:
        return _apply(Operator(parts[0], "sample"), Operands(image=image, transform=transform))[0]
    results = [
        _apply(Operator(part, "sample"), Operands(image=source, transform=transform))[0]
        for part, source in zip(parts, _real_and_imaginary(image), strict=True)
    ]
    return torch.complex(*results)


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Tensor], displacement: Tensor, affine: Tensor | None
) -> list[Tensor | None]:
    """Pull gradients of the outputs back to the images; this is differentiable itself."""
    if tensors.is_foreign(gradients[0]):
        return operations.image_vjp(tensors.operations_on(gradients[0]), spec, gradients, displacement, affine)
    transform = _transform(spec, displacement, affine)
    results: list[Tensor | None] = []
    for gradient, parts in zip(gradients, operators.real_components(spec), strict=True):
        source = tensors.unwrapped(gradient)
        sources = [source] if len(parts) == 1 else _real_and_imaginary(source)
        of_parts = [
            _apply(Operator(part, "sample_adjoint", wants_image=True), Operands(gradient=one, transform=transform))[0]
            for part, one in zip(parts, sources, strict=True)
        ]
        result = of_parts[0] if len(of_parts) == 1 else torch.complex(*of_parts)
        results.append(tensors.wrapped_like(result, gradient))
    return results


def _real_and_imaginary(tensor: Tensor) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = torch.view_as_real(tensor.resolve_conj()).unbind(-1)
    return parts


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Tensor | None],
    images: Sequence[Tensor],
    displacement: Tensor,
    affine: Tensor | None,
) -> tuple[list[Tensor | None], Tensor, Tensor | None]:
    with torch.enable_grad():
        inexact = [image.dtype.is_floating_point or image.dtype.is_complex for image in images]
        plain = map(tensors.unwrapped, images)
        sources = [image.detach().requires_grad_(real) for image, real in zip(plain, inexact, strict=True)]
        small = [array.detach().requires_grad_() for array in (displacement, affine) if array is not None]
        outputs = forward(spec, sources, small[0], small[1] if affine is not None else None)
    given = [k for k, gradient in enumerate(gradients) if gradient is not None]
    wanted = [sources[k] for k in given] + small
    results = list(
        torch.autograd.grad(
            [outputs[k] for k in given],
            wanted,
            [
                tensors.unwrapped(gradient).to(outputs[k].dtype)
                for k, gradient in enumerate(gradients)
                if gradient is not None
            ],
            allow_unused=True,
            materialize_grads=True,
        )
        if given
        else map(torch.zeros_like, wanted)
    )
    of_images: list[Tensor | None] = [None] * len(images)
    for k in given:
        of_images[k] = tensors.wrapped_like(results.pop(0), images[k])
    return of_images, results[0], results[1] if affine is not None else None


def dense(spec: DeformSpec, displacement: Tensor) -> Tensor:
    if tensors.is_foreign(displacement):
        return operations.dense(tensors.operations_on(displacement), spec, displacement)
    return _apply(Operator(spec, "displace"), Operands(transform=(displacement,)))[0]


def evaluate(spec: EvaluationSpec, order: int, displacement: Tensor, positions: Tensor) -> Tensor:
    if tensors.is_foreign(positions):
        return operations.evaluate(tensors.operations_on(positions), spec, order, displacement, positions)
    if torch.compiler.is_compiling():
        from .torch_operator import evaluate as record  # noqa: PLC0415 - see there

        return record(spec, order, displacement, positions)
    operands = Operands(transform=(displacement,), positions=positions)
    return _apply(Operator(spec, "evaluate", order=order), operands)[0]


def algebra(tensor: Tensor) -> FrameworkOps:
    """Return the linear algebra of PyTorch."""
    return _OPS


def values(tensor: Tensor) -> np.ndarray[Any, Any] | None:
    """Return the values of a tensor; None while a program is recorded."""
    return None if tensors.needs_dispatcher((tensor,)) else tensor.detach().cpu().double().numpy()


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Tensor, rng: Any) -> Any:
    """Draw displacements of control points: from PyTorch's generators, or by a seed as NumPy does."""
    if rng is not None and not isinstance(rng, torch.Generator):
        return eager.random_normal(shape, scale, like, rng)
    if tensors.is_foreign(like):  # which may have no float64, and a generator of its own
        drawn = torch.randn(tuple(shape), generator=rng, device="cpu" if rng is None else rng.device)
        return operations.real_array(
            tensors.operations_on(like), drawn.cpu().numpy() * np.reshape(scale, (-1, *(1,) * len(scale)))
        )
    device = like.device if rng is None else rng.device
    normal = torch.randn(tuple(shape), generator=rng, dtype=torch.float64, device=device).to(like.device)
    return normal * torch.tensor(scale, dtype=torch.float64, device=like.device).reshape(-1, *(1,) * len(scale))


def _transform(spec: DeformSpec, displacement: Tensor, affine: Tensor | None) -> TransformArrays:
    """Return control points and matrix (..., n, n + 1), whose values are checked where there are some."""
    if affine is None:
        return (displacement,)
    if affine.is_cpu and not tensors.needs_dispatcher((affine,)):
        _affine.checked_affine(affine.detach().double().numpy(), spec.axes)
    return displacement, affine[..., : spec.axes, :]


# ---- calls that are recorded -----------------------------------------------------------------------------------------


def is_deferred(arrays: Sequence[Any]) -> bool:
    """Return whether a call is being recorded, to run later, perhaps with other shapes."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    return any(isinstance(array, Tensor) and _has_symbols(array) for array in arrays)


def _has_symbols(tensor: Tensor) -> bool:
    return tensors.needs_dispatcher((tensor,)) and not all(type(extent) is int for extent in tensor.shape)


def deferred(images: Sequence[Tensor], displacement: Any, affine: Any, options: Options) -> list[Tensor]:
    """Record a call."""
    from .torch_operator import deferred as record  # noqa: PLC0415 - see there

    return record(images, displacement, affine, options)


# ---- application -----------------------------------------------------------------------------------------------------


def _apply(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    """Apply an operator, differentiably."""
    flat = flatten(operator, operands)
    if tensors.needs_dispatcher(flat):
        from .torch_operator import apply  # noqa: PLC0415 - see there

        return apply(operator, flat)
    if tensors.needs_derivatives(flat):
        return _Function.apply(operator, *flat)
    return tensors.compute(operator, flat)


def _is_plain(flat: Sequence[Tensor]) -> bool:
    """Return whether tensors have values, and nobody asks for derivatives."""
    return not (tensors.needs_dispatcher(flat) or tensors.needs_derivatives(flat))


class _Function(torch.autograd.Function):
    """An operator with its derivatives, for autograd and forward mode."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, *flat: Tensor) -> tuple[Tensor, ...]:
        remember(ctx, operator, flat)
        return tensors.compute(operator, flat)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        return None, *pulled(_OPS, ctx.operator, ctx.saved_tensors, cotangents, ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Any:
        return pushed(_OPS, ctx.operator, ctx.saved_tensors, tangents)


_OPS = FrameworkOps(_apply)
