"""Bounding boxes of Keras' image layers: a dictionary of boxes and labels, in one of nine formats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import keras
import numpy as np

from .._errors import reject_type, reject_value
from .._routes import bridge_of
from .._spec import Shape
from .._types import Array
from ..deformation import Deformation
from .edges import EDGE, warn_of_lost
from .tensorflow_tensors import compute_with_numpy, is_of_tensorflow

_FORMATS = (
    *("xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw"),
    *("rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh"),
)
_PADDING = {"boxes": 0, "labels": -1}  # of ragged tensors, as Keras pads them


def check_format(value: str | None) -> str | None:
    """Check the argument `bounding_box_format`."""
    if value is not None and (not isinstance(value, str) or value.lower() not in _FORMATS):
        reject_value("bounding_box_format", repr(value), " or ".join(_FORMATS))
    return value


def move_boxes(
    given: Any, box_format: str | None, displacement: Array, frame: Sequence[int | None], *, is_single: bool
) -> dict[str, Array]:
    """Move the boxes of one image or of a batch with the content; labels of boxes that leave the image become -1."""
    if box_format is None:
        reject_value("bounding_box_format", None, f"{' or '.join(_FORMATS)}, to move 'bounding_boxes'")
    if not isinstance(given, dict) or "boxes" not in given:
        reject_type("inputs['bounding_boxes']", given, "a dictionary with 'boxes', and optionally 'labels'")
    if len(frame) != 2 or None in frame:
        reject_value("inputs['images']", f"deformed axes of extents {tuple(frame)}", "two known extents, to move boxes")
    dense = {name: _dense(one, _PADDING.get(name, 0)) for name, one in given.items()}
    shape, rank = tuple(dense["boxes"].shape), 2 if is_single else 3
    if len(shape) != rank or shape[-1] != 4:
        accepted = f"({'' if is_single else 'batch, '}boxes, 4)"
        reject_value("inputs['bounding_boxes']['boxes']", f"shape {shape}", accepted)
    move = partial(_move, box_format, cast("Shape", tuple(frame)))
    if is_of_tensorflow(dense["boxes"]) and keras.backend.backend() != "tensorflow":
        import tensorflow as tf  # noqa: PLC0415 - the caller has its tensors

        # In a graph, Keras uses TensorFlow whatever its backend is.
        move = tf.function(move, autograph=False)
    return move(dense, displacement)


def _move(box_format: str, frame: Shape, boxes: dict[str, Array], displacement: Array) -> dict[str, Array]:
    size = dict(zip(("height", "width"), frame, strict=True))
    convert = partial(keras.utils.bounding_boxes.convert_format, **size)
    given, absolute = boxes["boxes"], box_format
    is_by_centres = box_format.lower() == "rel_center_xywh"
    if is_by_centres:  # Keras 3.10 scales centres like corners, which is wrong
        given, absolute = convert(given, source="rel_xywh", target="xywh"), "center_xywh"
    corners = convert(given, source=absolute, target="yxyx")
    moved = convert(_moved(corners, displacement, frame), source="yxyx", target="xyxy")
    clipped: dict[str, Array] = keras.utils.bounding_boxes.clip_to_image_size(boxes | {"boxes": moved}, **size)
    results = convert(clipped["boxes"], source="xyxy", target=absolute)
    return clipped | {"boxes": convert(results, source="xywh", target="rel_xywh") if is_by_centres else results}


def _dense(tensor: Any, padding: int) -> Any:
    """Return a dense tensor; pad a ragged one."""
    if hasattr(tensor, "to_tensor"):
        return tensor.to_tensor(default_value=padding)
    return np.asarray(tensor) if isinstance(tensor, (list, tuple)) else tensor


def _moved(corners: Array, displacement: Array, frame: Shape) -> Array:
    """Move boxes of lower and upper rows and columns, from edge to edge."""
    move = partial(_deformed, frame)
    if not is_of_tensorflow(corners):
        return move(corners, displacement)
    return compute_with_numpy(move, corners, displacement)  # a graph may know the number of boxes only when it runs


def _deformed(frame: Shape, corners: Array, displacement: Array) -> Array:
    batch = displacement.shape[:-3]  # even a single image's grid may have a batch axis
    lead = (*batch, corners.shape[-2]) if batch else corners.shape[:-1]
    ends = corners.reshape((*lead, 2, 2)) - EDGE
    moved = Deformation(displacement, frame).move_boxes(ends)
    read = bridge_of("boxes", moved.residual).values
    converged = read(moved.converged)
    if converged is not None:
        warn_of_lost("boxes", read(moved.residual), converged)
    return (moved.boxes + EDGE).reshape(corners.shape)
