"""elasticnd for torchvision: a transform for images, videos, masks, boxes and key points.

>>> import torch
>>> from torchvision import tv_tensors
>>> import elasticnd.torchvision
>>> transform = elasticnd.torchvision.RandomElasticDeform(sigma=(3, 7), rotate=15)
>>> image = tv_tensors.Image(torch.zeros(3, 64, 48, dtype=torch.uint8))
>>> mask = tv_tensors.Mask(torch.zeros(64, 48, dtype=torch.uint8))
>>> image, mask = transform(image, mask)
>>> type(mask).__name__, tuple(mask.shape)
('Mask', (64, 48))
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import torch

from . import _adapters
from ._adapters.draws import Drawn, RandomDeformation
from ._adapters.edges import EDGE, warn_of_lost
from ._adapters.ranges import check_probability
from ._adapters.tensors import torch_source
from ._check import check_options
from ._errors import reject_type, reject_value
from ._types import Numbers, NumpyArray, Order

with _adapters.needs("torchvision"):
    from torchvision import tv_tensors
    from torchvision.transforms import v2
    from torchvision.transforms.v2 import functional

__all__ = ["RandomElasticDeform"]

_PLANE = (-2, -1)  # rows and columns are the last axes of all images
_KEY_POINTS: tuple[type, ...] = (tv_tensors.KeyPoints,) if hasattr(tv_tensors, "KeyPoints") else ()  # since 0.23
_BOXES = ("XYXY", "XYWH", "CXCYWH")  # formats without rotation
_INDEXED = ("1", "P", "PA")  # modes of Pillow whose numbers are not intensities


class RandomElasticDeform(v2.Transform):
    """Deform images, videos, masks, boxes and key points of a sample with one random grid of displacements.

    Parameters
    ----------
    sigma : float, pair of bounds, or one of these for rows and for columns, optional
        Standard deviation of the displacements, in pixels: a number, or a range to draw from for each sample. Default
        25.
    points : int or pair of int, optional
        Number of control points, along rows and columns. Default 3.
    rotate : float, pair of bounds or mapping ``{(0, 1): ...}``, optional
        Range of rotation angles in degrees, about the centre; a number r stands for (-r, r). Default None.
    zoom : float, pair of bounds, or one of these for rows and for columns, optional
        Range of magnification factors, about the centre. Default None.
    mirror : sequence of int, optional
        Axes to mirror, 0 for rows and 1 for columns, each with probability 1/2. Default ``()``.
    fold : {"ignore", "warn", "raise", "scale"}, optional
        What to do if the mapping folds; see `elasticnd.Deformation.random`. ``"scale"`` is recommended: it reduces the
        displacement until nothing folds. Default ``"ignore"``.
    size : int or pair of int, optional
        Height and width of a patch to compute, at random in the image. Default None: the whole image.
    order : int or "labels", optional
        Order of the spline for images and videos; see `elasticnd.deform_grid`. Default 3.
    mask_order : int or "labels", optional
        Order for masks. Default ``"labels"``: by votes.
    mode, cval : optional
        See `elasticnd.deform_grid`. Default ``"constant"`` and 0.
    p : float, optional
        Probability that a sample is deformed. A patch is cropped in any case. Default 1.

    Raises
    ------
    TypeError, ValueError
        If an argument has an invalid type or value; when called, if images and masks differ in height or width.

    Notes
    -----
    Images are what torchvision's own transforms treat as images: images, videos, Pillow pictures, and the first tensor
    if there are none of these. All randomness comes from PyTorch's global generator.

    A box becomes the bounding box of its moved content, and is clamped according to its own clamping mode; rotated
    boxes raise an error. Key points are moved without clamping, as in torchvision's own transform. Both may leave the
    image or the patch: `SanitizeBoundingBoxes` and `SanitizeKeyPoints` remove these. Where the mapping folds, some
    boxes and key points may not be found, and a warning is issued; ``fold="scale"`` avoids this.

    Examples
    --------
    >>> import torch
    >>> from torchvision.transforms import v2
    >>> import elasticnd.torchvision
    >>> deform = elasticnd.torchvision.RandomElasticDeform(
    ...     sigma=4, points=4, fold="scale", size=32
    ... )
    >>> transform = v2.Compose([deform, v2.ToDtype(torch.float32)])
    >>> transform(torch.zeros(3, 64, 48)).shape
    torch.Size([3, 32, 32])
    """

    _transformed_types = (torch.Tensor, PIL.Image.Image)  # torchvision's tensors are also tensors

    def __init__(
        self,
        sigma: object = 25.0,
        points: object = 3,
        *,
        rotate: object = None,
        zoom: object = None,
        mirror: object = (),
        fold: str = "ignore",
        size: object = None,
        order: Order = 3,
        mask_order: Order = "labels",
        mode: str = "constant",
        cval: Numbers = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__()
        self._random = RandomDeformation(sigma, points, rotate, zoom, mirror, fold, size)
        self.sigma, self.points, self.rotate, self.zoom, self.mirror = sigma, points, rotate, zoom, mirror
        self.fold, self.size = fold, size
        self.order, self.mask_order, self.mode, self.cval = order, mask_order, mode, cval
        check_options(order=order, mode=mode)
        check_options(order=mask_order, order_name="mask_order")
        check_probability("p", p)
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the deformation of a sample."""
        size = v2.query_size(flat_inputs)
        is_deformed = bool(torch.rand(()) < self.p)
        return {"drawn": self._random.draw(size, torch_source(), is_deformed=is_deformed)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Deform one image, video or mask of a sample."""
        drawn: Drawn = params["drawn"]
        if isinstance(inpt, PIL.Image.Image):
            return self._picture(inpt, drawn)
        if not isinstance(inpt, tv_tensors.TVTensor):
            return self._deform(inpt, drawn, self.order)
        if isinstance(inpt, (tv_tensors.Image, tv_tensors.Video, tv_tensors.Mask)):
            order = self.mask_order if isinstance(inpt, tv_tensors.Mask) else self.order
            return tv_tensors.wrap(self._deform(inpt.as_subclass(torch.Tensor), drawn, order), like=inpt)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return self._boxes(inpt, drawn)
        if isinstance(inpt, _KEY_POINTS):
            return self._key_points(inpt, drawn)
        return reject_type("inputs", inpt, "images, videos, masks, boxes and key points")

    # The names in torchvision 0.20.
    _get_params = make_params
    _transform = transform

    def _picture(self, picture: PIL.Image.Image, drawn: Drawn) -> PIL.Image.Image:
        if picture.mode in _INDEXED:
            reject_value("inputs", f"a picture of mode {picture.mode!r}", "grey or colour: convert it, or pass a Mask")
        deformed = self._deform(functional.pil_to_tensor(picture), drawn, self.order)
        return functional.to_pil_image(deformed, picture.mode)

    def _deform(self, image: torch.Tensor, drawn: Drawn, order: Order) -> torch.Tensor:
        return drawn.apply([image], [order], self.mode, self.cval, [_PLANE])[0]

    @staticmethod
    def _boxes(boxes: Any, drawn: Drawn) -> Any:
        if boxes.format.value not in _BOXES:
            reject_value("inputs", f"boxes of format {boxes.format.value}", " or ".join(_BOXES))
        if boxes.numel() == 0:
            return tv_tensors.wrap(boxes.as_subclass(torch.Tensor), like=boxes, canvas_size=drawn.window.shape)
        convert, corners = functional.convert_bounding_box_format, tv_tensors.BoundingBoxFormat.XYXY
        xyxy = convert(boxes.as_subclass(torch.Tensor).double(), old_format=boxes.format, new_format=corners)
        moved = drawn.deformation.move_boxes(_as_positions(xyxy.reshape(-1, 2, 2)))
        warn_of_lost("boxes", moved.residual, moved.converged)
        ends = _from_positions(moved.boxes, drawn).reshape(xyxy.shape)
        results = _like(convert(ends, old_format=corners, new_format=boxes.format), boxes)
        return functional.clamp_bounding_boxes(tv_tensors.wrap(results, like=boxes, canvas_size=drawn.window.shape))

    @staticmethod
    def _key_points(points: Any, drawn: Drawn) -> Any:
        moved = drawn.deformation.move_points(_as_positions(points.as_subclass(torch.Tensor)))
        warn_of_lost("key points", moved.residual, moved.converged)
        results = _like(_from_positions(moved.points, drawn), points)
        return tv_tensors.wrap(results, like=points, canvas_size=drawn.window.shape)


def _as_positions(xy: torch.Tensor) -> NumpyArray:
    """Convert x and y, (..., 2), to rows and columns in voxels."""
    return xy.detach().cpu().double().flip(-1).numpy() - EDGE


def _from_positions(positions: NumpyArray, drawn: Drawn) -> torch.Tensor:
    """Convert positions in the frame to x and y in the window."""
    return torch.from_numpy(positions + (EDGE - np.array(drawn.window.start))).flip(-1)


def _like(values: torch.Tensor, given: Any) -> torch.Tensor:
    """Convert values to the dtype, with rounding for integers, and the device of `given`."""
    return (values if given.is_floating_point() else values.round()).to(given.device, given.dtype)
