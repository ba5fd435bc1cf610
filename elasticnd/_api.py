"""The public functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import DTypeLike

from . import _apply, _check, _labels, _random, _spec
from ._autodiff import calls
from ._bridges import eager
from ._errors import counted, one_for_each, reject_type, reject_value, suggest
from ._floating_point import in_default_state
from ._folds import FoldPolicy
from ._routes import bridge_of, common_bridge
from ._spec import Options
from ._types import Array, ArrayT, Axes, Floats, Images, Numbers, NumpyArray, Order, Rotation, Seed, Zoom
from .deformation import about_patch, by_policy


class Gradients(NamedTuple):
    """The gradients that `deform_grid_vjp` returns.

    Attributes
    ----------
    image : array, or list or tuple of them
        With respect to the image, or to each image in a list; None where the output has no gradient.
    displacement : array
        With respect to the displacements of the control points.
    affine : array or None
        With respect to the affine matrix; None without one.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> image, displacement = np.ones((8, 6)), np.zeros((2, 3, 3))
    >>> gradients = elasticnd.deform_grid_vjp(image, image, displacement)
    >>> gradients.image.shape, gradients.displacement.shape, gradients.affine
    ((8, 6), (2, 3, 3), None)
    """

    image: Array
    displacement: Array
    affine: Array | None


def deform_grid(
    X: Images,
    displacement: Array,
    order: Order | Sequence[Order] = 3,
    mode: str | Sequence[str] = "constant",
    cval: Numbers = 0.0,
    crop: Sequence[slice] | None = None,
    prefilter: bool = True,
    axis: Axes | None = None,
    affine: Array | None = None,
    rotate: Rotation | None = None,
    zoom: Zoom | None = None,
) -> Images:
    """Deform an image, or several in the same way, with a grid of displacements.

    A cubic B-spline through the displacements of the control points gives every voxel of the output a smooth
    displacement; the image is resampled at the displaced positions with a spline of the given order. With displacement
    ``d``, output voxel ``o`` of the uncropped image takes the value of the image at ``o + d(o)``.

    Parameters
    ----------
    X : array, or list or tuple of them
        The image: a NumPy, CuPy, JAX, dask or xarray array, a PyTorch or TensorFlow tensor, or an array of any library
        that supports DLPack. Its dtype is bool, an integer, float16, bfloat16, float32, float64, complex64 or
        complex128, in any memory layout. Several images must have the same extent along their deformed axes. Images are
        never modified.
    displacement : array_like of real numbers, shape (n, p_0, ..., p_{n-1}) or (B..., n, p_0, ..., p_{n-1})
        Displacements of the control points, in voxels: component ``i`` is along the ``i``-th deformed axis. The first
        and last control points of an axis lie on its first and last voxel. With leading batch axes, which must be
        the leading axes of every image, each batch item is deformed independently. If the shape is ambiguous, the
        interpretation with fewer batch axes is used; pass `axis` to decide.
    order : int, 'labels' or sequence of these, optional
        Order of the spline, 0 to 5; one for all images or one for each. Order 0 copies the nearest voxel and so
        preserves labels exactly. ``'labels'`` is for label images: among the labels around a position, the one with the
        largest sum of order-1 weights wins, so outlines stay smooth and no new label appears. Default 3.
    mode : str or sequence of str, optional
        How the image is extended beyond its border, as in `scipy.ndimage.map_coordinates`: ``'constant'``,
        ``'nearest'``, ``'reflect'`` (also ``'grid-mirror'``), ``'mirror'``, ``'wrap'``, ``'grid-constant'`` or
        ``'grid-wrap'``. Default ``'constant'``.
    cval : number or sequence of numbers, optional
        The value beyond the border in the modes ``'constant'`` and ``'grid-constant'``. At order ``'labels'`` the dtype
        must hold it exactly. Default 0.
    crop : sequence of slice, optional
        Compute only this patch of the output: one slice without a step per deformed axis, as in indexing. The result
        equals the same patch of the whole output bit for bit, unless `rotate`, `zoom` or `affine` are given, which act
        about the patch. Default None: the whole output.
    prefilter : bool, optional
        Whether to compute the spline's coefficients from the image, as orders 2 and above need. If False, the image
        must already consist of coefficients. Default True.
    axis : int, sequence of int, or one such sequence per image, optional
        The axes to deform; negative ones count from the end. All other axes, such as channels, are deformed
        identically. Default None: all except the batch axes. Names of dimensions work too for xarray's labelled arrays.
    affine : array_like, shape (n, n + 1) or (n + 1, n + 1), optional
        Affine map of the output patch, mapping the content's source position to its destination, in patch indices;
        optionally with leading batch axes.
    rotate : float, mapping, array_like of shape (n, n) or object with ``as_matrix()``, optional
        Rotation of the content about the centre of the output patch. A number is an angle in degrees, from the first of
        exactly two deformed axes towards the second. A mapping ``{(k, l): degrees}`` rotates in planes of deformed
        axes, one after the other. A rotation matrix or a `scipy.spatial.transform.Rotation` works too.
    zoom : float or sequence of float, optional
        Magnification about the centre of the output patch; one for all deformed axes or one for each. It is applied
        before `rotate`, and `affine` after it.

    Returns
    -------
    array, or list or tuple of them
        The deformed images, with the types and dtypes of the inputs. Integers are rounded half away from zero and
        saturate. Where a position is NaN, the output is NaN; in the modes with a constant, for integer images and at
        order ``'labels'``, it is `cval`.

    Raises
    ------
    TypeError
        If an argument has an unsupported type or dtype.
    ValueError
        If an argument has an invalid value or shape.
    KeyboardInterrupt
        On Ctrl-C, within a fraction of a second.

    Warns
    -----
    UserWarning
        If an angle looks like radians; or if NumPy arrays are deformed without `axis`, and voxels move across a whole
        axis of at most four voxels, which probably holds channels.

    See Also
    --------
    deform_random_grid : does the same with random displacements.
    deform_grid_gradient, deform_grid_vjp : compute the gradients.
    dense_displacement : computes the displacement of every voxel.

    Notes
    -----
    The deformation follows [1]_ and [2]_; the splines follow [3]_.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
       MICCAI 2015, https://arxiv.org/abs/1505.04597
    .. [2] Ö. Çiçek, A. Abdulkadir, S. S. Lienkamp, T. Brox, O. Ronneberger, "3D U-Net: Learning Dense Volumetric
       Segmentation from Sparse Annotation", MICCAI 2016, https://arxiv.org/abs/1606.06650
    .. [3] M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing", IEEE Transactions on Signal Processing
       41(2), 1993.

    Examples
    --------
    A displacement of one voxel everywhere moves the content by one voxel:

    >>> import numpy as np
    >>> import elasticnd
    >>> image = np.arange(12.0).reshape(3, 4)
    >>> displacement = np.zeros((2, 3, 3))
    >>> displacement[1] = 1
    >>> elasticnd.deform_grid(image, displacement, order=1)
    array([[ 1.,  2.,  3.,  0.],
           [ 5.,  6.,  7.,  0.],
           [ 9., 10., 11.,  0.]])

    An image and its labels, deformed in the same way:

    >>> labels = (image > 5).astype(np.uint8)
    >>> deformed, deformed_labels = elasticnd.deform_grid(
    ...     [image, labels], displacement, order=[3, 0]
    ... )
    >>> deformed_labels
    array([[0, 0, 0, 0],
           [0, 1, 1, 0],
           [1, 1, 1, 0]], dtype=uint8)
    """
    if axis is None and isinstance(X, np.ndarray) and X.ndim > 2 and isinstance(displacement, np.ndarray):
        _check.warn_of_channels(X.shape, displacement)
    deformation = about_patch(displacement, affine, rotate, zoom)
    return deformation.apply(X, order, mode, cval, crop, prefilter, axis)


@suggest(seed="rng=", random_state="rng=", axes="axis=")
@in_default_state
def deform_random_grid(
    X: Images,
    sigma: float | Sequence[float] = 25,
    points: int | Sequence[int] = 3,
    order: Order | Sequence[Order] = 3,
    mode: str | Sequence[str] = "constant",
    cval: Numbers = 0.0,
    crop: Sequence[slice] | None = None,
    prefilter: bool = True,
    axis: Axes | None = None,
    affine: Array | None = None,
    rotate: Rotation | None = None,
    zoom: Zoom | None = None,
    *,
    rng: Seed = None,
    batch_dims: int = 0,
    fold: str = "ignore",
    margin: float = 0.05,
) -> Images:
    """Deform an image, or several in the same way, with a grid of random displacements.

    `random_displacement` draws the displacements of the control points from a normal distribution. Several images share
    one deformation.

    Parameters
    ----------
    X : array, or list or tuple of them
        The image, or several with the same extent along their deformed axes, as for `deform_grid`.
    sigma : float or sequence of float, optional
        Standard deviation of the displacements, in voxels; one for all deformed axes or one for each. Default 25.
    points : int or sequence of int, optional
        Number of control points, along every deformed axis or along each. Default 3.
    order, mode, cval, crop, prefilter, axis, affine, rotate, zoom
        See `deform_grid`.
    rng : None, int, numpy.random.SeedSequence, numpy.random.BitGenerator or numpy.random.Generator, optional
        Source of randomness: a seed, or a generator, which is advanced. For a framework's arrays, its own generators
        and keys are accepted too. Default None: a fresh seed, or the framework's global generator.
    batch_dims : int, optional
        Number of leading batch axes of the images. Batch items are deformed independently. Default 0.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if the mapping of a batch item folds; see `Deformation.random`. Default "ignore".
    margin : float, optional
        With ``fold="scale"``, the smallest volume ratio to keep. Default 0.05.

    Returns
    -------
    array, or list or tuple of them
        The deformed images, with the types and dtypes of the inputs.

    Raises
    ------
    TypeError, ValueError
        As for `deform_grid`.
    FoldError
        With ``fold="raise"``, if the mapping folds.

    See Also
    --------
    deform_grid : does the same with given displacements; describes the arguments.
    random_displacement : draws the displacements only.

    Notes
    -----
    Without `axis`, all axes except the batch axes are deformed, including channels and axes of length 1. Along an axis
    that is short compared with `sigma`, most voxels are sampled outside the image: an image of shape ``(1, H, W)``
    becomes `cval` nearly everywhere. Pass ``axis=(1, 2)``, or a `sigma` of 0 for that axis, such as ``(0, 25, 25)``.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> image = np.random.default_rng(0).random((64, 48))
    >>> deformed = elasticnd.deform_random_grid(image, sigma=4, points=3, rng=1)
    >>> same = elasticnd.deform_grid(
    ...     image, elasticnd.random_displacement(3, sigma=4, ndim=2, rng=1)
    ... )
    >>> bool((deformed == same).all())
    True

    A batch of RGB images, deformed independently:

    >>> images = np.zeros((8, 64, 48, 3), np.uint8)
    >>> elasticnd.deform_random_grid(images, sigma=4, axis=(1, 2), batch_dims=1, rng=1).shape
    (8, 64, 48, 3)
    """
    given, images = _apply.with_and_without_labels("X", X)
    bridge = _apply.image_bridge("X", images, X)
    axis = _labels.axis_numbers(given, axis)
    batch, extent = _check.normalize_random(bridge.info(images[0]), axis, batch_dims, len(images))
    counts = _check.normalize_points(points, len(extent))
    scale = _check.normalize_sigma(sigma, len(extent))
    policy = FoldPolicy.of(fold, margin)
    if policy.fold == "ignore":
        _check.warn_of_folds(scale, extent, counts)
    displacement = _random.draw(bridge, batch, counts, scale, images[0], rng)
    displacement = by_policy(displacement, extent, policy, affine, rotate, zoom)
    if axis is None:  # the batch axes are known here; the shape of the grid may be ambiguous
        axis = [tuple(range(len(batch), len(bridge.info(image).shape))) for image in images]
    deformation = about_patch(displacement, affine, rotate, zoom)
    return deformation.apply(X, order, mode, cval, crop, prefilter, axis)


@suggest(seed="rng=", random_state="rng=", shape="points= and ndim=")
@in_default_state
def random_displacement(
    points: int | Sequence[int] = 3,
    sigma: float | Sequence[float] = 25,
    *,
    ndim: int | None = None,
    batch_shape: Sequence[int] = (),
    rng: Seed = None,
) -> Floats:
    """Draw the displacements of a control grid from a normal distribution.

    Parameters
    ----------
    points : int or sequence of int, optional
        Number of control points along each deformed axis. A single number requires `ndim`. Default 3.
    sigma : float or sequence of float, optional
        Standard deviation, in voxels; one for all deformed axes or one for each. Default 25.
    ndim : int, optional
        Number of deformed axes. Required if `points` is a single number.
    batch_shape : sequence of int, optional
        Batch shape of the grids to draw. Default ``()``: a single grid.
    rng : None, int, numpy.random.SeedSequence, numpy.random.BitGenerator or numpy.random.Generator, optional
        Source of randomness: a seed, or a generator, which is advanced. Default None: a fresh seed.

    Returns
    -------
    numpy.ndarray of float64, shape (*batch_shape, ndim, *points)
        The displacements of the control points, in voxels.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.random_displacement(3, sigma=5, ndim=2, rng=0).shape
    (2, 3, 3)
    >>> elasticnd.random_displacement((4, 5, 6), sigma=(1, 5, 5), batch_shape=(8,), rng=0).shape
    (8, 3, 4, 5, 6)
    """
    counts = _check.normalize_points(points, ndim)
    scale = _check.normalize_sigma(sigma, len(counts))
    batch = _check.normalize_shape("batch_shape", batch_shape)
    return _random.draw_with_numpy(batch, counts, scale, rng)


@overload
def dense_displacement(
    displacement: NumpyArray | list[Array] | tuple[Array, ...],
    shape: Sequence[int],
    *,
    crop: Sequence[slice] | None = None,
) -> Floats: ...


@overload
def dense_displacement(
    displacement: ArrayT, shape: Sequence[int], *, crop: Sequence[slice] | None = None
) -> ArrayT: ...


@in_default_state
def dense_displacement(displacement: Array, shape: Sequence[int], *, crop: Sequence[slice] | None = None) -> Array:
    """Evaluate the displacement at every voxel.

    This is the field that `deform_grid` uses, without affine map, rotation and zoom: the cubic B-spline through the
    control points. Use it to visualise a deformation. It maps output to input, so points do not move with it; see
    `Deformation` for points and folds.

    Parameters
    ----------
    displacement : array_like of real numbers, shape (n, p_0, ..., p_{n-1}) or (B..., n, p_0, ..., p_{n-1})
        Displacements of the control points, in voxels.
    shape : sequence of int
        Extent of the image along its n deformed axes.
    crop : sequence of slice, optional
        Evaluate only this patch. Default None: everything.

    Returns
    -------
    array, shape (B..., n, *shape)
        The displacement of each voxel (with `crop`, of the patch), in voxels. NumPy arrays give float64; a tensor gives
        a tensor of its dtype.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type, value or shape.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> displacement = np.zeros((2, 3, 3))
    >>> displacement[0, 1, 1] = 2
    >>> field = elasticnd.dense_displacement(displacement, (5, 5))
    >>> field.shape
    (2, 5, 5)
    >>> field[0, 2].round(3)
    array([0., 1., 2., 1., 0.])
    """
    displacement = _labels.unlabelled(displacement)
    if isinstance(displacement, (list, tuple)):
        displacement = eager.small_array("displacement", displacement)
    bridge = bridge_of("displacement", displacement)
    grid = bridge.small_array("displacement", displacement, None)
    spec = _check.normalize_field(bridge.info(grid), shape, crop)
    return calls.field(bridge, spec, grid)


@in_default_state
def source_box(
    displacement: Array,
    shape: Sequence[int],
    crop: Sequence[slice] | None = None,
    order: Order = 3,
    mode: str = "constant",
    prefilter: bool = True,
    affine: Array | None = None,
    rotate: Rotation | None = None,
    zoom: Zoom | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[slice, ...]:
    """Find the part of the image that a patch of the output depends on, without computing the patch.

    The control points bound the displacement, since a B-spline lies in the convex hull of its coefficients [1]_. The
    box is enlarged by the spline's support and, for orders 2 and above, by the blocks and the warm-up of the prefilter.
    It is never too small, and only slightly too large where the displacement is smooth. Voxels outside it do not change
    a single bit of the patch.

    Parameters
    ----------
    displacement : array_like of real numbers, shape (n, p_0, ..., p_{n-1}) or (B..., n, p_0, ..., p_{n-1})
        Displacements of the control points, in voxels. With batch axes, the box covers all items.
    shape : sequence of int
        Extent of the image along its n deformed axes.
    crop : sequence of slice, optional
        The patch, as for `deform_grid`. Default None: everything.
    order, mode, prefilter, affine, rotate, zoom
        See `deform_grid`.
    dtype : dtype or str, optional
        Dtype of the image. The prefilter has a wider margin in double precision (the default).

    Returns
    -------
    tuple of slice
        One slice for each deformed axis. They are empty if the patch depends on no voxel, for example if all positions
        lie outside the image in mode ``'constant'``.

    Raises
    ------
    TypeError, ValueError
        As for `deform_grid`.

    References
    ----------
    .. [1] G. Farin, "Curves and Surfaces for CAGD", Morgan Kaufmann, 2002: the convex hull property.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> displacement = np.full((2, 3, 3), 5.0)
    >>> patch = (slice(100, 120), slice(200, 230))
    >>> elasticnd.source_box(displacement, (1000, 1000), patch, order=1)
    (slice(104, 126, None), slice(204, 236, None))
    """
    grid = eager.small_array("displacement", displacement)
    matrix = None if affine is None else eager.small_array("affine", affine)
    for name, array in (("displacement", grid), ("affine", matrix)):
        if array is not None and not isinstance(array, np.ndarray):
            reject_type(name, array, "a NumPy array or nested lists of numbers")
    extent = _check.normalize_shape("shape", shape)
    batch = grid.shape[: max(0, grid.ndim - 1 - len(extent))]
    axes = tuple(range(len(batch), len(batch) + len(extent)))
    spec = _check.normalize(
        (_spec.ArrayInfo((*batch, *extent), _check.normalize_dtype(dtype)),),
        eager.info(grid),
        None if matrix is None else eager.info(matrix),
        "shape",
        Options(order, mode, 0, crop, prefilter, axes, rotate, zoom),
    )
    return calls.source_box(eager, spec, grid, matrix)


@in_default_state
def deform_grid_gradient(
    dY: Images,
    displacement: Array,
    order: Order | Sequence[Order] = 3,
    mode: str | Sequence[str] = "constant",
    cval: Numbers = 0.0,
    crop: Sequence[slice] | None = None,
    prefilter: bool = True,
    axis: Axes | None = None,
    X_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    affine: Array | None = None,
    rotate: Rotation | None = None,
    zoom: Zoom | None = None,
) -> Images:
    """Compute the gradient with respect to the image from the gradient with respect to the output of `deform_grid`.

    The output is linear in the image; this is the exact transpose of that linear map, including the prefilter. Pass the
    arguments of the forward call.

    Parameters
    ----------
    dY : array of floats or complex numbers, or list or tuple of them
        Gradient with respect to the output, with the output's shape.
    displacement, order, mode, cval, crop, prefilter, axis
        As in the forward call.
    X_shape : sequence of int, or one per image, optional
        Shape of the image. Required with `crop`. Default None: the shape of `dY`.
    affine, rotate, zoom
        As in the forward call.

    Returns
    -------
    array, or list or tuple of them
        Gradient with respect to the image, with the type and dtype of `dY`.

    Raises
    ------
    TypeError, ValueError
        As for `deform_grid`, and if `dY` has an integer dtype.

    See Also
    --------
    deform_grid_vjp : also computes the gradients of control grid and affine matrix.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> rng = np.random.default_rng(0)
    >>> image, weight = rng.random((2, 20, 30))
    >>> displacement = elasticnd.random_displacement(3, sigma=4, ndim=2, rng=rng)
    >>> gradient = elasticnd.deform_grid_gradient(weight, displacement)
    >>> forward = (elasticnd.deform_grid(image, displacement) * weight).sum()
    >>> bool(np.isclose(forward, (image * gradient).sum()))
    True
    """
    given, gradients = _apply.with_and_without_labels("dY", dY)
    bridge = _apply.image_bridge("dY", gradients, dY)
    if X_shape is not None:
        shapes = _check.normalize_image_shapes(X_shape, len(gradients))
    elif crop is not None:
        reject_value("X_shape", None, "the shape of the image, since crop is given")
    else:
        shapes = None
    displacement, affine = (_labels.unlabelled_beside(given[0], array) for array in (displacement, affine))
    axis = _labels.axis_numbers(given, axis)
    options = Options(order, mode, cval, crop, prefilter, axis, rotate, zoom)
    argument = "dY" if X_shape is None else "X_shape"
    spec, displacement, affine = _apply.prepare(argument, bridge, gradients, displacement, affine, options, shapes)
    names = _apply.names_of("dY", len(gradients), dY)
    for name, image, gradient in zip(names, spec.images, gradients, strict=True):
        _check.check_gradient(name, image, bridge.info(gradient), spec.output_shape(image))
    of_images = calls.image_vjp(bridge, spec, gradients, displacement, affine)
    return _apply.like_input(dY, list(map(_labels.labelled_like, of_images, given)))


@in_default_state
def deform_grid_vjp(
    dY: Array,
    X: Array,
    displacement: Array,
    order: Order | Sequence[Order] = 3,
    mode: str | Sequence[str] = "constant",
    cval: Numbers = 0.0,
    crop: Sequence[slice] | None = None,
    prefilter: bool = True,
    axis: Axes | None = None,
    affine: Array | None = None,
    rotate: Rotation | None = None,
    zoom: Zoom | None = None,
) -> Gradients:
    """Compute the gradients of image, control grid and affine matrix from the gradient of the output of `deform_grid`.

    Parameters
    ----------
    dY : array, or list or tuple of them
        Gradient with respect to the output, with the output's shape. In a list, None for an image whose output does not
        contribute, such as integer labels.
    X : array, or list or tuple of them
        The image of the forward call.
    displacement, order, mode, cval, crop, prefilter, axis, affine, rotate, zoom
        As in the forward call.

    Returns
    -------
    Gradients
        A named tuple. ``image`` has the shape and dtype of `X`; in a list, it is None where `dY` is. ``displacement``
        and ``affine`` have the shapes and dtypes of these arguments, or float64 for integers; ``affine`` is None
        without an affine matrix. The gradient of a complex image is a complex number that holds the gradients of its
        real and imaginary parts.

    Raises
    ------
    TypeError, ValueError
        As for `deform_grid`, and if a gradient is requested for an integer image.

    Notes
    -----
    Order 0 has gradients only with respect to the image: those with respect to positions are zero. At order 1, the
    slope on a voxel is the slope towards the next one; on the last voxel, in modes ``'constant'`` and ``'wrap'``, it is
    the slope from the voxel before. Where the border mode holds a coordinate at the border, or the value is `cval`, the
    slope is zero.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> rng = np.random.default_rng(0)
    >>> image, weight = rng.random((2, 20, 30))
    >>> displacement = elasticnd.random_displacement(3, sigma=1, ndim=2, rng=rng)
    >>> gradients = elasticnd.deform_grid_vjp(weight, image, displacement, mode="mirror")
    >>> gradients.image.shape, gradients.displacement.shape, gradients.affine
    ((20, 30), (2, 3, 3), None)
    """
    given, images = _apply.with_and_without_labels("X", X)
    bridge = _apply.image_bridge("X", images, X)
    weights = list(dY) if isinstance(dY, (list, tuple)) else [dY]
    gradients = list(map(_labels.unlabelled, weights))
    if isinstance(dY, (list, tuple)) != isinstance(X, (list, tuple)) or len(gradients) != len(images):
        accepted = one_for_each(len(images), "image", "images")
        reject_value("dY", counted(len(gradients), "gradient", "gradients"), f"{accepted}, in a list if X is one")
    if dY is None:
        reject_type("dY", dY, "an array; None only in a list")
    displacement, affine = (_labels.unlabelled_beside(given[0], array) for array in (displacement, affine))
    axis = _labels.axis_numbers(given, axis)
    options = Options(order, mode, cval, crop, prefilter, axis, rotate, zoom)
    spec, displacement, affine = _apply.prepare("X", bridge, images, displacement, affine, options)
    first = _apply.names_of("X", len(images), X)[0]
    names = _apply.names_of("dY", len(images), dY)
    for name, image, weight, gradient in zip(names, spec.images, weights, gradients, strict=True):
        if gradient is not None:
            _labels.check_alike([first, name], [given[0], weight])
            common_bridge([first, name], [images[0], gradient]).check(name, gradient, images[0])
            _check.check_gradient(name, image, bridge.info(gradient), spec.output_shape(image))
    of_images, of_displacement, of_affine = calls.vjp(bridge, spec, gradients, images, displacement, affine)
    of_images = list(map(_labels.labelled_like, of_images, given))
    return Gradients(_apply.like_input(X, of_images), of_displacement, of_affine)
