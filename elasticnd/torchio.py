"""elasticnd for TorchIO: a random transform, and the deterministic transform stored in the history.

>>> import torch, torchio
>>> import elasticnd.torchio
>>> subject = torchio.Subject(
...     image=torchio.ScalarImage(tensor=torch.rand(1, 32, 32, 24)),
...     label=torchio.LabelMap(tensor=torch.zeros(1, 32, 32, 24, dtype=torch.uint8)),
... )
>>> deformed = elasticnd.torchio.RandomElasticGrid(sigma=(3, 7))(subject)
>>> deformed.get_applied_transforms()[0].name
'ElasticGrid'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import _adapters
from ._adapters.draws import Drawn, RandomDeformation
from ._adapters.tensors import torch_source, undo
from ._check import check_options
from ._errors import reject_value
from ._types import Numbers, NumpyArray, Order

with _adapters.needs("torchio"):
    from torchio import LabelMap, SpatialTransform, Subject
    from torchio.transforms.augmentation import RandomTransform

__all__ = ["ElasticGrid", "RandomElasticGrid"]

_AXES = (1, 2, 3)


class RandomElasticGrid(RandomTransform, SpatialTransform):
    """Deform the images of a subject with one random grid of displacements.

    Parameters
    ----------
    sigma : float, pair of bounds, or one of these for each axis, optional
        Standard deviation of the displacements, in mm: a number, or a range to draw from for each subject. Default 7.5.
    points : int or sequence of int, optional
        Number of control points, along every axis or along each. Default 5.
    rotate : float, pair of bounds, or mapping of planes ``{(0, 1): ...}``, optional
        Range of rotation angles in degrees, about the centre, in every plane of two axes or in the given planes; a
        number r stands for (-r, r). Distances in mm are preserved. Default None.
    zoom : float, pair of bounds, or one of these for each axis, optional
        Range of magnification factors, about the centre. Default None.
    mirror : sequence of int, optional
        Axes to mirror, each with probability 1/2. Default ``()``.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if the mapping folds; see `elasticnd.Deformation.random`. ``"scale"`` is recommended: it reduces the
        displacement until nothing folds. Default ``"ignore"``.
    patch_size : int or sequence of int, optional
        Extent of a patch to compute, at random in the image; -1 for a whole axis. The affine matrices are updated.
        Default None: the whole image.
    order : int or "labels", optional
        Order of the spline for images; see `elasticnd.deform_grid`. Default 3.
    label_order : int or "labels", optional
        Order for label maps. Default ``"labels"``: by votes.
    mode, cval : optional
        See `elasticnd.deform_grid`. Default ``"nearest"`` and 0.
    **kwargs
        Arguments of every TorchIO transform, such as ``p``, ``include`` and ``exclude``. A subject
        that ``p`` leaves undeformed keeps its size.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value; when called, if images differ in their spatial shape.

    Notes
    -----
    All randomness comes from PyTorch's global generator. Nothing moves along axes of length 1, such as the third axis
    of two-dimensional images.

    Examples
    --------
    >>> import torch, torchio
    >>> import elasticnd.torchio
    >>> transform = elasticnd.torchio.RandomElasticGrid(
    ...     sigma=4, rotate=15, fold="scale", patch_size=(24, 24, 16)
    ... )
    >>> transform(torch.zeros(1, 32, 32, 24)).shape
    torch.Size([1, 24, 24, 16])
    """

    def __init__(
        self,
        sigma: object = 7.5,
        points: object = 5,
        *,
        rotate: object = None,
        zoom: object = None,
        mirror: object = (),
        fold: str = "ignore",
        patch_size: object = None,
        order: Order = 3,
        label_order: Order = "labels",
        mode: str = "nearest",
        cval: Numbers = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_options(order=order, mode=mode)
        check_options(order=label_order, order_name="label_order")
        self._random = RandomDeformation(sigma, points, rotate, zoom, mirror, fold, patch_size, size_name="patch_size")
        self.sigma, self.points, self.rotate, self.zoom, self.mirror = sigma, points, rotate, zoom, mirror
        self.fold, self.patch_size = fold, patch_size
        self.order, self.label_order, self.mode, self.cval = order, label_order, mode, cval
        self.args_names = [
            *("sigma", "points", "rotate", "zoom", "mirror", "fold", "patch_size"),
            *("order", "label_order", "mode", "cval"),
        ]

    def apply_transform(self, subject: Subject) -> Subject:
        """Draw a deformation, and apply it as an `ElasticGrid`, which is then stored in the subject's history."""
        images = self.get_images(subject)
        if not images:
            return subject
        _check_shapes(subject, images)
        drawn = self._random.draw(images[0].spatial_shape, torch_source(), spacing=images[0].spacing)
        arguments = {
            "record": {name: array.tolist() for name, array in drawn.record().items()},
            "order": self.order,
            "label_order": self.label_order,
            "mode": self.mode,
            "cval": self.cval,
        }
        return ElasticGrid(**self._add_base_args(arguments))(subject)


class ElasticGrid(SpatialTransform):
    """Deform the images of a subject with a deformation drawn by `RandomElasticGrid`.

    Parameters
    ----------
    record : mapping
        The record of a draw, as nested lists: ``displacement`` and ``affine``, in voxels, the ``shape`` of the images,
        and ``start`` and ``extent`` of the computed part.
    order, label_order, mode, cval : optional
        See `RandomElasticGrid`.
    **kwargs
        Arguments of every TorchIO transform.

    Raises
    ------
    ValueError
        When called, if images do not have the recorded shape.

    Notes
    -----
    The inverse, used by a subject's `apply_inverse_transform`, needs only the record. Voxels outside a patch become
    `cval`. Where the mapping folds, the inverse issues a warning with the residual.

    Examples
    --------
    The history of a subject replays the deformation:

    >>> import torch, torchio
    >>> import elasticnd.torchio
    >>> subject = torchio.Subject(image=torchio.ScalarImage(tensor=torch.rand(1, 16, 16, 16)))
    >>> deformed = elasticnd.torchio.RandomElasticGrid(sigma=2)(subject)
    >>> again = deformed.get_composed_history()(subject)
    >>> torch.equal(again.image.data, deformed.image.data)
    True
    """

    def __init__(
        self,
        record: Mapping[str, Any],
        order: Order = 3,
        label_order: Order = "labels",
        mode: str = "nearest",
        cval: Numbers = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.record = record
        self.order, self.label_order, self.mode, self.cval = order, label_order, mode, cval
        self.args_names = ["record", "order", "label_order", "mode", "cval"]
        self.invert_transform = False

    def apply_transform(self, subject: Subject) -> Subject:
        """Deform the images in one call."""
        images = self.get_images(subject)
        if not images:
            return subject
        _check_shapes(subject, images)
        drawn = Drawn.replay(self.record)
        expected = drawn.window.shape if self.invert_transform else drawn.deformation.shape
        if tuple(images[0].spatial_shape) != expected:
            reject_value("subject", f"images of shape {tuple(images[0].spatial_shape)}", f"{expected}, as recorded")
        orders = [self.label_order if isinstance(image, LabelMap) else self.order for image in images]
        data = [image.data for image in images]
        shift = np.array(drawn.window.start)
        if self.invert_transform:
            results = [undo(drawn, one, order, self.mode, self.cval) for one, order in zip(data, orders, strict=True)]
            shift = -shift
        else:
            results = drawn.apply(data, orders, self.mode, self.cval, [_AXES] * len(data))
        for image, result in zip(images, results, strict=True):
            image.set_data(result)
            image.affine = _shifted(image.affine, shift)
        return subject


def _check_shapes(subject: Subject, images: Sequence[Any]) -> None:
    names = {id(image): name for name, image in subject.items()}
    first = images[0]
    for image in images:
        if image.spatial_shape != first.spatial_shape:
            reject_value(
                f"subject[{names[id(image)]!r}]",
                f"spatial shape {image.spatial_shape}",
                f"{first.spatial_shape}, that of {names[id(first)]!r}",
            )


def _shifted(affine: Any, start: NumpyArray) -> Any:
    """Return the affine matrix of the part of an image that begins at this voxel."""
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ start
    return moved
