"""Determinants at all voxels, compared with dense matrices of B-splines and with slopes of the field, up to 3-D."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from elasticnd import Deformation


def axis_matrix(extent, points, order):
    """Return the dense matrix of one axis from displacements of control points to a derivative at each voxel."""
    spline = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)

    def at(places, spline):
        matrix = np.zeros((len(places), points))
        for knot in range(-3, points + 4):
            last = points - 1
            mirrored = 0 if last == 0 else last - abs(last - knot % (2 * last))
            matrix[:, mirrored] += np.nan_to_num(spline(places - knot))
        return matrix

    varies = points > 1 and extent > 1
    cells_per_voxel = (points - 1) / (extent - 1) if varies else 0
    derivative = at(np.arange(extent) * cells_per_voxel, spline.derivative(order) if order else spline)
    return cells_per_voxel**order * derivative @ np.linalg.inv(at(np.arange(points), spline))


def dense_determinants(displacement, shape, linear):
    n = len(shape)
    slopes = []
    for j in range(n):
        slope = displacement
        for k in range(n):
            matrix = axis_matrix(shape[k], displacement.shape[k - n], int(j == k))
            slope = np.moveaxis(np.moveaxis(slope, k - n, -1) @ matrix.T, -1, k - n)
        slopes.append(slope)
    jacobians = np.moveaxis(np.stack(slopes, -1), -n - 2, -2)  # (..., voxels ..., i, j)
    return np.linalg.det(jacobians + linear)


@pytest.mark.parametrize("trial", range(40))
def test_dense_matrices(trial):
    rng = np.random.default_rng(trial)
    n = 1 + trial % 3
    shape = tuple(int(extent) for extent in rng.integers(1, (200, 40, 16)[n - 1], n))
    points = tuple(int(count) for count in rng.integers(1, 10, n))
    batch = ((), (2,), (2, 3))[trial % 4 % 3]
    displacement = rng.normal(0, 1, (*batch, n, *points))
    affine = np.eye(n) + rng.normal(0, 0.2, (n, n))
    forward = np.concatenate([affine, rng.normal(0, 3, (n, 1))], 1)
    linear = np.linalg.inv(affine) if trial % 2 else np.eye(n)
    deformation = Deformation(displacement, shape, affine=forward if trial % 2 else None)
    expected = dense_determinants(displacement, shape, linear)
    # A few hundred rounding errors of products of n matrix entries.
    entry = 1 + max(
        np.abs(displacement).max() * 4 * (p - 1) / max(1, m - 1) for p, m in zip(points, shape, strict=True)
    )
    tolerance = {"rtol": 0, "atol": 1e-13 * entry**n}
    got = deformation.jacobian_determinant()
    np.testing.assert_allclose(got, expected, **tolerance)
    relative = deformation.jacobian_determinant(relative=True)
    np.testing.assert_allclose(relative, expected / np.linalg.det(linear), **tolerance)


def within_a_cell(extent, points):
    """Return which voxels share a cell of the control grid with their two neighbours on each side."""
    cells = np.arange(extent) * ((points - 1) / (extent - 1))
    step = 2 * (points - 1) / (extent - 1)
    return np.floor(cells - step) == np.ceil(cells + step) - 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_differences_of_the_field(n, rng):
    shape, points = (41, 37, 33)[:n], (4, 3, 5)[:n]
    deformation = Deformation(rng.normal(0, 0.3, (n, *points)), shape)
    slopes = [
        [
            (8 * (np.roll(part, -1, j) - np.roll(part, 1, j)) - (np.roll(part, -2, j) - np.roll(part, 2, j))) / 12
            for j in range(n)
        ]
        for part in deformation.field()
    ]
    expected = np.linalg.det(np.moveaxis(np.array(slopes), (0, 1), (-2, -1)) + np.eye(n))
    exact = np.ix_(*map(within_a_cell, shape, points))
    assert expected[exact].size >= 10**n
    # These differences are exact for polynomials of degree 4, and the field is cubic in a cell.
    np.testing.assert_allclose(deformation.jacobian_determinant()[exact], expected[exact], rtol=0, atol=1e-13)
