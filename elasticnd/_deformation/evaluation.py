"""A deformation as a map: its field, derivatives and source positions, and where it moves points and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import _check, _energy, _labels, _points, _voxels
from .._autodiff import calls
from .._bridges import eager
from .._errors import describe, reject_value
from .._floating_point import in_default_state
from .._folds import check_number
from .._points import MovedBoxes, MovedPoints
from .._positions import Positions, determinant
from .._routes import bridge_of
from .._types import Array
from .parts import Parts, bridge_of_small

if TYPE_CHECKING:
    from typing_extensions import Self


class Evaluation(Parts):
    """The methods that evaluate deformations as maps of positions."""

    @in_default_state
    def field(self, crop: Sequence[slice] | None = None) -> Array:
        """Compute the displacement ``d`` of every voxel, without the affine map.

        Parameters
        ----------
        crop : sequence of slice, optional
            Compute only this window. Default None: everything.

        Returns
        -------
        array, shape (B..., n, M_0, ..., M_{n-1})
            The displacements, in voxels.

        Raises
        ------
        TypeError, ValueError
            If `crop` is not a sequence of n slices with step 1.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.random((64, 48), rng=0).field(
        ...     crop=(slice(0, 5), slice(0, 4))
        ... ).shape
        (2, 5, 4)
        """
        bridge = bridge_of("displacement", self._displacement)
        spec = _check.normalize_field(bridge.info(self._displacement), self.shape, crop)
        return calls.field(bridge, spec, self._displacement)

    @in_default_state
    def refined(self) -> Self:
        """Return the same deformation with a control grid of 2p − 1 points along each axis; one point stays one.

        The field is the same everywhere, up to rounding, because the new knots include the old ones. A registration
        refines its grid in this way, from coarse to fine.

        Returns
        -------
        Deformation
            A new deformation with the same frame and affine map.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.random((64, 48), points=4, rng=0).refined()
        Deformation(shape=(64, 48), grid_shape=(7, 7))
        """
        bridge = bridge_of("displacement", self._displacement)
        finer = tuple(2 * count - 1 for count in self.grid_shape)
        spec = _check.normalize_field(bridge.info(self._displacement), finer, None)
        _, constants = self._parts()
        return self._of((calls.field(bridge, spec, self._displacement), self._affine), constants)

    @in_default_state
    def source_points(self, f: Array) -> Array:
        """Compute where output positions are sampled in the image, ``x(f) = T⁻¹(f) + d(f)``: from output to input.

        Parameters
        ----------
        f : array_like of real numbers, shape (..., n), or (B..., ..., n) for batches
            Positions in the output, in voxels; they may lie between voxels. Beyond the frame, the displacement is
            mirrored. Batch axes come first; an extent of 1 stands for all items.

        Returns
        -------
        array, shape (..., n) or (B..., ..., n)
            Positions in the input, in voxels. NaN where a position is NaN or infinite.

        Raises
        ------
        TypeError, ValueError
            If the positions have an invalid type or shape.

        Examples
        --------
        A displacement of one voxel to the right everywhere:

        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation(np.reshape([0.0, 1.0], (2, 1, 1)), (5, 6))
        >>> deformation.source_points([[2.0, 3.5]])
        array([[2. , 4.5]])
        """
        at = self._at(f)
        return at.reshaped(at.mapped(self._inverse_map(at.bridge, at.points)), ())

    @in_default_state
    def jacobian(self, f: Array | None = None, crop: Sequence[slice] | None = None) -> Array:
        """Compute the Jacobian matrix of the map, ``J_ij = ∂x_i / ∂f_j``.

        Parameters
        ----------
        f : array_like of real numbers, shape (..., n), optional
            Positions, as for `source_points`. Default None: all voxels.
        crop : sequence of slice, optional
            Without `f`, only the voxels of this window. Default None: everything.

        Returns
        -------
        array, shape (..., n, n), or (B..., n, n, M_0, ..., M_{n-1}) without `f`
            The matrices, without unit, since both positions are in voxels.

        Raises
        ------
        TypeError, ValueError
            If the positions have an invalid type or shape, or if both `f` and `crop` are given.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.identity((5, 6)).jacobian([2.0, 3.0])
        array([[1., 0.],
               [0., 1.]])
        """
        matrices, at = self._jacobian(f, crop)
        n = self.ndim
        if f is not None:
            return at.reshaped(matrices, (n,))
        batch = len(self.batch_shape)
        ordered = at.bridge.algebra(matrices).reordered(matrices, (*range(batch), batch + 1, batch + 2, batch))
        return at.bridge.algebra(matrices).reshaped(ordered, (*self.batch_shape, n, n, *at.window.shape))

    @in_default_state
    def jacobian_determinant(
        self, f: Array | None = None, crop: Sequence[slice] | None = None, *, relative: bool = False
    ) -> Array:
        """Compute the determinant of the Jacobian matrix: the factor by which volumes grow from output to input.

        Where it is zero or negative, the mapping folds.

        Parameters
        ----------
        f : array_like of real numbers, shape (..., n), optional
            Positions, as for `source_points`. Default None: all voxels.
        crop : sequence of slice, optional
            Without `f`, only the voxels of this window. Default None: everything.
        relative : bool, optional
            Whether to divide by the determinant of the inverse affine map, so that 1 means that the displacement
            changes no volume. Default False.

        Returns
        -------
        array, shape (...), or (B..., M_0, ..., M_{n-1}) without `f`
            The determinants, without unit.

        Raises
        ------
        TypeError, ValueError
            As for `jacobian`.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.identity((5, 6)).jacobian_determinant().shape
        (5, 6)
        >>> float(elasticnd.Deformation.identity((5, 6)).jacobian_determinant([0.0, 0.0]))
        1.0
        """
        if f is None and _voxels.are_together(self._displacement, self.shape, self.grid_shape):
            return self._determinant_of_voxels(crop, relative)
        matrices, at = self._jacobian(f, crop)
        algebra = at.bridge.algebra(matrices)
        volume = determinant(algebra, matrices)
        if relative:
            inverse = self._inverse_map(at.bridge, at.points)
            if inverse is not None:
                volume = volume / determinant(algebra, inverse[..., None, :, :-1])
        if f is not None:
            return algebra.reshaped(volume, (*self.batch_shape, *at.lead))
        return algebra.reshaped(volume, (*self.batch_shape, *at.window.shape))

    @in_default_state
    def bending_energy(self) -> Array:
        """Compute the bending energy: the mean over the frame of the displacement's squared second derivatives.

        Returns
        -------
        number or array of the batch shape
            ``1/V ∫ Σ (∂²d_i / ∂f_j ∂f_k)² df`` over all i, j, k, in 1/voxel². The affine map does not contribute.
            The result is exact, because the displacement is a polynomial in each cell of the control grid. It is
            differentiable with respect to the displacement, and can serve as a penalty in registration.

        Examples
        --------
        Along one axis, between control points displaced by 0 and a: ``12 a² / (N - 1)⁴``.

        >>> import numpy as np
        >>> import elasticnd
        >>> energy = elasticnd.Deformation([[0.0, 2.0]], (11,)).bending_energy()
        >>> bool(np.isclose(energy, 12 * 2.0**2 / 10**4))
        True
        """
        bridge = bridge_of("displacement", self._displacement)
        return _energy.bending_energy(bridge.algebra(self._displacement), self._displacement, self.shape)

    @in_default_state
    def move_points(self, p: Array, tol: float = 1e-6) -> MovedPoints:
        """Move points of the image with its content, from input to output: the inverse of `source_points`.

        Parameters
        ----------
        p : array_like of real numbers, shape (..., n), or (B..., ..., n) for batches
            Points of the image, in voxels. Batch axes come first; an extent of 1 stands for all items.
        tol : float, optional
            The largest residual, in voxels, at which a point counts as found. Default 1e-6.

        Returns
        -------
        MovedPoints
            ``points`` has the shape of `p`; ``residual``, ``converged``, ``outside`` and ``folded`` have shape (...) or
            (B..., ...). Where the search fails, ``converged`` is False and the point is the best position found.

        Raises
        ------
        TypeError, ValueError
            If an argument has an invalid type, value or shape.

        See Also
        --------
        source_points : the map itself.

        Notes
        -----
        Newton's method solves ``x(f) = p``. It starts where the affine map alone would move the point; if that fails,
        it starts from the nearest entries of a table of the map. Where the mapping folds, several positions have the
        same source; one outside folds is preferred. A point whose content is not in the output moves outside the frame,
        where the displacement is mirrored.

        PyTorch, JAX and TensorFlow differentiate the points to second order with respect to `p`, the displacement and
        the affine map, by the implicit function theorem. The other results are constants. Points that did not converge
        have zero gradients.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=3, rng=0, rotate=10)
        >>> landmarks = np.array([[20.0, 30.0], [40.5, 10.0]])
        >>> moved = deformation.move_points(landmarks)
        >>> np.allclose(deformation.source_points(moved.points), landmarks, rtol=0, atol=1e-6)
        True
        >>> moved.converged, moved.outside, moved.folded
        (array([ True,  True]), array([False, False]), array([False, False]))
        """
        at = self._at(p, "p")
        tolerance = check_number("tol", tol, 0, np.inf, "a positive number")
        return _points.move(at, self._inverse_map(at.bridge, at.points), tolerance)

    @in_default_state
    def move_boxes(self, b: Array, tol: float = 1e-6, *, clip: bool = False) -> MovedBoxes:
        """Move boxes of the image with its content, from input to output, and return the boxes around the results.

        Parameters
        ----------
        b : array_like of real numbers, shape (..., 2, n), or (B..., ..., 2, n) for batches
            Lower and upper corners of boxes of the image, in voxels. Corners lie on the edges of voxels: a box around
            one voxel extends from −1/2 to +1/2 around its centre.
        tol : float, optional
            See `move_points`. Default 1e-6.
        clip : bool, optional
            Whether to clip the boxes to the output, from −1/2 to N − 1/2. Default False.

        Returns
        -------
        MovedBoxes
            ``boxes`` has the shape of `b`; ``residual``, ``converged``, ``outside`` and ``folded`` have shape (...) or
            (B..., ...).

        Raises
        ------
        TypeError, ValueError
            If an argument has an invalid type, value or shape.

        See Also
        --------
        move_points : moves points.

        Notes
        -----
        The border of each box (in n dimensions, its faces) is moved at ten points for each control-point spacing, and
        the points that go farthest are refined. Moving the corners alone can be off by several voxels. Gradients flow
        through the points that go farthest.

        Examples
        --------
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation([[[0.0]], [[4.0]]], (64, 48))
        >>> deformation.move_boxes([[10.0, 2.0], [20.0, 12.0]])[0]
        array([[10., -2.],
               [20.,  8.]])
        """
        at = self._at(b, "b")
        tolerance = check_number("tol", tol, 0, np.inf, "a positive number")
        return _points.move_boxes(at, self._inverse_map(at.bridge, at.points), tolerance, clip)

    def _at(self, f: Array, argument: str = "f") -> Positions:
        """Convert positions and displacement to the framework of the positions or, if these are NumPy's, the other."""
        f = _labels.unlabelled(f)
        bridge = bridge_of_small(argument, f)
        if bridge is eager:
            bridge = bridge_of("displacement", self._displacement)
        like = None if isinstance(self._displacement, np.ndarray) else self._displacement
        positions = bridge.small_array(argument, f, like)
        points = bridge.small_array("displacement", self._displacement, positions)
        return Positions.of(self.shape, bridge, points, positions, argument)

    def _at_voxels(self, crop: Sequence[slice] | None) -> Positions:
        bridge = bridge_of("displacement", self._displacement)
        spec = _check.normalize_field(bridge.info(self._displacement), self.shape, crop)
        ranges = [np.arange(part.start, part.stop, dtype=np.float64) for part in spec.window.slices]
        voxels = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(*(1,) * len(spec.batch), -1, self.ndim)
        positions = bridge.small_array("f", voxels, self._displacement)
        positions = bridge.algebra(self._displacement).converted(positions, self._displacement)
        return Positions.of(self.shape, bridge, self._displacement, positions)._replace(window=spec.window)

    def _jacobian(self, f: Array, crop: Sequence[slice] | None) -> tuple[Array, Positions]:
        if f is not None and crop is not None:
            reject_value("crop", describe(crop), "None, since positions f are given")
        at = self._at_voxels(crop) if f is None else self._at(f)
        slopes = at.evaluate(1)
        inverse = self._inverse_map(at.bridge, at.points)
        if inverse is None:
            return slopes + at.bridge.algebra(slopes).constant(np.eye(self.ndim), slopes), at
        algebra = at.bridge.algebra(slopes)
        shape = (*inverse.shape[:-2], 1, self.ndim, self.ndim)
        return slopes + algebra.reshaped(inverse[..., :-1], shape), at

    def _determinant_of_voxels(self, crop: Sequence[slice] | None, relative: bool) -> Array:
        bridge = bridge_of("displacement", self._displacement)
        window = _check.normalize_field(bridge.info(self._displacement), self.shape, crop).window
        displacement = self._displacement
        if isinstance(displacement, np.ndarray):
            displacement = displacement.astype(np.float64, copy=False)
        ops = bridge.algebra(displacement)
        inverse = self._inverse_map(bridge, displacement)
        linear = None if inverse is None else inverse[..., :-1]
        volume = _voxels.determinants(ops, displacement, self.shape, window, linear)
        if not relative or linear is None:
            return volume
        of_linear = determinant(ops, linear)
        batch = (1,) * len(self.batch_shape) if len(of_linear.shape) == 0 else self.batch_shape
        return volume / ops.reshaped(of_linear, (*batch, *(1,) * self.ndim))
