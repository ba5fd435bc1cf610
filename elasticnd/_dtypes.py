"""The element types of images: their names, their numbers in the core, and the types they are computed in."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import Any

import numpy as np

from ._types import DType

# The numbers of cpp/include/elasticnd/dtypes.hpp.
CODES = {
    "bool": 0,
    "int8": 1,
    "uint8": 2,
    "int16": 3,
    "uint16": 4,
    "int32": 5,
    "uint32": 6,
    "int64": 7,
    "uint64": 8,
    "float16": 9,
    "bfloat16": 10,
    "float32": 11,
    "float64": 12,
}
COMPLEX_COMPONENTS = {"complex64": "float32", "complex128": "float64"}
FLOATS = ("float16", "bfloat16", "float32", "float64")
SUPPORTED = (*CODES, *COMPLEX_COMPONENTS)

_WIDE = ("int32", "uint32", "int64", "uint64", "float64")


@lru_cache(maxsize=64)
def name_of(dtype: DType) -> str:
    """Return the name of a NumPy dtype, cached because NumPy rebuilds it for each request."""
    return dtype.name


def native(dtype: DType) -> DType:
    """Return a dtype in the byte order of this machine."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def element(value: float | np.floating[Any], name: str) -> bytes:
    """Return the bytes of an element; infinity stands for values that the type cannot hold."""
    with np.errstate(over="ignore"):
        if name != "bfloat16":
            return np.asarray(value).astype(name).tobytes()
        number = np.float32(value)
    if np.isnan(number):
        return np.uint16(0x7FC0).tobytes()
    bits = int(number.view(np.uint32))
    # The upper half of a float32, rounded to nearest, with ties to even.
    return np.uint16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).tobytes()


def holds(value: float, name: str) -> bool:
    """Check whether a real type holds a value exactly."""
    limits = integer_limits(name)
    is_nan = isinstance(value, float) and math.isnan(value)
    if limits is not None:
        return not is_nan and saturate(value, limits) == value
    bits = element(float(value), name)
    if name == "bfloat16":
        bits, name = b"\0\0" + bits if sys.byteorder == "little" else bits + b"\0\0", "float32"
    return is_nan or bool(np.frombuffer(bits, name)[0].item() == value)


def real_component(name: str) -> str:
    """Return the name of the type of a complex type's components, or of a real type itself."""
    return COMPLEX_COMPONENTS.get(name, name)


# How much the prefilter can amplify an image along each axis: the product of (1 + |z|) / (1 - |z|) over its poles.
_GAIN = (1.0, 1.0, 1.42, 1.74, 2.19, 2.75)
# Float32 rounding adds errors of about 1e-7 of the summed values. Up to this gain they stay below 5e-6 of the image.
_LARGEST_SINGLE_GAIN = 25.0


def compute_dtype(name: str, order: int, axes: int) -> str:
    """Return the name of the type an image is computed in: float32 or float64."""
    single = real_component(name) not in _WIDE and _GAIN[order] ** axes <= _LARGEST_SINGLE_GAIN
    return "float32" if single else "float64"


def is_inexact(name: str) -> bool:
    """Return whether a type has gradients."""
    return name in FLOATS or name in COMPLEX_COMPONENTS


def is_real_number(name: str) -> bool:
    """Return whether a type holds the numbers of a control grid or a matrix; types longer than float64 do too."""
    return name != "bool" and (name in CODES or name.startswith(("float", "longdouble")))


def integer_limits(name: str) -> tuple[int, int] | None:
    """Return the smallest and the largest value of an integer type or bool; None for other types."""
    if name == "bool":
        return 0, 1
    if "int" not in name:
        return None
    bits = int(name.lstrip("uint"))
    return (0, 2**bits - 1) if name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def saturate(value: float, limits: tuple[int, int]) -> int:
    """Round half away from zero and clip to the limits, as the core does for every integer output."""
    low, high = limits
    if isinstance(value, float):
        if math.isinf(value):
            return high if value > 0 else low
        whole = int(value)
        rest = value - whole
        value = whole + (rest >= 0.5) - (rest <= -0.5)
    return min(max(int(value), low), high)
