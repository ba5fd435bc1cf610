"""Maps composed of other maps: chains of deformations, and inverses, each applied in one resampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from . import _apply, _check
from ._errors import describe, reject_type, reject_value
from ._floating_point import in_default_state
from ._folds import check_number
from ._points import MovedPoints, is_outside
from ._positions import determinant
from ._pytrees import register_with_jax
from ._routes import bridge_of, values_of
from ._spec import Options, Shape
from ._types import Array, Axes, Images, Numbers, NumpyArray, Order

if TYPE_CHECKING:
    from .deformation import Deformation


_Composite = TypeVar("_Composite", bound="CompositeMap")
_TOLERANCE = 1e-10  # voxels, for inverses: each Newton step doubles the digits, so this costs little more


class SpatialMap(ABC):
    """A map of the positions of a frame that can be inverted, and chained with other maps of the frame."""

    __slots__ = ()

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Extent of the frame, in voxels."""

    @property
    def ndim(self) -> int:
        """Number of axes of the frame."""
        return len(self.shape)

    @property
    @abstractmethod
    def batch_shape(self) -> Shape:
        """Shape of the batch axes, which come first in every result."""

    @abstractmethod
    def source_points(self, f: Array) -> Array:
        """Compute where output positions are sampled in the image."""

    @abstractmethod
    def move_points(self, p: Array, tol: float = 1e-6) -> MovedPoints:
        """Move points of the image with its content."""

    @abstractmethod
    def jacobian(self, f: Array | None = None, crop: Sequence[slice] | None = None) -> Array:
        """Compute the Jacobian matrix of the map."""

    def then(self, other: SpatialMap) -> Chain:
        """Return the chain of this map and another one, which is applied to the result of this one.

        The image is resampled once, at ``x(f) = x_self(x_other(f))``.

        Parameters
        ----------
        other : Deformation, Chain or Inverse
            A map of a frame of the same shape, with the same batch axes or none.

        Returns
        -------
        Chain
            The two maps, in this order.

        Raises
        ------
        TypeError, ValueError
            If `other` is not such a map.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> bend = elasticnd.Deformation.random((64, 48), sigma=3, rng=0)
        >>> turn = elasticnd.Deformation(np.zeros((2, 1, 1)), (64, 48), rotate=10)
        >>> chain = bend.then(turn)
        >>> bool(
        ...     np.allclose(
        ...         chain.source_points([30.0, 20.0]),
        ...         bend.source_points(turn.source_points([30.0, 20.0])),
        ...     )
        ... )
        True
        """
        _check_map("other", other)
        if other.shape != self.shape:
            reject_value("other", f"a map of shape {other.shape}", f"one of shape {self.shape}")
        if self.batch_shape and other.batch_shape not in ((), self.batch_shape):
            reject_value("other", f"batch axes {other.batch_shape}", f"{self.batch_shape}, or none")
        return Chain((*_stages(self), *_stages(other)))

    def inverse(self) -> SpatialMap:
        """Return the inverse map, which restores a deformed image. It is exact where the mapping does not fold.

        Nothing is computed until the result is used. Positions are found by `move_points`.

        Returns
        -------
        Inverse
            Its inverse is this map again.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
        >>> there = deformation.source_points([30.0, 20.0])
        >>> bool(np.allclose(deformation.inverse().source_points(there), [30.0, 20.0], atol=1e-5))
        True
        """
        return Inverse(self)


class CompositeMap(SpatialMap):
    """The methods that chains and inverses share, all based on `source_points`."""

    __slots__ = ()

    @in_default_state
    def apply(
        self,
        X: Images,
        order: Order | Sequence[Order] = 3,
        mode: str | Sequence[str] = "constant",
        cval: Numbers = 0.0,
        crop: Sequence[slice] | None = None,
        prefilter: bool = True,
        axis: Axes | None = None,
    ) -> Images:
        """Deform an image, or several in the same way, in one resampling.

        Parameters
        ----------
        X : array, or list or tuple of them
            The image, as for `deform_grid`. Along its deformed axes, it has the extent of the frame.
        order, mode, cval : optional
            See `deform_grid`.
        crop : sequence of slice, optional
            Compute only this window of the frame; the result equals the same slice of the whole output bit for bit.
            Default None: everything.
        prefilter, axis : optional
            See `deform_grid`.

        Returns
        -------
        array, or list or tuple of them
            The deformed images, with the types and dtypes of the inputs.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.apply`.

        Notes
        -----
        The positions of all voxels are computed first, in the precision of the maps' arrays. They take several times
        the memory of the frame in double precision. Where the search of an inverse fails, the voxel is sampled at the
        best position found; `move_points` reports which voxels these are.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
        >>> image = np.add.outer(np.sin(np.arange(64) / 9), np.cos(np.arange(48) / 8))
        >>> again = bend.then(bend.inverse()).apply(image, mode="mirror")
        >>> bool(np.abs(again - image).max() < 1e-5)
        True
        """
        options = Options(order, mode, cval, crop, prefilter, axis, None, None, self.shape)
        return _apply.deform(X, self._displacements(), None, options)

    @in_default_state
    def jacobian(self, f: Array | None = None, crop: Sequence[slice] | None = None) -> Array:
        """Compute the Jacobian matrix of the map, ``J_ij = ∂x_i / ∂f_j``.

        Parameters
        ----------
        f, crop : optional
            See `Deformation.jacobian`.

        Returns
        -------
        array
            The matrices, in the shapes that `Deformation.jacobian` returns.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.jacobian`.

        Examples
        --------
        >>> import elasticnd
        >>> still = elasticnd.Deformation.identity((5, 6))
        >>> still.then(still).jacobian([2.0, 3.0])
        array([[1., 0.],
               [0., 1.]])
        """
        matrices = self._jacobian_at(self._voxels(crop) if f is None else _without_crop(f, crop))
        return matrices if f is not None else self._axes_last(matrices, 2)

    @in_default_state
    def jacobian_determinant(self, f: Array | None = None, crop: Sequence[slice] | None = None) -> Array:
        """Compute the determinant of the Jacobian matrix: the factor by which volumes grow from output to input.

        Parameters
        ----------
        f, crop : optional
            See `Deformation.jacobian_determinant`.

        Returns
        -------
        array
            The determinants, in the shapes that `Deformation.jacobian_determinant` returns.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.jacobian`.

        Examples
        --------
        >>> import elasticnd
        >>> still = elasticnd.Deformation.identity((5, 6))
        >>> still.then(still).jacobian_determinant().shape
        (5, 6)
        """
        matrices = self._jacobian_at(self._voxels(crop) if f is None else _without_crop(f, crop))
        return determinant(bridge_of("f", matrices).algebra(matrices), matrices)

    @in_default_state
    def fit(self, points: int | Sequence[int]) -> tuple[Deformation, Array]:
        """Fit an affine map and a control grid: a single `Deformation` that approximates the map.

        Parameters
        ----------
        points : int or sequence of int
            Number of control points, along every axis or along each. The map is not a spline on a grid, so a residual
            remains, mostly near the border; more points reduce it.

        Returns
        -------
        deformation : Deformation
            The fitted deformation; its displacement is a NumPy array of float64.
        rms : float, or numpy.ndarray of the batch shape
            Root mean square of the lengths of the residual vectors, in voxels.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.fit`.

        Examples
        --------
        >>> import elasticnd
        >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, points=3, rng=0)
        >>> deformation, rms = bend.then(bend).fit(9)
        >>> deformation.grid_shape, rms < 0.1
        ((9, 9), True)
        """
        voxels = np.moveaxis(np.indices(self.shape, np.float64), 0, -1).reshape(-1, self.ndim)
        moved = (
            values_of("stages", self.source_points(self._voxels())).reshape(*self.batch_shape, -1, self.ndim) - voxels
        )
        homogeneous = np.concatenate([voxels, np.ones((len(voxels), 1))], axis=1)
        change = np.linalg.pinv(homogeneous) @ moved  # (B..., n + 1, n), of the inverse map
        left = np.swapaxes(moved - homogeneous @ change, -1, -2).reshape(*self.batch_shape, self.ndim, *self.shape)
        found, rms = self._first().fit(left, points, self.shape)
        change = np.swapaxes(change, -1, -2)
        linear = np.linalg.inv(np.eye(self.ndim) + change[..., :-1])
        affine = np.concatenate([linear, -linear @ change[..., -1:]], axis=-1)
        return type(found)(found.displacement, self.shape, affine=affine), rms

    @abstractmethod
    def _jacobian_at(self, f: Array) -> Array:
        """Compute the Jacobian matrices at positions."""

    @abstractmethod
    def _first(self) -> Deformation:
        """Return one of the deformations that make up the map."""

    def _voxels(self, crop: Sequence[slice] | None = None) -> NumpyArray:
        """Return the positions of all voxels, (1..., M_0, ..., n), with one leading axis for each batch axis."""
        window = _check.normalize_crop(crop, self.shape)
        ranges = [np.arange(part.start, part.stop, dtype=np.float64) for part in window.slices]
        return np.stack(np.meshgrid(*ranges, indexing="ij"), -1)[(np.newaxis,) * len(self.batch_shape)]

    def _displacements(self) -> Array:
        """Compute the displacement of each voxel, (B..., n, N_0, ...): a control grid with one point per voxel.

        Its spline passes through all points, so that it reproduces these displacements up to rounding.
        """
        voxels = self._voxels()
        sources = self.source_points(voxels)
        algebra = bridge_of("f", sources).algebra(sources)
        return self._axes_last(sources - algebra.constant(voxels, sources), 1)

    def _axes_last(self, values: Array, components: int) -> Array:
        """Move the axes of voxels after the axes of components."""
        batch, n = len(self.batch_shape), self.ndim
        order = (*range(batch), *range(batch + n, batch + n + components), *range(batch, batch + n))
        return bridge_of("f", values).algebra(values).reordered(values, order)


@dataclass(frozen=True)
class Chain(CompositeMap):
    """A sequence of deformations, applied in one resampling. `Deformation.then` creates chains.

    The output voxel ``f`` takes the value of the image at ``x(f) = x_0(x_1(... x_k(f)))``.

    Parameters
    ----------
    stages : tuple of Deformation and Inverse
        The maps; the first one is applied to the image first. Also an attribute.

    Raises
    ------
    TypeError, ValueError
        If `stages` is not a tuple, is empty, or contains anything but maps of the same frame.

    See Also
    --------
    Deformation.then : creates chains.

    Notes
    -----
    Chains are immutable. Two chains are equal if all their stages are. In JAX, chains are pytrees.

    Examples
    --------
    >>> import elasticnd
    >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
    >>> len(bend.then(bend).then(bend).stages)
    3
    """

    stages: tuple[SpatialMap, ...]

    def __post_init__(self) -> None:
        """Check the stages."""
        if not isinstance(self.stages, tuple) or not self.stages:
            reject_type("stages", self.stages, "a tuple of at least one map")
        first = self.stages[0]
        for k, stage in enumerate(self.stages):
            _check_map(f"stages[{k}]", stage)
            if stage.shape != first.shape:
                reject_value(f"stages[{k}]", f"a map of shape {stage.shape}", f"one of shape {first.shape}")
        _register_with_jax()

    @property
    def shape(self) -> Shape:
        """Extent of the frame, in voxels."""
        return self.stages[0].shape

    @property
    def batch_shape(self) -> Shape:
        """Shape of the batch axes, which come first in every result."""
        return max((stage.batch_shape for stage in self.stages), key=len)

    @in_default_state
    def source_points(self, f: Array) -> Array:
        """Compute where output positions are sampled in the image, through all stages from the last to the first.

        Parameters
        ----------
        f : array_like
            Positions in the output; see `Deformation.source_points`.

        Returns
        -------
        array
            Positions in the input, in voxels, with the shape of `f`.

        Raises
        ------
        TypeError, ValueError
            If the positions have an invalid type or shape.

        Examples
        --------
        >>> import elasticnd
        >>> still = elasticnd.Deformation.identity((5, 6))
        >>> still.then(still).source_points([2.0, 3.5])
        array([2. , 3.5])
        """
        for stage in reversed(self.stages):
            f = stage.source_points(f)
        return f

    @in_default_state
    def move_points(self, p: Array, tol: float = 1e-6) -> MovedPoints:
        """Move points of the image with its content, through all stages from the first to the last.

        Parameters
        ----------
        p : array_like
            Points of the image; see `Deformation.move_points`.
        tol : float, optional
            The largest residual, in voxels, at which each stage counts a point as found. Default 1e-6.

        Returns
        -------
        MovedPoints
            ``residual`` is the largest of all stages; ``converged`` says whether all stages found the point;
            ``outside`` comes from the last stage; ``folded`` says whether any stage folds there.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.move_points`.

        Examples
        --------
        >>> import elasticnd
        >>> still = elasticnd.Deformation.identity((5, 6))
        >>> still.then(still).move_points([2.0, 3.5]).points
        array([2. , 3.5])
        """
        moved = self.stages[0].move_points(p, tol)
        for stage in self.stages[1:]:
            further = stage.move_points(moved.points, tol)
            larger = moved.residual > further.residual
            algebra = bridge_of("p", further.points).algebra(further.points)
            moved = MovedPoints(
                further.points,
                algebra.where(larger, moved.residual, further.residual),
                moved.converged & further.converged,
                further.outside,
                moved.folded | further.folded,
            )
        return moved

    def inverse(self) -> SpatialMap:
        """Return the inverse map: the inverses of the stages, in reverse order.

        Returns
        -------
        Chain
            Its inverse is this chain again.

        Examples
        --------
        >>> import elasticnd
        >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
        >>> bend.then(bend).inverse().inverse() == bend.then(bend)
        True
        """
        return Chain(tuple(stage.inverse() for stage in reversed(self.stages)))

    def _jacobian_at(self, f: Array) -> Array:
        matrices = None
        for stage in reversed(self.stages):
            own = stage.jacobian(f)
            matrices = own if matrices is None else bridge_of("f", own).algebra(own).product(own, matrices)
            f = stage.source_points(f)
        return matrices

    def _first(self) -> Deformation:
        return _first_of(self.stages[0])


@dataclass(frozen=True)
class Inverse(CompositeMap):
    """The inverse of a deformation, computed by `move_points`. `Deformation.inverse` creates inverses.

    Parameters
    ----------
    base : Deformation
        The map to invert. Also an attribute.

    Raises
    ------
    TypeError
        If `base` is not a map.

    See Also
    --------
    Deformation.inverse : creates inverses.

    Notes
    -----
    Inverses are immutable. Two inverses are equal if their bases are. In JAX, inverses are pytrees.

    Examples
    --------
    >>> import elasticnd
    >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
    >>> bend.inverse().base == bend
    True
    """

    base: SpatialMap

    def __post_init__(self) -> None:
        """Check the base."""
        _check_map("base", self.base)
        _register_with_jax()

    @property
    def shape(self) -> Shape:
        """Extent of the frame, in voxels."""
        return self.base.shape

    @property
    def batch_shape(self) -> Shape:
        """Shape of the batch axes, which come first in every result."""
        return self.base.batch_shape

    def source_points(self, f: Array) -> Array:
        """Compute where output positions are sampled in the image: at the positions to which `base` moves them.

        Parameters
        ----------
        f : array_like
            Positions in the output; see `Deformation.source_points`.

        Returns
        -------
        array
            Positions in the input, in voxels, with the shape of `f`. Where `base` folds, the best positions found.

        Raises
        ------
        TypeError, ValueError
            If the positions have an invalid type or shape.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.identity((5, 6)).inverse().source_points([2.0, 3.5])
        array([2. , 3.5])
        """
        return self._search(f).points

    def _search(self, f: Array) -> MovedPoints:
        """Search for the positions at which output positions are sampled in the image."""
        return self.base.move_points(f, _TOLERANCE)

    def move_points(self, p: Array, tol: float = 1e-6) -> MovedPoints:
        """Move points of the image with its content: exactly, by the `source_points` of `base`.

        Parameters
        ----------
        p : array_like
            Points of the image; see `Deformation.move_points`.
        tol : float, optional
            Has no effect, because nothing is searched for. Default 1e-6.

        Returns
        -------
        MovedPoints
            All points have converged with zero residual. ``outside`` and ``folded`` have their meaning in
            `Deformation.move_points`.

        Raises
        ------
        TypeError, ValueError
            As for `Deformation.move_points`.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.identity((5, 6)).inverse().move_points([2.0, 3.5]).points
        array([2. , 3.5])
        """
        tolerance = check_number("tol", tol, 0, np.inf, "a positive number")
        points = self.base.source_points(p)
        algebra = bridge_of("p", points).algebra(points)
        volumes = determinant(algebra, self.base.jacobian(p))
        residual = 0 * volumes
        outside = is_outside(self.shape, points, points)
        return MovedPoints(points, residual, residual <= tolerance, outside, volumes <= 0)

    def inverse(self) -> SpatialMap:
        """Return the map that this inverse was made from.

        Returns
        -------
        Deformation
            The inverted map.

        Examples
        --------
        >>> import elasticnd
        >>> bend = elasticnd.Deformation.random((64, 48), sigma=2, rng=0)
        >>> bend.inverse().inverse() is bend
        True
        """
        return self.base

    def _jacobian_at(self, f: Array) -> Array:
        matrices = self.base.jacobian(self.source_points(f))
        return bridge_of("f", matrices).algebra(matrices).inverse(matrices)

    def _first(self) -> Deformation:
        return _first_of(self.base)


def _check_map(argument: str, value: object) -> None:
    if not isinstance(value, SpatialMap):
        reject_type(argument, value, "a Deformation, Chain or Inverse")


def _stages(one: SpatialMap) -> tuple[SpatialMap, ...]:
    return one.stages if isinstance(one, Chain) else (one,)


def _first_of(one: SpatialMap) -> Deformation:
    return one._first() if isinstance(one, CompositeMap) else cast("Deformation", one)


def _without_crop(f: Array, crop: Sequence[slice] | None) -> Array:
    if crop is not None:
        reject_value("crop", describe(crop), "None, since positions f are given")
    return f


def _register_with_jax() -> None:
    """Register chains and inverses as pytrees."""
    register_with_jax(Chain, lambda one: (one.stages, None), lambda _, stages: _unchecked(Chain, stages=stages))
    register_with_jax(Inverse, lambda one: ((one.base,), None), lambda _, parts: _unchecked(Inverse, base=parts[0]))


def _unchecked(kind: type[_Composite], **parts: object) -> _Composite:
    """Make a map from placeholders for its parts, while JAX handles a tree."""
    made = object.__new__(kind)
    for name, part in parts.items():
        object.__setattr__(made, name, part)
    return made
