"""Memory is bounded: small images with many axes can have billions of coefficients, of which calls read only a few."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tables import MODES

import elasticnd

pytest.importorskip("resource", reason="this system does not report the memory of processes")

# Prints the memory of each call in MB, and whether the call was refused.
CALLS = '''
import itertools, json, resource, sys
import numpy as np
import elasticnd

axes, engine, orders, modes, directions, dtypes, sigmas = json.loads(sys.argv[1])

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))

def peak():
    if sys.platform.startswith("linux"):
        return status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

def start():
    """Forget the peak so far, where the system can, and return what is in use."""
    if not sys.platform.startswith("linux"):
        return peak()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return status("VmRSS")

found = []
with elasticnd.use_engine(None if engine == "core" else engine):
    elasticnd.deform_grid(np.zeros((2, 2)), np.zeros((2, 2, 2)))
    for order, mode, direction, dtype, sigma in itertools.product(orders, modes, directions, dtypes, sigmas):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(2,) * axes).astype(dtype)
        displacement = sigma * rng.normal(size=(axes,) + (2,) * axes)
        before, refused = start(), False
        try:
            if direction == "forward":
                elasticnd.deform_grid(X, displacement, order=order, mode=mode)
            else:
                elasticnd.deform_grid_vjp(X, X, displacement, order=order, mode=mode)
        except ValueError as error:
            assert "coefficients" in str(error), error
            refused = True
        found.append([[order, mode, direction, dtype, sigma], peak() - before, refused])
print(json.dumps(found))
'''

PADDED = ["nearest", "grid-constant"]
ORDERS = [0, 1, 2, 3, 4, 5]
BOTH = ["forward", "adjoint"]

# In MB. The core stores the boxes of coefficients of image and gradient, with gaps between their rows. Each box has at
# most 2^27 bytes, or as many as the stencil of one voxel needs. The generic engine stores at most 2^26 coefficients,
# twice while it filters an axis.
MOST = {"core": 400, "generic": 1100}

# For each case: engine, axes, orders, sigmas.
MATRIX = [
    *[("core", axes, ORDERS, [0.3]) for axes in (1, 2, 3, 4, 5, 6)],
    ("core", 7, [1, 2, 3, 4], [0.3]),
    ("core", 8, [1], [0.3]),
    *[("generic", axes, ORDERS, [0.3]) for axes in (1, 2, 3, 4)],
    ("generic", 6, [1, 2], [0.3]),
]
EXHAUSTIVE = [
    ("core", 7, [0, 5], [0.3]),
    *[("core", 8, [order], [0.3]) for order in (0, 2, 3, 4, 5)],
    *[("core", axes, [3, 5], [0, 20]) for axes in (6, 7)],
    ("core", 8, [5], [0]),
    ("generic", 5, ORDERS, [0.3]),
    ("generic", 6, [0, 3, 4, 5], [0.3]),
    *[("generic", axes, ORDERS, [0.3]) for axes in (7, 8)],
]


def refuses(engine, axes, order, mode):
    """Return whether an engine that stores all coefficients has too many to store."""
    padding = 12 if mode in PADDED and order > 1 else 0
    return engine == "generic" and (2 + 2 * (padding + order // 2 * 2 + 1)) ** axes > 2**26


def peaks(engine, axes, orders, sigmas, dtypes=("float64",), modes=MODES):
    """Run cases in one process, and return each with its memory, and whether it was refused."""
    arguments = json.dumps([axes, engine, orders, list(modes), BOTH, dtypes, sigmas])
    done = subprocess.run([sys.executable, "-I", "-c", CALLS, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(engine, axes, orders, sigmas, **options):
    found = peaks(engine, axes, orders, sigmas, **options)
    assert len(found) == len(orders) * len(sigmas) * len(MODES) * len(BOTH)
    for case, megabytes, refused in found:
        order, mode = case[:2]
        assert megabytes < MOST[engine], case
        assert refused == refuses(engine, axes, order, mode), case


def name(case):
    engine, axes, orders, sigmas = case
    return f"{engine}-{axes}-order-{'-'.join(map(str, orders))}-sigma-{'-'.join(map(str, sigmas))}"


@pytest.mark.parametrize("case", MATRIX, ids=name)
def test_memory_of_many_axes(case):
    check(*case)


@pytest.mark.parametrize("case", EXHAUSTIVE, ids=name)
def test_memory_of_many_axes_and_high_orders(case, exhaustive):
    check(*case)


def test_memory_in_single_precision():
    check("core", 6, [3, 5], [0.3], dtypes=["float32"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sigma", [0.5, 20])
@pytest.mark.parametrize("order", [2, 5])
def test_values_do_not_depend_on_what_is_held(order, sigma, mode, rng):
    shape = (3, 2, 1, 3)  # has at least 30^4 coefficients in the padded modes
    X = rng.normal(size=shape)
    displacement = sigma * rng.normal(size=(4, 2, 2, 2, 2))
    whole = elasticnd.deform_grid(X, displacement, order=order, mode=mode)
    for voxel in [(0, 0, 0, 0), (2, 1, 0, 2), (1, 0, 0, 1)]:
        crop = [slice(i, i + 1) for i in voxel]
        one = elasticnd.deform_grid(X, displacement, order=order, mode=mode, crop=crop)
        assert np.array_equal(one.ravel(), whole[voxel].ravel())


FEW = [(mode, (2, 3, 1, 2)) for mode in MODES] + [(mode, (2,) * 5) for mode in MODES if mode not in PADDED]


@pytest.mark.parametrize(("mode", "shape"), FEW)
@pytest.mark.parametrize("sigma", [0.5, 20])
@pytest.mark.parametrize("order", [2, 3, 5])
def test_engines_agree_on_images_of_few_voxels(order, mode, sigma, shape, rng):
    X, cotangent = rng.normal(size=(2, 2, *shape))
    axis = tuple(range(1, 1 + len(shape)))
    displacement = sigma * rng.normal(size=(2, len(shape), *(2,) * len(shape)))
    options = {"order": order, "mode": mode, "axis": axis, "cval": 0.7}
    with elasticnd.use_engine("generic"):
        results = elasticnd.deform_grid(X, displacement, **options)
        gradients = elasticnd.deform_grid_vjp(cotangent, X, displacement, **options)
    expected = elasticnd.deform_grid(X, displacement, **options)
    expected_gradients = elasticnd.deform_grid_vjp(cotangent, X, displacement, **options)
    np.testing.assert_allclose(results, expected, atol=1e-11)
    np.testing.assert_allclose(gradients.image, expected_gradients.image, atol=1e-11)
    np.testing.assert_allclose(gradients.displacement, expected_gradients.displacement, atol=1e-10)


@pytest.mark.parametrize("mode", ["constant", "nearest", "mirror", "grid-constant"])
@pytest.mark.parametrize("value", [np.nan, 1e200])
def test_positions_that_are_not_finite_take_no_memory(value, mode):
    displacement = np.full((7,) + (1,) * 7, value)
    result = elasticnd.deform_grid(np.ones((1,) * 7), displacement, mode=mode, cval=3)
    expected = 3 if mode in ("constant", "grid-constant") else np.nan if mode == "mirror" or np.isnan(value) else 1
    np.testing.assert_allclose(result.ravel(), [expected], rtol=1e-12)


# Prints the bytes that a call takes for each voxel, including the output.
LABELS = """
import numpy as np
import elasticnd

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

labels = np.random.default_rng(0).integers(0, 9, (250, 250, 250)).astype(np.uint8)
displacement = np.random.default_rng(0).normal(size=(3, 4, 4, 4))
elasticnd.deform_grid(labels[:50], displacement, order="labels")
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
elasticnd.deform_grid(labels, displacement, order="labels")
print((status("VmHWM") - before) / labels.size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can reset the peak of memory")
def test_labels_take_the_memory_of_the_output():
    done = subprocess.run([sys.executable, "-I", "-c", LABELS], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.1


def test_refusal_names_the_size():
    with elasticnd.use_engine("generic"), pytest.raises(ValueError, match=re.escape(f"{32**6} spline coefficients")):
        elasticnd.deform_grid(np.ones((2,) * 6), np.zeros((6,) + (1,) * 6), mode="nearest")
