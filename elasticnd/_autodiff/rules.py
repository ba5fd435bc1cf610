"""The chain rule, implemented once for all frameworks.

Derivatives of operators are operators again. The sum of every result times its cotangent consists of terms ``T(g, x;
v_1 ... v_r; u)`` as defined in `operators`. Such a term is linear in everything except the transform ``u``, and its
derivative in ``u`` is the term with one more tangent. Both modes follow from this, to any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .._spec import DeformSpec, Matrix, Shape
from .._types import Array
from .framework import FrameworkOps, LinearAlgebra
from .operators import ADJOINT, EVALUATION, SEARCHES, Operands, Operator, TransformArrays

# ---- reverse mode ----------------------------------------------------------------------------------------------------


class _Term(NamedTuple):
    """``T(gradient, image; tangents; transform)``, and the operator with its `call` and `homogeneous`."""

    operator: Operator
    gradient: Array
    image: Array
    tangents: tuple[TransformArrays, ...]


def vjp(
    ops: FrameworkOps, operator: Operator, operands: Operands, cotangents: Sequence[Array], needed: Operands
) -> Operands:
    """Compute the gradients of the operands from the cotangents of the results.

    A cotangent may be None. The gradient is None for operands that are not `needed`, or on which no result depends.
    """
    if operator.verb in SEARCHES:
        return Operands(transform=(None,) * operator.transform_size)
    if operator.verb in EVALUATION:
        return _evaluation_vjp(ops, operator, operands, cotangents[0], needed)
    if operator.verb in ADJOINT:
        (part,) = ops.apply(*_transposed(operator, cotangents[0]))
        return Operands(transform=(part,)) if operands.transform else Operands(gradient=part)
    terms = _terms(ops, operator, operands, cotangents)
    transform = operands.transform
    needs_transform = any(needed.transform)
    of_image = of_gradient = None
    of_transform: TransformArrays | None = None
    of_tangents: list[TransformArrays | None] = [None] * len(operands.tangents)
    for term in terms:
        is_operand = term.image is operands.image
        wants_image = is_operand and bool(needed.image)
        if wants_image or needs_transform:
            image_part, transform_part = _sample_adjoint(ops, term, transform, wants_image, needs_transform)
            of_image = _sum(of_image, image_part)
            of_transform = _sum_transforms(of_transform, transform_part)
        if needed.gradient:
            sampler = term.operator._replace(verb="sample", wants_image=False, wants_transform=False)
            (part,) = ops.apply(sampler, Operands(None, term.image, transform, term.tangents))
            of_gradient = _sum(of_gradient, part)
        for j, flags in enumerate(needed.tangents):
            if any(flags):
                others = term.tangents[:j] + term.tangents[j + 1 :]
                fewer = term._replace(operator=term.operator.with_tangents(-1), tangents=others)
                of_tangents[j] = _sum_transforms(of_tangents[j], _sample_adjoint(ops, fewer, transform, False, True)[1])
    nothing = (None,) * operator.transform_size
    return Operands(
        of_gradient,
        of_image,
        nothing if of_transform is None else _from_inverse(ops, operator, transform, of_transform),
        tuple(nothing if arrays is None else arrays for arrays in of_tangents),
    )


def _transposed(operator: Operator, cotangent: Array) -> tuple[Operator, Operands]:
    operands = Operands(gradient=cotangent) if operator.verb == "displace" else Operands(transform=(cotangent,))
    return operator._replace(verb=ADJOINT[operator.verb]), operands


def _terms(ops: FrameworkOps, operator: Operator, operands: Operands, cotangents: Sequence[Array]) -> list[_Term]:
    """Return terms whose sum equals the sum of the results times their cotangents."""
    if operator.verb == "sample":
        return [_Term(operator, cotangents[0], operands.image, operands.tangents)]
    rest = list(cotangents)
    terms = []
    of_image = rest.pop(0) if operator.wants_image else None
    if of_image is not None:
        terms.append(_Term(operator._replace(homogeneous=True), operands.gradient, of_image, operands.tangents))
    if any(part is not None for part in rest):
        tangent = _filled(ops, rest, operands.transform)
        terms.append(_Term(operator.with_tangents(1), operands.gradient, operands.image, (*operands.tangents, tangent)))
    return terms


def _sample_adjoint(
    ops: FrameworkOps, term: _Term, transform: TransformArrays, wants_image: bool, wants_transform: bool
) -> tuple[Array, TransformArrays | None]:
    operator = term.operator._replace(verb="sample_adjoint", wants_image=wants_image, wants_transform=wants_transform)
    image = term.image if wants_transform else None
    results = ops.apply(operator, Operands(term.gradient, image, transform, term.tangents))
    return results[0] if wants_image else None, tuple(results[wants_image:]) if wants_transform else None


# ---- forward mode ----------------------------------------------------------------------------------------------------


def jvp(ops: FrameworkOps, operator: Operator, operands: Operands, tangents: Operands) -> list[Array]:
    """Compute the tangents of the results from those of the operands; None stands for zero in both."""
    if operator.verb in SEARCHES:
        return [None]
    if operator.verb in EVALUATION:
        return [_evaluation_jvp(ops, operator, operands, tangents)]
    if operator.verb in ADJOINT:
        return list(ops.apply(operator, tangents))
    total: list[Array] = [None] * _count_results(operator)

    def add(part: Operator, of: Operands) -> None:
        results = ops.apply(part, of)
        offset = len(total) - len(results)  # the gradient of the image does not depend on the image
        for i, result in enumerate(results):
            total[offset + i] = _sum(total[offset + i], result)

    if tangents.gradient is not None:
        add(operator, operands._replace(gradient=tangents.gradient))
    if tangents.image is not None:
        add(operator._replace(homogeneous=True, wants_image=False), operands._replace(image=tangents.image))
    for j, arrays in enumerate(tangents.tangents):
        if any(part is not None for part in arrays):
            changed = list(operands.tangents)
            changed[j] = _filled(ops, arrays, changed[j])
            add(operator, operands._replace(tangents=tuple(changed)))
    if any(part is not None for part in tangents.transform):
        tangent = _to_inverse(ops, operator, operands.transform, tangents.transform)
        add(operator.with_tangents(1), operands._replace(tangents=(*operands.tangents, tangent)))
    return total


def _count_results(operator: Operator) -> int:
    if operator.verb != "sample_adjoint":
        return 1
    return operator.wants_image + operator.wants_transform * operator.transform_size


# ---- evaluations -----------------------------------------------------------------------------------------------------
#
# An evaluation E_r(c, f) of order r is linear in the displacement c, and dE_r / df = E_(r+1).


def _evaluation_vjp(
    ops: FrameworkOps, operator: Operator, operands: Operands, cotangent: Array, needed: Operands
) -> Operands:
    if operator.verb == "evaluate":
        gradient, points = cotangent, operands.transform[0]
        needs_first = any(needed.transform)
    else:
        gradient, points = operands.gradient, cotangent
        needs_first = bool(needed.gradient)
    of_first = of_positions = None
    if needs_first:
        transposed = operator._replace(verb=EVALUATION[operator.verb])
        first = Operands(gradient=cotangent) if operator.verb == "evaluate" else Operands(transform=(cotangent,))
        (of_first,) = ops.apply(transposed, first._replace(positions=operands.positions))
    if needed.positions:
        steeper = operator._replace(verb="evaluate", order=operator.order + 1)
        (slopes,) = ops.apply(steeper, Operands(transform=(points,), positions=operands.positions))
        of_positions = _contracted(ops, gradient, slopes, len(operands.positions.shape) - 1)
    if operator.verb == "evaluate":
        return Operands(transform=(of_first,), positions=of_positions)
    return Operands(gradient=of_first, positions=of_positions)


def _evaluation_jvp(ops: FrameworkOps, operator: Operator, operands: Operands, tangents: Operands) -> Array:
    first = tangents.transform[0] if operator.verb == "evaluate" else tangents.gradient
    total = None
    if first is not None:
        changed = Operands(transform=(first,)) if operator.verb == "evaluate" else Operands(gradient=first)
        (total,) = ops.apply(operator, changed._replace(positions=operands.positions))
    if tangents.positions is not None:
        steeper = operator._replace(order=operator.order + 1)
        if operator.verb == "evaluate":
            (slopes,) = ops.apply(steeper, operands)
            part = ops.summed(slopes * _aligned(ops, tangents.positions, slopes), (len(slopes.shape) - 1,))
        else:
            spread = ops.reshaped(operands.gradient, (*operands.gradient.shape, 1))
            spread = spread * _aligned(ops, tangents.positions, spread)
            (part,) = ops.apply(steeper, operands._replace(gradient=spread))
        total = _sum(total, part)
    return total


def _contracted(ops: FrameworkOps, gradient: Array, slopes: Array, leading: int) -> Array:
    """Multiply by `slopes`, which have one axis more, and sum over all axes except the leading ones and the last."""
    product = ops.reshaped(gradient, (*gradient.shape, 1)) * slopes
    return ops.summed(product, tuple(range(leading, len(slopes.shape) - 1)))


def _aligned(ops: FrameworkOps, tangent: Array, slopes: Array) -> Array:
    """Insert axes into a tangent, (..., axes), so that it broadcasts with `slopes`, (..., more axes, axes)."""
    *lead, axes = tangent.shape
    return ops.reshaped(tangent, (*lead, *(1,) * (len(slopes.shape) - len(tangent.shape)), axes))


def _evaluation_mapped(
    ops: FrameworkOps, operator: Operator, size: int, operands: Operands, mapped: Operands
) -> Sequence[Array]:
    def led(array: Array, is_mapped: bool) -> Array:
        return array if is_mapped else ops.broadcast(array, (size, *array.shape))

    wider = Operands(
        gradient=led(operands.gradient, mapped.gradient) if operator.takes_gradient else None,
        transform=tuple(map(led, operands.transform, mapped.transform)),
        positions=led(operands.positions, mapped.positions),
    )
    return ops.apply(operator._replace(call=operator.call.with_batch_axis(size)), wider)


# ---- the affine matrix and its inverse -------------------------------------------------------------------------------


def _to_inverse(
    ops: FrameworkOps, operator: Operator, transform: TransformArrays, tangents: TransformArrays
) -> TransformArrays:
    """Convert a tangent of the forward map to a tangent of the inverse map, within a transform."""
    filled = _filled(ops, tangents, transform)
    if operator.transform_size == 1 or tangents[1] is None:
        return filled
    return filled[0], inverse_map_jvp(ops, transform[1], _inverse_rotation_zoom_linear(operator), tangents[1])


def _from_inverse(
    ops: FrameworkOps, operator: Operator, transform: TransformArrays, gradients: TransformArrays
) -> TransformArrays:
    """Apply the transpose of `_to_inverse`."""
    if operator.transform_size == 1:
        return gradients
    return gradients[0], inverse_map_vjp(ops, transform[1], _inverse_rotation_zoom_linear(operator), gradients[1])


def _inverse_rotation_zoom_linear(operator: Operator) -> Matrix | None:
    linear: Matrix | None = operator.call.inverse_rotation_zoom_linear
    return linear


def inverse_map_jvp(algebra: LinearAlgebra, matrix: Array, after: Matrix | None, tangent: Array) -> Array:
    """Compute the tangent of the inverse of ``matrix = [M | t]``, which the linear map `after` may follow."""
    inverse, outer = _inverses(algebra, matrix, after)
    linear = algebra.product(tangent[..., :-1], inverse)
    offset = tangent[..., -1:] - algebra.product(linear, matrix[..., -1:])
    return -algebra.product(outer, algebra.joined(linear, offset))


def inverse_map_vjp(algebra: LinearAlgebra, matrix: Array, after: Matrix | None, cotangent: Array) -> Array:
    """Apply the transpose of `inverse_map_jvp` in the tangent."""
    inverse, outer = _inverses(algebra, matrix, after)
    inner = -algebra.product(algebra.transposed(outer), cotangent)
    offset = inner[..., -1:]
    linear = inner[..., :-1] - algebra.product(offset, algebra.transposed(matrix[..., -1:]))
    return algebra.joined(algebra.product(linear, algebra.transposed(inverse)), offset)


def _inverses(algebra: LinearAlgebra, matrix: Array, after: Matrix | None) -> tuple[Array, Array]:
    inverse = algebra.inverse(matrix[..., :-1])
    return inverse, inverse if after is None else algebra.product(algebra.constant(after, matrix), inverse)


# ---- more axes -------------------------------------------------------------------------------------------------------


def apply_mapped(
    ops: FrameworkOps, operator: Operator, size: int, operands: Operands, mapped: Operands
) -> Sequence[Array]:
    """Apply an operator along a leading axis of extent `size` of the `mapped` operands; results have it too."""
    spec: DeformSpec = operator.call
    if operator.verb in ADJOINT:
        return ops.apply(operator._replace(call=spec.with_batch_axis(size)), operands)
    if operator.verb in EVALUATION:
        return _evaluation_mapped(ops, operator, size, operands, mapped)
    moved = any(any(arrays) for arrays in (mapped.transform, *mapped.tangents))
    if not (moved or operator.wants_transform or operator.takes_positions or spec.batch):
        return ops.apply(operator._replace(call=spec.with_channel_axis(size)), operands)

    affines = (arrays[1] for arrays in (mapped.transform, *mapped.tangents) if len(arrays) > 1)
    own_affine = spec.has_affine and (spec.affine_batched or operator.wants_transform or any(affines))
    # The batch axes, if the affine matrix does not have them yet.
    inner = spec.batch if own_affine and not spec.affine_batched else ()

    def led(array: Array, is_mapped: bool, inner: Shape = ()) -> Array:
        item = tuple(array.shape)[1:] if is_mapped else tuple(array.shape)
        lead = (size if is_mapped else 1, *(1 for _ in inner))
        return ops.broadcast(array.reshape((*lead, *item)), (size, *inner, *item))

    def led_transform(transform: TransformArrays, is_mapped: TransformArrays) -> TransformArrays:
        displacement = led(transform[0], is_mapped[0])
        return (displacement, *(led(affine, is_mapped[1], inner) if own_affine else affine for affine in transform[1:]))

    wider = Operands(
        led(operands.gradient, mapped.gradient) if operator.takes_gradient else None,
        led(operands.image, mapped.image) if operator.takes_image else None,
        led_transform(operands.transform, mapped.transform),
        tuple(map(led_transform, operands.tangents, mapped.tangents)),
        led(operands.positions, mapped.positions) if operator.takes_positions else None,
    )
    results = list(ops.apply(operator._replace(call=spec.with_batch_axis(size, own_affine)), wider))
    if inner and operator.wants_transform:
        for axis in range(len(inner), 0, -1):
            results[-1] = results[-1].sum(axis)
    return results


# ---- sums in which None is zero --------------------------------------------------------------------------------------


def _sum(left: Array, right: Array) -> Array:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def _sum_transforms(left: TransformArrays | None, right: TransformArrays | None) -> TransformArrays | None:
    if left is None or right is None:
        return right if left is None else left
    return tuple(map(_sum, left, right))


def _filled(ops: FrameworkOps, arrays: Sequence[Array], like: TransformArrays) -> TransformArrays:
    return tuple(ops.zeros_like(array) if part is None else part for part, array in zip(arrays, like, strict=True))
