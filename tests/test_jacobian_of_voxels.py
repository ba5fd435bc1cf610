"""Determinants at all voxels, which are computed together, compared with those at the same positions one by one."""

import itertools

import frameworks
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import elasticnd
from elasticnd import Deformation, _core

CASES = [
    ((9,), (3,)),
    ((9, 1), (3, 2)),
    ((12, 11), (4, 1)),
    ((7, 8, 9), (3, 2, 4)),
    ((5, 4, 3, 4), (2, 3, 2, 2)),
    ((80,), (70,)),
]
AFFINES = ({}, {"zoom": 1.3}, {"affine": True}, {"affine": "batch"})


@pytest.mark.parametrize("batch", [(), (2, 3)])
@pytest.mark.parametrize("affine", AFFINES)
@pytest.mark.parametrize(("shape", "points"), CASES)
def test_values(shape, points, affine, batch, rng):
    n = len(shape)
    options = dict(affine)
    if "affine" in options:
        own = batch if options["affine"] == "batch" else ()
        options["affine"] = np.concatenate([np.eye(n) + rng.normal(0, 0.1, (*own, n, n)), np.ones((*own, n, 1))], -1)
    deformation = Deformation(rng.normal(0, 0.5, (*batch, n, *points)), shape, **options)
    crop = tuple(slice(min(1, extent - 1), extent) for extent in shape)
    voxels = np.stack(np.meshgrid(*(np.arange(part.start, part.stop) for part in crop), indexing="ij"), -1)
    f = np.broadcast_to(voxels, (*batch, *voxels.shape)).astype(float)
    for relative in (False, True):
        expected = deformation.jacobian_determinant(f, relative=relative)
        got = deformation.jacobian_determinant(crop=crop, relative=relative)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
        whole = deformation.jacobian_determinant(relative=relative)
        assert whole.shape == (*batch, *shape)
        np.testing.assert_allclose(whole[(..., *crop)], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("points", range(1, 10))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_parts_threads_and_kernels_give_equal_bits(n, points, rng):
    shape = (13, 6, 31)[-n:]
    affine = np.concatenate([np.eye(n) + rng.normal(0, 0.1, (n, n)), np.ones((n, 1))], -1)
    deformation = Deformation(rng.normal(0, 0.5, (n, *(points,) * n)), shape, affine=affine)
    whole = deformation.jacobian_determinant()
    for start, stop in itertools.product((0, 1, 5), (6, 4)):
        crop = (*(slice(min(start, stop - 1), stop) for _ in shape[:-1]), slice(start, 31 - stop))
        np.testing.assert_array_equal(deformation.jacobian_determinant(crop=crop), whole[crop])
    in_use, threads = _core.kernels(), elasticnd.get_num_threads()
    try:
        elasticnd.set_num_threads(3)
        for kernels in _core.available_kernels():
            _core.choose_kernels(kernels)
            np.testing.assert_array_equal(deformation.jacobian_determinant(), whole)
    finally:
        _core.choose_kernels(in_use)
        elasticnd.set_num_threads(threads)


@pytest.mark.parametrize("extent", [1, 2, 3, 7, 130])
def test_along_one_axis_against_scipy(extent, rng):
    """The spline of a control grid is mirrored at its ends, so its slope there is 0."""
    for points in range(2, 10):
        displacement = rng.normal(0, 0.5, points)
        positions = np.arange(extent) * ((points - 1) / max(extent - 1, 1))
        slope = CubicSpline(np.arange(points), displacement, bc_type="clamped")(positions, 1)
        expected = 1 + slope * ((points - 1) / (extent - 1) if extent > 1 else 0)
        got = Deformation(displacement[None], (extent,)).jacobian_determinant()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_values_that_are_not_finite_reach_their_item_alone(rng):
    displacement = rng.normal(0, 0.5, (2, 3, 3, 3, 3))
    expected = Deformation(displacement, (5, 6, 7)).jacobian_determinant()
    displacement[1, 0, 1, 1, 1] = np.nan
    got = Deformation(displacement, (5, 6, 7)).jacobian_determinant()
    np.testing.assert_array_equal(got[0], expected[0])
    assert np.isnan(got[1]).all()


@pytest.mark.parametrize("shape", [(0,), (4, 0), (0, 4, 5), (3, 4, 0)])
def test_no_voxels(shape):
    assert Deformation.random(shape, sigma=1, rng=0).jacobian_determinant().shape == shape


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_in_programs(name, rng):
    framework = frameworks.get(name)
    displacement = rng.normal(0, 0.5, (2, 2, 3, 4))
    expected = Deformation(displacement, (9, 8), rotate=10).jacobian_determinant(relative=True)

    def function(displacement):
        return Deformation(displacement, (9, 8), rotate=10).jacobian_determinant(relative=True)

    compilers = {"jax": "jit", "tensorflow": "function"}
    compiled = getattr(framework.module, compilers[name])(function) if name in compilers else function
    got = compiled(framework.array(displacement))
    np.testing.assert_allclose(framework.to_numpy(got), expected, rtol=0, atol=1e-12)
