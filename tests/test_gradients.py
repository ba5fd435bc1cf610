"""Every derivative compared with finite differences, and every transpose with its map."""

import numpy as np
import pytest
from tables import COMPLEX, MODES, ORDERS, grid

import elasticnd

SMALL = {1: (23,), 2: (11, 9), 3: (6, 5, 7), 4: (4, 5, 3, 4), 5: (3, 4, 3, 2, 3)}
AFFINE = np.array([[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]])
# Every order for up to three axes. With more axes, stencils have thousands of taps, so only one order below and one
# above 2.
CASES = [(n, order) for n in SMALL for order in ORDERS if n <= 3 or order in (1, 3)]
PLACES = {
    "plain": {},
    "crop": {"crop": (slice(2, 9), slice(None, -3))},
    "affine": {"affine": AFFINE},
    "homogeneous": {"affine": np.vstack([AFFINE, [0, 0, 1]])},
    "everything": {"affine": AFFINE, "rotate": 25, "zoom": (1.2, 0.8), "crop": (slice(1, None), slice(2, 8))},
    "unfiltered": {"prefilter": False},
}


def inner(a, b):
    """Return the real inner product, in which complex numbers count as pairs of real numbers."""
    return float(np.sum(np.conj(a) * b).real)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n", "order"), CASES)
def test_image_gradient_is_the_transpose(n, order, mode, rng):
    image = rng.standard_normal(SMALL[n])
    displacement = grid(rng, image.shape, 3)
    output = elasticnd.deform_grid(image, displacement, order, mode)
    weight = rng.standard_normal(output.shape)
    gradient = elasticnd.deform_grid_gradient(weight, displacement, order, mode)
    forward, backward = inner(weight, output), inner(gradient, image)
    # A few hundred rounding errors of float64, relative to the sum of the magnitudes.
    scale = np.sum(np.abs(weight)) * np.abs(image).max()
    assert abs(forward - backward) < 1e-13 * scale


@pytest.mark.quick
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", [0, 1, 3, 4])
def test_image_gradient_with_every_option(order, mode, place, rng):
    image = rng.standard_normal((11, 9, 2))
    displacement = rng.uniform(-3, 3, (2, 3, 4))
    options = {"order": order, "mode": mode, "axis": (0, 1), **PLACES[place]}
    output = elasticnd.deform_grid(image, displacement, **options)
    weight = rng.standard_normal(output.shape)
    gradient = elasticnd.deform_grid_gradient(weight, displacement, X_shape=image.shape, **options)
    assert abs(inner(weight, output) - inner(gradient, image)) < 1e-12 * np.sum(np.abs(weight))
    together = elasticnd.deform_grid_vjp(weight, image, displacement, **options)
    np.testing.assert_array_equal(together.image, gradient)


@pytest.mark.parametrize("mode", MODES)
def test_the_constant_adds_no_slope(mode, rng):
    """cval changes the output, but not the gradient of the image."""
    weight = rng.standard_normal((11, 9))
    displacement = rng.uniform(-6, 6, (2, 3, 4))
    gradients = [elasticnd.deform_grid_gradient(weight, displacement, mode=mode, cval=c) for c in (0.0, 7.0)]
    np.testing.assert_array_equal(*gradients)


def difference(function, at, direction, step):
    """Return the derivative along a direction, from a central difference of fourth order."""
    near = function(at + step * direction) - function(at - step * direction)
    far = function(at + 2 * step * direction) - function(at - 2 * step * direction)
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("n", "order"), [case for case in CASES if case[1] > 0])
def test_grid_gradient(n, order, mode, rng):
    image = rng.standard_normal(SMALL[n])
    displacement = rng.uniform(-2, 2, (n, *(3,) * n))
    weight = rng.standard_normal(image.shape)
    direction = rng.standard_normal(displacement.shape)

    def loss(d):
        return inner(weight * smooth, elasticnd.deform_grid(image, d, order, mode))

    step = 1e-4
    # Splines have kinks at knots and borders. Leave out voxels that a step of the difference moves across one.
    smooth = smooth_voxels(displacement, direction, image.shape, 2 * step)
    gradients = elasticnd.deform_grid_vjp(weight * smooth, image, displacement, order, mode)
    expected = difference(loss, displacement, direction, step)
    got = inner(gradients.displacement, direction)
    # Between knots, splines are polynomials of degree 5 at most, and the difference is of fourth order.
    assert abs(got - expected) < 1e-8 * np.abs(gradients.displacement).sum() + 1e-9


def smooth_voxels(displacement, direction, shape, step):
    """Return the voxels whose coordinates cross no half-integer within the whole step."""
    ends = [
        elasticnd.dense_displacement(displacement + s * direction, shape) + np.indices(shape) for s in (-step, step)
    ]
    same = np.floor(2 * ends[0]) == np.floor(2 * ends[1])
    return np.all(same, axis=0).astype(np.float64)


@pytest.mark.quick
@pytest.mark.parametrize("place", ["affine", "homogeneous", "everything"])
@pytest.mark.parametrize("mode", MODES)
def test_affine_and_grid_gradient(mode, place, rng):
    image = rng.standard_normal((11, 9, 2))
    displacement = rng.uniform(-1, 1, (2, 3, 4))
    options = {"order": 3, "mode": mode, "axis": (0, 1), **PLACES[place]}
    affine = options.pop("affine")
    weight = rng.standard_normal(elasticnd.deform_grid(image, displacement, affine=affine, **options).shape)
    gradients = elasticnd.deform_grid_vjp(weight, image, displacement, affine=affine, **options)
    assert gradients.affine.shape == affine.shape
    for name, at, got in (("affine", affine, gradients.affine), ("displacement", displacement, gradients.displacement)):
        direction = rng.standard_normal(at.shape)
        if name == "affine" and at.shape[0] == 3:
            direction[2] = 0

        def loss(value, name=name):
            arguments = {"affine": affine, "displacement": displacement, name: value}
            return inner(weight, elasticnd.deform_grid(image, **arguments, **options))

        expected = difference(loss, at, direction, 1e-5)
        # With this seed, no voxel crosses the border, where some modes jump. Elsewhere, cubic splines have two
        # continuous derivatives, so the error of the difference is the square of its step, plus rounding / step.
        assert abs(inner(got, direction) - expected) < 1e-6 * np.abs(got).sum()


@pytest.mark.parametrize("dtype", COMPLEX, ids=str)
def test_complex_gradients(dtype, rng):
    image = (rng.standard_normal((2, 11, 9)).T @ [1, 1j]).T.astype(dtype)
    displacement = rng.uniform(-1, 1, (2, 3, 4))
    weight = (rng.standard_normal((2, 11, 9)).T @ [1, 1j]).T.astype(dtype)
    gradients = elasticnd.deform_grid_vjp(weight, image, displacement, mode="mirror")
    assert gradients.image.dtype == dtype
    assert gradients.displacement.dtype == np.float64
    parts = [
        elasticnd.deform_grid_vjp(w, x, displacement, mode="mirror")
        for w, x in ((weight.real, image.real), (weight.imag, image.imag))
    ]
    np.testing.assert_array_equal(gradients.image, parts[0].image + 1j * parts[1].image)
    tolerance = 1e-12 if dtype == np.complex128 else 1e-4
    np.testing.assert_allclose(
        gradients.displacement, parts[0].displacement + parts[1].displacement, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("shared", [True, False], ids=["one affine", "affine per item"])
def test_gradients_of_a_batch(shared, rng):
    image = rng.standard_normal((3, 2, 11, 9))
    displacement = rng.uniform(-1, 1, (3, 2, 3, 4))
    affine = AFFINE if shared else AFFINE + 0.1 * rng.standard_normal((3, 2, 3))
    weight = rng.standard_normal(image.shape)
    options = {"mode": "mirror", "axis": (-2, -1)}
    whole = elasticnd.deform_grid_vjp(weight, image, displacement, affine=affine, **options)
    items = [
        elasticnd.deform_grid_vjp(
            weight[i], image[i], displacement[i], affine=affine if shared else affine[i], **options
        )
        for i in range(3)
    ]
    np.testing.assert_array_equal(whole.image, [item.image for item in items])
    np.testing.assert_allclose(whole.displacement, [item.displacement for item in items], rtol=1e-12)
    affines = np.array([item.affine for item in items])
    np.testing.assert_allclose(whole.affine, affines.sum(axis=0) if shared else affines, rtol=1e-12)


def test_gradients_of_several_images(rng):
    images = [rng.standard_normal((11, 9)), rng.integers(0, 9, (11, 9)), rng.standard_normal((11, 9, 2))]
    displacement = rng.uniform(-1, 1, (2, 3, 4))
    weights = [rng.standard_normal((11, 9)), None, rng.standard_normal((11, 9, 2))]
    axis, order = [(0, 1)] * 3, [3, 0, 1]
    together = elasticnd.deform_grid_vjp(weights, images, displacement, order, axis=axis)
    alone = [elasticnd.deform_grid_vjp(weights[i], images[i], displacement, order[i], axis=axis[i]) for i in (0, 2)]
    assert together.image[1] is None
    np.testing.assert_array_equal(together.image[0], alone[0].image)
    np.testing.assert_array_equal(together.image[2], alone[1].image)
    expected = alone[0].displacement + alone[1].displacement
    np.testing.assert_allclose(together.displacement, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_have_the_types_of_the_arguments(dtype, rng):
    image = rng.standard_normal((11, 9)).astype(dtype)
    displacement = rng.uniform(-1, 1, (2, 3, 4))
    weight = rng.standard_normal((11, 9)).astype(dtype)
    exact = elasticnd.deform_grid_vjp(weight.astype(float), image.astype(float), displacement, affine=AFFINE)
    got = elasticnd.deform_grid_vjp(
        weight, image, displacement.astype(dtype), affine=AFFINE.astype(np.float32), mode="constant"
    )
    assert (got.image.dtype, got.displacement.dtype, got.affine.dtype) == (dtype, dtype, np.float32)
    # Rounding to float16 changes the displacements by up to 5e-4 voxels. Other dtypes have only rounding errors.
    tolerance = 2e-2 if dtype == np.float16 else 1e-4
    for ours, theirs in zip(got, exact, strict=True):
        distance = np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs)
        assert distance < tolerance


@pytest.mark.parametrize("mode", MODES)
def test_order_zero_has_no_slope(mode, rng):
    image = rng.standard_normal((11, 9))
    gradients = elasticnd.deform_grid_vjp(image, image, rng.uniform(-3, 3, (2, 3, 4)), 0, mode, affine=AFFINE)
    assert not gradients.displacement.any()
    assert not gradients.affine.any()
    assert gradients.image.any()


def test_infinite_gradients_go_on_without_a_warning(rng):
    image, weight = rng.standard_normal((2, 11, 9))
    weight[4, 3] = np.inf
    gradients = elasticnd.deform_grid_vjp(weight, image, np.zeros((2, 2, 2)), 1, "mirror", affine=AFFINE)
    assert not np.isfinite(gradients.affine).all()
    assert np.isfinite(gradients.image).any()
