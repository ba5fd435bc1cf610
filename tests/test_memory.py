"""Memory is bounded: images of few voxels along many axes have billions of coefficients, of which few are read."""

import re
import subprocess
import sys

import numpy as np
import pytest

import elasticnd

pytest.importorskip("resource", reason="the memory of a process is asked of the system")

# Prints the memory that the calls of one process have taken, in MB, and how many were refused.
CALLS = """
import itertools, resource, sys
import numpy as np
import elasticnd

axes, engine, direction = int(sys.argv[1]), sys.argv[2], sys.argv[3]
modes, orders, dtype, sigmas = (eval(argument) for argument in sys.argv[4:8])
rng = np.random.default_rng(0)
X = rng.normal(size=(2,) * axes).astype(dtype)
kilobytes = 1 if sys.platform.startswith("linux") else 1024
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / kilobytes / 1024

def call(**options):
    displacement = sigma * rng.normal(size=(axes,) + (2,) * axes)
    if direction == "forward":
        return elasticnd.deform_grid(X, displacement, **options)
    return elasticnd.deform_grid_vjp(X, X, displacement, **options)

refused = 0
with elasticnd.use_engine(None if engine == "core" else engine):
    sigma = 0
    elasticnd.deform_grid(np.zeros((2, 2)), np.zeros((2, 2, 2)))
    before = most()
    for mode, order, sigma in itertools.product(modes, orders, sigmas):
        try:
            call(mode=mode, order=order)
        except ValueError as error:
            assert "coefficients" in str(error), error
            refused += 1
print(most() - before, refused)
"""

ALL_MODES = ["constant", "nearest", "reflect", "mirror", "wrap", "grid-constant", "grid-wrap"]
PADDED = ["nearest", "grid-constant"]

# axes, engine, direction, modes, orders, dtype, sigmas, and how many cases are refused
CASES = {
    "six axes": (6, "core", "forward", ALL_MODES, [0, 1, 2, 3, 4, 5], "float64", [0.3], 0),
    "six axes, far": (6, "core", "forward", ["nearest"], [3], "float64", [20], 0),
    "six axes, adjoint": (6, "core", "adjoint", ALL_MODES, [1, 3], "float64", [0.3], 0),
    "six axes, adjoint, order 5": (6, "core", "adjoint", PADDED, [5], "float32", [0.3], 0),
    "seven axes, adjoint": (7, "core", "adjoint", PADDED, [3], "float32", [0.3], 0),
    "eight axes": (8, "core", "forward", ["reflect", "mirror", *PADDED], [1, 3], "float32", [0.3], 0),
    "eight axes, order 5": (8, "core", "forward", ["nearest"], [5], "float32", [0.3], 0),
    "eight axes, adjoint": (8, "core", "adjoint", ["nearest"], [2], "float32", [0.3], 0),
    "six axes, generic": (6, "generic", "forward", ALL_MODES, [1, 3], "float64", [0.3], 2),
    "six axes, generic, adjoint": (6, "generic", "adjoint", ["mirror", *PADDED], [2], "float32", [0.3], 2),
    "eight axes, generic": (8, "generic", "forward", ALL_MODES, [5], "float32", [0.3], 7),
}
MOST = 800  # MB: twice the largest box of coefficients, for image and gradient, with gaps between their rows


@pytest.mark.parametrize("case", CASES)
def test_memory_of_many_axes(case):
    *arguments, refused = CASES[case]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CALLS, *map(str, arguments[:3]), *map(repr, arguments[3:])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    megabytes, count = done.stdout.split()
    assert float(megabytes) < MOST
    assert int(count) == refused


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("sigma", [0.5, 20])
@pytest.mark.parametrize("order", [2, 5])
def test_values_do_not_depend_on_what_is_held(order, sigma, mode, rng):
    shape = (3, 2, 1, 3)  # in the padded modes it has 30^4 coefficients or more
    X = rng.normal(size=shape)
    displacement = sigma * rng.normal(size=(4, 2, 2, 2, 2))
    whole = elasticnd.deform_grid(X, displacement, order=order, mode=mode)
    for voxel in [(0, 0, 0, 0), (2, 1, 0, 2), (1, 0, 0, 1)]:
        crop = [slice(i, i + 1) for i in voxel]
        one = elasticnd.deform_grid(X, displacement, order=order, mode=mode, crop=crop)
        assert np.array_equal(one.ravel(), whole[voxel].ravel())


@pytest.mark.parametrize("mode", ["constant", "nearest", "mirror", "grid-constant"])
@pytest.mark.parametrize("value", [np.nan, 1e200])
def test_positions_that_are_none_take_no_memory(value, mode):
    displacement = np.full((7,) + (1,) * 7, value)
    result = elasticnd.deform_grid(np.ones((1,) * 7), displacement, mode=mode, cval=3)
    expected = 3 if mode in ("constant", "grid-constant") else np.nan if mode == "mirror" or np.isnan(value) else 1
    np.testing.assert_allclose(result.ravel(), [expected], rtol=1e-12)


def test_refusal_names_the_size():
    with elasticnd.use_engine("generic"), pytest.raises(ValueError, match=re.escape(f"{32**6} spline coefficients")):
        elasticnd.deform_grid(np.ones((2,) * 6), np.zeros((6,) + (1,) * 6), mode="nearest")
