"""Determinants at all voxels, which matrices along the axes compute: against those at the same positions."""

import frameworks
import numpy as np
import pytest

from elasticnd import Deformation, _voxels

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
def test_values(shape, points, affine, batch, rng, monkeypatch):
    n = len(shape)
    options = dict(affine)
    if "affine" in options:
        own = batch if options["affine"] == "batch" else ()
        options["affine"] = np.concatenate([np.eye(n) + rng.normal(0, 0.1, (*own, n, n)), np.ones((*own, n, 1))], -1)
    deformation = Deformation(rng.normal(0, 0.5, (*batch, n, *points)), shape, **options)
    crop = tuple(slice(min(1, extent - 1), extent) for extent in shape)
    voxels = np.stack(np.meshgrid(*(np.arange(part.start, part.stop) for part in crop), indexing="ij"), -1)
    f = np.broadcast_to(voxels, (*batch, *voxels.shape)).astype(float)
    monkeypatch.setattr(_voxels, "_VOXELS_TOGETHER", 20)
    for relative in (False, True):
        expected = deformation.jacobian_determinant(f, relative=relative)
        got = deformation.jacobian_determinant(crop=crop, relative=relative)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
        whole = deformation.jacobian_determinant(relative=relative)
        assert whole.shape == (*batch, *shape)
        np.testing.assert_allclose(whole[(..., *crop)], expected, rtol=0, atol=1e-12)


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
