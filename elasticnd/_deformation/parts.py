"""The arrays, frame and affine map of a deformation, by which it is compared, copied and pickled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from .. import _affine, _check, _labels, _spec
from .._bridges import eager
from .._bridges.contract import Bridge
from .._chains import SpatialMap
from .._errors import reject_type, reject_value
from .._floating_point import in_default_state
from .._pytrees import register_with_jax
from .._routes import bridge_of, values_of
from .._types import Array, NumpyArray, Rotation, Zoom

if TYPE_CHECKING:
    from typing_extensions import Self

# Frame, rotation, zoom and world matrix.
_Constants: TypeAlias = tuple[_spec.Shape | None, object, object, _spec.Matrix | None]


class Parts(SpatialMap):
    """The arrays and constants of a deformation, which never change."""

    _displacement: Array
    _affine: Array | None
    _frame: _spec.Shape | None  # None: every image has its own frame, and the affine map acts about the patch
    _rotate: object  # a matrix, once it is checked
    _zoom: object  # factors, once they are checked
    _world: _spec.Matrix | None = None

    @in_default_state
    def __init__(
        self,
        displacement: Array,
        shape: Sequence[int],
        *,
        affine: Array | None = None,
        rotate: Rotation | None = None,
        zoom: Zoom | None = None,
        to_world: Array | None = None,
    ) -> None:
        extent = _check.normalize_frame(shape)
        displacement, affine = _labels.unlabelled(displacement), _labels.unlabelled(affine)
        bridge = bridge_of_small("displacement", displacement)
        points = _kept(bridge, "displacement", displacement, None)
        matrix = None if affine is None else _kept(bridge, "affine", affine, points)
        spec = _check.normalize_field(bridge.info(points), extent, None)
        if matrix is not None:
            _check.check_affine(bridge.info(matrix), spec.batch, spec.axes)
            _check_values(bridge, matrix, spec.axes)
        rotation = None if rotate is None else _as_matrix(_affine.rotation_matrix(rotate, spec.axes))
        factors = None if zoom is None else tuple(_affine.zoom_factors(zoom, spec.axes).tolist())
        world = None if to_world is None else _as_matrix(_affine.world_matrix(to_world, spec.axes))
        self._set(points, matrix, extent, rotation, factors)
        object.__setattr__(self, "_world", world)
        _register_with_jax(type(self))

    def _set(
        self, displacement: Array, affine: Array | None, frame: _spec.Shape | None, rotate: object, zoom: object
    ) -> None:
        set_once = object.__setattr__
        set_once(self, "_displacement", displacement)
        set_once(self, "_affine", affine)
        set_once(self, "_frame", frame)
        set_once(self, "_rotate", rotate)
        set_once(self, "_zoom", zoom)

    @classmethod
    def _of(cls, arrays: tuple[Array, Array | None], constants: _Constants) -> Self:
        """Make a deformation from checked parts, or from placeholders for arrays while a program is traced."""
        made = object.__new__(cls)
        frame, rotate, zoom, world = constants
        made._set(*arrays, frame, rotate, zoom)
        object.__setattr__(made, "_world", world)
        _register_with_jax(cls)
        return made

    def _parts(self) -> tuple[tuple[Array, Array | None], _Constants]:
        """Return the arrays and constants from which `_of` makes an equal deformation."""
        return (self._displacement, self._affine), (self._frame, self._rotate, self._zoom, self._world)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a Deformation is immutable; create a new one")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return self._of, self._parts()

    @property
    def _key(self) -> bytes:
        """The digest that equal deformations share."""
        parts = [np.array(self.shape, np.int64), values_in_double("displacement", self._displacement)]
        affine = self.affine
        parts.append(np.zeros(0) if affine is None else values_in_double("affine", affine))
        parts.append(np.zeros(0) if self._world is None else np.array(self._world) + 0.0)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(part.tobytes())
        return digest.digest()

    def __eq__(self, other: object) -> bool:
        """Compare two deformations in double precision."""
        return self._key == other._key if isinstance(other, Parts) else NotImplemented

    def __hash__(self) -> int:
        """Hash the deformation."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Describe the deformation."""
        batch = f", batch_shape={self.batch_shape}" if self.batch_shape else ""
        is_affine = self._affine is not None or self._rotate is not None or self._zoom is not None
        return (
            f"{type(self).__name__}(shape={self.shape}, grid_shape={self.grid_shape}{batch}"
            f"{', affine map' if is_affine else ''}{', in world' if self._world is not None else ''})"
        )

    @property
    def displacement(self) -> Array:
        """Displacements of the control points, in voxels."""
        return self._displacement

    @property
    def shape(self) -> _spec.Shape:
        """Extent of the frame, in voxels."""
        return cast("_spec.Shape", self._frame)

    @property
    def ndim(self) -> int:
        """Number of axes of the frame."""
        return len(self.shape)

    @property
    def grid_shape(self) -> _spec.Shape:
        """Number of control points along each axis."""
        return tuple(self._displacement.shape[-self.ndim :])

    @property
    def batch_shape(self) -> _spec.Shape:
        """Shape of the batch axes, which come first in every result."""
        return tuple(self._displacement.shape[: -self.ndim - 1])

    @property
    def affine(self) -> Array:
        """The forward affine map, rotation and zoom included, (n, n + 1), one or one per batch item; or None."""
        centred = _affine.rotation_zoom(self._rotate, self._zoom, self.shape)
        if self._affine is None:
            return centred
        matrix = self._affine[..., : self.ndim, :]
        if centred is None:
            return matrix
        algebra = bridge_of("affine", matrix).algebra(matrix)
        linear, offset = algebra.constant(centred[:, :-1], matrix), algebra.constant(centred[:, -1:], matrix)
        moved = algebra.product(matrix[..., :-1], offset) + matrix[..., -1:]
        return algebra.joined(algebra.product(matrix[..., :-1], linear), moved)

    @property
    def to_world(self) -> Array:
        """The frame's index-to-world matrix, (n + 1, n + 1), or None."""
        return None if self._world is None else np.array(self._world)

    def _inverse_map(self, bridge: Bridge, like: Array) -> Array:
        """Return T⁻¹ as [L | t], (n, n + 1) or one for each batch item; None where it is the identity."""
        centred = _affine.inverse_rotation_zoom(self._rotate, self._zoom, self.shape)
        algebra = bridge.algebra(like)
        if self._affine is None:
            return None if centred is None else algebra.constant(centred, like)
        matrix = algebra.converted(bridge.small_array("affine", self._affine, like), like)[..., : self.ndim, :]
        linear = algebra.inverse(matrix[..., :-1])
        offset = -algebra.product(linear, matrix[..., -1:])
        if centred is not None:
            before = algebra.constant(centred[:, :-1], matrix)
            offset = algebra.product(before, offset) + algebra.constant(centred[:, -1:], matrix)
            linear = algebra.product(before, linear)
        return algebra.joined(linear, offset)

    def _first_item(self) -> Self:
        """Return the first batch item, as NumPy arrays."""
        n = self.ndim
        if 0 in self.batch_shape:
            reject_type("batch_shape", self.batch_shape, "at least one batch item")
        displacement = values_in_double("displacement", self._displacement).reshape(-1, n, *self.grid_shape)[0]
        affine = self.affine
        matrix = None if affine is None else values_in_double("affine", affine).reshape(-1, n, n + 1)[0]
        return type(self)(displacement, self.shape, affine=matrix, to_world=self._world)

    def _check_single(self) -> None:
        if self.batch_shape:
            reject_value("batch_shape", self.batch_shape, "one deformation, without batch axes")


def _register_with_jax(cls: type[Parts]) -> None:
    """Register a class of deformations as pytrees."""
    register_with_jax(
        cls, lambda deformation: deformation._parts(), lambda constants, arrays: cls._of(arrays, constants)
    )


def bridge_of_small(argument: str, value: object) -> Bridge:
    """Return the bridge of a small array; nested lists have NumPy's."""
    return eager if isinstance(value, (list, tuple)) else bridge_of(argument, value)


def values_in_double(argument: str, array: Array) -> NumpyArray:
    """Return the values of an array in double precision."""
    return np.asarray(values_of(argument, array), np.float64) + 0.0  # minus zero becomes zero


def _kept(bridge: Bridge, argument: str, value: object, like: Array) -> Array:
    """Return a small array for a deformation to keep: a read-only copy if it is NumPy's."""
    array = bridge.small_array(argument, value, like)
    if not isinstance(array, np.ndarray):
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _check_values(bridge: Bridge, matrix: Array, n: int) -> None:
    if isinstance(matrix, np.ndarray):
        _affine.check_affine_values(matrix, n)


def _as_matrix(matrix: Array) -> _spec.Matrix:
    return tuple(map(tuple, matrix.tolist()))
