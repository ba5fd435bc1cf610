"""The operators from which every derivative of the deformation is composed: their operands and result shapes.

Write ``T(g, x; v_1 ... v_r; u)`` for the sum over the output of ``g`` times the derivative, along tangents ``v_1 ...
v_r``, of the spline of the image ``x`` at the positions of the transform ``u``. It is linear in ``g``, in ``x`` and in
each tangent. The operators are the coefficients of ``T`` in its linear slots:

``sample``
    in ``g``: the values of the image, or their derivative along the tangents
``sample_adjoint``
    in ``x``: the gradient of the image; in a further tangent: the gradient of the transform; either or both

Further operators are ``displace``, from a displacement to the field of all voxels, and ``evaluate``, from a
displacement to all derivatives of the field, of one order, at positions. Their transposes are ``displace_adjoint`` and
``evaluate_adjoint``. The searches ``move_points`` and ``find_extremes`` have no derivatives of their own: the
derivatives of the positions that they find are composed of evaluations at these positions.

Transforms and tangents consist of one or two arrays: a displacement, and an affine matrix if there is one. A transform
has the forward matrix; a tangent has a change of the inverse map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from .._spec import DeformSpec, Shape

TransformArrays = tuple[Any, ...]  # (displacement,) or (displacement, affine)

ADJOINT = {"displace": "displace_adjoint", "displace_adjoint": "displace"}
EVALUATION = {
    "evaluate": "evaluate_adjoint",
    "evaluate_adjoint": "evaluate",
}  # with their transposes in the displacement
SEARCHES = (
    "move_points",
    "find_extremes",
)  # without derivatives; `call` is a `MovementSpec`, and the transform has the inverse map


class Operator(NamedTuple):
    """One of the operators, for one image. A complex image is two real components under the same transform."""

    # A specification or, while shapes are unknown, an object that will make one. It also has the properties
    # `has_affine` and `inverse_rotation_zoom_linear`.
    call: Any
    verb: str
    tangents: int = 0
    homogeneous: bool = False  # whether the image is zero beyond its border
    wants_image: bool = False  # whether `sample_adjoint` returns the gradient of the image ...
    wants_transform: bool = False  # ... and the gradients of displacement and inverse map
    order: int = 0  # of the derivatives of an evaluation; its `call` is an `EvaluationSpec`

    @property
    def takes_gradient(self) -> bool:
        """Whether a gradient of the output is an operand."""
        return self.verb in ("sample_adjoint", "displace_adjoint", "evaluate_adjoint")

    @property
    def takes_image(self) -> bool:
        """Whether the image is an operand."""
        return self.verb == "sample" or self.wants_transform

    @property
    def takes_positions(self) -> bool:
        """Whether positions are an operand."""
        return self.verb in EVALUATION or self.verb in SEARCHES

    @property
    def transform_size(self) -> int:
        """The number of arrays of a transform."""
        return 2 if self.call.has_affine else 1

    def with_tangents(self, tangents: int) -> Operator:
        """Return the operator with this many more tangents."""
        return self._replace(tangents=self.tangents + tangents)


class Operands(NamedTuple):
    """The operands of an operator."""

    gradient: Any = None  # with respect to the output
    image: Any = None
    transform: TransformArrays = ()
    tangents: tuple[TransformArrays, ...] = ()
    positions: Any = None  # for an evaluation


def flatten(operator: Operator, operands: Operands) -> list[Any]:
    """Return the operands of the operator, or one object for each, as a flat list."""
    flat = [operands.gradient] if operator.takes_gradient else []
    if operator.takes_image:
        flat.append(operands.image)
    if operator.takes_positions:
        flat.append(operands.positions)
    for arrays in (operands.transform, *operands.tangents):
        flat += arrays
    return flat


def unflatten(operator: Operator, flat: Sequence[Any]) -> Operands:
    """Invert `flatten`."""
    rest = list(flat)
    gradient = rest.pop(0) if operator.takes_gradient else None
    image = rest.pop(0) if operator.takes_image else None
    positions = rest.pop(0) if operator.takes_positions else None
    size = operator.transform_size
    transforms = [tuple(rest[k : k + size]) for k in range(0, len(rest), size)]
    return Operands(gradient, image, transforms[0] if transforms else (), tuple(transforms[1:]), positions)


def result_shapes(operator: Operator, spec: Any) -> list[Shape]:
    """Return the shapes of the results."""
    if operator.takes_positions and operator.verb != "evaluate_adjoint":
        return [spec.found_shape(operator.verb) if operator.verb in SEARCHES else spec.values_shape(operator.order)]
    if operator.verb == "displace":
        return [spec.field_shape]
    if operator.verb in ("displace_adjoint", "evaluate_adjoint"):
        return [spec.displacement_shape]
    (image,) = spec.images
    if operator.verb == "sample":
        return [spec.output_shape(image)]
    shapes = [image.shape] if operator.wants_image else []
    if operator.wants_transform:
        shapes.append(spec.displacement_shape)
        if spec.has_affine:
            shapes.append((*(spec.batch if spec.affine_batched else ()), spec.axes, spec.axes + 1))
    return shapes


def likes(operator: Operator, operands: Operands) -> list[Any]:
    """Return an operand of the same dtype for each result."""
    if operator.verb == "sample_adjoint":
        transform = operands.transform if operator.wants_transform else ()
        return [operands.gradient, *transform] if operator.wants_image else list(transform)
    if operator.verb == "sample":
        return [operands.image]
    if operator.takes_positions:
        return [operands.positions]
    return [*operands.transform] if operator.verb == "displace" else [operands.gradient]


@lru_cache(maxsize=256)
def image_operators(
    spec: DeformSpec, verb: str, wants_image: bool = False, wants_transform: bool = False
) -> tuple[Operator, ...]:
    """Return the operators of one verb for each image of a call."""
    return tuple(
        Operator(spec.only(image), verb, wants_image=wants_image, wants_transform=wants_transform)
        for image in spec.images
    )


# ---- complex images --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def component_specs(spec: DeformSpec) -> tuple[DeformSpec, ...]:
    """Return the specifications of the real and imaginary components of an image, or of a real image."""
    (image,) = spec.images
    return tuple(spec.only(image.real_component(k)) for k in range(2 if image.is_complex else 1))


def apply_by_component(
    apply: Callable[[int, Operands], Sequence[Any]],
    components: Callable[[Any], Sequence[Any]],
    complex_of: Callable[[Any, Any], Any],
    operator: Operator,
    operands: Operands,
) -> list[Any]:
    """Apply an operator of a complex image to its real (0) and its imaginary (1) component.

    `components` splits a complex array into two real ones; `complex_of` combines them.
    """
    gradients = components(operands.gradient) if operator.takes_gradient else (None, None)
    images = components(operands.image) if operator.takes_image else (None, None)
    real, imaginary = (apply(k, operands._replace(gradient=gradients[k], image=images[k])) for k in range(2))
    is_like_image = operator.verb == "sample" or operator.wants_image
    results = [complex_of(real[0], imaginary[0])] if is_like_image else []
    return results + [one + other for one, other in zip(real[len(results) :], imaginary[len(results) :], strict=True)]
