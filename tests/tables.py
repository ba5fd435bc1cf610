"""The tables that tests are parametrised over, and the tolerances of the types."""

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
# Extents long enough that SciPy's inexact start of the recursion in mode reflect, an error of |z|^(2N - 1), stays
# below 1e-12 at every order.
SHAPES = {1: (57,), 2: (31, 18), 3: (20, 17, 19), 4: (18, 19, 18, 18)}

# Largest error in an image with values in [0, 1]: of the arithmetic, and of one rounding of the type.
SINGLE = 5e-6
DOUBLE = 1e-12


def values(rng, shape, dtype):
    """Random pixels: floats in [0, 1], integers over their whole range, but 2**53 at most so that SciPy is exact."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -(2**53)), min(info.max, 2**53), shape, dtype=dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.random(shape) + 1j * rng.random(shape)).astype(dtype)
    return rng.random(shape).astype(dtype)


def grid(rng, shape, reach):
    """Random displacements of up to `reach` voxels, with a different number of control points along each axis."""
    points = rng.integers(1, 6, len(shape))
    return rng.uniform(-reach, reach, (len(shape), *points))


def random_crop(rng, shape):
    """Choose a patch that is not empty, of a shape that is not."""
    starts = [int(rng.integers(0, extent)) for extent in shape]
    return tuple(
        slice(start, int(rng.integers(start + 1, extent + 1))) for start, extent in zip(starts, shape, strict=True)
    )
