"""A deformation as an object: a map of a frame of voxels that deforms images and moves points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from . import _affine, _apply, _check, _fit, _labels, _random, _spec, _world
from ._deformation.files import Files
from ._deformation.folds import Folds
from ._deformation.parts import bridge_of_small, values_in_double
from ._deformation.pictures import Pictures
from ._errors import describe, reject_value, suggest
from ._floating_point import in_default_state
from ._folds import FoldPolicy, check_number
from ._types import Array, Axes, Images, Numbers, NumpyArray, Order, Rotation, Seed, Zoom


class Deformation(Files, Folds, Pictures):
    """A deformation of a frame, the box of voxels spanned by the deformed axes of an image.

    The output voxel ``f`` takes the value of the image at ``x(f) = T⁻¹(f) + d(f)``, where ``d`` is the cubic B-spline
    through the displacements of the control points and ``T`` is the affine map composed of `zoom`, `rotate` and
    `affine`. This map does not depend on images, border modes or crops; a crop is a window of the frame.

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
            where None stands for the frame's matrix. The frame's matrix is the deformation's own `to_world` or, without
            one, the matrix of the first image. Default None: images have the voxels of the frame.
        output_to_world : array_like of shape (n + 1, n + 1), or sequence of them, optional
            The output's index-to-world matrix, in the same form. Default None: the image's matrix.
        output_shape : sequence of int, or one for each image, optional
            Extent of the output along the deformed axes. Default None: the image's extent.

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


def about_patch(displacement: Array, affine: Array | None, rotate: object, zoom: object) -> Deformation:
    """Return the deformation that `deform_grid` applies: without a frame, and with an affine map about the patch.

    Only its method `apply` works, which also checks the arguments. Nothing is copied.
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


def _in_voxels(lengths: tuple[float, ...], to_world: Array | None, unit: object) -> tuple[float, ...]:
    """Convert a length along each axis to voxels."""
    if unit != "mm":
        reject_value("unit", describe(unit), "'voxels' or 'mm'")
    if to_world is None:
        reject_value("to_world", None, "an index-to-world matrix, since unit is 'mm'")
    spacing = np.linalg.norm(_affine.world_matrix(to_world, len(lengths))[:-1, :-1], axis=0)
    return tuple((np.array(lengths) / spacing).tolist())


def _sample_values(samples: Array) -> NumpyArray:
    """Return the values of displacements or positions given as samples."""
    samples = _labels.unlabelled(samples)
    bridge = bridge_of_small("samples", samples)
    return values_in_double("samples", bridge.small_array("samples", samples, None))
