"""A deformation as an object: a map of a frame of voxels that deforms images and moves points."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from . import _affine, _apply, _check, _energy, _fit, _labels, _points, _random, _spec, _voxels, _world
from ._autodiff import calls
from ._bridges import eager
from ._bridges.contract import Bridge
from ._chains import SpatialMap
from ._errors import describe, reject_type, reject_value, suggest
from ._files import itk, nifti
from ._files.world import FrameMap
from ._floating_point import in_default_state
from ._folds import ControlGrids, FoldBounds, FoldPolicy, check_number
from ._plot import axes as draw
from ._plot import lattice, svg
from ._points import MovedBoxes, MovedPoints
from ._positions import Positions, determinant
from ._routes import bridge_of, values_of
from ._types import Array, Axes, Images, Numbers, NumpyArray, Order, Rotation, Seed, Zoom

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Drawing

_FORMAT = "elasticnd deformation"
_VERSION = 1

# Frame, rotation, zoom and world matrix.
_Constants: TypeAlias = tuple[_spec.Shape | None, object, object, _spec.Matrix | None]


class Deformation(SpatialMap):
    """A deformation of a frame, the box of voxels spanned by the deformed axes of an image.

    The output voxel ``f`` takes the value of the image at ``x(f) = T⁻¹(f) + d(f)``, where ``d`` is the cubic B-spline
    through the displacements of the control points and ``T`` is the affine map composed of `zoom`, `rotate` and
    `affine`. It does not depend on images, border modes or crops: a crop is a window of the frame.

    Parameters
    ----------
    displacement : array_like of real numbers, shape (n, p_0, ..., p_{n-1}) or (B..., n, p_0, ..., p_{n-1})
        Displacements of the control points, in voxels: component ``i`` is along the ``i``-th deformed axis. With
        leading batch axes, there is one deformation for each batch item. NumPy arrays are copied; arrays of other
        libraries are kept, so that gradients flow through them.
    shape : sequence of int
        Extent of the frame along its n axes, in voxels.
    affine : array_like, shape (n, n + 1), (n + 1, n + 1) or with batch axes before, optional
        Affine map of the frame, mapping the content's source position to its destination, in voxels. Default None.
    rotate : float, mapping, array_like of shape (n, n) or object with ``as_matrix()``, optional
        Rotation of the content about the centre of the frame, in degrees, as for `deform_grid`. Default None.
    zoom : float or sequence of float, optional
        Magnification about the centre of the frame. It is applied before `rotate`, and `affine` after it. Default None.
    to_world : array_like, shape (n + 1, n + 1), optional
        The frame's index-to-world matrix, in mm, as nibabel's ``affine``. It is stored with the deformation and does
        not change how voxels are mapped. Default None.

    Attributes
    ----------
    displacement : array
        Displacements of the control points, in voxels; read-only if it is a NumPy array.
    shape : tuple of int
        Extent of the frame.
    to_world : numpy.ndarray or None
        The index-to-world matrix.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type, value or shape.

    See Also
    --------
    deform_grid : deforms images with a control grid directly, with affine maps about the patch.

    Notes
    -----
    Deformations are immutable. Two of them are equal if they map every position identically: `==` and `hash` compare
    the displacement and the composed affine map in double precision, the shape and the world matrix. In JAX, a
    deformation is a pytree whose leaves are the displacement and the matrix passed as `affine`.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> deformation = elasticnd.Deformation.random((64, 48), sigma=3, rng=0)
    >>> image = np.random.default_rng(1).random((64, 48))
    >>> patch = (slice(10, 30), slice(5, 25))
    >>> bool((deformation.apply(image)[patch] == deformation.apply(image, crop=patch)).all())
    True
    >>> deformation.source_points([[0.0, 0.0], [31.5, 23.5]]).shape
    (2, 2)
    """

    _displacement: Array
    _affine: Array | None
    _frame: _spec.Shape | None  # None: that of any image; the affine map then acts about the computed patch
    _rotate: object  # a matrix, once checked
    _zoom: object  # factors, once checked
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
        bridge = _bridge_of_small("displacement", displacement)
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
        _register_with_jax()

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
    def _of(cls, arrays: tuple[Array, Array | None], constants: _Constants) -> Deformation:
        """Make a deformation from checked parts, or from placeholders for arrays while a program is traced."""
        made = object.__new__(cls)
        frame, rotate, zoom, world = constants
        made._set(*arrays, frame, rotate, zoom)
        object.__setattr__(made, "_world", world)
        _register_with_jax()
        return made

    def _parts(self) -> tuple[tuple[Array, Array | None], _Constants]:
        """Return the arrays and constants from which `_of` makes an equal deformation."""
        return (self._displacement, self._affine), (self._frame, self._rotate, self._zoom, self._world)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a Deformation is immutable; create a new one")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __copy__(self) -> Deformation:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return Deformation._of, self._parts()

    @classmethod
    @suggest(seed="rng=", random_state="rng=")
    @in_default_state
    def random(
        cls,
        shape: Sequence[int],
        sigma: float | Sequence[float] = 25,
        points: int | Sequence[int] = 3,
        *,
        batch_shape: Sequence[int] = (),
        rng: Seed = None,
        affine: Array | None = None,
        rotate: Rotation | None = None,
        zoom: Zoom | None = None,
        to_world: Array | None = None,
        unit: str = "voxels",
        fold: str = "ignore",
        margin: float = 0.05,
    ) -> Deformation:
        """Draw a random deformation, with a control grid as `random_displacement` draws it.

        Parameters
        ----------
        shape : sequence of int
            Extent of the frame along its n axes, in voxels.
        sigma : float or sequence of float, optional
            Standard deviation of the displacements, in the unit `unit`; one for all axes or one for each. Default 25.
        points : int or sequence of int, optional
            Number of control points, along every axis or along each. Default 3.
        batch_shape : sequence of int, optional
            Batch shape of the deformations to draw. Default ``()``: a single deformation.
        rng : None, int, numpy.random.SeedSequence, numpy.random.BitGenerator or numpy.random.Generator, optional
            Source of randomness: a seed, or a generator, which is advanced. Default None: a fresh seed.
        affine, rotate, zoom, to_world
            See `Deformation`.
        unit : {"voxels", "mm"}, optional
            Unit of `sigma`. With "mm", `to_world` gives the size of the voxels. Default "voxels".
        fold : {"ignore", "warn", "raise", "scale"}, optional
            What to do if the mapping of a batch item folds somewhere in the frame: nothing; issue a `FoldWarning` or
            raise a `FoldError` with the bounds; or multiply the displacement by `largest_scale`. All but "ignore" need
            values, and raise an error while a program is traced. Default "ignore".
        margin : float, optional
            With ``fold="scale"``, the smallest volume ratio to keep. Default 0.05.

        Returns
        -------
        Deformation

        Raises
        ------
        TypeError, ValueError
            If an argument has an invalid type or value.
        FoldError
            With ``fold="raise"``, if the mapping folds.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.random(
        ...     (64, 48, 32), sigma=4, points=5, rng=0, rotate={(0, 1): 10}
        ... )
        Deformation(shape=(64, 48, 32), grid_shape=(5, 5, 5), affine map)

        Without folds:

        >>> elasticnd.Deformation.random(
        ...     (64, 48), sigma=20, points=5, rng=0, fold="scale"
        ... ).fold_bounds().lower > 0
        True

        A standard deviation of 3 mm, whatever the size of the voxels:

        >>> import numpy as np
        >>> to_world = np.diag([1.0, 1.0, 2.5, 1.0])
        >>> elasticnd.Deformation.random((64, 48, 32), sigma=3, rng=0, to_world=to_world, unit="mm")
        Deformation(shape=(64, 48, 32), grid_shape=(3, 3, 3), in world)
        """
        extent = _check.normalize_frame(shape)
        counts = _check.normalize_points(points, len(extent))
        scale = _check.normalize_sigma(sigma, len(extent))
        if unit != "voxels":
            scale = _in_voxels(scale, to_world, unit)
        batch = _check.normalize_shape("batch_shape", batch_shape)
        policy = FoldPolicy.of(fold, margin)
        displacement = _random.draw_with_numpy(batch, counts, scale, rng)
        drawn = cls(displacement, extent, affine=affine, rotate=rotate, zoom=zoom, to_world=to_world)
        return drawn._by_policy(policy)

    @classmethod
    def identity(cls, shape: Sequence[int], *, to_world: Array | None = None) -> Deformation:
        """Return the identity, which moves nothing.

        Parameters
        ----------
        shape : sequence of int
            Extent of the frame, in voxels.
        to_world : array_like, shape (n + 1, n + 1), optional
            The frame's index-to-world matrix.

        Returns
        -------
        Deformation

        Raises
        ------
        TypeError, ValueError
            If `shape` is not a sequence of 1 to 8 non-negative integers, or `to_world` is not an invertible matrix of
            shape (n + 1, n + 1). The message names the argument.

        Examples
        --------
        >>> import elasticnd
        >>> elasticnd.Deformation.identity((3, 4)).field().any()
        np.False_
        """
        extent = _check.normalize_frame(shape)
        return cls(np.zeros((len(extent), *(1,) * len(extent))), extent, to_world=to_world)

    @classmethod
    @in_default_state
    def fit(
        cls,
        samples: Array | tuple[Array, Array],
        points: int | Sequence[int],
        shape: Sequence[int],
        smooth: float = 0,
        *,
        to_world: Array | None = None,
    ) -> tuple[Deformation, Array]:
        """Fit a control grid to given displacements by least squares.

        Parameters
        ----------
        samples : array_like, shape (n, N_0, ..., N_{n-1}) or (B..., n, N_0, ..., N_{n-1}), or tuple of two array_like
            The displacement of every voxel, or a tuple ``(positions, displacements)`` of shapes (m, n) and (m, n) or
            (B..., m, n). All are in voxels.
        points : int or sequence of int
            Number of control points, along every axis or along each.
        shape : sequence of int
            Extent of the frame, in voxels.
        smooth : float, optional
            Weight of the bending energy relative to the mean squared residual. Default 0.
        to_world : array_like, shape (n + 1, n + 1), optional
            The frame's index-to-world matrix.

        Returns
        -------
        deformation : Deformation
            The fitted deformation; its displacement is a NumPy array of float64.
        rms : float, or numpy.ndarray of the batch shape
            Root mean square of the lengths of the residual vectors, in voxels.

        Raises
        ------
        TypeError, ValueError
            If an argument has an invalid type or shape, or values that are missing or not finite. Also if, without
            `smooth`, the samples do not determine every control point.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=3, points=4, rng=0)
        >>> again, rms = elasticnd.Deformation.fit(deformation.field(), 4, (64, 48))
        >>> bool(np.allclose(again.displacement, deformation.displacement, atol=1e-10)), rms < 1e-10
        (True, True)
        """
        extent = _check.normalize_frame(shape)
        counts = _check.normalize_points(points, len(extent))
        weight = check_number("smooth", smooth, -np.finfo(float).tiny, np.inf, "a non-negative number")
        if isinstance(samples, tuple):
            positions, displacements = map(_sample_values, samples)
            _fit.check_samples(positions, displacements, len(extent))
            fitted = _fit.fit_samples(positions, displacements, counts, extent, weight)
        else:
            field = _sample_values(samples)
            _fit.check_field(field, extent)
            fitted = _fit.fit_field(field, counts, weight)
        return cls(fitted.displacement, extent, to_world=to_world), fitted.rms if fitted.rms.ndim else fitted.rms.item()

    # ---- attributes --------------------------------------------------------------------------------------------------

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
        """The forward affine map, rotation and zoom included: (n, n + 1), or one for each batch item; else None."""
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

    # ---- images ------------------------------------------------------------------------------------------------------

    def apply(
        self,
        X: Images,
        order: Order | Sequence[Order] = 3,
        mode: str | Sequence[str] = "constant",
        cval: Numbers = 0.0,
        crop: Sequence[slice] | None = None,
        prefilter: bool = True,
        axis: Axes | None = None,
        *,
        to_world: Array | Sequence[Array] | None = None,
        output_to_world: Array | Sequence[Array] | None = None,
        output_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    ) -> Images:
        """Deform an image, or several in the same way, of any resolution, position and orientation.

        Parameters
        ----------
        X : array, or list or tuple of them
            The image, as for `deform_grid`. Along its deformed axes, it has the extent of the frame, or any extent if
            `to_world` is given.
        order, mode, cval : optional
            See `deform_grid`.
        crop : sequence of slice, optional
            Compute only this window of the output; the result equals the same slice of the whole output bit for bit.
            Default None: everything.
        prefilter, axis : optional
            See `deform_grid`.
        to_world : array_like of shape (n + 1, n + 1), or sequence of them, optional
            The image's index-to-world matrix, in mm, as nibabel's ``affine``: one for all images, or one for each,
            where None means that of the frame. The deformation's own `to_world` says where the frame lies; without one,
            the frame has the matrix of the first image. Default None: images have the voxels of the frame.
        output_to_world : array_like of shape (n + 1, n + 1), or sequence of them, optional
            The output's index-to-world matrix, in the same form. Default None: that of the image.
        output_shape : sequence of int, or one for each image, optional
            Extent of the output along the deformed axes. Default None: that of the image.

        Returns
        -------
        array, or list or tuple of them
            The deformed images, with the types and dtypes of the inputs.

        Raises
        ------
        TypeError, ValueError
            As for `deform_grid`; also if an image without `to_world` does not have the shape of the frame, or if a
            matrix or an output shape is invalid.

        Notes
        -----
        With the index-to-world matrices ``F`` of the frame, ``W`` of the image and ``V`` of the output, an output voxel
        ``o`` takes the value of the image at ``P(T⁻¹(Q o) + d(Q o))`` with ``Q = F⁻¹V`` and ``P = W⁻¹F``, in one
        resampling. Beyond the frame, the displacement is mirrored. World matrices are constants: no gradients flow
        through them. An output that is oblique to the frame takes longer, and needs the memory of a displacement field.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=3, rng=0)
        >>> image, labels = np.zeros((64, 48, 3), np.uint8), np.zeros((64, 48), np.int32)
        >>> image, labels = deformation.apply([image, labels], order=[3, 0], axis=[(0, 1), (0, 1)])
        >>> image.shape, labels.dtype
        ((64, 48, 3), dtype('int32'))

        A scan with voxels of 1 mm and its labels with voxels of 2 mm, whose first voxels coincide:

        >>> scan, labels = np.zeros((64, 48)), np.zeros((32, 24), np.uint8)
        >>> to_world = [np.diag([1, 1, 1]), np.diag([2, 2, 1])]
        >>> scan, labels = deformation.apply([scan, labels], order=[3, 0], to_world=to_world)
        >>> scan.shape, labels.shape
        ((64, 48), (32, 24))

        Both on one grid, with voxels of 0.5 mm:

        >>> fine = {"output_to_world": np.diag([0.5, 0.5, 1]), "output_shape": (127, 95)}
        >>> [
        ...     image.shape
        ...     for image in deformation.apply([scan, labels], [3, 0], to_world=to_world, **fine)
        ... ]
        [(127, 95), (127, 95)]
        """
        if to_world is not None or output_to_world is not None or output_shape is not None:
            own = _world.DeformationParts(
                self._displacement, self._affine, self._rotate, self._zoom, self.shape, self._world
            )
            worlds = _world.Worlds(to_world, output_to_world, output_shape)
            return _world.apply(own, X, _spec.Options(order, mode, cval, crop, prefilter, axis), worlds)
        options = _spec.Options(order, mode, cval, crop, prefilter, axis, self._rotate, self._zoom, self._frame)
        return _apply.deform(X, self._displacement, self._affine, options)

    # ---- the map -----------------------------------------------------------------------------------------------------

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
    def source_points(self, f: Array) -> Array:
        """Compute where output positions look in the image, ``x(f) = T⁻¹(f) + d(f)``: from output to input.

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
        """Compute the determinant of the Jacobian matrix, by which the map enlarges volumes from output to input.

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
        if f is None and _voxels.can_multiply(self._displacement, self.shape, self.grid_shape):
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

    @in_default_state
    def bending_energy(self) -> Array:
        """Compute the bending energy: the mean over the frame of the displacement's squared second derivatives.

        Returns
        -------
        number or array of the batch shape
            ``1/V ∫ Σ (∂²d_i / ∂f_j ∂f_k)² df`` over all i, j, k, in 1/voxel². It is exact, as the displacement is a
            polynomial in each cell of the control grid. It is differentiable with respect to the displacement, and so
            serves as a penalty in registration. The affine map does not contribute.

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
        it starts from the nearest entries of a table of the map. Where the mapping folds, several positions look at the
        same point; one outside folds is preferred. A point whose content is not in the output moves outside the frame,
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
        """Convert positions to their own framework, or from NumPy to the framework of the displacement."""
        f = _labels.unlabelled(f)
        bridge = _bridge_of_small(argument, f)
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

    # ---- folds -------------------------------------------------------------------------------------------------------

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
            there is only a lower bound, by a sufficient condition: ``upper`` is infinite and ``converged`` is False.
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
            The smallest volume ratio, ``det J / det L``, that the result and all smaller factors keep. Less than 1.
            Default 0.05.
        tol : float, optional
            How far below the largest factor the result may be, besides being a multiple of 1/1024. Default 0.005.

        Returns
        -------
        float, or numpy.ndarray of the batch shape
            The factor, for `scaled`; 0 where a displacement is not finite.

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
    def scaled(self, s: float | NumpyArray) -> Deformation:
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
        return Deformation._of(
            (self._displacement * algebra.constant(factors.astype(np.float64), self._displacement), self._affine),
            constants,
        )

    @in_default_state
    def refined(self) -> Deformation:
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
        return Deformation._of((calls.field(bridge, spec, self._displacement), self._affine), constants)

    def _by_policy(self, policy: FoldPolicy) -> Deformation:
        """Return the deformation after applying a policy on folds."""
        if policy.fold == "ignore" or 0 in self.shape:
            return self
        if bridge_of("displacement", self._displacement).values(self._displacement) is None:
            reject_value("fold", repr(policy.fold), "'ignore' while a program is traced: displacements have no values")
        factors = policy.factors(self._control_grids())
        return self if np.all(np.asarray(factors) == 1) else self.scaled(factors)

    def _control_grids(self) -> ControlGrids:
        affine = self.affine
        forward = None if affine is None else _values("affine", affine)[..., :-1]
        return ControlGrids(_values("displacement", self._displacement), forward, self.shape)

    # ---- as a value --------------------------------------------------------------------------------------------------

    @property
    def _key(self) -> bytes:
        """The digest that equal deformations share."""
        parts = [np.array(self.shape, np.int64), _values("displacement", self._displacement)]
        affine = self.affine
        parts.append(np.zeros(0) if affine is None else _values("affine", affine))
        parts.append(np.zeros(0) if self._world is None else np.array(self._world) + 0.0)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(repr((part.shape, part.dtype.str)).encode())
            digest.update(part.tobytes())
        return digest.digest()

    def __eq__(self, other: object) -> bool:
        """Compare two deformations in double precision."""
        return self._key == other._key if isinstance(other, Deformation) else NotImplemented

    def __hash__(self) -> int:
        """Hash the deformation."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Describe the deformation."""
        batch = f", batch_shape={self.batch_shape}" if self.batch_shape else ""
        is_affine = self._affine is not None or self._rotate is not None or self._zoom is not None
        return (
            f"Deformation(shape={self.shape}, grid_shape={self.grid_shape}{batch}"
            f"{', affine map' if is_affine else ''}{', in world' if self._world is not None else ''})"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the deformation to an npz file; `load` restores the same bits on any machine.

        Parameters
        ----------
        path : path-like
            File to write; an existing file is overwritten.

        Raises
        ------
        TypeError
            If the deformation has no values because a program is being traced.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), rng=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "deformation.npz")
        ...     deformation.save(path)
        ...     elasticnd.Deformation.load(path) == deformation
        True
        """
        arrays: dict[str, Array] = {"displacement": values_of("displacement", self._displacement)}
        if self._affine is not None:
            arrays["affine"] = values_of("affine", self._affine)
        for name, value in (("rotate", self._rotate), ("zoom", self._zoom), ("to_world", self._world)):
            if value is not None:
                arrays[name] = np.array(value)
        with open(path, "wb") as file:
            np.savez(file, format=_FORMAT, version=_VERSION, shape=np.array(self.shape, np.int64), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Deformation:
        """Load a deformation that `save` wrote, as NumPy arrays.

        Parameters
        ----------
        path : path-like
            File to read. Nothing in it is executed.

        Returns
        -------
        Deformation
            Equal to the one that was saved.

        Raises
        ------
        ValueError
            If the file is not a deformation, is damaged, or has a newer format.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> import os, tempfile
        >>> import elasticnd
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "deformation.npz")
        ...     elasticnd.Deformation.identity((64, 48)).save(path)
        ...     elasticnd.Deformation.load(path)
        Deformation(shape=(64, 48), grid_shape=(1, 1))
        """
        accepted = "an npz file that Deformation.save wrote"
        with open(path, "rb") as file:
            try:
                archive = np.load(file, allow_pickle=False)
                held = {name: archive[name] for name in archive.files}
            except (AttributeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
                raise ValueError(f"path: got {os.fspath(path)!r}, expected {accepted}") from error
        if str(held.pop("format", "")) != _FORMAT or not {"version", "shape", "displacement"} <= held.keys():
            reject_value("path", repr(os.fspath(path)), accepted)
        version = held.pop("version").tolist()
        if version != _VERSION:
            reject_value("path", f"version {version} of the format", f"version {_VERSION}; update elasticnd")
        return cls(held.pop("displacement"), held.pop("shape").tolist(), **held)

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def plot(
        self, ax: Drawing | None = None, *, axes: Sequence[int] = (-2, -1), at: float | Sequence[float] | None = None
    ) -> Drawing:
        """Draw with matplotlib where the lines of the control grid look in the input.

        Colours show how the volume of the content changes, ``1 / r``, where ``r`` is the relative Jacobian determinant.
        Folds are outlined in red. Arrows are the displacements of the control points, including the affine map.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default None: in a new figure, with a colour bar.
        axes : sequence of two int, optional
            The axes of the frame to draw as rows and columns. Default: the last two.
        at : float or sequence of float, optional
            Position of the drawn plane along the other axes, in voxels. The picture projects the map onto this plane.
            Default None: the middle.

        Returns
        -------
        matplotlib.axes.Axes
            The axes drawn in; units are voxels, and rows run downwards.

        Raises
        ------
        TypeError, ValueError
            If the deformation has batch axes, a single axis, displacements that are not finite, or no values because a
            program is being traced; or if an argument has an invalid type or value.
        ImportError
            If matplotlib is not installed: ``pip install 'elasticnd[demo]'``.

        Examples
        --------
        >>> import elasticnd
        >>> ax = elasticnd.Deformation.random((64, 48), sigma=3, points=4, rng=0).plot()
        >>> ax.get_xlabel()
        'axis 1, voxels'
        """
        self._check_single()
        made = self._first_item()
        plane = lattice.plane_of(made.shape, axes, at)
        if not np.all(np.isfinite(made.displacement)):
            reject_value("displacement", "NaN or infinite values", "finite values")
        return draw.plot(made, plane, ax)

    def _repr_html_(self) -> str | None:
        """Return a small picture of the first batch item's grid for notebooks, or None if there is none."""
        try:
            made = self._first_item()
        except TypeError:  # no values while a program is traced
            return None
        picture = svg.picture_of(made)
        return None if picture is None else f"<div>{self!r}<br/>{picture}</div>"

    def _first_item(self) -> Deformation:
        """Return the first batch item, as NumPy arrays."""
        n = self.ndim
        if 0 in self.batch_shape:
            reject_type("batch_shape", self.batch_shape, "at least one batch item")
        displacement = _values("displacement", self._displacement).reshape(-1, n, *self.grid_shape)[0]
        affine = self.affine
        matrix = None if affine is None else _values("affine", affine).reshape(-1, n, n + 1)[0]
        return Deformation(displacement, self.shape, affine=matrix, to_world=self._world)

    def _check_single(self) -> None:
        if self.batch_shape:
            reject_value("batch_shape", self.batch_shape, "one deformation, without batch axes")

    # ---- files of other programs -------------------------------------------------------------------------------------

    def to_itk(self) -> Array:
        """Convert the deformation to an ITK transform, for SimpleITK, ANTs, Slicer and other programs.

        The transform maps world points of the output to those of the input, exactly inside the frame. ITK's B-spline
        ends one cell of the control grid outside the frame; beyond that, only the affine map remains.

        Returns
        -------
        SimpleITK.CompositeTransform
            An affine transform and a B-spline transform of order 3, which is applied first, in LPS coordinates. Use it
            with `SimpleITK.Resample` and `SimpleITK.WriteTransform` (``.tfm``, ``.h5``).

        Raises
        ------
        TypeError, ValueError
            If the deformation has no `to_world` matrix or one with shear, has batch axes, does not have two or three
            axes, or has no values because a program is being traced.
        ImportError
            If SimpleITK is not installed: ``pip install 'elasticnd[medical]'``.

        See Also
        --------
        from_itk : converts in the opposite direction.

        Notes
        -----
        `to_world` is for the axes in the order of the array. SimpleITK lists the axes in reverse order.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> to_world = np.diag([2.0, 2.0, 3.0, 1.0])
        >>> deformation = elasticnd.Deformation.random(
        ...     (64, 48, 32), sigma=3, rng=0, to_world=to_world
        ... )
        >>> transform = deformation.to_itk()
        >>> np.allclose(
        ...     transform.TransformPoint((-40, -50, 60)),
        ...     deformation.source_points((20, 25, 20)) * (-2, -2, 3),
        ... )
        True
        """
        return itk.to_itk(self._frame_map())

    @classmethod
    def from_itk(
        cls, transform: Array, shape: Sequence[int], to_world: Array, fit: bool | int | Sequence[int] = False
    ) -> Deformation:
        """Convert an ITK transform to a deformation of a frame.

        Parameters
        ----------
        transform : SimpleITK.Transform
            An affine or other linear transform, a B-spline transform of order 3, or a composite of a B-spline and
            linear transforms after it, such as `to_itk` returns. The cells of the B-spline must begin and end on the
            first and last voxels of the frame, apart from extra cells around it, and its border coefficients must be
            mirrored.
        shape : sequence of int
            Extent of the frame, in voxels.
        to_world : array_like, shape (n + 1, n + 1)
            The frame's index-to-world matrix, in mm, as nibabel's ``affine``.
        fit : bool, int or sequence of int, optional
            Whether to approximate the transform, whatever it is, by a control grid fitted to where it takes the voxels.
            Numbers give the control points of the grid; True means as many as the B-spline has in the frame. Default
            False: accept only what a control grid can represent exactly.

        Returns
        -------
        Deformation
            A deformation with as many control points as the B-spline has knots in the frame, or as `fit` says. Inside
            the frame, it equals the transform, or approximates it with `fit`.

        Raises
        ------
        TypeError, ValueError
            If the transform is not such a map. Where its border coefficients differ from mirrored ones, the message
            says by how much.
        ImportError
            If SimpleITK is not installed: ``pip install 'elasticnd[medical]'``.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random(
        ...     (64, 48), sigma=3, rng=0, to_world=np.diag([0.5, 0.5, 1])
        ... )
        >>> again = elasticnd.Deformation.from_itk(
        ...     deformation.to_itk(), deformation.shape, deformation.to_world
        ... )
        >>> np.allclose(again.displacement, deformation.displacement, rtol=0, atol=1e-12)
        True
        """
        extent = _check.normalize_frame(shape)
        found = itk.from_itk(transform, extent, _affine.world_matrix(to_world, len(extent)), fit)
        return cls(found.displacement, extent, affine=found.affine, to_world=to_world)

    def to_nifti(self, path: str | os.PathLike[str], kind: str = "nifti") -> None:
        """Write where each voxel of the frame looks, affine map included, to a NIfTI displacement field.

        Parameters
        ----------
        path : path-like
            File to write, ``.nii`` or ``.nii.gz``; an existing file is overwritten.
        kind : {"nifti", "itk", "spm"}, optional
            Meaning of the vectors, in mm: displacements in RAS coordinates, displacements in LPS coordinates as in ITK
            and ANTs, or positions in RAS coordinates as in SPM. Default "nifti": displacements in RAS.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid. Also if the deformation has no `to_world` matrix or, for ITK, one with shear; has
            batch axes; does not have three axes; or has no values because a program is being traced.
        ImportError
            If nibabel is not installed: ``pip install 'elasticnd[medical]'``.
        OSError
            If the file cannot be written.

        See Also
        --------
        to_itk : converts to an exact transform, stored in a few numbers.

        Notes
        -----
        The file holds double-precision vectors of shape (x, y, z, 1, 3) with intent 1007 (vector). Other programs
        interpolate them linearly between voxels.

        Examples
        --------
        >>> import os, tempfile
        >>> import nibabel
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random(
        ...     (12, 10, 8), sigma=1, rng=0, to_world=np.diag([2, 2, 3, 1])
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "field.nii.gz")
        ...     deformation.to_nifti(path, kind="itk")
        ...     nibabel.load(path).shape
        (12, 10, 8, 1, 3)
        """
        frame_map = self._frame_map()
        nifti.write_field(path, kind, frame_map, _values("displacement", self.field()))

    def _frame_map(self) -> FrameMap:
        """Return the numbers that files of other programs hold: of a single item, in the world."""
        self._check_single()
        if self._world is None:
            reject_value("to_world", None, "a deformation whose frame has an index-to-world matrix")
        affine = self.affine
        matrix = np.eye(self.ndim, self.ndim + 1) if affine is None else _values("affine", affine)
        linear = np.linalg.inv(matrix[:, :-1])
        inverse_map = np.concatenate([linear, -linear @ matrix[:, -1:]], axis=1)
        return FrameMap(_values("displacement", self._displacement), inverse_map, self.shape, np.array(self._world))


def about_patch(displacement: Array, affine: Array | None, rotate: object, zoom: object) -> Deformation:
    """Return the deformation behind `deform_grid`, for `apply` only: of any frame, its affine map about the patch.

    Nothing is checked before `apply`, and nothing is copied.
    """
    made = object.__new__(Deformation)
    made._set(displacement, affine, None, rotate, zoom)
    return made


def by_policy(
    displacement: Array,
    frame: Sequence[int],
    policy: FoldPolicy,
    affine: Array | None = None,
    rotate: object = None,
    zoom: object = None,
) -> Array:
    """Apply a policy on folds to a random displacement of a frame."""
    if policy.fold == "ignore":
        return displacement
    drawn = Deformation(displacement, frame, affine=affine, rotate=cast("Any", rotate), zoom=cast("Any", zoom))
    return drawn._by_policy(policy).displacement


_registered = False


def _register_with_jax() -> None:
    """Register deformations as pytrees, once JAX has been imported."""
    global _registered  # noqa: PLW0603 - it is of the process
    tree_util = getattr(sys.modules.get("jax"), "tree_util", None)
    if _registered or tree_util is None:
        return
    _registered = True
    tree_util.register_pytree_node(
        Deformation,
        lambda deformation: deformation._parts(),
        lambda constants, arrays: Deformation._of(arrays, constants),
    )


def _bridge_of_small(argument: str, value: object) -> Bridge:
    """Return the bridge of a small array; that of nested lists is NumPy's."""
    return eager if isinstance(value, (list, tuple)) else bridge_of(argument, value)


def _kept(bridge: Bridge, argument: str, value: object, like: Array) -> Array:
    """Return a small array for a deformation to keep: a read-only copy if it is NumPy's."""
    array = bridge.small_array(argument, value, like)
    if not isinstance(array, np.ndarray):
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _in_voxels(lengths: tuple[float, ...], to_world: Array | None, unit: object) -> tuple[float, ...]:
    """Convert a length along each axis to voxels."""
    if unit != "mm":
        reject_value("unit", describe(unit), "'voxels' or 'mm'")
    if to_world is None:
        reject_value("to_world", None, "an index-to-world matrix, since unit is 'mm'")
    spacing = np.linalg.norm(_affine.world_matrix(to_world, len(lengths))[:-1, :-1], axis=0)
    return tuple((np.array(lengths) / spacing).tolist())


def _check_values(bridge: Bridge, matrix: Array, n: int) -> None:
    if isinstance(matrix, np.ndarray):
        _affine.check_affine_values(matrix, n)


def _as_matrix(matrix: Array) -> _spec.Matrix:
    return tuple(map(tuple, matrix.tolist()))


def _sample_values(samples: Array) -> NumpyArray:
    """Return the values of displacements or positions given as samples."""
    samples = _labels.unlabelled(samples)
    bridge = _bridge_of_small("samples", samples)
    return _values("samples", bridge.small_array("samples", samples, None))


def _values(argument: str, array: Array) -> NumpyArray:
    return np.asarray(values_of(argument, array), np.float64) + 0.0  # minus zero becomes zero
