"""A deformation as an object: a map of a frame of voxels, which is applied to images and evaluated at points."""

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
    """A deformation of a frame: the box of voxels that the deformed axes of an image span.

    The output voxel ``f`` takes the value of the image at ``x(f) = T⁻¹(f) + d(f)``, where ``d`` is the cubic B-spline
    through the displacements of the control points and ``T`` the affine map that `affine`, `rotate` and `zoom` make up.
    It is independent of images, border modes and crops: a crop is a window of the frame.

    Parameters
    ----------
    displacement : array_like of real numbers, shape (n, p_0, ..., p_{n-1}) or (B..., n, p_0, ..., p_{n-1})
        Displacements of the control points, in voxels: component ``i`` is along the ``i``-th deformed axis. With
        leading batch axes, it holds one deformation for each batch item. NumPy arrays are copied; arrays of other
        libraries are kept, so that gradients flow through them.
    shape : sequence of int
        Extent of the frame along its n axes, in voxels.
    affine : array_like, shape (n, n + 1), (n + 1, n + 1) or with batch axes before, optional
        Affine map of the frame, mapping the content's source position to its destination, in voxels. Default None.
    rotate : float, mapping, array_like of shape (n, n) or object with ``as_matrix()``, optional
        Rotation of the content about the centre of the frame, in degrees, as for `deform_grid`. Default None.
    zoom : float or sequence of float, optional
        Magnification about the centre of the frame, done before `rotate`, as `affine` is done after it. Default None.
    to_world : array_like, shape (n + 1, n + 1), optional
        The frame's index-to-world matrix, in mm, as nibabel's ``affine``. It is kept with the deformation and does not
        change it. Default None.

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
        If an argument is of a wrong kind, value or shape.

    See Also
    --------
    deform_grid : applies a control grid to an image directly, with affine maps about the patch.

    Notes
    -----
    Deformations are immutable. They are equal if they map every position alike: `==` and hash compare the displacement
    and the composed affine map in double precision, the shape and the world matrix. For JAX, a deformation is a pytree
    whose leaves are the displacement and the matrix that was given as `affine`.

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
    _frame: _spec.Shape | None  # None: that of any image, and the affine map acts about the patch that is computed
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
        """Make one of checked parts, or of what stands for its arrays while a framework traces a program."""
        made = object.__new__(cls)
        frame, rotate, zoom, world = constants
        made._set(*arrays, frame, rotate, zoom)
        object.__setattr__(made, "_world", world)
        _register_with_jax()
        return made

    def _parts(self) -> tuple[tuple[Array, Array | None], _Constants]:
        """Return arrays and constants, of which `_of` makes an equal deformation."""
        return (self._displacement, self._affine), (self._frame, self._rotate, self._zoom, self._world)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a Deformation cannot be changed; make another one")

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
        """Draw a random deformation, as `random_displacement` draws its control grid.

        Parameters
        ----------
        shape : sequence of int
            Extent of the frame along its n axes, in voxels.
        sigma : float or sequence of float, optional
            Standard deviation of the displacements, in voxels or as `unit` says; one for all axes or one for each.
            Default 25.
        points : int or sequence of int, optional
            Number of control points, along every axis or along each. Default 3.
        batch_shape : sequence of int, optional
            Draw so many deformations. Default ``()``: one.
        rng : None, int, numpy.random.SeedSequence, numpy.random.BitGenerator or numpy.random.Generator, optional
            Source of randomness: a seed, or a generator, which is advanced. Default None: a fresh seed.
        affine, rotate, zoom, to_world
            As for `Deformation`.
        unit : {"voxels", "mm"}, optional
            What `sigma` is in. For "mm", the lengths of the voxels' edges come from `to_world`. Default "voxels".
        fold : {"ignore", "warn", "raise", "scale"}, optional
            What is done if the mapping folds somewhere in the frame, for each batch item: nothing; a `FoldWarning` or a
            `FoldError` with the bounds; or the displacement is multiplied by the `largest_scale`. All but "ignore" need
            values, and raise an error while a program is traced. Default "ignore".
        margin : float, optional
            With ``fold="scale"``, the least ratio of volumes that is left. Default 0.05.

        Returns
        -------
        Deformation

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong kind or value.
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

        By 3 mm, whatever the size of the voxels:

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
        """Return the deformation that moves nothing.

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
            If `shape` is no sequence of 1 to 8 whole numbers that are not negative, or `to_world` no invertible matrix
            of shape (n + 1, n + 1); the message names the argument.

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
        """Fit a control grid to given displacements, in least squares.

        Parameters
        ----------
        samples : array_like, shape (n, N_0, ..., N_{n-1}) or (B..., n, N_0, ..., N_{n-1}), or tuple of two array_like
            The displacement of every voxel, or ``(positions, displacements)`` of shapes (m, n) and (m, n) or
            (B..., m, n). All in voxels.
        points : int or sequence of int
            Number of control points, along every axis or along each.
        shape : sequence of int
            Extent of the frame, in voxels.
        smooth : float, optional
            What a unit of bending energy costs, compared with a unit of the mean squared residual. Default 0: none.
        to_world : array_like, shape (n + 1, n + 1), optional
            The frame's index-to-world matrix.

        Returns
        -------
        deformation : Deformation
            Its displacement is a NumPy array of float64.
        rms : float, or numpy.ndarray of the batch shape
            Root mean square of the lengths of the vectors that are left, in voxels.

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong kind or shape, holds no values or not finite ones; or, without `smooth`, if
            the samples do not determine every control point.

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
        weight = check_number("smooth", smooth, -np.finfo(float).tiny, np.inf, "a number that is not negative")
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
        """Batch axes, which stand in front of every result."""
        return tuple(self._displacement.shape[: -self.ndim - 1])

    @property
    def affine(self) -> Array:
        """The forward affine map, rotation and zoom composed in: (n, n + 1), or one for each batch item; else None."""
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
        """Deform an image, or several in the same way, also of other resolution, position and orientation.

        Parameters
        ----------
        X : array, or list or tuple of them
            The image, as for `deform_grid`; along its deformed axes it has the extent of the frame, or any if
            `to_world` is given.
        order, mode, cval : optional
            As for `deform_grid`.
        crop : sequence of slice, optional
            Compute only this window of the output; the result equals the same slice of the whole output bit for bit.
            Default None: everything.
        prefilter, axis : optional
            As for `deform_grid`.
        to_world : array_like of shape (n + 1, n + 1), or sequence of them, optional
            The image's index-to-world matrix, in mm, as nibabel's ``affine``: one for all images, or one for each, None
            standing for that of the frame. The frame is where the deformation's own `to_world` says; if it has none,
            its matrix is that of the first image. Default None: images have the voxels of the frame.
        output_to_world : array_like of shape (n + 1, n + 1), or sequence of them, optional
            Index-to-world matrix of the output, likewise. Default None: that of the image.
        output_shape : sequence of int, or one for each image, optional
            Extent of the output along the deformed axes. Default None: that of the image.

        Returns
        -------
        array, or list or tuple of them
            The deformed images, with the dtypes of the images.

        Raises
        ------
        TypeError, ValueError
            As for `deform_grid`; if an image without `to_world` does not have the shape of the frame; and if a matrix
            or a shape of the world is of a wrong kind or value.

        Notes
        -----
        With the index-to-world matrices ``F`` of the frame, ``W`` of the image and ``V`` of the output, an output voxel
        ``o`` takes the value of the image at ``P(T⁻¹(Q o) + d(Q o))`` with ``Q = F⁻¹V`` and ``P = W⁻¹F``, in one
        resampling. Beyond the frame, the displacement goes on mirrored. Matrices of the world are constants: no
        gradients flow through them. An output that is oblique to the frame takes longer and the memory of a
        displacement field.

        Examples
        --------
        >>> import numpy as np
        >>> import elasticnd
        >>> deformation = elasticnd.Deformation.random((64, 48), sigma=3, rng=0)
        >>> image, labels = np.zeros((64, 48, 3), np.uint8), np.zeros((64, 48), np.int32)
        >>> image, labels = deformation.apply([image, labels], order=[3, 0], axis=[(0, 1), (0, 1)])
        >>> image.shape, labels.dtype
        ((64, 48, 3), dtype('int32'))

        A scan with voxels of 1 mm and its labels with voxels of 2 mm, of which the first begin at one place:

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
            In voxels.

        Raises
        ------
        TypeError, ValueError
            If `crop` is no sequence of n slices with step 1.

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
            Positions in the output, in voxels, at voxels or between them. Beyond the frame, the displacement goes on
            mirrored. With batch axes, these come first; an extent of 1 stands for all items.

        Returns
        -------
        array, shape (..., n) or (B..., ..., n)
            Positions in the input, in voxels. NaN where a position is NaN or infinite.

        Raises
        ------
        TypeError, ValueError
            If the positions are of a wrong kind or shape.

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
            The matrices; without unit, as both positions are in voxels.

        Raises
        ------
        TypeError, ValueError
            If the positions are of a wrong kind or shape, or both `f` and `crop` are given.

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
        """Compute the determinant of the Jacobian matrix: how much the map enlarges volumes, from output to input.

        Where it is zero or negative, the mapping folds.

        Parameters
        ----------
        f : array_like of real numbers, shape (..., n), optional
            Positions, as for `source_points`. Default None: all voxels.
        crop : sequence of slice, optional
            Without `f`, only the voxels of this window. Default None: everything.
        relative : bool, optional
            Whether to divide by the determinant of the affine map's inverse, so that 1 means no change by the
            displacement. Default False.

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
        """Compute how much the displacement bends: the mean of its squared second derivatives over the frame.

        Returns
        -------
        number or array of the batch shape
            ``1/V ∫ Σ (∂²d_i / ∂f_j ∂f_k)² df`` over all i, j, k, in 1/voxel². It is exact, as the displacement is a
            polynomial in each cell of the control grid; and differentiable with respect to the displacement, as a
            penalty of registration. The affine map does not count.

        Examples
        --------
        Along one axis, between control points that are moved by 0 and a: ``12 a² / (N - 1)⁴``.

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
        """Move points of the image with its content: from input to output, the inverse of `source_points`.

        Parameters
        ----------
        p : array_like of real numbers, shape (..., n), or (B..., ..., n) for batches
            Points of the image, in voxels. With batch axes, these come first; an extent of 1 stands for all items.
        tol : float, optional
            How far from a point, in voxels, the position that is found may look. Default 1e-6.

        Returns
        -------
        MovedPoints
            ``points``, of the shape of `p`, and for each point ``residual``, ``converged``, ``outside`` and ``folded``,
            of shape (...) or (B..., ...). Where nothing was found, the point is the best that was met, and
            ``converged`` is False.

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong kind, value or shape.

        See Also
        --------
        source_points : the map itself.

        Notes
        -----
        Newton's method solves ``x(f) = p``, from where the affine map alone would move the point, and where that fails
        from where a table of the map has its nearest entries. Where the mapping folds, up to all of several answers
        look at a point: one outside of folds is preferred. Points whose content is not in the output have their answer
        outside the frame, where the displacement is mirrored.

        PyTorch, JAX and TensorFlow differentiate the points, by the implicit function theorem, to second order, with
        respect to `p`, the displacement and the affine map; the others of the results are constants. Points that did
        not converge have the gradient 0.

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
        """Move boxes of the image with its content: to the boxes around what they become, from input to output.

        Parameters
        ----------
        b : array_like of real numbers, shape (..., 2, n), or (B..., ..., 2, n) for batches
            Lower and upper corners of boxes of the image, in voxels. They lie on the edges of voxels: a box
            around one voxel extends from −1/2 to +1/2 around its centre.
        tol : float, optional
            As for `move_points`. Default 1e-6.
        clip : bool, optional
            Whether to clip the boxes to the output, from −1/2 to N − 1/2. Default False.

        Returns
        -------
        MovedBoxes
            ``boxes``, of the shape of `b`, and for each box ``residual``, ``converged``, ``outside`` and ``folded``,
            of shape (...) or (B..., ...).

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong kind, value or shape.

        See Also
        --------
        move_points : moves points.

        Notes
        -----
        The border of each box, its faces in n dimensions, is moved at ten points for each distance of control points,
        and those points that go farthest are refined: the corners alone can be off by several voxels. Gradients flow
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
        """Convert positions: to their own framework, or to that of the displacement where they are NumPy's."""
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
        """Bound the least ratio of volumes, ``det J / det L``, everywhere in the frame, not at voxels alone.

        ``L`` is the linear part of the inverse affine map, so that 1 means no change by the displacement. A positive
        lower bound proves that nothing folds.

        Parameters
        ----------
        tol : float, optional
            How far the two bounds may be apart. Default 0.01.
        crop : sequence of slice, optional
            Only this window, between its first and last voxels. Default None: everything.

        Returns
        -------
        FoldBounds
            ``lower``, ``upper`` and ``converged``, numbers or arrays of the batch shape. With more than three axes,
            there is only a lower bound, by a sufficient condition: ``upper`` is infinite and ``converged`` False. All
            is NaN where a displacement is not finite.

        Raises
        ------
        TypeError, ValueError
            If an argument is of a wrong kind or value, or the deformation has no values, as while a program is traced.

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
        """Find by how much the displacement may be multiplied, at most by 1, so that nothing folds.

        Parameters
        ----------
        margin : float, optional
            The least ratio of volumes, ``det J / det L``, that is to be left for the result and for all smaller
            factors. Less than 1. Default 0.05.
        tol : float, optional
            How much less than the largest factor the result may be, besides being a multiple of 1/1024. Default 0.005.

        Returns
        -------
        float, or numpy.ndarray of the batch shape
            For `scaled`; 0 where a displacement is not finite.

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
        """Return the deformation whose displacement is multiplied by a factor; its affine map stays.

        Parameters
        ----------
        s : float, or numpy.ndarray of the batch shape
            The factor, or one for each batch item.

        Returns
        -------
        Deformation
            A new one, of the same frame.

        Raises
        ------
        TypeError, ValueError
            If the factor is of a wrong kind or shape.

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

        The field is that of this deformation everywhere, up to rounding: the new knots include those of its spline. A
        registration refines from coarse to fine.

        Returns
        -------
        Deformation
            A new one, of the same frame and affine map.

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
        """Return what a policy on folds makes of the deformation."""
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
        """What makes two deformations equal."""
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
        """Compare what the deformations are, in double precision."""
        return self._key == other._key if isinstance(other, Deformation) else NotImplemented

    def __hash__(self) -> int:
        """Hash what the deformation is."""
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
        """Save the deformation to an npz file, from which `load` replays the same bits on any machine.

        Parameters
        ----------
        path : path-like
            File to write; an existing one is replaced.

        Raises
        ------
        TypeError
            If the deformation has no values, as while a program is traced.
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
            If the file is not a deformation, is damaged, or is of a later version.
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
        """Draw where the lines of the control grid look in the input, by matplotlib.

        Cells are coloured by how the volume of the content changes, ``1 / r``, where ``r`` is the relative Jacobian
        determinant; folds have a red rim. Arrows are the displacements of control points, affine map included.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw. Default None: in a new figure, with a colour bar.
        axes : sequence of two int, optional
            The axes of the frame that are drawn as rows and columns. Default: the last two.
        at : float or sequence of float, optional
            Where the drawn plane is along the other axes, in voxels; the picture shows what lies in it, projected.
            Default None: in the middle.

        Returns
        -------
        matplotlib.axes.Axes
            In voxels, rows downwards.

        Raises
        ------
        TypeError, ValueError
            If the deformation has batch axes, a single axis or displacements that are not finite; if it has no values,
            as while a program is traced; or if an argument is of a wrong kind or value.
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
        """Return a small picture of the grid for notebooks, of the first batch item; None where there is none."""
        try:
            made = self._first_item()
        except TypeError:  # there are no values, as while a program is traced
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
        """Return the deformation as a transform of ITK, for SimpleITK, ANTs, Slicer and other programs.

        It takes world points of the output to those of the input, exactly where the frame is; ITK's B-spline ends one
        cell of the control grid outside of it, from where on only the affine map is left.

        Returns
        -------
        SimpleITK.CompositeTransform
            Of an affine transform and a B-spline transform of order 3, which is applied first, in LPS coordinates, for
            `SimpleITK.Resample` and `SimpleITK.WriteTransform` (``.tfm``, ``.h5``).

        Raises
        ------
        TypeError, ValueError
            If the deformation has no `to_world` matrix, or one with shear; has batch axes, or neither two nor three
            axes; or has no values, as while a program is traced.
        ImportError
            If SimpleITK is not installed: ``pip install 'elasticnd[medical]'``.

        See Also
        --------
        from_itk : the inverse.

        Notes
        -----
        `to_world` is for the axes in the order that they have in the array. SimpleITK's arrays have theirs in reverse.

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
        """Return the deformation of a frame that a transform of ITK is.

        Parameters
        ----------
        transform : SimpleITK.Transform
            An affine transform or another linear one, a B-spline transform of order 3, or a composite of a B-spline
            and linear transforms after it, as those of `to_itk`. The B-spline's cells begin and end on the first and
            last voxels of the frame, apart from extra cells around it, and its border coefficients are mirrored.
        shape : sequence of int
            Extent of the frame, in voxels.
        to_world : array_like, shape (n + 1, n + 1)
            The frame's index-to-world matrix, in mm, as nibabel's ``affine``.
        fit : bool, int or sequence of int, optional
            Whether to fit a control grid to any transform, by where it takes the voxels, and with how many control
            points; True: as many as its B-spline has in the frame. Default False: only what a control grid can be.

        Returns
        -------
        Deformation
            Of as many control points as the B-spline has knots in the frame. It does in the frame what the transform
            does, or with `fit` about that.

        Raises
        ------
        TypeError, ValueError
            If the transform is no such map; the message tells by how many voxels its coefficients differ.
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
        """Write where each voxel of the frame looks, affine map included, as a displacement field in a NIfTI file.

        Parameters
        ----------
        path : path-like
            File to write, ``.nii`` or ``.nii.gz``; an existing one is replaced.
        kind : {"nifti", "itk", "spm"}, optional
            What the vectors are, in mm: displacements in RAS coordinates, displacements in LPS coordinates as ITK and
            ANTs have them, or positions in RAS coordinates as SPM has them. Default "nifti": displacements in RAS.

        Raises
        ------
        TypeError, ValueError
            If an argument is none of these; if the deformation has no `to_world` matrix, for ITK also one with shear;
            has batch axes or other than three axes; or has no values, as while a program is traced.
        ImportError
            If nibabel is not installed: ``pip install 'elasticnd[medical]'``.
        OSError
            If the file cannot be written.

        See Also
        --------
        to_itk : an exact transform, of a few numbers.

        Notes
        -----
        The file holds vectors in double precision, of shape (x, y, z, 1, 3) with intent 1007 (vector). Between voxels,
        other programs interpolate them linearly.

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
        """Return the deformation in numbers, as files of other programs have it: of one item, in the world."""
        self._check_single()
        if self._world is None:
            reject_value("to_world", None, "a deformation whose frame has an index-to-world matrix")
        affine = self.affine
        matrix = np.eye(self.ndim, self.ndim + 1) if affine is None else _values("affine", affine)
        linear = np.linalg.inv(matrix[:, :-1])
        inverse_map = np.concatenate([linear, -linear @ matrix[:, -1:]], axis=1)
        return FrameMap(_values("displacement", self._displacement), inverse_map, self.shape, np.array(self._world))


def about_patch(displacement: Array, affine: Array | None, rotate: object, zoom: object) -> Deformation:
    """Return a deformation as `deform_grid` has it, for `apply` alone: of any frame, its affine map about the patch.

    Nothing is checked before it is applied, and nothing is copied.
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
    """Return what a policy on folds makes of a random displacement for a frame."""
    if policy.fold == "ignore":
        return displacement
    drawn = Deformation(displacement, frame, affine=affine, rotate=cast("Any", rotate), zoom=cast("Any", zoom))
    return drawn._by_policy(policy).displacement


_registered = False


def _register_with_jax() -> None:
    """Make deformations pytrees, once JAX has been imported."""
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
    """Return the bridge of a small array; nested lists are NumPy's."""
    return eager if isinstance(value, (list, tuple)) else bridge_of(argument, value)


def _kept(bridge: Bridge, argument: str, value: object, like: Array) -> Array:
    """Return a small array as a deformation keeps it: a read-only copy, if it is NumPy's."""
    array = bridge.small_array(argument, value, like)
    if not isinstance(array, np.ndarray):
        return array
    copy = np.array(array, order="C")
    copy.flags.writeable = False
    return copy


def _in_voxels(lengths: tuple[float, ...], to_world: Array | None, unit: object) -> tuple[float, ...]:
    """Convert a length along each axis."""
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
    """Return the values of displacements or positions that are given as samples."""
    samples = _labels.unlabelled(samples)
    bridge = _bridge_of_small("samples", samples)
    return _values("samples", bridge.small_array("samples", samples, None))


def _values(argument: str, array: Array) -> NumpyArray:
    return np.asarray(values_of(argument, array), np.float64) + 0.0  # minus zero is zero
