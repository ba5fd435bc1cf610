"""Operators as a JAX primitive, with the rules by which JAX differentiates, maps and compiles it.

If JAX lacks what a primitive needs, a function with `jax.custom_vjp` is used instead; it only has first-order reverse
mode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from .._autodiff import rules
from .._autodiff.operators import Operands, Operator, TransformArrays, flatten, unflatten
from .._compat import jax as compat
from .._compat.jax import ad, batching, mlir
from .._spec import DeformSpec
from . import jax_arrays as arrays_of
from . import jax_buffers, jax_handlers, jax_operations
from .array_api import FrameworkOps
from .jax_arrays import Array


def apply_real(operator: Operator, operands: Operands) -> Sequence[Array]:
    """Apply an operator, differentiably if there is a primitive."""
    flat = flatten(operator, operands)
    spec: DeformSpec = operator.call
    if spec.has_affine and spec.batch and not spec.affine_batched:  # so that every operand has the batch axes
        operator, flat = _with_own_affine(operator, spec, flat)
    if _primitive is not None:
        return _primitive.bind(*compat.vary_alike(flat), operator=operator)
    is_deformation = operator.verb == "sample" and not operator.tangents
    return [_sample_once(operator, *flat)] if is_deformation else jax_handlers.call(operator, flat)


def _with_own_affine(operator: Operator, spec: DeformSpec, flat: list[Array]) -> tuple[Operator, list[Array]]:
    """Repeat the affine matrix and its tangents for every batch item."""
    operands = unflatten(operator, flat)

    def own(arrays: TransformArrays) -> TransformArrays:
        displacement, affine = arrays
        return displacement, jnp.broadcast_to(affine, (*spec.batch, *affine.shape))

    tangents = tuple(map(own, operands.tangents))
    wider = operands._replace(transform=own(operands.transform), tangents=tangents)
    operator = operator._replace(call=spec.with_batched_affine())
    return operator, flatten(operator, wider)


OPS = FrameworkOps(jnp, apply_real)


# ---- rules -----------------------------------------------------------------------------------------------------------


def _abstract(*flat: Array, operator: Operator) -> list[object]:
    return [compat.result_type(flat[0], shape, dtype) for shape, dtype in arrays_of.results_of(operator, flat)]


def _jvp(primals: Sequence[Array], tangents: Sequence[Array], *, operator: Operator) -> tuple[list[Array], list[Array]]:
    outputs = _primitive.bind(*primals, operator=operator)
    operands = unflatten(operator, primals)
    if jnp.issubdtype(outputs[0].dtype, jnp.inexact) and not operator.call.votes:
        changes = [None if type(tangent) is ad.Zero else tangent for tangent in tangents]
        derivatives = rules.jvp(OPS, operator, operands, unflatten(operator, changes))
    else:
        derivatives = [None] * len(outputs)
    zeros = map(compat.zero_tangent, outputs)
    return outputs, [zero if result is None else result for zero, result in zip(zeros, derivatives, strict=True)]


def _transpose(cotangents: Sequence[Array], *flat: Array, operator: Operator) -> list[Array]:
    """Transpose in the operands that are not yet known."""
    given = [None if type(cotangent) is ad.Zero else cotangent for cotangent in cotangents]
    is_open = [ad.is_undefined_primal(operand) for operand in flat]
    if all(cotangent is None for cotangent in given):
        return [ad.Zero(operand.aval) if left else None for operand, left in zip(flat, is_open, strict=True)]
    needed = unflatten(operator, is_open)
    gradients = flatten(operator, rules.vjp(OPS, operator, unflatten(operator, flat), given, needed))
    return [gradient if left else None for gradient, left in zip(gradients, is_open, strict=True)]


def _map(flat: Sequence[Array], dims: Sequence[int | None], *, operator: Operator) -> tuple[Sequence[Array], list[int]]:
    size = next(array.shape[dim] for array, dim in zip(flat, dims, strict=True) if dim is not None)
    first = [array if dim is None else jnp.moveaxis(array, dim, 0) for array, dim in zip(flat, dims, strict=True)]
    mapped = unflatten(operator, [dim is not None for dim in dims])
    results = rules.apply_mapped(OPS, operator, size, unflatten(operator, first), mapped)
    return results, [0] * len(results)


# ---- outside of programs ---------------------------------------------------------------------------------------------


def _evaluate(*flat: Array, operator: Operator) -> list[Array]:
    """Apply the primitive outside programs."""
    if arrays_of.are_at_hand(flat):
        results = arrays_of.run_at_once(operator, flat)
    else:
        # Without JIT, or to find a NaN, JAX runs a program one primitive at a time; this primitive is a program itself.
        with jax.disable_jit(False), jax.debug_nans(False), jax.debug_infs(False):
            results = _jitted(operator)(*flat)
    if jax.config.jax_debug_nans:
        _check_for("NaN", jnp.isnan, results)
    if jax.config.jax_debug_infs:
        _check_for("infinity", jnp.isinf, results)
    return results


def _check_for(name: str, is_bad: Callable[[Array], Array], results: Sequence[Array]) -> None:
    if any(bool(is_bad(result).any()) for result in results):
        raise FloatingPointError(f"elasticnd: {name} in a result")


@lru_cache(maxsize=512)
def _jitted(operator: Operator) -> Callable[..., list[Array]]:
    return jax.jit(lambda *flat: _primitive.bind(*flat, operator=operator))


# ---- the primitive ---------------------------------------------------------------------------------------------------


def _make_primitive() -> Any:
    primitive = compat.Primitive("elasticnd")
    primitive.multiple_results = True
    primitive.def_impl(_evaluate)
    primitive.def_abstract_eval(_abstract)
    ad.primitive_jvps[primitive] = _jvp
    ad.primitive_transposes[primitive] = _transpose
    batching.primitive_batchers[primitive] = _map
    mlir.register_lowering(primitive, jax_handlers.lower, platform="cpu")
    mlir.register_lowering(primitive, jax_buffers.lower, platform="cuda")
    mlir.register_lowering(primitive, jax_operations.lower)
    return primitive


_primitive: Any = _make_primitive() if compat.HAS_PRIMITIVES else None


# ---- without a primitive ---------------------------------------------------------------------------------------------


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sample_once(operator: Operator, *flat: Array) -> Array:
    """Sample, with a reverse rule that computes the gradients of image and transform together."""
    return jax_handlers.call(operator, flat)[0]


def _sample_forward(operator: Operator, *flat: Array) -> tuple[Array, tuple[Array, ...]]:
    return jax_handlers.call(operator, flat)[0], flat


def _sample_backward(operator: Operator, flat: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    image_has_gradient = jnp.issubdtype(flat[0].dtype, jnp.inexact)
    if not image_has_gradient:
        return (None, *map(jnp.zeros_like, flat[1:]))
    needed = unflatten(operator, [True] * len(flat))
    return tuple(flatten(operator, rules.vjp(OPS, operator, unflatten(operator, flat), [cotangent], needed)))


_sample_once.defvjp(_sample_forward, _sample_backward)
