"""Whether a deformation folds, and by how much its displacement may be scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import _check
from .._errors import describe, reject_type, reject_value
from .._floating_point import in_default_state
from .._folds import ControlGrids, FoldBounds, FoldPolicy, check_number
from .._routes import bridge_of
from .._types import Array, NumpyArray
from .parts import Parts, values_in_double

if TYPE_CHECKING:
    from typing_extensions import Self


class Folds(Parts):
    """The methods that check deformations for folds, and scale them."""

    @in_default_state
    def fold_bounds(self, tol: float = 0.01, crop: Sequence[slice] | None = None) -> FoldBounds:
        """Bound the smallest volume ratio, ``det J / det L``, everywhere in the frame and not only at voxels.

        ``L`` is the linear part of the inverse affine map, so that 1 means that the displacement changes no volume. A
        positive lower bound proves that nothing folds.

        Parameters
        ----------
        tol : float, optional
            The largest accepted difference between the two bounds. Default 0.01.
        crop : sequence of slice, optional
            Consider only this window, from its first to its last voxel. Default None: everything.

        Returns
        -------
        FoldBounds
            ``lower``, ``upper`` and ``converged``, numbers or arrays of the batch shape. With more than three axes,
            there is only a lower bound, from a sufficient condition: ``upper`` is infinite and ``converged`` is False.
            Bounds are NaN where a displacement is not finite.

        Raises
        ------
        TypeError, ValueError
            If an argument has an invalid type or value, or if the deformation has no values because a program is being
            traced.

        Examples
        --------
        >>> import elasticnd
        >>> bounds = elasticnd.Deformation.random((64, 48), sigma=2, rng=0).fold_bounds()
        >>> bounds.lower > 0
        True
        """
        tolerance = check_number("tol", tol, 0, np.inf, "a positive number")
        bridge = bridge_of("displacement", self._displacement)
        window = _check.normalize_field(bridge.info(self._displacement), self.shape, crop).window
        if 0 in window.shape:
            reject_value("crop", describe(crop), "a window that holds voxels")
        return self._control_grids().bounds(tolerance, window)

    @in_default_state
    def largest_scale(self, margin: float = 0.05, tol: float = 0.005) -> Array:
        """Find the largest factor, at most 1, by which the displacement can be multiplied without folds.

        Parameters
        ----------
        margin : float, optional
            The smallest accepted volume ratio, ``det J / det L``, for the result and all smaller factors. Less than 1.
            Default 0.05.
        tol : float, optional
            How far below the largest factor the result may be, before it is rounded down to a multiple of 1/1024.
            Default 0.005.

        Returns
        -------
        float, or numpy.ndarray of the batch shape
            The factor to pass to `scaled`; 0 for batch items with a displacement that is not finite.

        Raises
        ------
        TypeError, ValueError
            As for `fold_bounds`.

        Examples
        --------
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=20, points=4, rng=0)
        >>> scale = deformation.largest_scale()
        >>> scale < 1, deformation.scaled(scale).fold_bounds().lower > 0
        (True, True)
        """
        least = check_number("margin", margin, -np.inf, 1, "a number less than 1")
        tolerance = check_number("tol", tol, 0, np.inf, "a positive number")
        return self._control_grids().largest_scale(least, tolerance)

    @in_default_state
    def scaled(self, s: float | NumpyArray) -> Self:
        """Return the deformation with its displacement multiplied by a factor and its affine map unchanged.

        Parameters
        ----------
        s : float, or numpy.ndarray of the batch shape
            The factor, or one for each batch item.

        Returns
        -------
        Deformation
            A new deformation of the same frame.

        Raises
        ------
        TypeError, ValueError
            If the factor has an invalid type or shape.

        Examples
        --------
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), rng=0)
        >>> bool((deformation.scaled(0.5).field() == deformation.field() / 2).all())
        True
        """
        factors = np.asarray(s)
        if factors.dtype.kind not in "iuf":
            reject_type("s", s, "a real number, or a NumPy array of them")
        if factors.shape not in ((), self.batch_shape):
            reject_value("s", f"shape {factors.shape}", f"one number, or shape {self.batch_shape}")
        algebra = bridge_of("displacement", self._displacement).algebra(self._displacement)
        if factors.ndim:
            factors = factors.reshape(*factors.shape, *(1,) * (self.ndim + 1))
        _, constants = self._parts()
        return self._of(
            (self._displacement * algebra.constant(factors.astype(np.float64), self._displacement), self._affine),
            constants,
        )

    def _by_policy(self, policy: FoldPolicy) -> Self:
        """Return the deformation after applying a policy on folds."""
        if policy.fold == "ignore" or 0 in self.shape:
            return self
        if bridge_of("displacement", self._displacement).values(self._displacement) is None:
            reject_value("fold", repr(policy.fold), "'ignore' while a program is traced: displacements have no values")
        factors = policy.factors(self._control_grids())
        return self if np.all(np.asarray(factors) == 1) else self.scaled(factors)

    def _control_grids(self) -> ControlGrids:
        affine = self.affine
        forward = None if affine is None else values_in_double("affine", affine)[..., :-1]
        return ControlGrids(values_in_double("displacement", self._displacement), forward, self.shape)
