"""Sampling and its transpose compared with dense matrices, without SciPy's resampling and without the prefilter."""

import numpy as np
import oracle
import pytest
from tables import DOUBLE, SINGLE

import elasticnd


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["mirror", "reflect", "grid-wrap", "nearest"])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shift", [(0.3, -0.7), (9.4, -17.8), (-40.6, 55.1)], ids=str)
def test_equals_the_dense_matrices(shift, order, mode, dtype, rng):
    coefficients, weight = rng.random((2, 14, 11)).astype(dtype)
    displacement = np.reshape(shift, (2, 1, 1))
    rows, columns = (
        oracle.sampling_matrix(np.arange(extent) + move, extent, order, mode)
        for extent, move in zip(coefficients.shape, shift, strict=True)
    )
    arguments = {"order": order, "mode": mode, "prefilter": False}
    tolerance = DOUBLE if dtype == np.float64 else SINGLE
    got = elasticnd.deform_grid(coefficients, displacement, **arguments)
    np.testing.assert_allclose(got, rows @ coefficients @ columns.T, rtol=0, atol=tolerance)
    pulled = elasticnd.deform_grid_gradient(weight, displacement, **arguments)
    # In mode nearest, a border voxel may gather all 154 values, and their sum has a correspondingly larger error.
    np.testing.assert_allclose(pulled, rows.T @ weight @ columns, rtol=0, atol=154 * tolerance)
