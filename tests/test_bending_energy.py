"""`Deformation.bending_energy` compared with numerical quadrature of second differences, and its derivatives."""

import itertools

import frameworks
import numpy as np
import pytest

from elasticnd import Deformation

SHAPES = [
    ((19,), (4,)),
    ((12, 17), (3, 4)),
    ((9, 8, 7), (3, 1, 4)),
    ((9, 1, 7), (3, 2, 2)),
    ((5, 5, 5, 5), (2, 2, 3, 2)),
]


def by_quadrature(deformation):
    """Return the mean by the midpoint rule, from second differences of the map and without splines."""
    count = {1: 4000, 2: 120, 3: 40, 4: 12}[deformation.ndim]
    lines = [(np.arange(count if extent > 1 else 1) + 0.5) / count * (extent - 1) for extent in deformation.shape]
    f = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, deformation.ndim)
    step, total = 1e-3, 0.0
    axes = [k for k, extent in enumerate(deformation.shape) if extent > 1]
    units = np.eye(deformation.ndim) * step
    for j, k in itertools.product(axes, axes):
        corners = {
            (a, b): deformation.source_points(f + a * units[j] / 2 + b * units[k] / 2)
            for a, b in itertools.product((-1, 1), repeat=2)
        }
        second = (corners[1, 1] - corners[1, -1] - corners[-1, 1] + corners[-1, -1]) / step**2
        total += np.mean(np.sum(second**2, -1))
    return total


@pytest.mark.parametrize(("shape", "points"), SHAPES)
def test_against_quadrature(shape, points, rng):
    deformation = Deformation(rng.normal(0, 1, (len(shape), *points)), shape, zoom=1.2)
    # The error of the midpoint rule is proportional to the square of the distance between its points.
    np.testing.assert_allclose(
        deformation.bending_energy(), by_quadrature(deformation), rtol={1: 1e-5, 2: 1e-3, 3: 5e-3, 4: 3e-2}[len(shape)]
    )


def test_exact_on_one_cell():
    """Two control points give d = a (3 g² − 2 g³), whose second derivative is a (6 − 12 g) / (N − 1)²."""
    for a, extent in ((2.0, 11), (-5.0, 40)):
        energy = Deformation([[0.0, a]], (extent,)).bending_energy()
        np.testing.assert_allclose(energy, 12 * a**2 / (extent - 1) ** 4, rtol=1e-13)
    assert Deformation.identity((5, 6)).bending_energy() == 0


def test_batches_and_refinement(rng):
    displacement = rng.normal(0, 1, (3, 2, 4, 5))
    deformation = Deformation(displacement, (20, 30))
    energy = deformation.bending_energy()
    assert energy.shape == (3,)
    for item in range(3):
        np.testing.assert_allclose(energy[item], Deformation(displacement[item], (20, 30)).bending_energy(), rtol=1e-12)
    np.testing.assert_allclose(deformation.refined().bending_energy(), energy, rtol=1e-10)


@pytest.mark.parametrize("name", ["torch", "jax", "tensorflow"])
def test_frameworks(name, rng):
    framework = frameworks.get(name)
    displacement, tangent = rng.normal(0, 1, (2, 2, 3, 4))
    array = framework.array(displacement)

    def energy(displacement):
        return Deformation(displacement, (9, 8)).bending_energy()

    expected = Deformation(displacement, (9, 8)).bending_energy()
    np.testing.assert_allclose(framework.to_numpy(energy(array)), expected, rtol=1e-12)
    (gradient,) = framework.gradient(energy, [array])
    ends = [Deformation(displacement + sign * tangent, (9, 8)).bending_energy() for sign in (-1, 1)]
    # The energy is a quadratic form, so its central differences are exact.
    np.testing.assert_allclose(np.sum(framework.to_numpy(gradient) * tangent), (ends[1] - ends[0]) / 2, rtol=1e-10)
    if name == "torch":
        torch = framework.module
        leaf = array.clone().requires_grad_()
        assert torch.autograd.gradcheck(energy, [leaf])
        assert torch.autograd.gradgradcheck(energy, [leaf])
    if name == "jax":
        np.testing.assert_allclose(framework.module.jit(energy)(array), expected, rtol=1e-12)
    if name == "tensorflow":
        np.testing.assert_allclose(framework.module.function(energy)(array), expected, rtol=1e-12)
