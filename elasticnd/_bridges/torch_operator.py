"""The dispatcher's operator, for tensors without values and for recorded programs.

It has rules for reverse mode, forward mode and `vmap`. Its derivatives use the same operator, so transforms and tracers
never see another one. It is defined on first use, because this imports much of PyTorch.
"""

from __future__ import annotations

import json
import math
import operator as operator_module
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _check
from .._autodiff import operators, rules
from .._autodiff.operators import Operands, Operator, flatten, unflatten
from .._compat import torch as compat
from .._limits import LABELS
from .._serialize import options_from_text, spec_from_text, text_of_options, text_of_spec
from .._spec import ArrayInfo, DeformSpec, EvaluationSpec, Options, Shape
from . import torch_tensors as tensors_of
from .torch_ops import Context, FrameworkOps, jvp, remember, vjp, without_derivatives

Result = TypeVar("Result")

# ---- programs --------------------------------------------------------------------------------------------------------


class RecordedCall(NamedTuple):
    """A call that runs later, as a string that can be part of a program or a file."""

    text: str  # options, or a specification
    has_affine: bool
    deformed_axes: int  # known if there is an affine matrix
    image_shape: tuple[int, ...] = ()  # needed if the image is not an operand

    @property
    def inverse_rotation_zoom_linear(self) -> Sequence[Sequence[float]] | None:
        """The linear part of the inverse of rotation and zoom."""
        spec = spec_from_text(self.text)
        if spec is not None:
            return spec.inverse_rotation_zoom_linear
        options = options_from_text(self.text)
        unit = (1,) * self.deformed_axes
        matrix = options.inverse_rotation_zoom(unit)
        return None if matrix is None else matrix[:, :-1].tolist()

    @property
    def votes(self) -> bool:
        """Whether the call is for labels."""
        spec = spec_from_text(self.text)
        return options_from_text(self.text).order == LABELS if spec is None else spec.votes

    def spec_of(self, operands: Operands) -> DeformSpec | EvaluationSpec:
        """Check the call, once arrays are known."""
        spec = spec_from_text(self.text)
        if spec is not None:
            return spec
        like = operands.gradient if operands.image is None else operands.image
        image = ArrayInfo(tuple(map(int, self.image_shape)), tensors_of.name_of(like.dtype))
        displacement = tensors_of.info(operands.transform[0])
        affine = tensors_of.info(operands.transform[1]) if self.has_affine else None
        return _check.normalize((image,), displacement, affine, "X", options_from_text(self.text))

    def output_shape(self) -> Sequence[int]:
        """Return the shape of the output; extents may be symbolic."""
        spec = spec_from_text(self.text)
        if isinstance(spec, DeformSpec):
            return spec.output_shape(spec.images[0])
        return options_from_text(self.text).cropped(self.image_shape)


@lru_cache(maxsize=256)
def program_of(operator: Operator) -> str:
    """Return an operator as a string for programs."""
    call = operator.call
    if isinstance(call, (DeformSpec, EvaluationSpec)):
        call = RecordedCall(text_of_spec(call), call.has_affine, call.axes)
    return json.dumps([*call[:3], *operator[1:]])


@lru_cache(maxsize=256)
def _parsed(program: str) -> Operator:
    text, has_affine, axes, *rest = json.loads(program)
    return Operator(RecordedCall(text, has_affine, axes), *rest)


def _operator_of(program: str, image_shape: Sequence[int], flat: Sequence[Tensor]) -> Operator:
    operator = _parsed(program)
    if operator.takes_image:
        image_shape = compat.shape_of(unflatten(operator, flat).image)
    return operator._replace(call=operator.call._replace(image_shape=tuple(image_shape)))


def apply(operator: Operator, flat: Sequence[Tensor]) -> Sequence[Tensor]:
    """Apply an operator through the dispatcher."""
    check_recorder()
    call = operator.call
    if isinstance(call, (DeformSpec, EvaluationSpec)):
        shape = call.images[0].shape if call.images else ()
    else:  # without its shape, which may be symbolic, the call can be a key
        shape, operator = call.image_shape, operator._replace(call=call._replace(image_shape=()))
    results: list[Tensor] = OPERATOR(list(flat), [] if operator.takes_image else list(shape), program_of(operator))
    return results


def check_recorder() -> None:
    """Check that no recorder around the call would silently lose values."""
    if torch.compiler.is_dynamo_compiling():  # it rejects what it cannot record
        return
    is_early = compat.is_recorded_before_dispatch()
    if compat.is_in_func_transform():
        if torch.jit.is_tracing():
            _refuse("torch.jit.trace", "transforms of torch.func: use torch.compile or make_fx")
        if is_early and not compat.is_exported():
            _refuse("make_fx(pre_dispatch=True)", "transforms of torch.func: use make_fx without pre_dispatch")
    if (torch.jit.is_tracing() or is_early) and compat.are_saved_tensors_replaced():
        recorder = "torch.jit.trace" if torch.jit.is_tracing() else "make_fx(pre_dispatch=True) or torch.export"
        _refuse(recorder, "torch.utils.checkpoint, or other hooks of saved tensors: leave them out")
    if compat.is_recorder_nested():
        _refuse("a recorder", "torch.func.linearize or another recorder: use torch.func.jvp")


def _refuse(recorder: str, what: str) -> NoReturn:
    raise RuntimeError(f"elasticnd: {recorder} cannot record {what}")


def evaluate(spec: EvaluationSpec, order: int, displacement: Tensor, positions: Tensor) -> Tensor:
    """Record an evaluation at positions."""
    check_recorder()
    program = _evaluation_program(spec.batch, spec.extent, spec.grid_shape, spec.count, order)
    result: Tensor = OPERATOR([positions, displacement], [], program)[0]
    return result


@torch.compiler.assume_constant_result
def _evaluation_program(batch: Shape, extent: Shape, points: Shape, count: int, order: int) -> str:
    return program_of(Operator(EvaluationSpec(batch, extent, points, count), "evaluate", order=order))


# ---- calls that are checked when they run ----------------------------------------------------------------------------


def record(images: Sequence[Tensor], displacement: object, affine: object, options: Options) -> list[Tensor]:
    """Record a call."""
    matrix = None if affine is None else tensors_of.small_array("affine", affine, images[0])
    grid = tensors_of.small_array("displacement", displacement, images[0])
    axes = 0 if matrix is None else operator_module.index(compat.shape_of(matrix)[-1]) - 1
    transform = (grid,) if matrix is None else (grid, matrix[..., :axes, :])
    constant = [_specialised(option) for option in options]
    results = []
    for k, image in enumerate(images):
        program = _sample_program(k, len(images), affine is not None, axes, *constant)
        result = OPERATOR([tensors_of.unwrapped(image), *transform], [], program)[0]
        results.append(tensors_of.wrapped_like(result, image))
    return results


@torch.compiler.disable
def between_programs(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function outside recorded programs: a compiler ends its program before the call.

    A compiler would mistake NumPy arrays for tensors, and cannot unwrap subclasses of tensors.
    """
    return function(*arguments)


def _specialised(option: object) -> object:
    """Make numbers, which a compiler may treat as varying inputs, part of the program."""
    if isinstance(option, float):
        return math.ldexp(*math.frexp(option))
    if isinstance(option, int) and not isinstance(option, bool):
        return operator_module.index(option)
    return [_specialised(part) for part in option] if isinstance(option, (list, tuple)) else option


@torch.compiler.assume_constant_result
def _sample_program(index: int, images: int, has_affine: bool, axes: int, *options: object) -> str:
    own = _check.options_of_image(Options._make(options), index, images)
    return program_of(Operator(RecordedCall(text_of_options(own), has_affine, axes), "sample"))


# ---- the operator ----------------------------------------------------------------------------------------------------

_NAME = "elasticnd::apply"
_SCHEMA = "apply(Tensor[] tensors, SymInt[] image_shape, str program) -> Tensor[]"
# It is traced as is, and accepts any layout.
_TAGS = tuple(getattr(torch.Tag, name) for name in ("pt2_compliant_tag", "flexible_layout") if hasattr(torch.Tag, name))

_library = torch.library.Library("elasticnd", "FRAGMENT")
_library.define(_SCHEMA, tags=_TAGS)
OPERATOR = torch.ops.elasticnd.apply.default
_OPS = FrameworkOps(lambda operator, operands: apply(operator, flatten(operator, operands)))


def _on_values(tensors: Sequence[Tensor], image_shape: Sequence[int], program: str) -> list[Tensor]:
    return list(tensors_of.compute(_operator_of(program, image_shape, tensors), tensors))


def _without_values(tensors: Sequence[Tensor], image_shape: Sequence[int], program: str) -> list[Tensor]:
    """Return results of the right shapes, in C order like those with values."""
    operator = _operator_of(program, image_shape, tensors)
    operands = unflatten(operator, tensors)
    if operator.verb == "sample":
        return [operands.image.new_empty(operator.call.output_shape())]
    if operator.verb in operators.ADJOINT or operator.takes_positions:
        shapes = operators.result_shapes(operator, operator.call.spec_of(operands))
        return [tensors[0].new_empty(shape) for shape in shapes]
    results = [operands.gradient.new_empty(operator.call.image_shape)] if operator.wants_image else []
    return results + [array.new_empty(array.shape) for array in operands.transform if operator.wants_transform]


class _Differentiable(compat.SingleLevelFunction):
    """The operator at one level of transforms; below autograd, it goes on through the dispatcher."""

    @staticmethod
    def forward(
        ctx: Context, keys: compat.DispatchKeySet, image_shape: Sequence[int], program: str, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        remember(ctx, _operator_of(program, image_shape, tensors), tensors)
        # Autograd functions turn derivatives off, but other levels may need them.
        with torch.enable_grad(), compat.set_forward_mode_enabled(True), compat.AutoDispatchBelowAutograd():
            results = OPERATOR.redispatch(compat.below_autograd(keys), list(tensors), image_shape, program)
        return without_derivatives(ctx, results)

    @staticmethod
    def backward(ctx: Context, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        return None, None, None, *vjp(_OPS, ctx.operator, ctx.saved_tensors, cotangents, needed)

    @staticmethod
    def jvp(ctx: Context, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        with compat.set_forward_mode_enabled(True):  # for the levels below, as in `forward`
            primals = [forward_ad.unpack_dual(tensor, level=0).primal for tensor in ctx.saved_tensors]
            return jvp(_OPS, ctx.operator, primals, tangents[3:])


def _differentiably(
    keys: compat.DispatchKeySet, tensors: Sequence[Tensor], image_shape: Sequence[int], program: str
) -> list[Tensor]:
    with compat.allow_single_level_functions():
        return list(_Differentiable.apply(keys, image_shape, program, *tensors))


def _mapped(
    _: object,
    in_dims: tuple[Sequence[int | None], ...],
    tensors: Sequence[Tensor],
    image_shape: Sequence[int],
    program: str,
) -> tuple[list[Tensor], list[int]]:
    dims = in_dims[0]
    items = [tensor if dim is None else tensor.select(dim, 0) for tensor, dim in zip(tensors, dims, strict=True)]
    operator = _operator_of(program, image_shape, items)
    operator = operator._replace(call=operator.call.spec_of(unflatten(operator, items)))
    first = [tensor if dim is None else tensor.movedim(dim, 0) for tensor, dim in zip(tensors, dims, strict=True)]
    mapped = unflatten(operator, [dim is not None for dim in dims])
    size = int(next(compat.shape_of(one)[0] for one, dim in zip(first, dims, strict=True) if dim is not None))
    results = rules.apply_mapped(_OPS, operator, size, unflatten(operator, first), mapped)
    return list(results), [0] * len(results)


_library.impl("apply", _on_values, "CompositeExplicitAutograd")
_library.impl("apply", _differentiably, "Autograd", with_keyset=True)
torch.library.register_fake(_NAME, _without_values, lib=_library)
torch.library.register_vmap(_NAME, _mapped, lib=_library)
