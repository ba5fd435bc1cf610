"""Engines: the same few verbs on each kind of device. An engine computes; it knows no framework and no chain rule.

An engine is a module; `engine_of` finds the one for an array. `namespace` is where its arrays come from, `empty`
allocates an output, and `holding` is a context in which the device of an array is current. Its verbs, each linear in
its first array:

``sample``
    an image to the values of its spline at the deformed positions, or to their derivative along directions
``scatter``
    the transpose of ``sample`` in its image, and the gradients of ``<output, sample>`` with respect to control points
    and inverse affine map, one of these or all
``displace``
    control points to the displacement of each voxel
``displace_adjoint``
    the transpose
``prefilter``
    an image to its B-spline coefficients, a step of ``sample``
``prefilter_adjoint``
    the transpose

Arrays come with their axes in the order batch, channels, deformed; a `Job` says the rest.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .._geometry import Geometry

Floats = NDArray[np.float64]


class Motion(NamedTuple):
    """Where the voxels go, and directions in which that can change."""

    points: Any  # displacements of the control points
    affine: Any = None  # forward map of the output patch; the engine inverts it
    fixed: Any = None  # the inverse of rotation and zoom
    directions: tuple[tuple[Any, Any], ...] = ()  # changes of control points and, with an affine, of the inverse map


class Job(NamedTuple):
    """What a verb needs to know of an image of real numbers, besides the arrays."""

    geometry: Geometry
    batch_axes: int
    dtype: int  # of the image, a number of `_dtypes.CODES`
    arithmetic: int  # in which it is computed: that of float32 or float64
    filtered: bool  # else the image is taken for its coefficients
    fill: bytes  # the element where there is no position, for order 0
    held: tuple[tuple[int, int], ...] | None = None  # first voxel and extent of what is there of the image; None: all


def is_cupy(array: Any) -> bool:
    """Tell whether an array is one of CuPy."""
    return type(array) is not np.ndarray and array_api_compat.is_cupy_array(array)


_loaded: dict[str, ModuleType] = {}  # none before there is an array for it


def engine_of(array: Any) -> ModuleType:
    """Find the engine for arrays of a kind: NumPy's or CuPy's."""
    name = "cuda" if is_cupy(array) else "cpu"
    engine = _loaded.get(name)
    if engine is None:
        engine = _loaded[name] = import_module(f".{name}", __name__)
    return engine
