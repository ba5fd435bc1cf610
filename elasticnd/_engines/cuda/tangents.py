"""Derivatives along tangents of the transform, as sums of partial derivatives of the image."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..._job import Job, with_derivative
from ..contract import Transform
from .call import Call
from .coefficients import loaded
from .control_grid import grid_coefficients
from .devices import namespace
from .launches import contiguous

Array = Any  # of CuPy


def weighted(call: Call, gradient: Array, transform: Transform) -> Iterator[tuple[Job, Array, int]]:
    """Yield the gradient of the output or, with tangents, of each partial derivative that they need."""
    if not transform.tangents:
        yield call.job, contiguous(gradient), call.dtype
        return
    numbers = loaded(contiguous(gradient), call.dtype, call.compute_dtype).reshape(
        call.items, call.channels, *call.output
    )
    for job, factor in partial_derivatives(call, transform):
        yield job, namespace().ascontiguousarray((factor * numbers).astype(numbers.dtype)), call.compute_dtype


def partial_derivatives(call: Call, transform: Transform) -> Iterator[tuple[Job, Array]]:
    """Yield the partial derivatives that make up the derivative along the tangents, and the factor of each voxel.

    Factors are the products of the tangents' components, summed for each combination of axes.
    """
    fields = [_tangent_field(call, *tangent) for tangent in transform.tangents]
    sums: dict[tuple[int, ...], Array] = {}
    for axis_of in itertools.product(range(call.axes), repeat=len(fields)):
        derivative = [int(count) for count in call.job["derivative"][: call.axes]]
        for axis in axis_of:
            derivative[axis] += 1
        if max(derivative) > call.order:
            continue
        factor = fields[0][:, axis_of[0]]
        for field, axis in zip(fields[1:], axis_of[1:], strict=True):
            factor = factor * field[:, axis]
        key = tuple(derivative)
        sums[key] = sums[key] + factor if key in sums else factor
    for key, factor in sums.items():
        yield with_derivative(call.job, key), factor[:, None]


def _tangent_field(call: Call, displacement: Array, affine: Array | None) -> Array:
    """Return a tangent as a displacement of each voxel, (items, axes, outputs)."""
    xp = namespace()
    shape = (call.items, call.axes, *call.output)
    field = xp.empty(shape, np.float64)
    own = Call(call.job, call.items, 1, grid_coefficients(displacement, call.job, call.items))
    own.displace(field)
    if affine is not None:
        change = affine.reshape(-1, call.axes, call.axes + 1, *(1,) * call.axes)
        field += change[:, :, call.axes]
        for k, extent in enumerate(call.output):
            index = from_origin(call.job, k, extent)
            field += change[:, :, k] * index.reshape(-1, *(1,) * (call.axes - 1 - k))
    return field


def from_origin(job: Job, axis: int, extent: int) -> Array:
    """Return the output indices along an axis, as affine maps count them."""
    start = float(job["start"][axis] - job["origin"][axis])
    return start + namespace().arange(extent, dtype=np.float64)
