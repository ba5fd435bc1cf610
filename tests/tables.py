"""The tables over which tests are parametrised, and the tolerances of the types."""

import ml_dtypes
import numpy as np

MODES = ("constant", "nearest", "reflect", "mirror", "wrap", "grid-constant", "grid-mirror", "grid-wrap")
ORDERS = tuple(range(6))
FLOATS = tuple(map(np.dtype, (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)))
COMPLEX = tuple(map(np.dtype, (np.complex64, np.complex128)))
INTEGERS = tuple(
    map(
        np.dtype,
        (np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64),
    )
)
# SciPy starts its recursion inexactly in mode reflect, with an error of |z|^(2N - 1). The extents are so long that this
# error stays below 1e-12 at every order.
SHAPES = {1: (57,), 2: (31, 18), 3: (20, 17, 19), 4: (18, 19, 18, 18)}

# The largest errors of an image with values in [0, 1], computed in single and in double precision.
SINGLE = 5e-6
DOUBLE = 1e-12


def values(rng, shape, dtype):
    """Draw pixels: floats in [0, 1], and integers over their whole range, limited to 2**53, where SciPy is exact."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -(2**53)), min(info.max, 2**53), shape, dtype=dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.random(shape) + 1j * rng.random(shape)).astype(dtype)
    return rng.random(shape).astype(dtype)


def grid(rng, shape, reach):
    """Draw displacements of up to `reach` voxels, with a random number of control points along each axis."""
    points = rng.integers(1, 6, len(shape))
    return rng.uniform(-reach, reach, (len(shape), *points))


def random_crop(rng, shape):
    """Draw a non-empty patch of a non-empty shape."""
    starts = [int(rng.integers(0, extent)) for extent in shape]
    return tuple(
        slice(start, int(rng.integers(start + 1, extent + 1))) for start, extent in zip(starts, shape, strict=True)
    )
