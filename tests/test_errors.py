"""Refused calls: the type of the exception, and a message that names the argument, what came and what is accepted.

In every case, exactly one argument is wrong. The engine is replaced by functions that raise another exception, so a
case fails if the call computes anything before it is refused.
"""

import copy
import inspect
import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse

import elasticnd
from elasticnd._engines import cpu

pytestmark = pytest.mark.quick

IMAGE = np.arange(120.0).reshape(12, 10)
LABELS = np.arange(120).reshape(12, 10)
VOLUME = np.zeros((4, 5, 6))
BATCH = np.zeros((4, 12, 10))
GRID = np.zeros((2, 3, 3))
GRIDS = np.zeros((4, 2, 3, 3))
GRID_3D = np.zeros((3, 2, 2, 2))
PATCH = (slice(2, 7), slice(1, 9))
ENDLESS = 10**400  # too large for a float

CALLS = {
    "deform_grid": {"X": IMAGE, "displacement": GRID},
    "deform_random_grid": {"X": IMAGE, "sigma": 2},
    "deform_grid_gradient": {"dY": IMAGE, "displacement": GRID},
    "deform_grid_vjp": {"dY": IMAGE, "X": IMAGE, "displacement": GRID},
    "random_displacement": {"points": 3, "sigma": 1, "ndim": 2},
    "dense_displacement": {"displacement": GRID, "shape": (12, 10)},
    "set_num_threads": {"threads": 1},
    "num_threads": {"threads": 1},
}
IMAGES_OF = {  # the arguments that are arrays of the image's shape
    "deform_grid": ("X",),
    "deform_random_grid": ("X",),
    "deform_grid_gradient": ("dY",),
    "deform_grid_vjp": ("dY", "X"),
}
WITH_DISPLACEMENT = ("deform_grid", "deform_grid_gradient", "deform_grid_vjp", "dense_displacement")


class Case(NamedTuple):
    functions: tuple[str, ...]
    arguments: dict[str, Any]  # replace those of CALLS
    error: type[Exception] | tuple[type[Exception], ...]
    argument: str  # with which the message begins
    fragments: tuple[str, ...]  # parts of the message: what came, what is accepted


class AsMatrix(NamedTuple):
    matrix: Any

    def as_matrix(self):
        return self.matrix


def refused(functions, argument, error, accepted, *values, named=None, **others):
    """Yield a case for each of `values`, which are tuples of a value of `argument` and parts of its message."""
    functions = (functions,) if isinstance(functions, str) else tuple(functions)
    accepted = (accepted,) if isinstance(accepted, str) else accepted
    for value, *said in values:
        yield Case(functions, {**others, argument: value}, error, named or argument, (*said, *accepted))


def for_images(*images, **others):
    """Return the arguments of a case, with images that each function receives under its own name."""
    return {"images": list(images), **others}


def all_cases():
    yield from order_mode_cval_cases()
    yield from crop_and_axis_cases()
    yield from affine_cases()
    yield from rotate_cases()
    yield from zoom_cases()
    yield from displacement_cases()
    yield from image_cases()
    yield from gradient_cases()
    yield from random_cases()
    yield from thread_cases()


def order_mode_cval_cases():
    for_each = "one for the image"
    integer = "an integer from 0 to 5 or 'labels'"
    yield from refused(IMAGES_OF, "order", ValueError, integer, (6, "6"), (-1, "-1"), ([6], "6"))
    yield from refused(
        IMAGES_OF,
        "order",
        ValueError,
        integer,
        ("3", "'3'"),
        ("label", "'label'"),
        ("Labels", "'Labels'"),
        ("labels-2", "'labels-2'"),
        ("", "''"),
        (["label"], "'label'"),
    )
    yield from refused(
        IMAGES_OF,
        "order",
        TypeError,
        integer,
        (2.5, "2.5"),
        (3.0, "3.0"),
        (True, "True"),
        (np.True_, "bool"),
        (b"labels", "b'labels'"),
        (None, "None"),
        (1j, "1j"),
        ([[3]], "[3]"),
        ([["labels"]], "['labels']"),
        (np.float64(3), "float64"),
        (np.array(3.0), "float64"),
    )
    yield from refused(IMAGES_OF, "order", ValueError, for_each, ([3, 3], "2 values"), ((), "0 values"))
    yield from refused(
        IMAGES_OF, "mode", ValueError, ("'constant'", "'grid-wrap'"), ("Constant", "'Constant'"), ("", "''")
    )
    yield from refused(
        IMAGES_OF,
        "mode",
        TypeError,
        ("'constant'", "'grid-wrap'"),
        (3, "3 (int)"),
        (None, "None"),
        (b"constant", "b'constant'"),
        ([None], "None"),
        ({"mirror"}, "set"),
    )
    yield from refused(IMAGES_OF, "mode", ValueError, for_each, (["wrap", "mirror"], "2 values"), ([], "0 values"))
    yield from refused(
        IMAGES_OF,
        "cval",
        TypeError,
        "number",
        ("0", "'0'"),
        (b"0", "b'0'"),
        (None, "None"),
        (1j, "1j"),
        (np.complex128(1j), "complex128"),
        ({}, "{}"),
        ([[0.0]], "[0.0]"),
        ([[[1], [1, 2]]], "[1, 2]"),
        (np.zeros((1, 1)), "(1, 1)"),
    )
    yield from refused(IMAGES_OF, "cval", ValueError, "number", (ENDLESS, "1000"))
    yield from refused(IMAGES_OF, "cval", ValueError, for_each, ([0, 0], "2 values"), ([], "0 values"))
    for name in ("deform_grid", "deform_random_grid"):
        yield from refused(name, "cval", ValueError, "a number that int64 can hold", (np.nan, "nan"), X=LABELS)
        yield from refused(name, "cval", TypeError, "a real number", (1j, "1j"), X=LABELS)
    yield from label_cases()
    yield from refused(
        IMAGES_OF,
        "prefilter",
        TypeError,
        "True or False",
        (1, "1 (int)"),
        (None, "None"),
        ("yes", "'yes'"),
        ([True], "[True]"),
    )


def label_cases():
    """Order "labels" must keep every label exactly, and labels have no derivatives."""
    labels = {"order": "labels"}
    for name in ("deform_grid", "deform_random_grid"):
        for dtype, *values in [
            ("uint8", -1, 256, 0.5, np.inf),
            ("bool", 2, -1, 0.5),
            ("int64", 2**63, 2**63 + 0.0, 1e-300),
            ("uint64", -1, 2**64),
            ("float16", 0.1, 2049, 1e6),
            ("float32", 0.1, 2**24 + 1, 1e300),
            ("float64", 2**53 + 1),
            (ml_dtypes.bfloat16, 257, 0.1),
        ]:
            image = np.zeros((12, 10), dtype)
            accepted = f"a label that {image.dtype} can hold exactly"
            for mode in ("constant", "mirror"):
                given = ((value, str(value)) for value in values)
                yield from refused(name, "cval", ValueError, accepted, *given, X=image, mode=mode, **labels)
        complex_image = IMAGE.astype(np.complex64)
        expected = "real numbers for order 'labels'"
        yield from refused(name, "X", TypeError, expected, (complex_image, "complex64"), **labels)
        several = [IMAGE, complex_image]
        yield from refused(name, "X", TypeError, expected, (several, "complex64"), named="X[1]", order=[3, "labels"])
    no_gradient = "labels have no gradient"
    for name, image in (
        ("deform_grid_gradient", {}),
        ("deform_grid_vjp", {"X": IMAGE}),
        ("deform_grid_vjp", {"X": LABELS}),
    ):
        yield from refused(name, "dY", ValueError, no_gradient, (IMAGE, "order 'labels'"), **image, **labels)
    several = {"X": [IMAGE, IMAGE], "order": [3, "labels"]}
    yield from refused(
        "deform_grid_vjp", "dY", ValueError, no_gradient, ([IMAGE, IMAGE], "'labels'"), named="dY[1]", **several
    )


def crop_and_axis_cases():
    whole = {"X_shape": IMAGE.shape}
    for name in IMAGES_OF:
        also = whole if name == "deform_grid_gradient" else {}
        two = "2 slices, one per deformed axis"
        yield from refused(
            name,
            "crop",
            TypeError,
            two,
            (slice(0, 4), "slice(0, 4, None)"),
            (3, "3 (int)"),
            ("ab", "'ab'"),
            (iter(PATCH), "iterator"),
            ({0: PATCH}, "dict"),
            (np.zeros(2), "float64"),
            **also,
        )
        yield from refused(
            name,
            "crop",
            ValueError,
            two,
            (PATCH[:1], "1 entry"),
            ((), "0 entries"),
            ((*PATCH, PATCH[0]), "3 entries"),
            **also,
        )
        for k in range(2):

            def at(part, k=k):
                return (*PATCH[:k], part, *PATCH[k + 1 :])

            yield from refused(
                name,
                "crop",
                ValueError,
                f"a non-empty slice of an axis with {IMAGE.shape[k]} voxels",
                (at(slice(3, 3)), "slice(3, 3, None)"),
                (at(slice(0)), "slice(None, 0, None)"),
                (at(slice(5, 2)), "slice(5, 2, None)"),
                (at(slice(20, 30)), "slice(20, 30, None)"),
                (at(slice(-2, -5)), "slice(-2, -5, None)"),
                named=f"crop[{k}]",
                **also,
            )
            yield from refused(
                name,
                "crop",
                ValueError,
                "a slice without a step",
                (at(slice(0, 5, 2)), "slice(0, 5, 2)"),
                (at(slice(5, 0, -1)), "slice(5, 0, -1)"),
                named=f"crop[{k}]",
                **also,
            )
            yield from refused(
                name,
                "crop",
                TypeError,
                "a slice",
                (at(slice(0.0, 5.0)), "slice(0.0, 5.0, None)"),
                (at(slice("a")), "slice(None, 'a', None)"),
                (at(3), "3 (int)"),
                (at(None), "None"),
                (at(...), "Ellipsis"),
                (at((0, 5)), "(0, 5)"),
                named=f"crop[{k}]",
                **also,
            )
    axes = "None, an axis, a sequence of axes, or one such sequence per image"
    yield from refused(IMAGES_OF, "axis", ValueError, "different axes", ((0, 0), "(0, 0)"), ((0, -2), "(0, -2)"))
    yield from refused(
        IMAGES_OF,
        "axis",
        ValueError,
        "axes from -2 to 1",
        ((0, 2), "(0, 2)"),
        ((-3, 0), "(-3, 0)"),
        ([(0, 10)], "(0, 10)"),
    )
    yield from refused(
        IMAGES_OF,
        "axis",
        TypeError,
        axes,
        (1.0, "1.0"),
        ("0", "'0'"),
        ("01", "'01'"),
        (True, "True"),
        ((0, 1.0), "1.0"),
        ((0, True), "True"),
        ([[0, [1]]], "[1]"),
        ({0, 1}, "{0, 1}"),
        (iter((0, 1)), "iterator"),
        (np.array([0.0, 1.0]), "float64"),
        (np.array(1.0), "float64"),
        (np.zeros((1, 2), int), "(1, 2)"),
    )
    yield from refused(IMAGES_OF, "axis", ValueError, "one for the image", ([(0, 1), (0, 1)], "2 entries"))
    yield from refused("deform_random_grid", "axis", ValueError, "1 to 8", ((), "0 deformed axes"))
    yield from refused("deform_random_grid", "axis", ValueError, "axes after", ((0, 1), "(0, 1)"), batch_dims=1)


def affine_cases():
    shapes = "(2, 3) or (3, 3)"
    yield from refused(
        IMAGES_OF,
        "affine",
        ValueError,
        shapes,
        (np.eye(2), "(2, 2)"),
        (np.eye(3, 4), "(3, 4)"),
        (np.eye(4), "(4, 4)"),
        (np.ones(6), "(6,)"),
        ([], "(0,)"),
        (np.ones((4, 2, 3)), "(4, 2, 3)"),
    )
    yield from refused(
        IMAGES_OF,
        "affine",
        TypeError,
        "real numbers",
        (np.eye(2, 3) * 1j, "complex128"),
        (np.eye(2, 3, dtype=bool), "bool"),
        (np.eye(2, 3).astype(object), "object"),
        (np.eye(2, 3).astype(str), "str"),
        ([["1", "0", "0"], ["0", "1", "0"]], "str"),
        ([[None, 0, 0], [0, 1, 0]], "object"),
    )
    yield from refused(
        IMAGES_OF,
        "affine",
        TypeError,
        "nested lists of numbers",
        (np.ma.masked_equal(np.eye(2, 3), 1), "MaskedArray"),
        (scipy.sparse.csr_array(np.eye(2, 3)), "csr_array"),
        (1.0, "1.0 (float)"),
        ("identity", "'identity'"),
    )
    yield from refused(
        IMAGES_OF, "affine", ValueError, "nested lists of numbers", ([[1, 0], [0, 1, 0]], "different lengths")
    )
    singular = ([[1, 2, 0], [2, 4, 0]], [[0, 0, 1], [0, 0, 1]], [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    yield from refused(
        IMAGES_OF,
        "affine",
        ValueError,
        "invertible",
        *((matrix, "a singular matrix") for matrix in singular),
    )
    yield from refused(
        IMAGES_OF,
        "affine",
        ValueError,
        "finite values",
        (np.diag([np.nan, 1, 1]), "NaN or infinite"),
        (np.diag([np.inf, 1])[:, [0, 1, 1]], "NaN or infinite"),
        ([[1, 0, -np.inf], [0, 1, 0]], "NaN or infinite"),
    )
    # The inverse, or its offset, overflows.
    yield from refused(
        IMAGES_OF,
        "affine",
        ValueError,
        "",
        ([[1e-300, 0, 1e300], [0, 1, 0]],),
        ([[1e-320, 0, 0], [0, 1, 0]],),
    )
    yield from refused(
        IMAGES_OF,
        "affine",
        ValueError,
        "[0.0, 0.0, 1.0] as the last row",
        (np.ones((3, 3)) + np.eye(3), "[1.0, 1.0, 2.0]"),
        (np.diag([1, 1, 0]), "[0.0, 0.0, 0.0]"),
    )
    yield from refused(
        "deform_grid",
        "affine",
        ValueError,
        "after the batch axes (4,)",
        (np.ones((3, 2, 3)), "(3, 2, 3)"),
        (np.ones((1, 2, 3)), "(1, 2, 3)"),
        X=BATCH,
        displacement=GRIDS,
    )
    one_singular = np.stack([np.eye(2, 3)] * 3 + [np.zeros((2, 3))])
    yield from refused(
        "deform_grid",
        "affine",
        ValueError,
        "invertible",
        (one_singular, "a singular matrix"),
        X=BATCH,
        displacement=GRIDS,
    )


def rotate_cases():
    ways = "degrees, a mapping {(k, l): degrees}, a rotation matrix or a Rotation"
    yield from refused(
        IMAGES_OF,
        "rotate",
        TypeError,
        ways,
        ("30", "'30'"),
        (b"30", "b'30'"),
        (True, "True"),
        (1j, "1j"),
        (np.complex128(1j), "complex128"),
        ({30}, "{30}"),
        (AsMatrix("x"), "'x'"),
    )
    yield from refused(IMAGES_OF, "rotate", ValueError, ways, (np.nan, "nan"), (-np.inf, "-inf"), (ENDLESS, "1000"))
    yield from refused(
        IMAGES_OF,
        "rotate",
        TypeError,
        "a finite number of degrees",
        ({(0, 1): None}, "None"),
        ({(0, 1): "30"}, "'30'"),
        named="rotate[(0, 1)]",
    )
    yield from refused(
        IMAGES_OF,
        "rotate",
        ValueError,
        "a finite number of degrees",
        ({(0, 1): np.nan}, "nan"),
        ({(0, 1): np.inf}, "inf"),
        named="rotate[(0, 1)]",
    )
    plane = "two different deformed axes, from 0 to 1"
    yield from refused(
        IMAGES_OF,
        "rotate",
        TypeError,
        plane,
        ({0: 30}, "0 (int)"),
        ({"01": 30}, "'01'"),
        ({(0,): 30}, "(0,)"),
        ({(0, 1, 1): 30}, "(0, 1, 1)"),
        ({(0, 1.0): 30}, "(0, 1.0)"),
    )
    yield from refused(
        IMAGES_OF,
        "rotate",
        ValueError,
        plane,
        ({(0, 0): 30}, "(0, 0)"),
        ({(0, -2): 30}, "(0, -2)"),
        ({(0, 2): 30}, "(0, 2)"),
        ({(-3, 0): 30}, "(-3, 0)"),
    )
    matrix = "an orthonormal matrix of shape (2, 2) with determinant 1"
    yield from refused(
        IMAGES_OF,
        "rotate",
        ValueError,
        matrix,
        (np.eye(3), "(3, 3)"),
        (np.eye(2, 3), "(2, 3)"),
        ([30, 40], "(2,)"),
        (AsMatrix(np.eye(2)[np.newaxis]), "(1, 2, 2)"),
        (np.diag([1, -1]), "[[1, 0], [0, -1]]"),
        (2 * np.eye(2), "[[2.0, 0.0], [0.0, 2.0]]"),
        ([[1, 1], [0, 1]], "[[1, 1], [0, 1]]"),
        (np.diag([np.nan, 1]), "nan"),
        (np.diag([np.inf, 1]), "inf"),
    )
    yield from refused(
        IMAGES_OF,
        "rotate",
        (TypeError, ValueError),
        matrix,
        ([[1], [0, 1]], "[[1], [0, 1]]"),
        (np.eye(2) * (1 + 0j), "complex128"),
        ([["1", "a"], ["0", "1"]], "'a'"),
    )
    yield from refused(
        "deform_grid",
        "rotate",
        ValueError,
        "a mapping {(k, l): degrees} or a rotation matrix",
        (30, "one angle for 3 deformed axes"),
        X=VOLUME,
        displacement=GRID_3D,
    )


def zoom_cases():
    accepted = "a finite number other than 0, or 2 of them"
    yield from refused(
        IMAGES_OF,
        "zoom",
        ValueError,
        accepted,
        (0, "0"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (ENDLESS, "1000"),
        ([1, 0], "[1, 0]"),
        ([1, np.nan], "nan"),
        ([], "[]"),
        ([1], "[1]"),
        ([1, 1, 1], "[1, 1, 1]"),
    )
    # The inverse of such a small factor overflows.
    yield from refused(IMAGES_OF, "zoom", ValueError, "", (1e-320,), (1e-308,))
    yield from refused(
        IMAGES_OF,
        "zoom",
        TypeError,
        accepted,
        ("2", "'2'"),
        ("", "''"),
        (True, "True"),
        (1j, "1j"),
        (np.complex64(1j), "complex64"),
        ({1, 2}, "{1, 2}"),
        ([1, None], "None"),
        ([1, "1"], "'1'"),
        ([[1, 1], [1, 1]], "[1, 1]"),
        ([[1], [1, 1]], "[1]"),
    )


def displacement_cases():
    yield from refused(
        WITH_DISPLACEMENT,
        "displacement",
        TypeError,
        "real numbers",
        (GRID.astype(complex), "complex128"),
        (GRID.astype(np.complex64), "complex64"),
        (GRID.astype(bool), "bool"),
        (GRID.astype(object), "object"),
        (GRID.astype(str), "str"),
        (GRID.astype("S3"), "bytes"),
        (GRID.astype("m8[s]"), "timedelta64[s]"),
        (np.zeros((2, 3, 3), "i4, f4"), "void"),
        ([[[None] * 3] * 3] * 2, "object"),
        ([[["0"] * 3] * 3] * 2, "str"),
        ([[[0, 0, 1j]] * 3] * 2, "complex128"),
        ([[[True] * 3] * 3] * 2, "bool"),
        ([[[ENDLESS] * 3] * 3] * 2, "object"),
    )
    yield from refused(
        WITH_DISPLACEMENT,
        "displacement",
        TypeError,
        "",
        (None, "None"),
        (3.0, "3.0"),
        (np.float64(3), "float64"),
        ("grid", "'grid'"),
        ({}, "{}"),
        (memoryview(GRID), "memoryview"),
        (np.ma.masked_array(GRID, GRID == 0), "MaskedArray"),
        (list(np.ma.masked_array(GRID, GRID == 0)), "mask"),
        (scipy.sparse.csr_array(GRID[0]), "csr_array"),
        ([scipy.sparse.csr_array(GRID[0])] * 2,),
    )
    yield from refused(
        WITH_DISPLACEMENT,
        "displacement",
        ValueError,
        "nested lists of numbers",
        ([[[1.0], [1.0, 2.0]]] * 2, "different lengths"),
    )
    yield from refused(
        WITH_DISPLACEMENT,
        "displacement",
        ValueError,
        "axes",
        (np.zeros((3, 3, 3)), "(3, 3, 3)"),
        (np.zeros((1, 3, 3)), "(1, 3, 3)"),
        (np.zeros((0, 3, 3)), "(0, 3, 3)"),
        (np.zeros((2, 3)), "(2, 3)"),
        (np.zeros(2), "(2,)"),
        (np.array(2.0), "()"),
        ([], "(0,)"),
    )
    yield from refused(
        WITH_DISPLACEMENT,
        "displacement",
        ValueError,
        "at least one control point along each axis",
        (np.zeros((2, 0, 3)), "(2, 0, 3)"),
        (np.zeros((2, 3, 0)), "(2, 3, 0)"),
    )
    for name in IMAGES_OF:
        if name != "deform_random_grid":
            # The images do not have these batch axes.
            for axis in (None, (-2, -1)):
                yield Case(
                    (name,),
                    for_images(BATCH, displacement=np.zeros((5, 2, 3, 3)), axis=axis),
                    ValueError,
                    "displacement",
                    ("(5, 2, 3, 3)",),
                )
    yield from refused("dense_displacement", "shape", TypeError, "a tuple of extents", (12, "12"), ("ab", "'ab'"))
    yield from refused(
        "dense_displacement",
        "shape",
        TypeError,
        "a tuple of extents",
        (None, "None"),
        ((12, 10.0), "10.0"),
        ((12, True), "True"),
        ({12, 10}, "set"),
        (np.array(3), "int64"),
    )
    yield from refused(
        "dense_displacement",
        "shape",
        ValueError,
        "non-negative",
        ((12, -1), "(12, -1)"),
        ((-5, 10), "(-5, 10)"),
    )
    yield from refused(
        "dense_displacement", "shape", ValueError, "1 to 8 deformed axes", ((), "()"), ((1,) * 9, "(1, 1")
    )
    yield from refused(
        "dense_displacement",
        "shape",
        ValueError,
        "",
        ((2**70, 10),),
        crop=(slice(0, 2), slice(0, 2)),
    )
    yield from refused("dense_displacement", "crop", TypeError, "2 slices", (slice(1, 2), "slice(1, 2, None)"))
    yield from refused("dense_displacement", "crop", ValueError, "2 slices", (PATCH[:1], "1 entry"))


def image_cases():
    functions = ("deform_grid", "deform_random_grid")
    names = "float64, complex64, complex128"
    yield from refused(
        functions,
        "X",
        TypeError,
        names,
        (IMAGE.astype(object), "object"),
        (IMAGE.astype(str), "str"),
        (IMAGE.astype("S5"), "bytes"),
        (IMAGE.astype("M8[s]"), "datetime64[s]"),
        (IMAGE.astype("m8[s]"), "timedelta64[s]"),
        (np.zeros((12, 10), "i4, f4"), "void"),
        (IMAGE.view("V8"), "void"),
    )
    if np.dtype(np.longdouble) != np.dtype(np.float64):
        yield from refused(
            functions, "X", TypeError, names, (IMAGE.astype(np.longdouble), np.dtype(np.longdouble).name)
        )
        yield from refused(
            functions, "X", TypeError, names, (IMAGE.astype(np.clongdouble), np.dtype(np.clongdouble).name)
        )
    yield from refused(
        functions,
        "X",
        TypeError,
        "a dense array of NumPy",
        (np.ma.masked_less(IMAGE, 3), "MaskedArray"),
        (scipy.sparse.csr_array(IMAGE), "csr_array"),
        (scipy.sparse.coo_matrix(IMAGE), "coo_matrix"),
        (3.0, "3.0"),
        (np.float64(3), "float64"),
        ("image", "'image'"),
        (b"image", "b'image'"),
        (None, "None"),
        (memoryview(IMAGE), "memoryview"),
        ({"a": IMAGE}, "dict"),
        ({1, 2}, "{1, 2}"),
        (iter([IMAGE]), "iterator"),
    )
    yield from refused(functions, "X", ValueError, "at least one", ([], "no images"), ((), "no images"))
    yield from refused(functions, "X", ValueError, "at least 1", (np.array(3.0), "0 axes"))
    for k, bad, said in (
        (0, 3.0, "3.0"),
        (1, None, "None"),
        (1, "x", "'x'"),
        (1, [IMAGE], "list"),
        (1, np.ma.masked_less(IMAGE, 3), "MaskedArray"),
        (1, scipy.sparse.csr_array(IMAGE), "csr_array"),
    ):
        images = [IMAGE, IMAGE]
        images[k] = bad
        yield from refused(functions, "X", TypeError, "a dense array of NumPy", (images, said), named=f"X[{k}]")
    yield from refused(
        functions, "X", TypeError, "a dense array of NumPy", ([[1.0, 2.0], [3.0, 4.0]], "[1.0, 2.0]"), named="X[0]"
    )
    yield from refused(functions, "X", TypeError, names, ([IMAGE, IMAGE.astype(object)], "object"), named="X[1]")
    yield from refused(functions, "X", ValueError, "at least 1", ([IMAGE, np.array(1.0)], "0 axes"), named="X[1]")
    yield from refused(functions, "X", ValueError, "(12, 10)", ([IMAGE, IMAGE[1:]], "(11, 10)"), named="X[1]")
    yield from refused(functions, "X", ValueError, "(12, 10)", ([IMAGE, IMAGE.T], "(10, 12)"), named="X[1]")
    yield from refused(functions, "X", ValueError, "", ([IMAGE, VOLUME],), named="X[1]")
    yield from refused(
        "deform_grid",
        "X",
        ValueError,
        "leading batch axes (4,)",
        ([BATCH, BATCH[:3]], "(3, 12, 10)"),
        named="X[1]",
        displacement=GRIDS,
    )
    yield from refused(
        "deform_random_grid",
        "X",
        ValueError,
        "leading batch axes (4,)",
        ([BATCH, BATCH[:3]], "(3, 12, 10)"),
        named="X[1]",
        batch_dims=1,
    )
    nine = np.zeros((1,) * 9)
    for name, also in (
        ("deform_grid", {"displacement": np.zeros((9,) + (1,) * 9)}),
        ("deform_random_grid", {}),
    ):
        yield Case((name,), {"X": nine, **also}, ValueError, "axis", ("9 deformed axes", "1 to 8"))


def gradient_cases():
    name = "deform_grid_gradient"
    no_gradient = "integers have no gradient"
    yield from refused(name, "dY", ValueError, no_gradient, (LABELS, "int64"), (IMAGE > 3, "bool"))
    yield from refused(name, "dY", TypeError, "a dense array of NumPy", (None, "None"), (3.0, "3.0"))
    yield from refused(name, "dY", TypeError, "a dense array of NumPy", ([IMAGE, None], "None"), named="dY[1]")
    yield from refused(name, "dY", ValueError, "at least one", ([], "no images"))
    yield from refused(
        name,
        "dY",
        ValueError,
        "(12, 10)",
        (IMAGE[1:], "(11, 10)"),
        (IMAGE.ravel(), "(120,)"),
        (VOLUME, "(4, 5, 6)"),
        X_shape=(12, 10),
    )
    yield from refused(name, "X_shape", ValueError, "since crop is given", (None, "None"), crop=PATCH)
    yield from refused(
        name,
        "X_shape",
        TypeError,
        "a tuple of extents",
        (12, "12"),
        ("ab", "'a"),
        ((12, 10.0), "10.0"),
        ({12, 10}, "set"),
        (np.array(12), "int64"),
    )
    yield from refused(name, "X_shape", ValueError, "", ((12, -10), "-10"), ((), "0 axes"))
    yield from refused(name, "X_shape", ValueError, "one for the image", ([(12, 10)] * 2, "2 shapes"))
    name = "deform_grid_vjp"
    yield from refused(name, "dY", ValueError, "(12, 10)", (IMAGE[1:], "(11, 10)"), (IMAGE.T, "(10, 12)"))
    yield from refused(name, "dY", ValueError, "(5, 8)", (IMAGE, "(12, 10)"), crop=PATCH)
    yield from refused(name, "dY", ValueError, no_gradient, (LABELS, "int64"))
    yield from refused(name, "dY", ValueError, no_gradient, (IMAGE, "int64"), X=LABELS)
    yield from refused(name, "dY", ValueError, no_gradient, ([IMAGE, IMAGE], "int64"), named="dY[1]", X=[IMAGE, LABELS])
    yield from refused(name, "dY", ValueError, "real numbers", (IMAGE * 1j, "complex128"))
    yield from refused(name, "dY", TypeError, "a dense array of NumPy", (3.0, "3.0"), ("dY", "'dY'"))
    yield from refused(
        name, "dY", TypeError, "a dense array of NumPy", ([IMAGE, 3.0], "3.0"), named="dY[1]", X=[IMAGE, IMAGE]
    )
    yield from refused(name, "dY", ValueError, "one for the image", ([IMAGE], "1 gradient"))
    yield from refused(
        name,
        "dY",
        ValueError,
        "one for each of 2 images",
        (IMAGE, "1 gradient"),
        ([IMAGE], "1 gradient"),
        ([IMAGE] * 3, "3 gradients"),
        X=[IMAGE, IMAGE],
    )


def random_cases():
    drawing = ("random_displacement", "deform_random_grid")
    voxels = "a finite, non-negative number of voxels, or 2 of them"
    yield from refused(
        drawing,
        "sigma",
        ValueError,
        voxels,
        (-1, "-1"),
        (np.nan, "nan"),
        (np.inf, "inf"),
        (ENDLESS, "1000"),
        ([1, -1], "[1, -1]"),
        ([1], "[1]"),
        ([1, 1, 1], "[1, 1, 1]"),
        ([], "[]"),
    )
    yield from refused(
        drawing,
        "sigma",
        TypeError,
        voxels,
        ("5", "'5'"),
        (b"5", "b'5'"),
        (None, "None"),
        (1j, "1j"),
        (np.complex128(1j), "complex128"),
        (["1", "1"], "'1'"),
        ([[1, 1]], "[[1, 1]]"),
        ([[1], [1, 1]], "[[1], [1, 1]]"),
        ({1: 1}, "dict"),
    )
    counts = "a positive number of control points, or one per deformed axis"
    yield from refused(drawing, "points", ValueError, counts, (0, "0"), (-3, "-3"), ([3, 0], "[3, 0]"))
    yield from refused(
        drawing,
        "points",
        TypeError,
        counts,
        (3.0, "3.0"),
        ("3", "'3'"),
        (None, "None"),
        (True, "True"),
        ([3, 3.0], "3.0"),
        ([[3, 3]], "[3, 3]"),
        ([[3], [3, 3]], "[3]"),
    )
    yield from refused(
        drawing,
        "points",
        ValueError,
        "2 numbers, one per deformed axis",
        ([3], "[3]"),
        ([3] * 3, "[3, 3, 3]"),
    )
    yield from refused("random_displacement", "points", ValueError, "since ndim is not given", (3, "3"), ndim=None)
    yield from refused("random_displacement", "points", ValueError, counts, ([], "[]"), ndim=None)
    yield from refused("random_displacement", "ndim", ValueError, "", (0, "0"), (-2, "-2"))
    yield from refused(
        "random_displacement",
        "ndim",
        TypeError,
        "",
        (2.0, "2.0"),
        (True, "True"),
        ("2", "'2'"),
        ([2], "[2]"),
        ([2, 2], "[2, 2]"),
    )
    yield from refused(
        "random_displacement",
        "batch_shape",
        TypeError,
        "a tuple of extents",
        (4, "4"),
        (None, "None"),
        ("4", "'4'"),
        ((4.0,), "4.0"),
        (np.array(4), "int64"),
    )
    yield from refused("random_displacement", "batch_shape", ValueError, "non-negative", ((-1,), "(-1,)"))
    seeds = "None, a non-negative seed or a sequence of them, a SeedSequence, a BitGenerator or a Generator"
    yield from refused(drawing, "rng", TypeError, seeds, ("seed", "'seed'"), (1.5, "1.5"), ({}, "{}"))
    yield from refused(drawing, "rng", ValueError, seeds, (-1, "-1"))
    leading = "0 to 1 for an image of shape (12, 10)"
    yield from refused("deform_random_grid", "batch_dims", ValueError, leading, (-1, "-1"), (2, "2"), (7, "7"))
    yield from refused(
        "deform_random_grid",
        "batch_dims",
        TypeError,
        "a number of leading axes",
        (1.0, "1.0"),
        (True, "True"),
        (None, "None"),
        ((0,), "(0,)"),
    )


def thread_cases():
    names = ("set_num_threads", "num_threads")
    yield from refused(names, "threads", ValueError, "a positive integer", (0, "0"), (-1, "-1"), (2**40, str(2**40)))
    yield from refused(
        names,
        "threads",
        TypeError,
        "a positive integer",
        ("two", "'two'"),
        (2.0, "2.0"),
        (None, "None"),
        ([2], "[2]"),
    )


def shown(value):
    """Return a short description of a value, for the name of a test."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"{type(value).__name__}[{value.dtype}, {value.shape}]"
    if isinstance(value, list) and any(isinstance(part, np.ndarray) for part in value):
        return f"[{', '.join(map(shown, value))}]"
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))
    return text if len(text) < 40 else text[:37] + "..."


def expanded():
    for case in all_cases():
        for function in case.functions:
            arguments = dict(case.arguments)
            if "images" in arguments:
                images = arguments.pop("images")
                arguments |= dict.fromkeys(IMAGES_OF[function], images[0] if len(images) == 1 else images)
            text = ", ".join(f"{name}={shown(value)}" for name, value in arguments.items())
            yield pytest.param(function, arguments, case.error, case.argument, case.fragments, id=f"{function}-{text}")


@pytest.fixture
def no_engine(monkeypatch):
    """Let every function of the engine raise an exception that no check raises."""

    def computed(*args, **kwargs):
        raise AssertionError("computed before everything was checked")

    for name, _ in inspect.getmembers(cpu, inspect.isfunction):
        if name in ("holding", "namespace"):  # these compute nothing
            continue
        monkeypatch.setattr(cpu, name, computed)


def make(function, arguments):
    result = getattr(elasticnd, function)(**arguments)
    if function == "num_threads":  # checks its argument on entry to the block
        with result:
            pass


def frozen(value):
    """Return the contents of a value, to check later that it has not changed."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.tobytes()
    if isinstance(value, (list, tuple)):
        return [frozen(part) for part in value]
    return None


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize(("function", "arguments", "error", "argument", "fragments"), list(expanded()))
def test_refused(function, arguments, error, argument, fragments):
    call = {**CALLS[function], **arguments}
    before = {name: frozen(value) for name, value in call.items()}
    threads = elasticnd.get_num_threads()
    with pytest.raises(error) as caught:
        make(function, call)
    message = str(caught.value)
    assert message.startswith(f"{argument}: got ")
    assert ", expected " in message
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message
    assert {name: frozen(value) for name, value in call.items()} == before
    assert elasticnd.get_num_threads() == threads


@pytest.mark.parametrize("function", CALLS)
def test_cases_start_from_a_call_that_is_right(function):
    make(function, CALLS[function])


@pytest.mark.usefixtures("no_engine")
def test_taken_engine_is_seen():
    with pytest.raises(AssertionError, match="computed before"):
        elasticnd.deform_grid(IMAGE, GRID)


@pytest.mark.parametrize("function", CALLS)
def test_unknown_argument(function):
    with pytest.raises(TypeError, match="points_per_axis"):
        getattr(elasticnd, function)(**CALLS[function], points_per_axis=3)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("X", "x" * 10_000),
        ("order", "x" * 10_000),
        ("mode", "x" * 10_000),
        ("order", ENDLESS),
        ("affine", "x" * 10_000),
    ],
)
def test_messages_stay_short(argument, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        elasticnd.deform_grid(**{**CALLS["deform_grid"], argument: value})
    assert len(str(caught.value)) < 500


def test_names_of_several_images_are_counted_by_argument():
    with pytest.raises(ValueError, match=r"^dY\[1\]: got shape \(11, 10\)"):
        elasticnd.deform_grid_vjp([IMAGE, IMAGE[1:]], [IMAGE, IMAGE], GRID)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zoom": (1, 2)}, "zoom: got (1, 2) (tuple), expected a finite number other than 0"),
        ({"order": [3, 0]}, "order: got 2 values, expected one for the image"),
        ({"crop": ()}, "crop: got 0 entries, expected 1 slice, one per deformed axis"),
        ({"crop": [0, 0]}, "crop: got 2 entries, expected 1 slice, one per deformed axis"),
    ],
)
def test_counts_of_one_are_in_the_singular(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        elasticnd.deform_grid(np.zeros(9), np.zeros((1, 3)), **options)


def test_objects_that_lie_about_themselves():
    """An object that only looks like an array is refused."""
    impostor = SimpleNamespace(shape=(12, 10), dtype=np.dtype(float), __array__=lambda: IMAGE)
    with pytest.raises(TypeError, match="X: got"):
        elasticnd.deform_grid(copy.copy(impostor), GRID)
