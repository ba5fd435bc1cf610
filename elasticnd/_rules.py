"""The chain rule, for all frameworks: it stands here and nowhere else.

Derivatives of the operators are operators again. Every result, multiplied with its cotangent and summed, is a sum of
terms ``T(g, x; v_1 ... v_r; u)`` as `_operators` describes them; such a term is linear in all but the motion ``u``, and
its derivative in ``u`` is the term with one direction more. From this follow both modes, to any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ._operators import ADJOINT, EVALUATION, Operands, Operator, Pair
from ._spec import DeformSpec, Matrix, Shape
from ._types import Array


class Algebra(Protocol):
    """What the derivative of an inverse needs of a framework; its arrays have ``+``, ``-``, ``@`` and slices."""

    def inverse(self, matrices: Array) -> Array:
        """Invert matrices."""

    def transposed(self, matrices: Array) -> Array:
        """Swap the last two axes."""

    def joined(self, left: Array, right: Array) -> Array:
        """Concatenate along the last axis."""

    def constant(self, values: Array, like: Array) -> Array:
        """Make an array of the kind and dtype of `like`."""


class Calculus(Algebra, Protocol):
    """What the chain rule needs besides."""

    def apply(self, operator: Operator, operands: Operands) -> Sequence[Array]:
        """Apply an operator, differentiably; one result for each that it has."""

    def zeros_like(self, array: Array) -> Array:
        """Make zeros."""

    def broadcast(self, array: Array, shape: Shape) -> Array:
        """Repeat an array along axes of extent 1, or new ones before the others."""

    def reshaped(self, array: Array, shape: Shape) -> Array:
        """Reshape an array."""

    def summed(self, array: Array, axes: Shape) -> Array:
        """Sum over some axes."""


# ---- reverse mode ----------------------------------------------------------------------------------------------------


class _Term(NamedTuple):
    """``T(gradient, image; directions; motion)``, with the operator whose `call` and `linear` describe it."""

    operator: Operator
    gradient: Array
    image: Array
    directions: tuple[Pair, ...]


def vjp(
    calculus: Calculus, operator: Operator, operands: Operands, cotangents: Sequence[Array], needed: Operands
) -> Operands:
    """Pull cotangents of the results back to the operands.

    A cotangent may be None; so is the gradient of an operand that is not `needed` or that no result depends on.
    """
    if operator.verb in EVALUATION:
        return _evaluation_vjp(calculus, operator, operands, cotangents[0], needed)
    if operator.verb in ADJOINT:
        (part,) = calculus.apply(*_transposed(operator, cotangents[0]))
        return Operands(motion=(part,)) if operands.motion else Operands(gradient=part)
    terms = _terms(calculus, operator, operands, cotangents)
    motion = operands.motion
    needs_motion = any(needed.motion)
    of_image = of_gradient = None
    of_motion: Pair | None = None
    of_directions: list[Pair | None] = [None] * len(operands.directions)
    for term in terms:
        is_operand = term.image is operands.image
        wants_image = is_operand and bool(needed.image)
        if wants_image or needs_motion:
            image_part, motion_part = _scatter(calculus, term, motion, wants_image, needs_motion)
            of_image = _sum(of_image, image_part)
            of_motion = _sum_pairs(of_motion, motion_part)
        if needed.gradient:
            sampler = term.operator._replace(verb="sample", wants_image=False, wants_motion=False)
            (part,) = calculus.apply(sampler, Operands(None, term.image, motion, term.directions))
            of_gradient = _sum(of_gradient, part)
        for j, flags in enumerate(needed.directions):
            if any(flags):
                others = term.directions[:j] + term.directions[j + 1 :]
                fewer = term._replace(operator=term.operator.more(-1), directions=others)
                of_directions[j] = _sum_pairs(of_directions[j], _scatter(calculus, fewer, motion, False, True)[1])
    nothing = (None,) * operator.motion_size
    return Operands(
        of_gradient,
        of_image,
        nothing if of_motion is None else _from_inverse(calculus, operator, motion, of_motion),
        tuple(nothing if pair is None else pair for pair in of_directions),
    )


def _transposed(operator: Operator, cotangent: Array) -> tuple[Operator, Operands]:
    operands = Operands(gradient=cotangent) if operator.verb == "displace" else Operands(motion=(cotangent,))
    return operator._replace(verb=ADJOINT[operator.verb]), operands


def _terms(calculus: Calculus, operator: Operator, operands: Operands, cotangents: Sequence[Array]) -> list[_Term]:
    """Give the terms whose sum is that of the results times their cotangents."""
    if operator.verb == "sample":
        return [_Term(operator, cotangents[0], operands.image, operands.directions)]
    rest = list(cotangents)
    terms = []
    of_image = rest.pop(0) if operator.wants_image else None
    if of_image is not None:
        terms.append(_Term(operator._replace(linear=True), operands.gradient, of_image, operands.directions))
    if any(part is not None for part in rest):
        direction = _filled(calculus, rest, operands.motion)
        terms.append(_Term(operator.more(1), operands.gradient, operands.image, (*operands.directions, direction)))
    return terms


def _scatter(
    calculus: Calculus, term: _Term, motion: Pair, wants_image: bool, wants_motion: bool
) -> tuple[Array, Pair | None]:
    operator = term.operator._replace(verb="scatter", wants_image=wants_image, wants_motion=wants_motion)
    image = term.image if wants_motion else None
    results = calculus.apply(operator, Operands(term.gradient, image, motion, term.directions))
    return results[0] if wants_image else None, tuple(results[wants_image:]) if wants_motion else None


# ---- forward mode ----------------------------------------------------------------------------------------------------


def jvp(calculus: Calculus, operator: Operator, operands: Operands, tangents: Operands) -> list[Array]:
    """Push tangents of the operands forward to the results; None stands for zero, in tangents and results."""
    if operator.verb in EVALUATION:
        return [_evaluation_jvp(calculus, operator, operands, tangents)]
    if operator.verb in ADJOINT:
        return list(calculus.apply(operator, tangents))
    total: list[Array] = [None] * _count_results(operator)

    def add(part: Operator, of: Operands) -> None:
        results = calculus.apply(part, of)
        offset = len(total) - len(results)  # the gradient of the image does not depend on the image
        for i, result in enumerate(results):
            total[offset + i] = _sum(total[offset + i], result)

    if tangents.gradient is not None:
        add(operator, operands._replace(gradient=tangents.gradient))
    if tangents.image is not None:
        add(operator._replace(linear=True, wants_image=False), operands._replace(image=tangents.image))
    for j, pair in enumerate(tangents.directions):
        if any(part is not None for part in pair):
            changed = list(operands.directions)
            changed[j] = _filled(calculus, pair, changed[j])
            add(operator, operands._replace(directions=tuple(changed)))
    if any(part is not None for part in tangents.motion):
        direction = _to_inverse(calculus, operator, operands.motion, tangents.motion)
        add(operator.more(1), operands._replace(directions=(*operands.directions, direction)))
    return total


def _count_results(operator: Operator) -> int:
    if operator.verb != "scatter":
        return 1
    return operator.wants_image + operator.wants_motion * operator.motion_size


# ---- evaluations -----------------------------------------------------------------------------------------------------
#
# Of order r, an evaluation E_r(c, f) is linear in the points c, and dE_r / df = E_(r+1).


def _evaluation_vjp(
    calculus: Calculus, operator: Operator, operands: Operands, cotangent: Array, needed: Operands
) -> Operands:
    if operator.verb == "evaluate":
        gradient, points = cotangent, operands.motion[0]
        needs_first = any(needed.motion)
    else:
        gradient, points = operands.gradient, cotangent
        needs_first = bool(needed.gradient)
    of_first = of_positions = None
    if needs_first:
        transposed = operator._replace(verb=EVALUATION[operator.verb])
        first = Operands(gradient=cotangent) if operator.verb == "evaluate" else Operands(motion=(cotangent,))
        (of_first,) = calculus.apply(transposed, first._replace(positions=operands.positions))
    if needed.positions:
        steeper = operator._replace(verb="evaluate", order=operator.order + 1)
        (slopes,) = calculus.apply(steeper, Operands(motion=(points,), positions=operands.positions))
        of_positions = _contracted(calculus, gradient, slopes, len(operands.positions.shape) - 1)
    if operator.verb == "evaluate":
        return Operands(motion=(of_first,), positions=of_positions)
    return Operands(gradient=of_first, positions=of_positions)


def _evaluation_jvp(calculus: Calculus, operator: Operator, operands: Operands, tangents: Operands) -> Array:
    first = tangents.motion[0] if operator.verb == "evaluate" else tangents.gradient
    total = None
    if first is not None:
        changed = Operands(motion=(first,)) if operator.verb == "evaluate" else Operands(gradient=first)
        (total,) = calculus.apply(operator, changed._replace(positions=operands.positions))
    if tangents.positions is not None:
        steeper = operator._replace(order=operator.order + 1)
        if operator.verb == "evaluate":
            (slopes,) = calculus.apply(steeper, operands)
            part = calculus.summed(slopes * _aligned(calculus, tangents.positions, slopes), (len(slopes.shape) - 1,))
        else:
            spread = calculus.reshaped(operands.gradient, (*operands.gradient.shape, 1))
            spread = spread * _aligned(calculus, tangents.positions, spread)
            (part,) = calculus.apply(steeper, operands._replace(gradient=spread))
        total = _sum(total, part)
    return total


def _contracted(calculus: Calculus, gradient: Array, slopes: Array, leading: int) -> Array:
    """Multiply with `slopes`, which have one axis more, and sum over all axes between the leading ones and that one."""
    product = calculus.reshaped(gradient, (*gradient.shape, 1)) * slopes
    return calculus.summed(product, tuple(range(leading, len(slopes.shape) - 1)))


def _aligned(calculus: Calculus, tangent: Array, slopes: Array) -> Array:
    """Put the last axis of a tangent, (..., axes), along the last one of `slopes`, (..., more axes, axes)."""
    *lead, axes = tangent.shape
    return calculus.reshaped(tangent, (*lead, *(1,) * (len(slopes.shape) - len(tangent.shape)), axes))


def _evaluation_mapped(
    calculus: Calculus, operator: Operator, size: int, operands: Operands, mapped: Operands
) -> Sequence[Array]:
    def led(array: Array, is_mapped: bool) -> Array:
        return array if is_mapped else calculus.broadcast(array, (size, *array.shape))

    wider = Operands(
        gradient=led(operands.gradient, mapped.gradient) if operator.takes_gradient else None,
        motion=tuple(map(led, operands.motion, mapped.motion)),
        positions=led(operands.positions, mapped.positions),
    )
    return calculus.apply(operator._replace(call=operator.call.with_batch_axis(size)), wider)


# ---- the affine matrix and its inverse -------------------------------------------------------------------------------


def _to_inverse(calculus: Calculus, operator: Operator, motion: Pair, tangents: Pair) -> Pair:
    """Make a direction of a change of a motion: of the forward map's change one of the inverse map."""
    filled = _filled(calculus, tangents, motion)
    if operator.motion_size == 1 or tangents[1] is None:
        return filled
    return filled[0], inverse_change(calculus, motion[1], _linear_part(operator), tangents[1])


def _from_inverse(calculus: Calculus, operator: Operator, motion: Pair, gradients: Pair) -> Pair:
    """Transpose `_to_inverse`."""
    if operator.motion_size == 1:
        return gradients
    return gradients[0], inverse_change_adjoint(calculus, motion[1], _linear_part(operator), gradients[1])


def _linear_part(operator: Operator) -> Matrix | None:
    fixed: Matrix | None = operator.call.fixed_linear
    return fixed


def inverse_change(algebra: Algebra, matrix: Array, fixed: Matrix | None, change: Array) -> Array:
    """Differentiate the inverse of [M | t], after it the linear map `fixed`, along a change of [M | t]."""
    inverse, outer = _inverses(algebra, matrix, fixed)
    linear = change[..., :-1] @ inverse
    offset = change[..., -1:] - linear @ matrix[..., -1:]
    return -(outer @ algebra.joined(linear, offset))


def inverse_change_adjoint(algebra: Algebra, matrix: Array, fixed: Matrix | None, gradient: Array) -> Array:
    """Transpose `inverse_change`, in the change."""
    inverse, outer = _inverses(algebra, matrix, fixed)
    inner = -(algebra.transposed(outer) @ gradient)
    offset = inner[..., -1:]
    linear = inner[..., :-1] - offset @ algebra.transposed(matrix[..., -1:])
    return algebra.joined(linear @ algebra.transposed(inverse), offset)


def _inverses(algebra: Algebra, matrix: Array, fixed: Matrix | None) -> tuple[Array, Array]:
    inverse = algebra.inverse(matrix[..., :-1])
    return inverse, inverse if fixed is None else algebra.constant(fixed, matrix) @ inverse


# ---- more axes -------------------------------------------------------------------------------------------------------


def apply_mapped(
    calculus: Calculus, operator: Operator, size: int, operands: Operands, mapped: Operands
) -> Sequence[Array]:
    """Apply an operator along the first axis, of `size`, of the operands that are `mapped`; results have it too."""
    spec: DeformSpec = operator.call
    if operator.verb in ADJOINT:
        return calculus.apply(operator._replace(call=spec.with_batch_axis(size)), operands)
    if operator.verb in EVALUATION:
        return _evaluation_mapped(calculus, operator, size, operands, mapped)
    moved = any(any(pair) for pair in (mapped.motion, *mapped.directions))
    if not (moved or operator.wants_motion or spec.batch):
        return calculus.apply(operator._replace(call=spec.with_channel_axis(size)), operands)

    affines = (pair[1] for pair in (mapped.motion, *mapped.directions) if len(pair) > 1)
    own_affine = spec.has_affine and (spec.affine_batched or operator.wants_motion or any(affines))
    # Batch axes that the affine matrix lacked, and gets now.
    inner = spec.batch if own_affine and not spec.affine_batched else ()

    def led(array: Array, is_mapped: bool, inner: Shape = ()) -> Array:
        item = tuple(array.shape)[1:] if is_mapped else tuple(array.shape)
        lead = (size if is_mapped else 1, *(1 for _ in inner))
        return calculus.broadcast(array.reshape((*lead, *item)), (size, *inner, *item))

    def led_pair(pair: Pair, is_mapped: Pair) -> Pair:
        points = led(pair[0], is_mapped[0])
        return (points, *(led(affine, is_mapped[1], inner) if own_affine else affine for affine in pair[1:]))

    wider = Operands(
        led(operands.gradient, mapped.gradient) if operator.takes_gradient else None,
        led(operands.image, mapped.image) if operator.takes_image else None,
        led_pair(operands.motion, mapped.motion),
        tuple(map(led_pair, operands.directions, mapped.directions)),
    )
    results = list(calculus.apply(operator._replace(call=spec.with_batch_axis(size, own_affine)), wider))
    if inner and operator.wants_motion:
        for axis in range(len(inner), 0, -1):
            results[-1] = results[-1].sum(axis)
    return results


# ---- sums in which None is zero --------------------------------------------------------------------------------------


def _sum(left: Array, right: Array) -> Array:
    if left is None or right is None:
        return right if left is None else left
    return left + right


def _sum_pairs(left: Pair | None, right: Pair | None) -> Pair | None:
    if left is None or right is None:
        return right if left is None else left
    return tuple(map(_sum, left, right))


def _filled(calculus: Calculus, pair: Sequence[Array], like: Pair) -> Pair:
    return tuple(calculus.zeros_like(array) if part is None else part for part, array in zip(pair, like, strict=True))
