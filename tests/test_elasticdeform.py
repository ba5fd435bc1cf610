"""Calls written for elasticdeform keep their meaning, and its errors are corrected.

The expected values come from simple formulas and SciPy, not from elasticdeform.
"""

import inspect
import subprocess
import sys

import frameworks
import numpy as np
import oracle
import pytest
from tables import DOUBLE, MODES, ORDERS, SINGLE

import elasticnd

PATCH = (slice(4, 20), slice(0, 11))


# ---- the calls -----------------------------------------------------------------------------------

COMMON = {
    "order": 3,
    "mode": "constant",
    "cval": 0.0,
    "crop": None,
    "prefilter": True,
    "axis": None,
    "affine": None,
    "rotate": None,
    "zoom": None,
}
REQUIRED = inspect.Parameter.empty
SIGNATURES = {
    "deform_grid": {"X": REQUIRED, "displacement": REQUIRED, **COMMON},
    "deform_random_grid": {"X": REQUIRED, "sigma": 25, "points": 3, **COMMON},
    "deform_grid_gradient": {
        "dY": REQUIRED,
        "displacement": REQUIRED,
        **{name: COMMON[name] for name in ("order", "mode", "cval", "crop", "prefilter", "axis")},
        "X_shape": None,
        **{name: COMMON[name] for name in ("affine", "rotate", "zoom")},
    },
}


@pytest.mark.parametrize("function", SIGNATURES)
def test_signature(function):
    parameters = inspect.signature(getattr(elasticnd, function)).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(positional.items()) == list(SIGNATURES[function].items())


def example_basic():
    # Convert floats to bytes first, because the library that writes the picture no longer does.
    import imageio
    import numpy

    X = numpy.zeros((200, 300))
    X[::10, ::10] = 1
    X_deformed = elasticnd.deform_random_grid(X, sigma=25, points=3)
    imageio.imsave("test_X.png", (255 * X).astype("uint8"))
    imageio.imsave("test_X_deformed.png", (255 * X_deformed.clip(0, 1)).astype("uint8"))
    return X, X_deformed


def test_example_basic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, X_deformed = example_basic()
    assert X_deformed.shape == X.shape
    assert (X_deformed != X).any()
    assert (tmp_path / "test_X_deformed.png").stat().st_size > 0


def test_example_multiple_inputs(rng):
    X, Y = rng.random((200, 300)), rng.integers(0, 5, (200, 300))
    [X_deformed, Y_deformed] = elasticnd.deform_random_grid([X, Y])
    assert (X_deformed.dtype, Y_deformed.dtype) == (X.dtype, Y.dtype)
    [X_deformed, Y_deformed] = elasticnd.deform_random_grid([X, Y], order=[3, 0])
    assert set(np.unique(Y_deformed)) <= set(range(5))
    # All images in a list get the same deformation, so labels move alike as floats and as integers.
    [a, b] = elasticnd.deform_random_grid([Y.astype(float), Y], order=[0, 0])
    np.testing.assert_array_equal(a, b)


def test_example_channels(rng):
    X = rng.random((200, 300, 3))
    assert elasticnd.deform_random_grid(X, axis=(0, 1)).shape == X.shape
    X, Y = rng.random((3, 200, 300)), rng.random((200, 300))
    [X_deformed, Y_deformed] = elasticnd.deform_random_grid([X, Y], axis=[(1, 2), (0, 1)])
    assert X_deformed.shape == X.shape
    assert Y_deformed.shape == Y.shape


def test_example_crop(rng):
    X = rng.random((200, 300))
    crop = (slice(50, 150), slice(0, 100))
    displacement = rng.normal(size=(2, 3, 3)) * 25
    X_deformed = elasticnd.deform_grid(X, displacement)
    X_deformed_crop = elasticnd.deform_grid(X, displacement, crop=crop)
    np.testing.assert_equal(X_deformed[crop], X_deformed_crop)


def test_example_rotate_and_zoom(rng):
    X = rng.random((200, 300))
    X_deformed = elasticnd.deform_random_grid(X, sigma=25, points=3, rotate=30, zoom=1.5)
    assert X_deformed.shape == X.shape


def test_example_torch(rng):
    torch = frameworks.get("torch").module
    import elasticnd.torch as etorch

    displacement_val = rng.normal(size=(2, 3, 3)) * 5
    X_val, dY_val = rng.random((200, 300)), rng.random((200, 300))
    displacement = torch.tensor(displacement_val)
    X = torch.tensor(X_val, requires_grad=True)
    dY = torch.tensor(dY_val)
    X_deformed = etorch.deform_grid(X, displacement, order=3)
    X_deformed.backward(dY)
    np.testing.assert_array_equal(X.grad, elasticnd.deform_grid_gradient(dY_val, displacement_val))


def test_example_tensorflow(rng):
    tf = frameworks.get("tensorflow").module
    import elasticnd.tf as etf

    displacement_val = rng.normal(size=(2, 3, 3)) * 5
    X_val, dY_val = rng.random((200, 300)), rng.random((200, 300))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        displacement = tf.Variable(displacement_val)
        X = tf.Variable(X_val)
        dY = tf.Variable(dY_val)
        X_deformed = etf.deform_grid(X, displacement, order=3)
        [dX] = tf.gradients(X_deformed, X, dY)
        session.run(tf.compat.v1.global_variables_initializer())
        got = session.run(dX)
    np.testing.assert_allclose(got, elasticnd.deform_grid_gradient(dY_val, displacement_val), rtol=0, atol=1e-12)


def test_example_gradient(rng):
    X = rng.random((200, 300))
    displacement = rng.normal(size=(2, 3, 3)) * 25
    X_deformed = elasticnd.deform_grid(X, displacement)
    dX_deformed = rng.normal(size=X_deformed.shape)
    dX = elasticnd.deform_grid_gradient(dX_deformed, displacement)
    # The map is linear in X. The sums have 60 000 terms of about 1, with a relative rounding error of about 1e-12.
    np.testing.assert_allclose((dX_deformed * X_deformed).sum(), (dX * X).sum(), rtol=1e-10)


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_images_come_back_in_a_sequence_of_the_same_type(kind, rng):
    images = kind(rng.random((2, 12, 10)))
    deformed = elasticnd.deform_random_grid(images, sigma=1)
    assert isinstance(deformed, kind)
    assert len(deformed) == 2
    assert isinstance(elasticnd.deform_random_grid(images[0], sigma=1), np.ndarray)


# ---- rotate, zoom and affine in two dimensions ---------------------------------------------------


def inverse_map(extent, rotate, zoom, affine):
    """Return the map from output to input: the inverse affine map, then the inverse of `rotate` and `zoom`."""
    to_centre, back, turn, scale, base = (np.eye(3) for _ in range(5))
    to_centre[:2, 2] = -(np.array(extent) / 2 - 0.5)
    back[:2, 2] = -to_centre[:2, 2]
    angle = -np.radians(rotate or 0)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    scale[0, 0] = scale[1, 1] = 1 / (zoom or 1)
    if affine is not None:
        base[:2] = affine[:2]
        base = np.linalg.inv(base)
    return (back @ scale @ turn @ to_centre @ base)[:2]


AFFINE = np.array([[1.1, 0.2, -1.5], [-0.1, 0.9, 2.0]])


@pytest.mark.parametrize("crop", [None, PATCH], ids=["whole", "patch"])
@pytest.mark.parametrize("affine", [None, AFFINE, np.vstack([AFFINE, [0, 0, 1]])], ids=["no", "2x3", "3x3"])
@pytest.mark.parametrize("zoom", [None, 1.5, 0.7])
@pytest.mark.parametrize("rotate", [None, 0, 30, -75.5])
def test_composition(rotate, zoom, affine, crop, rng):
    image = rng.random((30, 24))
    displacement = rng.normal(size=(2, 3, 4)) * 2
    extent = image.shape if crop is None else (16, 11)
    got = elasticnd.deform_grid(image, displacement, crop=crop, affine=affine, rotate=rotate, zoom=zoom)
    inverse = inverse_map(extent, rotate, zoom, affine)
    expected = oracle.deform(image, displacement, crop=crop, inverse=inverse)
    # In mode constant, values jump at the border, and rounding may put a position on either side.
    x = oracle.coordinates(displacement, image.shape, crop, inverse)
    ends = np.array(image.shape).reshape(2, 1, 1) - 1
    on_the_border = ((np.abs(x) < 1e-9) | (np.abs(x - ends) < 1e-9)).any(axis=0)
    np.testing.assert_allclose(got[~on_the_border], expected[~on_the_border], rtol=0, atol=DOUBLE)
    assert on_the_border.mean() < 0.1


def test_content_is_magnified_and_turned():
    """A zoom of 2 doubles the distance from the centre, and 90 degrees turn the first axis into the second."""
    image = np.zeros((21, 21))
    image[10 + 3, 10] = 1
    none = np.zeros((2, 2, 2))
    for options, place in (
        ({"zoom": 2}, (16, 10)),
        ({"rotate": 90}, (10, 13)),
        ({"rotate": 90, "zoom": 2}, (10, 16)),
    ):
        deformed = elasticnd.deform_grid(image, none, order=1, **options)
        assert np.unravel_index(deformed.argmax(), deformed.shape) == place


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("mode", MODES)
def test_gradient_with_crop_and_rotation(order, mode, rng):
    """With the arguments of the forward call, the gradient is its transpose: ⟨Gx, y⟩ = ⟨x, Gᵀy⟩."""
    image = rng.random((30, 24))
    options = {"order": order, "mode": mode, "crop": PATCH, "affine": AFFINE, "rotate": 20, "zoom": 1.2}
    displacement = rng.normal(size=(2, 3, 4)) * 2
    deformed = elasticnd.deform_grid(image, displacement, **options)
    weight = rng.normal(size=deformed.shape)
    pulled = elasticnd.deform_grid_gradient(weight, displacement, **options, X_shape=image.shape)
    # The sums have about 1000 terms, whose rounding errors are far below 1e-10.
    np.testing.assert_allclose((deformed * weight).sum(), (pulled * image).sum(), rtol=1e-10, atol=1e-10)


# ---- errors of elasticdeform ---------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_integer_images_keep_fractions_in_their_coefficients(dtype, order, rng):
    largest = np.iinfo(dtype).max
    image = rng.integers(0, largest, (40, 30), dtype=dtype)
    displacement = rng.normal(size=(2, 3, 3)) * 3
    got = elasticnd.deform_grid(image, displacement, order, "mirror")
    exact = oracle.deform(image, displacement, order, "mirror")
    rounded = np.clip(np.floor(np.abs(exact) + 0.5) * np.sign(exact), np.iinfo(dtype).min, largest)
    tie = np.abs(np.abs(exact) % 1 - 0.5) < (SINGLE if largest < 2**31 - 1 else DOUBLE) * largest
    np.testing.assert_array_equal(got[~tie], rounded[~tie])
    # The interval around ties grows with the range of the dtype. It is widest for 16 bits in single precision.
    assert tie.mean() < 0.9


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float16, np.float32])
def test_control_grids_of_any_type(dtype, rng):
    image = rng.random((20, 17))
    displacement = rng.integers(0, 5, (2, 3, 4)).astype(dtype)
    # Integer displacements reach the border up to rounding, so use a mode without a jump there.
    expected = elasticnd.deform_grid(image, displacement.astype(np.float64), mode="mirror")
    np.testing.assert_array_equal(elasticnd.deform_grid(image, displacement, mode="mirror"), expected)
    np.testing.assert_array_equal(elasticnd.deform_grid(image, displacement.tolist(), mode="mirror"), expected)
    np.testing.assert_allclose(expected, oracle.deform(image, displacement, mode="mirror"), rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("shape", [(1, 12), (12, 1), (1, 1), (1,)])
def test_axes_of_one_voxel(shape, rng):
    image = rng.random(shape)
    n = image.ndim
    displacement = np.zeros((n, *(3,) * n))
    for order in ORDERS:
        deformed = elasticnd.deform_grid(image, displacement, order)
        # The coefficients of the spline are rounded.
        np.testing.assert_allclose(deformed, image, rtol=0, atol=DOUBLE)


def test_homogeneous_affine_in_three_dimensions(rng):
    image = rng.random((9, 10, 11))
    displacement = rng.normal(size=(3, 2, 3, 2))
    affine = np.eye(3, 4) + rng.uniform(-0.1, 0.1, (3, 4))
    homogeneous = np.vstack([affine, [0, 0, 0, 1]])
    got = elasticnd.deform_grid(image, displacement, mode="mirror", affine=homogeneous)
    np.testing.assert_array_equal(got, elasticnd.deform_grid(image, displacement, mode="mirror", affine=affine))
    inverse = np.linalg.inv(homogeneous)[:3]
    expected = oracle.deform(image, displacement, mode="mirror", inverse=inverse)
    np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"zoom": 0}, "^zoom: got .*0"),
        ({"crop": (slice(0, 0), slice(0, 5))}, r"^crop\[0\]: got slice\(0, 0, None\)"),
        ({"crop": (slice(0, 5), slice(3, 0))}, r"^crop\[1\]: got slice\(3, 0, None\)"),
    ],
)
def test_zero_is_not_mistaken_for_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        elasticnd.deform_grid(np.zeros((12, 10)), np.zeros((2, 3, 3)), **arguments)


@pytest.mark.parametrize(
    ("rank", "axis"),
    [(9, (8, 1)), (9, (1, 8)), (11, (0, 10)), (11, (10, 0)), (3, (2, 0)), (4, (3, 1, 0)), (3, (-1, 0))],
)
def test_component_belongs_to_its_axis(rank, axis, rng):
    """Component i of the displacement moves along the i-th of the given axes, whatever their order."""
    shape = [1] * rank
    for k, extent in zip(axis, (9, 8, 7), strict=False):
        shape[k] = extent
    image = rng.random(shape)
    displacement = rng.normal(size=(len(axis), *(3, 2, 4)[: len(axis)]))
    got = elasticnd.deform_grid(image, displacement, axis=axis)
    expected = oracle.deform(image, displacement, axis=axis)
    np.testing.assert_allclose(got, expected, rtol=0, atol=DOUBLE)


def test_reflect_is_not_mirror(rng):
    """Both modes mean what they mean in SciPy, and differ clearly beyond the border."""
    image = rng.random((40, 30))
    displacement = rng.normal(size=(2, 3, 3)) * 20
    deformed = {}
    for mode in ("reflect", "mirror"):
        deformed[mode] = elasticnd.deform_grid(image, displacement, mode=mode)
        expected = oracle.deform(image, displacement, mode=mode)
        np.testing.assert_allclose(deformed[mode], expected, rtol=0, atol=DOUBLE)
    assert np.abs(deformed["reflect"] - deformed["mirror"]).max() > 0.1


def test_checks_do_not_rest_on_assert():
    """``python -O`` refuses the same calls."""
    script = """
import numpy as np, elasticnd
assert False  # shows that -O is on
image, grid = np.zeros((12, 10)), np.zeros((2, 3, 3))
wrong = (
    dict(order=6), dict(axis=(0, 0)), dict(crop=(slice(0, 5, 2), slice(0, 3))), dict(affine=np.eye(5)),
    dict(displacement=grid[:1]), dict(X=[]), dict(X=[image, None]), dict(cval=[1, 2]), dict(zoom=0),
)
for arguments in wrong:
    try:
        elasticnd.deform_grid(**{"X": image, "displacement": grid, **arguments})
    except (TypeError, ValueError):
        continue
    raise SystemExit(f"accepted {arguments}")
"""
    subprocess.run([sys.executable, "-I", "-O", "-W", "error", "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("bad", [None, 3, "image", [[1.0]], np.array([None, 1])], ids=str)
def test_bad_element_of_a_list_is_an_exception(bad):
    with pytest.raises(TypeError, match=r"^X\[1\]: got "):
        elasticnd.deform_grid([np.zeros((12, 10)), bad], np.zeros((2, 3, 3)))
