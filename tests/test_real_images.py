"""Photographs and a brain scan, as examples of images that are deformed in practice."""

import gzip
from importlib import resources

import numpy as np
import oracle
import pytest
from tables import DOUBLE, SINGLE

import elasticnd

data = pytest.importorskip("skimage.data")

PHOTOGRAPHS = (
    "camera",
    "astronaut",
    "cat",
    "coins",
    "page",
    "clock",
    "rocket",
)  # all are part of scikit-image's wheel
GRID_SEED = 3


def rounded(exact, dtype):
    """Round half away from zero, and clip to the range of the dtype."""
    limits = np.iinfo(dtype)
    return np.clip(np.copysign(np.floor(np.abs(exact) + 0.5), exact), limits.min, limits.max)


def assert_equals_scipy(got, exact):
    """Compare to the documented accuracy. Integers must be equal, except next to a tie in rounding."""
    if got.dtype.kind in "iu":
        tie = np.abs(np.abs(exact) % 1 - 0.5) < SINGLE * np.iinfo(got.dtype).max
        np.testing.assert_array_equal(got[~tie], rounded(exact, got.dtype)[~tie])
        assert tie.mean() < 0.02
    else:
        tolerance = SINGLE if got.dtype == np.float32 else DOUBLE
        np.testing.assert_allclose(got, exact, rtol=0, atol=tolerance * np.abs(exact).max())


@pytest.mark.parametrize("mode", ["constant", "reflect"])
@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photograph(name, order, mode):
    image = getattr(data, name)()
    assert image.dtype == np.uint8
    axis = (0, 1)
    displacement = elasticnd.random_displacement(4, 15, ndim=2, rng=GRID_SEED)
    deformed = elasticnd.deform_grid(image, displacement, order, mode, axis=axis)
    assert deformed.shape == image.shape
    # SciPy is slow, so compare one channel of a patch at the border.
    crop = (slice(0, 150), slice(-160, None))
    patch = elasticnd.deform_grid(image, displacement, order, mode, axis=axis, crop=crop)
    np.testing.assert_array_equal(patch, deformed[crop])
    plane = image if image.ndim == 2 else image[..., -1]
    got = patch if image.ndim == 2 else patch[..., -1]
    assert_equals_scipy(got, oracle.deform(plane, displacement, order, mode, crop=crop))


def test_photograph_in_other_types():
    """The result of a uint8 picture is the rounded result of the same picture as floats."""
    image = data.astronaut()
    options = {"axis": (0, 1), "mode": "mirror", "rotate": 15, "zoom": 1.2}
    displacement = elasticnd.random_displacement(3, 10, ndim=2, rng=GRID_SEED)
    of_bytes = elasticnd.deform_grid(image, displacement, **options)
    exact = elasticnd.deform_grid(image.astype(np.float64), displacement, **options)
    assert_equals_scipy(of_bytes, exact)
    single = elasticnd.deform_grid(image.astype(np.float32), displacement, **options)
    np.testing.assert_allclose(single, exact, rtol=0, atol=SINGLE * 255)


def test_photograph_and_its_labels():
    image = data.coins()
    labels = (image > 110).astype(np.uint8) * 3 + (image > 170)
    deformed, moved = elasticnd.deform_random_grid([image, labels], 8, 5, order=[3, 0], mode="nearest", rng=GRID_SEED)
    assert deformed.shape == image.shape
    assert set(np.unique(moved)) == set(np.unique(labels))
    # The labels still match the coins: the threshold that created them separates the deformed picture, too.
    agreement = np.mean((deformed > 110) == (moved >= 3))
    assert agreement > 0.9


# ---- the MNI152 brain that comes with nilearn ---------------------------------------------------------------

NIFTI_TYPES = {2: np.uint8, 4: np.int16, 16: np.float32, 64: np.float64}


def read_nifti(raw):
    """Return the voxels of an uncompressed NIfTI-1 file: a header of 348 bytes, then the array in Fortran order."""
    header = np.frombuffer(raw, np.int16, 28, offset=40)
    shape, kind = tuple(header[1 : 1 + header[0]].tolist()), NIFTI_TYPES[int(header[15])]
    offset = int(np.frombuffer(raw, np.float32, 1, offset=108)[0])
    return np.frombuffer(raw, kind, int(np.prod(shape)), offset).reshape(shape, order="F")


@pytest.fixture(scope="module")
def brain():
    """Return the template as in the wheel: read-only and in Fortran order."""
    pytest.importorskip("nilearn")
    folder = resources.files("nilearn").joinpath("datasets", "data")
    compressed = folder.joinpath("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz").read_bytes()
    image = read_nifti(gzip.decompress(compressed))
    assert image.shape == (197, 233, 189)
    return image


CORNER = (slice(0, 12), slice(100, 116), slice(175, None))
MIDDLE = (slice(90, 106), slice(110, 122), slice(80, 96))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("crop", [CORNER, MIDDLE], ids=["corner", "middle"])
def test_brain_against_scipy(brain, crop, dtype):
    image = brain.astype(dtype)
    displacement = elasticnd.random_displacement(4, 6, ndim=3, rng=GRID_SEED)
    got = elasticnd.deform_grid(image, displacement, order=3, mode="mirror", crop=crop)
    assert got.dtype == dtype
    exact = oracle.deform(image, displacement, order=3, mode="mirror", crop=crop)
    assert np.ptp(exact) > 0
    tolerance = SINGLE if dtype == np.float32 else DOUBLE
    np.testing.assert_allclose(got, exact, rtol=0, atol=tolerance * np.abs(image).max())


def test_whole_brain(brain):
    """A read-only array in Fortran order, as from a file, is accepted, and a patch equals a part of the whole."""
    displacement = elasticnd.random_displacement(4, 6, ndim=3, rng=GRID_SEED)
    before = brain[::7, ::7, ::7].copy()
    whole = elasticnd.deform_grid(brain, displacement)
    assert whole.shape == brain.shape
    assert whole.dtype == brain.dtype
    for crop in (CORNER, MIDDLE):
        np.testing.assert_array_equal(elasticnd.deform_grid(brain, displacement, crop=crop), whole[crop])
    np.testing.assert_array_equal(brain[::7, ::7, ::7], before)
    # The anatomy moves but does not vanish. Such a grid changes volumes by a few tenths.
    bright = brain.max() / 3
    assert abs(np.mean(whole > bright) / np.mean(brain > bright) - 1) < 0.3


def test_brain_labels(brain):
    """Order 0 keeps labels, and moves integers in the same way as equal floats."""
    labels = np.digitize(brain, np.quantile(brain[brain > 0], [0.01, 0.3, 0.6, 0.9])).astype(np.uint8)
    displacement = elasticnd.random_displacement(3, 8, ndim=3, rng=GRID_SEED)
    options = {"order": 0, "mode": "nearest", "rotate": {(0, 1): 10, (1, 2): -5}, "zoom": (1.1, 0.9, 1)}
    moved = elasticnd.deform_grid(labels, displacement, **options)
    assert set(np.unique(moved)) == set(np.unique(labels))
    as_floats = elasticnd.deform_grid(labels.astype(np.float64), displacement, **options)
    np.testing.assert_array_equal(moved, as_floats)
    ids = labels.astype(np.uint64) + (2**63 + 1)  # too large for a float
    np.testing.assert_array_equal(elasticnd.deform_grid(ids, displacement, **options), moved + np.uint64(2**63 + 1))
