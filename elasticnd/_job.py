"""A call for one image as the core receives it: a struct with the layout of cpp/include/elasticnd/job.hpp."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np

from . import _dtypes
from ._limits import MAX_AXES
from ._modes import Mode, padding_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._spec import DeformSpec, EvaluationSpec, Frame, Matrix, Window

JOB = np.dtype(
    [
        ("axes", np.int32),
        ("order", np.int32),
        ("mode", np.int32),
        ("padding", np.int32),
        ("votes", np.int32),
        ("derivative", np.int32, MAX_AXES),
        ("image", np.int64, MAX_AXES),
        ("grid_shape", np.int64, MAX_AXES),
        ("start", np.int64, MAX_AXES),
        ("output", np.int64, MAX_AXES),
        ("origin", np.int64, MAX_AXES),
        ("box_start", np.int64, MAX_AXES),
        ("box_extent", np.int64, MAX_AXES),
        ("frame", np.int64, MAX_AXES),
        ("frame_start", np.float64, MAX_AXES),
        ("frame_step", np.float64, MAX_AXES),
        ("cval", np.float64),
        ("border_value", np.float64),
        ("batch_axes", np.int32),
        ("dtype", np.int32),
        ("compute_dtype", np.int32),
        ("filtered", np.int32),
        ("evaluation_order", np.int32),
        ("rotates", np.int32),
        ("cval_element", np.uint8, 8),
        ("roi_start", np.int64, MAX_AXES),
        ("roi_extent", np.int64, MAX_AXES),
        ("inverse_rotation_zoom", np.float64, MAX_AXES * (MAX_AXES + 1)),
    ],
    align=True,
)

Job = np.ndarray[tuple[()], np.dtype[np.void]]


def make_job(
    *,
    image: Sequence[int],
    grid_shape: Sequence[int],
    start: Sequence[int] | None = None,
    output: Sequence[int] | None = None,
    origin: Sequence[int] = (),
    frame: Frame | None = None,
    order: int = 0,
    mode: Mode = Mode.CONSTANT,
    prefilter: bool = False,
    votes: bool = False,
    cval: float = 0.0,
    border_value: float = 0.0,
    dtype: str = "float64",
    compute_dtype: str = "float64",
    batch_axes: int = 0,
    evaluation_order: int = 0,
    roi: Window | None = None,
    inverse_rotation_zoom: Matrix | None = None,
) -> Job:
    """Return the job of one image; the box is the whole image with its padding.

    Without an image, as for the displacement alone, most arguments have no meaning. Without `output`, the output is the
    whole image. Without `frame`, the output voxels are those of the image, and the frame spans them.
    """
    axes = len(image)
    padding = padding_of(order, mode, prefilter)
    job = np.zeros((), JOB)
    job["axes"] = axes
    job["order"] = order
    job["mode"] = mode
    job["padding"] = padding
    job["votes"] = votes
    job["image"][:axes] = image
    job["grid_shape"][:axes] = grid_shape
    job["start"][:axes] = 0 if start is None else start
    job["output"][:axes] = image if output is None else output
    job["origin"][: len(origin)] = origin
    job["box_extent"][:axes] = [extent + 2 * padding for extent in image]
    job["frame"][:axes] = image if frame is None else frame.extent
    job["frame_start"][:axes] = 0 if frame is None else frame.start
    job["frame_step"][:axes] = 1 if frame is None else frame.step
    job["cval"] = cval
    job["border_value"] = border_value
    job["batch_axes"] = batch_axes
    job["dtype"] = _dtypes.CODES[dtype]
    job["compute_dtype"] = _dtypes.CODES[compute_dtype]
    job["filtered"] = prefilter
    job["evaluation_order"] = evaluation_order
    element = _dtypes.element(cval, dtype)
    job["cval_element"][: len(element)] = np.frombuffer(element, np.uint8)
    job["roi_start"][:axes] = 0 if roi is None else roi.start
    job["roi_extent"][:axes] = image if roi is None else roi.shape
    if inverse_rotation_zoom is not None:
        job["rotates"] = True
        job["inverse_rotation_zoom"][: axes * (axes + 1)] = np.ravel(inverse_rotation_zoom)
    job.flags.writeable = False
    return job


def job_of(spec: DeformSpec, homogeneous: bool) -> Job:
    """Return the job for a specification's image; if `homogeneous`, the image is zero beyond its border."""
    (image,) = spec.images
    border_value = 0 if homogeneous else cast("float", image.cval)
    # The value where there is no position: NaN in modes without a constant, unless voxels are integers or labels.
    has_constant = image.votes or image.mode.traits.has_constant or not _dtypes.is_inexact(image.dtype)
    return make_job(
        image=spec.extent,
        grid_shape=spec.grid_shape,
        start=spec.window.start,
        output=spec.window.shape,
        origin=spec.origin,
        frame=spec.frame,
        order=image.order,
        mode=image.mode,
        prefilter=image.prefilter,
        votes=image.votes,
        cval=border_value if has_constant else math.nan,
        border_value=border_value,
        dtype=image.dtype,
        compute_dtype=_dtypes.compute_dtype(image.dtype, image.order, spec.axes),
        batch_axes=len(spec.batch),
        roi=spec.roi,
        inverse_rotation_zoom=spec.inverse_rotation_zoom,
    )


@lru_cache(maxsize=64)
def field_job(spec: DeformSpec) -> Job:
    """Return the job for the displacement of every voxel."""
    return make_job(
        image=spec.extent,
        grid_shape=spec.grid_shape,
        start=spec.window.start,
        output=spec.window.shape,
        frame=spec.frame,
        batch_axes=len(spec.batch),
    )


@lru_cache(maxsize=64)
def evaluation_job(spec: EvaluationSpec, order: int) -> Job:
    """Return the job for derivatives of the displacement, of one order, at positions."""
    nowhere = (0,) * spec.axes
    return make_job(image=spec.extent, grid_shape=spec.grid_shape, output=nowhere, evaluation_order=order)


def with_derivative(job: Job, derivative: Sequence[int]) -> Job:
    """Return a job for the spline differentiated this many times along each axis; derivatives are zero outside."""
    derived = job.copy()
    derived["derivative"][: len(derivative)] = derivative
    derived["cval"] = 0.0
    return derived
