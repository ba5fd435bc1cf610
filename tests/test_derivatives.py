"""Derivatives of the spline of any order with respect to its coordinates; higher derivatives consist of these."""

import itertools

import numpy as np
import pytest
from tables import MODES

from elasticnd._engines import Transform, cpu
from elasticnd._job import make_job, with_derivative
from elasticnd._modes import MODES as MODE_NUMBERS

SHAPE = (19, 17)
DERIVATIVES = [m for m in itertools.product(range(4), repeat=2) if sum(m) <= 4]


def job_of(order, mode, derivative, border_value=0.3):
    job = make_job(
        image=SHAPE,
        grid_shape=(1, 1),
        order=order,
        mode=MODE_NUMBERS[mode],
        prefilter=True,
        border_value=border_value,
    )
    return with_derivative(job, derivative)


def values(image, job, points):
    output = np.empty(SHAPE)
    cpu.sample(job, [image], Transform(points), [output])
    return output


def sampled(image, order, mode, derivative, shift):
    """Return the derivative of the spline of `image` at every voxel, moved by `shift`."""
    points = np.array(shift, dtype=np.float64).reshape(2, 1, 1)
    return values(image, job_of(order, mode, derivative), points)


@pytest.mark.parametrize("derivative", DERIVATIVES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_next_derivative_is_the_slope(order, mode, derivative, rng):
    image = rng.standard_normal(SHAPE)
    shift = np.array([2.3, -4.4])  # positions between knots, some of them beyond the border
    step = 1e-3
    for axis in range(2):
        move = step * np.eye(2)[axis]
        slopes = [
            (
                sampled(image, order, mode, derivative, shift + h * move)
                - sampled(image, order, mode, derivative, shift - h * move)
            )
            / (2 * h * step)
            for h in (1, 2)
        ]
        expected = (4 * slopes[0] - slopes[1]) / 3
        higher = tuple(m + (k == axis) for k, m in enumerate(derivative))
        got = sampled(image, order, mode, higher, shift)
        # The error of the difference is the fifth derivative times step^4 (1e-12 times coefficients up to about 50),
        # plus the rounding errors of values divided by the step.
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_derivatives_beyond_the_order_are_zero(order, rng):
    assert not sampled(rng.standard_normal(SHAPE), order, "mirror", (order + 1, 0), (2.3, -4.4)).any()


@pytest.mark.parametrize("derivative", DERIVATIVES, ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_sample_adjoint_is_the_transpose_of_every_derivative(order, mode, derivative, rng):
    job = job_of(order, mode, derivative, border_value=0)  # without a constant, the map is linear
    image = rng.standard_normal(SHAPE)
    points = rng.uniform(-5, 5, (2, 1, 1))
    output = values(image, job, points)
    weight = rng.standard_normal(SHAPE)
    pulled = np.empty(SHAPE)
    cpu.sample_adjoint(job, weight, None, Transform(points), pulled)
    forward, backward = np.vdot(weight, output), np.vdot(pulled, image)
    # The prefilter magnifies up to 2.75 times along each axis, and each derivative up to 4 times.
    scale = max(1.0, np.abs(output).max()) * (1 + np.abs(pulled).max())
    assert abs(forward - backward) < 1e-13 * np.sum(np.abs(weight)) * scale
