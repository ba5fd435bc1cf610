"""The bridge for PyTorch: an autograd function where tensors hold values, an operator of the dispatcher where not.

Each alone falls short: a function cannot be traced, an operator has no forward mode and no `torch.func.grad`. On
devices that neither the core nor the CUDA kernels know, operations of PyTorch do all, derivatives included.
"""

from __future__ import annotations

import inspect
import json
import math
import operator as operator_module
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _affine, _operators, _rules, _spec
from .._engines.kernels import external_stream, import_cupy
from .._errors import reject_type, reject_value
from .._operators import Operands, Operator, flattened, structured
from .._spec import ArrayInfo, DeformSpec
from .._texts import options_from_text, spec_from_text, text_of_options, text_of_spec
from . import eager, operations


def info(tensor: Tensor) -> ArrayInfo:
    """Tell shape and dtype."""
    return _info(tensor.shape, tensor.dtype)


@lru_cache(maxsize=256)
def _info(shape: torch.Size, dtype: torch.dtype) -> ArrayInfo:
    return ArrayInfo(tuple(shape), _name_of(dtype))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def small_array(argument: str, value: Any, like: Tensor | None = None) -> Tensor:
    """Take a control grid or a matrix: a tensor, a NumPy array or nested lists of numbers."""
    if isinstance(value, Tensor):
        if like is not None and value.device != like.device:
            reject_value(argument, f"a tensor on {value.device}", f"one on {like.device}, where the image is")
        if value.dtype.is_floating_point:
            return value if value.dtype.itemsize >= 4 else value.float()
        is_integer = not value.dtype.is_complex and value.dtype != torch.bool
        return value.to(_widest_float(value)) if is_integer else value
    if not isinstance(value, (np.ndarray, list, tuple)):
        reject_type(argument, value, "a torch.Tensor, a NumPy array or nested lists of numbers")
    array = eager.small_array(argument, value)
    if array.dtype.kind not in "iuf":
        return torch.zeros(array.shape, dtype=torch.bool)  # refused by its type, as everywhere
    if like is not None and _is_foreign(like):
        return operations.real_array(_operations_on(like), array)
    return torch.as_tensor(array.astype(np.float64), device=None if like is None else like.device)


def _widest_float(tensor: Tensor) -> torch.dtype:
    if not _is_foreign(tensor):
        return torch.float64
    dtype: torch.dtype = operations.real_array(_operations_on(tensor), np.zeros(())).dtype
    return dtype


def _is_foreign(tensor: Tensor) -> bool:
    """Tell whether a tensor is on a device that only PyTorch knows. On `meta`, there are no values to compute."""
    return not (tensor.is_cpu or tensor.is_cuda or tensor.is_meta)


def _operations_on(tensor: Tensor) -> operations.Namespace:
    from array_api_compat import torch as names  # noqa: PLC0415 - for those who have such a device

    return operations.Namespace(names, tensor.device)


def engine_name(tensor: Tensor) -> tuple[str, str]:
    """Name the engine that computes, and say why."""
    if _is_foreign(tensor):
        return "generic", f"operations of PyTorch, on a device of kind {tensor.device.type}"
    return ("cuda" if tensor.is_cuda else "cpu"), f"a tensor on {tensor.device}"


def check(argument: str, image: Tensor, first: Tensor) -> None:
    """Refuse what the engines cannot take."""
    if image.is_cpu and image.layout is torch.strided and first.is_cpu and not image.is_quantized:
        return
    if image.layout != torch.strided or image.is_quantized or image.is_nested:
        reject_type(argument, image, "a dense tensor")
    if image.device != first.device:
        reject_value(argument, f"a tensor on {image.device}", f"one on {first.device}, as the first image")
    if image.is_cuda:
        import_cupy(argument, f"a tensor on {image.device}")


# ---- calls -----------------------------------------------------------------------------------------------------------


def forward(spec: DeformSpec, images: Sequence[Tensor], displacement: Tensor, affine: Tensor | None) -> list[Tensor]:
    """Deform images."""
    if _is_foreign(images[0]):
        return operations.forward(_operations_on(images[0]), spec, images, displacement, affine)
    motion = (displacement,) if affine is None else (displacement, _matrix(affine, spec.axes))
    if images[0].is_cpu and _is_plain((*images, *motion)):
        outputs = eager.deform(spec, list(map(_to_numpy, images)), tuple(map(_to_numpy, motion)))
        return [_from_numpy(output, image.dtype) for output, image in zip(outputs, images, strict=True)]
    return [_deform(parts, image, motion) for image, parts in zip(images, _operators.real_parts(spec), strict=True)]


def _deform(parts: Sequence[DeformSpec], image: Tensor, motion: _operators.Pair) -> Tensor:
    if len(parts) == 1:
        return _apply(Operator(parts[0], "sample"), Operands(image=image, motion=motion))[0]
    sources = torch.view_as_real(image.resolve_conj()).unbind(-1)
    results = [
        _apply(Operator(part, "sample"), Operands(image=source, motion=motion))[0]
        for part, source in zip(parts, sources, strict=True)
    ]
    return torch.complex(*results)


def image_vjp(
    spec: DeformSpec, gradients: Sequence[Tensor], displacement: Tensor, affine: Tensor | None
) -> list[Tensor | None]:
    """Pull gradients of the outputs back to the images; this is differentiable itself."""
    if _is_foreign(gradients[0]):
        return operations.image_vjp(_operations_on(gradients[0]), spec, gradients, displacement, affine)
    motion = (displacement,) if affine is None else (displacement, _matrix(affine, spec.axes))
    results: list[Tensor | None] = []
    for gradient, parts in zip(gradients, _operators.real_parts(spec), strict=True):
        sources = [gradient] if len(parts) == 1 else torch.view_as_real(gradient.resolve_conj()).unbind(-1)
        pulled = [
            _apply(Operator(part, "scatter", wants_image=True), Operands(gradient=source, motion=motion))[0]
            for part, source in zip(parts, sources, strict=True)
        ]
        results.append(pulled[0] if len(pulled) == 1 else torch.complex(*pulled))
    return results


def vjp(
    spec: DeformSpec,
    gradients: Sequence[Tensor | None],
    images: Sequence[Tensor],
    displacement: Tensor,
    affine: Tensor | None,
) -> tuple[list[Tensor | None], Tensor, Tensor | None]:
    """Pull gradients of the outputs back to images, control grid and affine matrix."""
    with torch.enable_grad():
        inexact = [image.dtype.is_floating_point or image.dtype.is_complex for image in images]
        sources = [image.detach().requires_grad_(real) for image, real in zip(images, inexact, strict=True)]
        small = [array.detach().requires_grad_() for array in (displacement, affine) if array is not None]
        outputs = forward(spec, sources, small[0], small[1] if affine is not None else None)
    given = [k for k, gradient in enumerate(gradients) if gradient is not None]
    wanted = [sources[k] for k in given] + small
    pulled = list(
        torch.autograd.grad(
            [outputs[k] for k in given],
            wanted,
            [gradient.to(outputs[k].dtype) for k, gradient in enumerate(gradients) if gradient is not None],
            allow_unused=True,
            materialize_grads=True,
        )
        if given
        else map(torch.zeros_like, wanted)
    )
    of_images: list[Tensor | None] = [None] * len(images)
    for k in given:
        of_images[k] = pulled.pop(0)
    return of_images, pulled[0], pulled[1] if affine is not None else None


def dense(spec: DeformSpec, displacement: Tensor) -> Tensor:
    """Evaluate the displacement at every voxel."""
    if _is_foreign(displacement):
        return operations.dense(_operations_on(displacement), spec, displacement)
    return _apply(Operator(spec, "displace"), Operands(motion=(displacement,)))[0]


def random_normal(shape: Sequence[int], scale: Sequence[float], like: Tensor, rng: Any) -> Any:
    """Draw displacements of control points: from PyTorch's generators, or by a seed as NumPy does."""
    if rng is not None and not isinstance(rng, torch.Generator):
        return eager.random_normal(shape, scale, like, rng)
    if _is_foreign(like):  # which may have no float64, and a generator of its own
        drawn = torch.randn(tuple(shape), generator=rng, device="cpu" if rng is None else rng.device)
        return operations.real_array(
            _operations_on(like), drawn.cpu().numpy() * np.reshape(scale, (-1, *(1,) * len(scale)))
        )
    device = like.device if rng is None else rng.device
    normal = torch.randn(tuple(shape), generator=rng, dtype=torch.float64, device=device).to(like.device)
    return normal * torch.tensor(scale, dtype=torch.float64, device=like.device).reshape(-1, *(1,) * len(scale))


def _matrix(affine: Tensor, axes: int) -> Tensor:
    """Give (..., n, n + 1); values are checked where there are some."""
    if affine.is_cpu and _holds_values(affine) and not _is_transformed():
        _affine.checked_affine(affine.detach().double().numpy(), axes)
    return affine[..., :axes, :]


# ---- application -----------------------------------------------------------------------------------------------------


def _apply(operator: Operator, operands: Operands) -> Sequence[Tensor]:
    """Apply an operator, differentiably."""
    flat = flattened(operator, operands)
    if _is_transformed():
        return _Transformable.apply(operator, *flat)
    if not all(map(_holds_values, flat)):
        return _recorded(operator, flat)
    if _is_plain(flat):
        return _compute(operator, flat)
    return _Function.apply(operator, *flat)


# `torch.func` wraps tensors, of which only autograd functions and operators of the dispatcher see the inside.
_is_transformed = torch._C._are_functorch_transforms_active


def _holds_values(tensor: Tensor) -> bool:
    return (tensor.is_cpu or tensor.is_cuda) and (type(tensor) is Tensor or type(tensor) is torch.nn.Parameter)


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Tell whether the tensors have values, and nobody asks for derivatives."""
    if _is_transformed() or forward_ad._current_level >= 0:
        return False
    for tensor in tensors:
        if (tensor.requires_grad and torch.is_grad_enabled()) or not _holds_values(tensor):
            return False
    return True


def _compute(operator: Operator, flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    call = operator.call
    operands = structured(operator, flat)
    spec = call if isinstance(call, DeformSpec) else call.spec_of(operands)
    if flat[0].is_cuda:
        return _compute_on_device(operator, spec, flat)
    results = _operators.run(operator, spec, structured(operator, [_to_numpy(tensor) for tensor in flat]))
    return tuple(
        _from_numpy(array, like.dtype)
        for array, like in zip(results, _operators.likes(operator, operands), strict=True)
    )


def _compute_on_device(operator: Operator, spec: DeformSpec, flat: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Let the CUDA kernels read and write the memory of tensors, on the current stream of their device."""
    likes = _operators.likes(operator, structured(operator, flat))
    shapes = _operators.result_shapes(operator, spec)
    device = flat[0].device
    with torch.cuda.device(device), external_stream(torch.cuda.current_stream(device).cuda_stream):
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("elasticnd cannot be captured in a CUDA graph: call it before or after the capture")
        outputs = [
            torch.empty(shape, dtype=like.dtype, device=device) for shape, like in zip(shapes, likes, strict=True)
        ]
        arrays = structured(operator, [_to_cupy(tensor) for tensor in flat])
        # What is like an image is written in place; gradients of motions are float64, and small.
        into = _to_cupy(outputs[0]) if operator.verb == "sample" or operator.wants_image else None
        results = _operators.run(operator, spec, arrays, into)
        for output, result in zip(outputs, results, strict=True):
            if result is not into:
                _to_cupy(output)[...] = result
    return tuple(outputs)


def _to_cupy(tensor: Tensor) -> Any:
    import cupy  # noqa: PLC0415

    tensor = tensor.detach().resolve_neg().resolve_conj()
    # The engine takes the bits of bfloat16.
    return cupy.from_dlpack(tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor)


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, Any]:
    try:
        return tensor.numpy()
    except (RuntimeError, TypeError):  # it records gradients, is a lazy conjugate, or is of a type that NumPy has not
        tensor = tensor.detach().resolve_neg().resolve_conj()
        # The engine takes the bits of bfloat16.
        array: np.ndarray[Any, Any] = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return array


def _from_numpy(array: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(array)
    if tensor.dtype == dtype:
        return tensor
    return tensor.view(dtype) if dtype == torch.bfloat16 else tensor.to(dtype)


class _Function(torch.autograd.Function):
    """An operator with its derivatives, for autograd and forward mode."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, *flat: Tensor) -> tuple[Tensor, ...]:
        _remember(ctx, operator, flat)
        return _compute(operator, flat)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> Any:
        return None, *_pulled(ctx.operator, ctx.saved_tensors, cotangents, ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Any:
        operator = ctx.operator
        operands = structured(operator, ctx.saved_tensors)
        pushed = _rules.jvp(_CALCULUS, operator, operands, structured(operator, tangents))
        outputs = zip(pushed, _operators.likes(operator, operands), strict=True)
        return tuple(None if result is None else result.to(like.dtype) for result, like in outputs)


class _Transformable(_Function):
    """The same for `torch.func`."""

    @staticmethod
    def forward(operator: Operator, *flat: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return _compute(operator, flat) if all(map(_holds_values, flat)) else tuple(_recorded(operator, flat))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        _remember(ctx, inputs[0], inputs[1:])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], operator: Operator, *flat: Tensor) -> Any:
        dims = in_dims[1:]
        first = [array if dim is None else array.movedim(dim, 0) for array, dim in zip(flat, dims, strict=True)]
        mapped = structured(operator, [dim is not None for dim in dims])
        operands = structured(operator, first)
        results = tuple(_rules.apply_mapped(_CALCULUS, operator, info.batch_size, operands, mapped))
        return results, (0,) * len(results)


def _remember(ctx: Any, operator: Operator, flat: Sequence[Tensor]) -> None:
    ctx.operator = operator
    ctx.save_for_backward(*flat)
    ctx.save_for_forward(*flat)
    ctx.set_materialize_grads(False)


def _pulled(
    operator: Operator, flat: Sequence[Tensor], cotangents: Sequence[Tensor | None], needed: Sequence[bool]
) -> list[Tensor | None]:
    if all(cotangent is None for cotangent in cotangents):
        return [None] * len(flat)
    operands = structured(operator, flat)
    gradients = _rules.vjp(_CALCULUS, operator, operands, cotangents, structured(operator, needed))
    return flattened(operator, gradients)


class _Calculus:
    """What the chain rule needs of PyTorch."""

    apply = staticmethod(_apply)
    zeros_like = staticmethod(torch.zeros_like)

    @staticmethod
    def inverse(matrices: Tensor) -> Tensor:
        # Without a look at the values, for which devices would have to be waited for.
        inverse: Tensor = torch.linalg.inv_ex(matrices).inverse
        return inverse

    broadcast = staticmethod(torch.broadcast_to)

    @staticmethod
    def transposed(matrices: Tensor) -> Tensor:
        return matrices.mT

    @staticmethod
    def joined(left: Tensor, right: Tensor) -> Tensor:
        return torch.cat([left, right], -1)

    @staticmethod
    def constant(values: Any, like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)


_CALCULUS = _Calculus()


# ---- calls that are recorded, and checked when they run --------------------------------------------------------------


class Deferred(NamedTuple):
    """A call that runs later, as a text that can stand in a program and in a file."""

    text: str  # options, or a specification
    has_affine: bool
    deformed_axes: int  # known where there is an affine matrix
    image_shape: tuple[int, ...] = ()

    @property
    def fixed_linear(self) -> Any:
        """The linear part of the inverse of rotation and zoom."""
        spec = spec_from_text(self.text)
        if spec is not None:
            return spec.fixed_linear
        options = options_from_text(self.text)
        unit = (1,) * self.deformed_axes
        matrix = _affine.inverse_rotation_and_zoom(options["rotate"], options["zoom"], unit)
        return None if matrix is None else matrix[:, :-1].tolist()

    def spec_of(self, operands: Operands) -> DeformSpec:
        """Check the call, now that there are arrays."""
        spec = spec_from_text(self.text)
        if spec is not None:
            return spec
        like = operands.gradient if operands.image is None else operands.image
        image = ArrayInfo(self.image_shape, _name_of(like.dtype))
        affine = info(operands.motion[1]) if self.has_affine else None
        return _spec.normalize((image,), info(operands.motion[0]), affine, "X", **options_from_text(self.text))

    def output_shape(self) -> Sequence[int]:
        """Give the shape of the output; extents may be symbols."""
        spec = spec_from_text(self.text)
        if spec is not None:
            return spec.output_shape(spec.images[0])
        return _spec.cropped_shape(self.image_shape, options_from_text(self.text))


def is_deferred(arrays: Sequence[Any]) -> bool:
    """Tell whether a call is being recorded, to run later."""
    return torch.compiler.is_compiling()


def deferred(images: Sequence[Tensor], displacement: Any, affine: Any, options: dict[str, Any]) -> list[Tensor]:
    """Record a call."""
    if _is_foreign(images[0]):
        return _deformed_between_programs(images, displacement, affine, options)
    displacement, affine = _small_arrays(images[0], displacement, affine)
    motion = (displacement,) if affine is None else (displacement, affine[..., : affine.shape[-1] - 1, :])
    axes = 0 if affine is None else int(affine.shape[-1]) - 1
    constant = {name: _specialised(option) for name, option in options.items()}
    results = []
    for k, image in enumerate(images):
        sources = torch.view_as_real(image).unbind(-1) if image.is_complex() else (image,)
        parts = []
        for part, source in enumerate(sources):
            program = _sample_program(k, len(images), part, len(sources), affine is not None, axes, **constant)
            parts.append(_op([source, *motion], list(source.shape), program)[0])
        results.append(parts[0] if len(parts) == 1 else torch.complex(parts[0], parts[1]))
    return results


def _small_arrays(image: Tensor, displacement: Any, affine: Any) -> tuple[Tensor, Tensor | None]:
    matrix = None if affine is None else small_array("affine", affine, image)
    return small_array("displacement", displacement, image), matrix


@torch.compiler.disable  # a compiler would take the arrays of NumPy in there for tensors
def _deformed_between_programs(
    images: Sequence[Tensor], displacement: Any, affine: Any, options: dict[str, Any]
) -> list[Tensor]:
    displacement, affine = _small_arrays(images[0], displacement, affine)
    matrix = None if affine is None else info(affine)
    spec = _spec.normalize(tuple(map(info, images)), info(displacement), matrix, "X", **options)
    return forward(spec, images, displacement, affine)


def _specialised(option: Any) -> Any:
    """Make numbers, which a compiler may take for inputs that vary, part of the program."""
    if isinstance(option, float):
        return math.ldexp(*math.frexp(option))
    if isinstance(option, int) and not isinstance(option, bool):
        return operator_module.index(option)
    return [_specialised(part) for part in option] if isinstance(option, (list, tuple)) else option


@torch.compiler.assume_constant_result
def _sample_program(index: int, images: int, part: int, parts: int, has_affine: bool, axes: int, **options: Any) -> str:
    own = _spec.options_of_image(index, images, part if parts > 1 else None, **options)
    return _program(Operator(Deferred(text_of_options(own), has_affine, axes), "sample"))


def _program(operator: Operator) -> str:
    call = operator.call
    return json.dumps([*call[:3], *operator[1:]])


@lru_cache(maxsize=256)
def _parsed(program: str) -> Operator:
    text, has_affine, axes, *rest = json.loads(program)
    return Operator(Deferred(text, has_affine, axes), *rest)


def _operator_of(program: str, image_shape: Sequence[int]) -> Operator:
    operator = _parsed(program)
    return operator._replace(call=operator.call._replace(image_shape=tuple(image_shape)))


def _recorded(operator: Operator, flat: Sequence[Tensor]) -> Sequence[Tensor]:
    """Apply an operator to tensors without values, through the dispatcher."""
    call = operator.call
    if isinstance(call, DeformSpec):
        shape = call.images[0].shape if call.images else ()
        call = Deferred(text_of_spec(call), call.has_affine, call.axes, shape)
    return _op(list(flat), list(call.image_shape), _program(operator._replace(call=call)))


_SCHEMA = "(Tensor[] tensors, SymInt[] image_shape, str program) -> Tensor[]"


# The compiler is not to put it into a CUDA graph.
_HAS_TAGS = "tags" in inspect.signature(torch.library.custom_op).parameters and hasattr(torch.Tag, "cudagraph_unsafe")
_TAGS: dict[str, Any] = {"tags": (torch.Tag.cudagraph_unsafe,)} if _HAS_TAGS else {}


@torch.library.custom_op("elasticnd::apply", mutates_args=(), schema=_SCHEMA, **_TAGS)
def _op(tensors: Sequence[Tensor], image_shape: Sequence[int], program: str) -> list[Tensor]:
    return list(_compute(_operator_of(program, image_shape), tensors))


@_op.register_fake
def _(tensors: Sequence[Tensor], image_shape: Sequence[int], program: str) -> list[Tensor]:
    operator = _operator_of(program, image_shape)
    operands = structured(operator, tensors)
    if operator.verb == "sample":
        return [operands.image.new_empty(operator.call.output_shape())]
    if operator.verb in _operators.ADJOINT:
        shapes = _operators.result_shapes(operator, operator.call.spec_of(operands))
        return [tensors[0].new_empty(shape) for shape in shapes]
    results = [operands.gradient.new_empty(image_shape)] if operator.wants_image else []
    return results + [torch.empty_like(array) for array in operands.motion if operator.wants_motion]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tensors, ctx.image_shape, ctx.program = inputs
    ctx.save_for_backward(*tensors)
    ctx.needed = [tensor.requires_grad for tensor in tensors]


def _backward(ctx: Any, cotangents: Sequence[Tensor | None]) -> Any:
    operator = _operator_of(ctx.program, ctx.image_shape)
    return _pulled(operator, ctx.saved_tensors, cotangents, ctx.needed), None, None


@_op.register_vmap
def _(
    info: Any, in_dims: tuple[Any, ...], tensors: Sequence[Tensor], image_shape: Sequence[int], program: str
) -> tuple[list[Tensor], list[int]]:
    def item(k: int) -> list[Tensor]:
        dims = zip(tensors, in_dims[0], strict=True)
        return _op([tensor if dim is None else tensor.select(dim, k) for tensor, dim in dims], image_shape, program)

    results = [torch.stack(parts) for parts in zip(*map(item, range(info.batch_size)), strict=True)]
    return results, [0] * len(results)


_op.register_autograd(_backward, setup_context=_save)
