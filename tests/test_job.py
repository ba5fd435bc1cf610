"""The struct that every function of the core receives: whatever bytes it contains, invalid members are rejected."""

import contextlib

import numpy as np
import pytest

from elasticnd import _core
from elasticnd._job import JOB, make_job
from elasticnd._modes import Mode

SHAPE = (6, 7)
FAR = 2**62

# A member of a job of float32 images, a wrong value for it, and the error message.
BAD = [
    ("axes", 0, "axes out of range"),
    ("axes", 9, "axes out of range"),
    ("order", -1, "order out of range"),
    ("order", 6, "order out of range"),
    ("mode", -1, "mode out of range"),
    ("mode", 99, "mode out of range"),
    ("padding", -1, "padding out of range"),
    ("padding", 1, "padding out of range"),
    ("votes", 1, "votes out of range"),  # invalid at order 3
    ("votes", -1, "votes out of range"),
    ("derivative", -1, "derivative out of range"),
    ("image", 0, "image extent out of range"),
    ("image", FAR, "image extent out of range"),
    ("image", 9, "lacks voxels"),
    ("grid_shape", 0, "control points out of range"),
    ("grid_shape", FAR, "control points out of range"),
    ("grid_shape", 4, "control grid has the wrong size"),
    ("start", -1, "first voxel out of range"),
    ("start", FAR, "first voxel out of range"),
    ("output", -1, "output extent out of range"),
    ("output", 3, "wrong shape"),
    ("origin", -1, "origin out of range"),
    ("origin", FAR, "origin out of range"),
    ("frame", 0, "frame extent out of range"),
    ("frame", FAR, "frame extent out of range"),
    ("frame", 5, "output outside the frame"),
    ("frame_start", -1.0, "output outside the frame"),
    ("frame_start", 1.0, "output outside the frame"),
    ("frame_start", np.nan, "output outside the frame"),
    ("frame_start", -np.inf, "output outside the frame"),
    ("frame_step", 0.0, "step in the frame out of range"),
    ("frame_step", -1.0, "step in the frame out of range"),
    ("frame_step", np.nan, "step in the frame out of range"),
    ("frame_step", 1e300, "step in the frame out of range"),
    ("frame_step", 1.5, "output outside the frame"),
    ("batch_axes", -1, "too few axes"),
    ("batch_axes", 1, "too few axes"),
    ("dtype", -1, "dtype out of range"),
    ("dtype", 99, "dtype out of range"),
    ("dtype", 0, "wrong type"),
    ("dtype", 12, "too narrow"),
    ("compute_dtype", 0, "too narrow"),
    ("roi_start", -1, "lies outside"),
    ("roi_start", 1, "lies outside"),
    ("roi_extent", -1, "lies outside"),
    ("roi_extent", 3, "wrong shape"),
    ("roi_extent", FAR, "lies outside"),
]


def job_with(name, value):
    job = make_job(
        image=SHAPE,
        grid_shape=(3, 3),
        order=3,
        mode=Mode.MIRROR,
        prefilter=True,
        dtype="float32",
        compute_dtype="float32",
    ).copy()
    job[name][...] = value
    return job


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_numbers_out_of_range(name, value, message):
    job, image, output = job_with(name, value), np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    transform = (np.zeros((2, 3, 3)), None, ())
    with pytest.raises(ValueError, match=message):
        _core.sample(job, [image], transform, [output])
    with pytest.raises(ValueError, match=message):
        _core.sample_adjoint(job, output, image, transform, image)
    assert not output.any()


def test_votes_have_no_derivative():
    image, output, transform = np.ones(SHAPE), np.zeros(SHAPE), (np.zeros((2, 3, 3)), None, ())
    job = make_job(image=SHAPE, grid_shape=(3, 3), order=1, votes=True)
    with pytest.raises(ValueError, match="votes have no derivative"):
        _core.sample_adjoint(job, image, None, transform, output)
    tangent = (np.ones((2, 3, 3)), None)
    with pytest.raises(ValueError, match="votes have no derivative"):
        _core.sample(job, [image], (transform[0], None, [tangent]), [output])
    derived = job.copy()
    derived["derivative"][0] = 1
    with pytest.raises(ValueError, match="derivative out of range"):
        _core.sample(derived, [image], transform, [output])
    twice = job.copy()
    twice["votes"] = 2
    with pytest.raises(ValueError, match="votes out of range"):
        _core.sample(twice, [image], transform, [output])
    assert not output.any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("box_start", -99), ("box_start", FAR), ("box_extent", 0), ("box_extent", FAR), ("padding", 12)],
)
def test_boxes_out_of_range(name, value):
    job = job_with(name, value)
    with pytest.raises(ValueError, match="out of range"):
        _core.prefilter(job, np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32))


@pytest.mark.parametrize(
    "name", [name for name in JOB.names if name not in ("axes", "image", "grid_shape", "batch_axes")]
)
def test_any_bytes_are_rejected_or_harmless(name, rng):
    """With any number in any member, the call either raises an error or computes something."""
    image = np.ones(SHAPE, np.float32)
    transform = (rng.normal(size=(2, 3, 3)), None, ())
    for _ in range(30):
        job = job_with("axes", 2)
        job[name] = np.frombuffer(rng.bytes(JOB[name].itemsize), JOB[name])[0]
        with contextlib.suppress(ValueError):
            _core.sample(job, [image], transform, [np.zeros(SHAPE, np.float32)])


@pytest.mark.parametrize(
    "job",
    [
        np.zeros((), JOB),
        np.zeros(JOB.itemsize - 8, np.uint8),
        np.zeros(JOB.itemsize + 8, np.uint8),
        np.zeros(2 * JOB.itemsize, np.uint8)[::-2],
        np.zeros(0, np.uint8),
    ],
    ids=["zeros", "short", "long", "strided", "empty"],
)
def test_other_bytes(job):
    image = np.ones(SHAPE, np.float32)
    with pytest.raises(ValueError, match=r"elasticnd\._core"):
        _core.sample(job, [image], (np.zeros((2, 3, 3)), None, ()), [image.copy()])


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ((np.zeros((2, 3, 4)), None, ()), "control grid has the wrong size"),
        ((np.zeros((2, 3, 3)), np.zeros(5), ()), "affine has the wrong size"),
        ((np.zeros((2, 3, 3)), np.zeros((2, 2, 3)), ()), "affine has the wrong size"),
        ((np.zeros((2, 3, 3)), None, [(np.zeros(4), None)]), "tangent has the wrong size"),
        ((np.zeros((2, 3, 3)), None, [(np.zeros((2, 3, 3)), np.zeros(5))]), "tangent has the wrong size"),
    ],
)
def test_transforms_of_a_wrong_size(transform, message):
    job, image = job_with("axes", 2), np.ones(SHAPE, np.float32)
    with pytest.raises(ValueError, match=message):
        _core.sample(job, [image], transform, [image.copy()])


def test_outputs_are_checked():
    job, image, grid = job_with("axes", 2), np.ones(SHAPE, np.float32), np.zeros((2, 3, 3))
    frozen = image.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _core.sample(job, [image], (grid, None, ()), [frozen])
    with pytest.raises(ValueError, match="a field needs doubles"):
        _core.displace(job, grid, np.zeros((2, *SHAPE), np.float32))
    field = make_job(image=SHAPE, grid_shape=(3, 3))
    with pytest.raises(ValueError, match="one channel per axis"):
        _core.displace(field, grid, np.zeros((3, *SHAPE)))
    with pytest.raises(ValueError, match="control grid has the wrong size"):
        _core.displace_adjoint(field, np.zeros((2, *SHAPE)), np.zeros((2, 3, 2)))
    with pytest.raises(TypeError):
        _core.displace_adjoint(field, np.zeros((2, *SHAPE)), np.zeros((2, 3, 3), np.float32))
