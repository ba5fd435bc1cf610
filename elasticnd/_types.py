"""Types that the signatures of several files share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any  # of any framework; no type is common to all
ArrayNamespace: TypeAlias = Any  # the operations of a library, as in the array API standard
FrameworkDType: TypeAlias = Any  # a dtype of any framework
DType: TypeAlias = np.dtype[Any]
NumpyArray: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.float64]

# An array, or a list or tuple of arrays: results have the form of the images.
Images = TypeVar("Images")
ArrayT = TypeVar("ArrayT")

# Arguments of the public functions.
Order: TypeAlias = int | Literal["labels"]
Numbers: TypeAlias = complex | Sequence[complex]
Axes: TypeAlias = int | str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]] | Sequence[Sequence[str]]
Rotation: TypeAlias = float | Mapping[tuple[int, int], float] | Array  # an array, or an object with `as_matrix`
Zoom: TypeAlias = float | Sequence[float]
Seed: TypeAlias = object  # whatever NumPy or the images' framework accepts as a seed or generator
