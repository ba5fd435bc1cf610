"""Engines: the same few verbs on each kind of device. An engine computes; it knows no framework and no chain rule.

An engine is a module. Its verbs, each linear in its first array:

``sample``
    an image to the values of its spline at the deformed positions
``scatter``
    the transpose of ``sample`` in its image, and the gradients of ``<output, sample>`` with respect to control points
    and affine matrix, one of these or all
``displace``
    control points to the displacement of each voxel
``prefilter``
    an image to its B-spline coefficients, a step of ``sample``
``prefilter_adjoint``
    the transpose

Arrays come with their axes in the order batch, channels, deformed; a `Job` says the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from .._geometry import Geometry


class Job(NamedTuple):
    """What a verb needs to know of an image of real numbers, besides the arrays."""

    geometry: Geometry
    batch_axes: int
    dtype: int  # of the image, a number of `_dtypes.CODES`
    arithmetic: int  # in which it is computed: that of float32 or float64
    filtered: bool  # else the image is taken for its coefficients
    fill: bytes  # the element where there is no position, for order 0
