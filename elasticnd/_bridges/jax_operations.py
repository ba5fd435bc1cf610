"""Operators as JAX operations, which JAX differentiates and XLA compiles for any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from .._autodiff.operators import Operands, Operator, TransformArrays, flatten, unflatten
from .._compat import jax as compat
from .._compat.jax import mlir
from .._engines import generic
from . import jax_handlers
from .jax_arrays import Array


def lower(context: compat.LoweringContext, *flat: object, operator: Operator) -> object:
    """Lower to JAX operations, on devices that the core does not support, such as TPUs."""
    return mlir.lower_fun(partial(by_operations, operator), multiple_results=True)(context, *flat)


@jax.default_matmul_precision("highest")
def by_operations(operator: Operator, *flat: Array) -> list[Array]:
    """Apply an operator by JAX operations, which JAX can differentiate."""
    spec = operator.call
    gradient, image, transform, tangents, positions = unflatten(operator, flat)
    if operator.takes_positions:
        return _at_positions(operator, gradient, transform, positions)
    if operator.verb == "displace":
        return [generic.displace(jnp, spec, transform[0])]
    if operator.verb == "displace_adjoint":
        _, adjoint = jax.vjp(partial(generic.displace, jnp, spec), jnp.zeros(spec.displacement_shape, gradient.dtype))
        return list(adjoint(gradient))
    affine = transform[1] if spec.has_affine else None

    def deform(homogeneous: bool, image: Array, points: Array, *tangent: Array) -> Array:
        moved = tangent[0] if tangent else None
        return generic.sample(jnp, spec, image, points, affine, tangent=moved, homogeneous=homogeneous)

    here = (transform[0], *map(jnp.zeros_like, transform[1:]))
    if operator.verb == "sample":
        return [_along(partial(deform, operator.homogeneous, image), tangents)(*here)]
    results: list[Array] = []
    if operator.wants_image:
        blank = jnp.zeros(spec.images[0].shape, gradient.dtype)
        _, adjoint = jax.vjp(lambda image: _along(partial(deform, True, image), tangents)(*here), blank)
        results += adjoint(gradient)
    if operator.wants_transform:
        _, adjoint = jax.vjp(_along(partial(deform, operator.homogeneous, image), tangents), *here)
        results += adjoint(gradient)
    return results


def _at_positions(operator: Operator, gradient: Array, transform: TransformArrays, positions: Array) -> list[Array]:
    """Apply an operator that takes positions, by JAX operations."""
    spec = operator.call
    if operator.verb == "move_points":
        return [generic.move_points(jnp, spec, transform[0], transform[1] if spec.has_affine else None, positions)]
    if operator.verb == "find_extremes":
        return jax_handlers.call(operator, flatten(operator, Operands(transform=transform, positions=positions)))
    if operator.verb == "evaluate":
        return [generic.evaluate(jnp, spec, transform[0], positions, operator.order)]
    evaluation = partial(generic.evaluate, jnp, spec, positions=positions, order=operator.order)
    _, adjoint = jax.vjp(evaluation, jnp.zeros(spec.displacement_shape, gradient.dtype))
    return list(adjoint(gradient))


def _along(function: Callable[..., Array], tangents: Sequence[TransformArrays]) -> Callable[..., Array]:
    """Differentiate a function along tangents."""
    for tangent in tangents:
        function = partial(_along_one, function, tangent)
    return function


def _along_one(function: Callable[..., Array], tangent: TransformArrays, *here: Array) -> Array:
    derivative: Array = jax.jvp(function, here, tangent)[1]
    return derivative
