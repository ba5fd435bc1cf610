"""elasticnd for MONAI: invertible random transforms, for dictionaries and for arrays.

>>> import torch
>>> import elasticnd.monai
>>> transform = elasticnd.monai.RandElasticDeformd(
...     ["image", "label"], sigma=(3, 7), prob=1, mode=[3, "labels"]
... )
>>> sample = {
...     "image": torch.zeros(1, 32, 32, 24),
...     "label": torch.zeros(1, 32, 32, 24, dtype=torch.uint8),
... }
>>> deformed = transform.set_random_state(0)(sample)
>>> deformed["label"].dtype, len(deformed["image"].applied_operations)
(torch.uint8, 1)
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from . import _adapters
from ._adapters.draws import Drawn, RandomDeformation, Source
from ._adapters.ranges import check_probability
from ._adapters.tensors import undo
from ._check import check_options
from ._coerce import is_sequence
from ._errors import reject_value

with _adapters.needs("monai"):
    from monai.data.meta_obj import get_track_meta
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import InvertibleTransform, MapTransform, RandomizableTransform
    from monai.transforms.utils import create_translate
    from monai.utils import TraceKeys, TransformBackends, convert_to_tensor, ensure_tuple_rep

__all__ = ["RandElasticDeform", "RandElasticDeformd"]

# MONAI's names for orders and border modes.
_ORDERS = {"nearest": 0, "bilinear": 1}
_MODES = {"zeros": "constant", "border": "nearest", "reflection": "reflect"}


class _Elastic(RandomizableTransform, InvertibleTransform):
    """What both transforms share: they draw deformations, and record them in images."""

    backend = [TransformBackends.TORCH, TransformBackends.NUMPY]  # noqa: RUF012 - MONAI's attribute

    def _set(self, prob: float, ranges: dict[str, Any], roi_size: object, random_center: bool, **shown: object) -> None:
        check_probability("prob", prob)
        RandomizableTransform.__init__(self, prob)
        self._random = RandomDeformation(**ranges, size=roi_size, at_random=random_center, size_name="roi_size")
        check_options(order=_translated(shown["mode"], _ORDERS), order_name="mode")
        check_options(mode=_translated(shown["padding_mode"], _MODES), mode_name="padding_mode")
        self._shown = shown | ranges | {"prob": prob, "roi_size": roi_size, "random_center": random_center}

    def randomize(self, data: Sequence[int]) -> Drawn:
        """Draw whether an image of this spatial shape is deformed, and its deformation."""
        super().randomize(None)
        is_deformed = self._do_transform
        return self._random.draw(data, Source(self.R.standard_normal, self.R.random_sample), is_deformed=is_deformed)

    def _deform(
        self, images: Sequence[Any], drawn: Drawn, modes: Sequence[Any], paddings: Any, cvals: Any
    ) -> list[Any]:
        """Deform images in one call. Results have the metadata of the images, and a record of the deformation."""
        tensors = [image.as_tensor() if isinstance(image, MetaTensor) else image for image in images]
        orders, borders = _translated(modes, _ORDERS), _translated(paddings, _MODES)
        results = drawn.apply(tensors, orders, borders, cvals, [tuple(range(1, one.ndim)) for one in tensors])
        options = zip(orders, borders, cvals, strict=True)
        records = [{"mode": order, "padding_mode": border, "cval": cval} for order, border, cval in options]
        return [self._recorded(*parts, drawn) for parts in zip(results, images, records, strict=True)]

    def _recorded(self, result: torch.Tensor, image: Any, options: dict[str, Any], drawn: Drawn) -> Any:
        if not get_track_meta():
            return result
        made = MetaTensor(result)
        if isinstance(image, MetaTensor):
            made.copy_meta_from(image)
        shift = create_translate(drawn.deformation.ndim, drawn.window.start) if any(drawn.window.start) else None
        size = drawn.deformation.shape
        return self.push_transform(made, affine=shift, orig_size=size, extra_info=drawn.record() | options)

    def _undone(self, image: Any) -> Any:
        """Return an image as it was before its last recorded deformation, as a new image."""
        known = MetaTensor(image.as_tensor()).copy_meta_from(image)
        record = self.pop_transform(known)[TraceKeys.EXTRA_INFO]
        drawn = Drawn.replay(record)
        order = _translated(record["mode"], _ORDERS)  # `Invertd` replaces the mode with one of MONAI's words
        tensor = undo(drawn, known.as_tensor(), order, record["padding_mode"], record["cval"])
        made = MetaTensor(tensor).copy_meta_from(known)
        if any(drawn.window.start):
            with self.trace_transform(False):
                shift = create_translate(drawn.deformation.ndim, np.negative(drawn.window.start))
                made = self.push_transform(made, affine=shift)
        return made

    def __repr__(self) -> str:
        """Describe the transform."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._shown.items())})"


class RandElasticDeformd(_Elastic, MapTransform):
    """Deform images of a dictionary with one random grid of displacements.

    Parameters
    ----------
    keys : str or sequence of str
        The images to deform, of shape (channels, spatial axes...), with equal spatial shapes.
    sigma : float, pair of bounds, or one of these for each axis, optional
        Standard deviation of the displacements, in voxels: a number, or a range to draw from for each sample. Default
        25.
    points : int or sequence of int, optional
        Number of control points, along every axis or along each. Default 3.
    prob : float, optional
        Probability that a sample is deformed. A patch is cropped in any case. Default 0.1.
    rotate : float, pair of bounds, or mapping of planes ``{(0, 1): ...}``, optional
        Range of rotation angles in degrees, about the centre, in every plane of two axes or in the given planes; a
        number r stands for (-r, r). Default None.
    zoom : float, pair of bounds, or one of these for each axis, optional
        Range of magnification factors, about the centre. Default None.
    mirror : sequence of int, optional
        Spatial axes to mirror, each with probability 1/2. Default ``()``.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if the mapping folds; see `elasticnd.Deformation.random`. ``"scale"`` is recommended: it reduces the
        displacement until nothing folds. Default ``"ignore"``.
    roi_size : int or sequence of int, optional
        Spatial extent of a patch to compute; -1 for a whole axis. Default None: the whole image.
    random_center : bool, optional
        Whether the patch is placed at random in the image. Otherwise, it is in the middle. Default True.
    mode : int or str, or one for each key, optional
        Order of the spline, 0 to 5, or ``"labels"`` for label images; see `elasticnd.deform_grid`. MONAI's names for
        orders 0 and 1, ``"nearest"`` and ``"bilinear"``, are accepted too. Default 3.
    padding_mode : str, or one for each key, optional
        Border mode; see the argument `mode` of `elasticnd.deform_grid`. MONAI's names ``"zeros"``, ``"border"`` and
        ``"reflection"`` are accepted too. Default ``"nearest"``.
    cval : number, or one for each key, optional
        The value beyond the border in the modes with a constant. Default 0.
    allow_missing_keys : bool, optional
        Whether keys may be missing from a sample. Default False.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value; when called, if images differ in their spatial shape.

    Notes
    -----
    All randomness comes from ``self.R``, which `set_random_state` and `monai.data.DataLoader` seed. For a sample that
    is not deformed, only the position of the patch is drawn. Each image stores a record of its deformation: the
    displacement in double precision, the affine map and the options. `inverse` needs only this record. Where the
    mapping folds, `inverse` may not find a position, and issues a warning. NumPy arrays become tensors with metadata.
    The transform is not lazy: pending operations should be applied before it.

    Examples
    --------
    >>> import torch
    >>> import elasticnd.monai
    >>> options = {
    ...     "sigma": 4,
    ...     "points": 5,
    ...     "rotate": 15,
    ...     "fold": "scale",
    ...     "roi_size": (24, 24, 16),
    ...     "prob": 1,
    ... }
    >>> transform = elasticnd.monai.RandElasticDeformd(
    ...     ["image", "label"], **options, mode=[3, "labels"]
    ... )
    >>> image, label = torch.zeros(1, 32, 32, 24), torch.zeros(1, 32, 32, 24, dtype=torch.uint8)
    >>> tuple(transform({"image": image, "label": label})["label"].shape)
    (1, 24, 24, 16)
    """

    def __init__(
        self,
        keys: Any,
        sigma: object = 25.0,
        points: object = 3,
        prob: float = 0.1,
        *,
        rotate: object = None,
        zoom: object = None,
        mirror: object = (),
        fold: str = "ignore",
        roi_size: object = None,
        random_center: bool = True,
        mode: Any = 3,
        padding_mode: Any = "nearest",
        cval: Any = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        ranges = {"sigma": sigma, "points": points, "rotate": rotate, "zoom": zoom, "mirror": mirror, "fold": fold}
        options = {"mode": mode, "padding_mode": padding_mode, "cval": cval}
        self._set(prob, ranges, roi_size, random_center, keys=self.keys, **options)
        self.mode, self.padding_mode, self.cval = (
            ensure_tuple_rep(option, len(self.keys)) for option in options.values()
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Deform the images of a sample; everything else is kept."""
        sample = dict(data)
        present = list(self.key_iterator(sample, self.mode, self.padding_mode, self.cval))
        if not present:
            return sample
        keys, *options = zip(*present, strict=True)
        images = [_as_tensor(sample[key]) for key in keys]
        shape = _spatial_shape(dict(zip(keys, images, strict=True)))
        return sample | dict(zip(keys, self._deform(images, self.randomize(shape), *options), strict=True))

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return images as they were before their last deformation; voxels outside a patch become `cval`."""
        sample = dict(data)
        return sample | {key: self._undone(sample[key]) for key in self.key_iterator(sample)}


class RandElasticDeform(_Elastic):
    """Deform an image with a random grid of displacements, as `RandElasticDeformd` does for dictionaries.

    Parameters
    ----------
    sigma, points, prob, rotate, zoom, mirror, fold, roi_size, random_center, mode, padding_mode, cval : optional
        As for `RandElasticDeformd`.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value.

    Examples
    --------
    >>> import torch
    >>> import elasticnd.monai
    >>> elasticnd.monai.RandElasticDeform(sigma=3, prob=1)(torch.zeros(1, 32, 24)).shape
    torch.Size([1, 32, 24])
    """

    def __init__(
        self,
        sigma: object = 25.0,
        points: object = 3,
        prob: float = 0.1,
        *,
        rotate: object = None,
        zoom: object = None,
        mirror: object = (),
        fold: str = "ignore",
        roi_size: object = None,
        random_center: bool = True,
        mode: Any = 3,
        padding_mode: Any = "nearest",
        cval: Any = 0.0,
    ) -> None:
        ranges = {"sigma": sigma, "points": points, "rotate": rotate, "zoom": zoom, "mirror": mirror, "fold": fold}
        self._set(prob, ranges, roi_size, random_center, mode=mode, padding_mode=padding_mode, cval=cval)
        self.mode, self.padding_mode, self.cval = mode, padding_mode, cval
        self._drawn: Drawn | None = None

    def randomize(self, data: Sequence[int]) -> Drawn:
        """Draw a deformation, and store it for calls with ``randomize=False``."""
        drawn = self._drawn = super().randomize(data)
        return drawn

    def __call__(self, img: Any, randomize: bool = True) -> Any:
        """Deform an image of shape (channels, spatial axes...); with ``randomize=False``, as in the call before."""
        image = _as_tensor(img)
        shape = _spatial_shape({"img": image})
        drawn = self.randomize(shape) if randomize else self._drawn
        if drawn is None:
            reject_value("randomize", randomize, "True in the first call")
        return self._deform([image], drawn, [self.mode], [self.padding_mode], [self.cval])[0]

    def inverse(self, data: Any) -> Any:
        """Return an image as it was before its last deformation; voxels outside a patch become `cval`."""
        return self._undone(data)


def _translated(given: Any, words: Mapping[str, Any]) -> Any:
    """Replace MONAI's names in one or several values of an option."""
    if is_sequence(given):
        return [_translated(one, words) for one in given]
    return words.get(str(given), given) if isinstance(given, str) else given  # MONAI's enumerations are strings


def _as_tensor(image: Any) -> torch.Tensor:
    """Convert an image to a tensor. Metadata are kept but not added, since they slow down MONAI's operations."""
    tensor: torch.Tensor = image if isinstance(image, MetaTensor) else convert_to_tensor(image, track_meta=False)
    return tensor


def _spatial_shape(images: Mapping[Hashable, Any]) -> tuple[int, ...]:
    """Return the spatial shape that images must share; warn of pending operations."""
    (first, image), *_ = images.items()
    shape = tuple(image.shape[1:])
    for key, other in images.items():
        if tuple(other.shape[1:]) != shape:
            reject_value(f"data[{key!r}]", f"spatial shape {tuple(other.shape[1:])}", f"{shape}, that of {first!r}")
        if isinstance(other, MetaTensor) and other.pending_operations:
            warnings.warn(f"data[{key!r}] has pending operations, which should be applied first", stacklevel=3)
    return shape
