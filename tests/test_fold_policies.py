"""`fold=` of random deformations: each item that folds is ignored, reported, refused or scaled down."""

import pickle
import warnings

import frameworks
import numpy as np
import pytest

import elasticnd
from elasticnd import Deformation, FoldBounds, FoldError, FoldWarning

SHAPE = (40, 30)
FOLDS = {"sigma": 8, "points": 5}  # sigma is more than half of the spacing of the control points
FLAT = {"sigma": 0.2, "points": 5}


def random(**options):
    return Deformation.random(SHAPE, rng=3, **options)


def test_the_field_folds():
    assert random(**FOLDS).fold_bounds().upper < 0
    assert random(**FLAT).fold_bounds().lower > 0


@pytest.mark.parametrize("affine", [{}, {"rotate": 20, "zoom": 1.3}, {"affine": [[1, 0.4, 0], [0, -1, 0]]}])
@pytest.mark.parametrize("margin", [0.05, 0.3])
def test_scale(margin, affine, rng):
    plain, scaled = random(**FOLDS, **affine), random(**FOLDS, **affine, fold="scale", margin=margin)
    assert scaled == plain.scaled(plain.largest_scale(margin))
    f = rng.uniform(0, 1, (5000, 2)) * (np.array(SHAPE) - 1)
    assert scaled.jacobian_determinant(f, relative=True).min() >= margin
    assert random(**FLAT, **affine, fold="scale") == random(**FLAT, **affine)  # without a fold, the bits do not change


@pytest.mark.parametrize("options", [FOLDS, FLAT])
def test_warn_and_raise(options):
    folds = options is FOLDS
    expected = random(**options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert random(**options, fold="warn") == expected
        assert random(**options, fold="ignore") == expected
    assert len(caught) == folds
    if folds:
        assert isinstance(caught[0].message, FoldWarning)
        assert caught[0].filename == __file__
        assert caught[0].message.bounds == expected.fold_bounds()
        assert "the mapping folds: its smallest volume ratio lies between -" in str(caught[0].message)
        with pytest.raises(FoldError, match=r"the mapping folds: .* or fold='scale'") as raised:
            random(**options, fold="raise")
        assert isinstance(raised.value, ValueError)
        assert isinstance(raised.value.bounds, FoldBounds)
        assert raised.value.bounds == expected.fold_bounds()
        again = pickle.loads(pickle.dumps(raised.value))  # noqa: S301 - workers send exceptions like this
        assert (str(again), again.bounds) == (str(raised.value), raised.value.bounds)
    else:
        assert random(**options, fold="raise") == expected


def test_items_of_a_batch_by_themselves():
    options = {"sigma": 1.5, "points": 5, "batch_shape": (6,)}
    plain = random(**options)
    folded = plain.fold_bounds().lower <= 0
    assert 0 < folded.sum() < 6
    scaled = random(**options, fold="scale")
    for item in range(6):
        alone = Deformation(plain.displacement[item], SHAPE)
        expected = alone.scaled(alone.largest_scale()).displacement
        np.testing.assert_array_equal(scaled.displacement[item], expected)
    named = ", ".join(map(str, np.flatnonzero(folded)))
    with pytest.raises(FoldError, match=rf"folds in batch items \[{named}\]") as raised:
        random(**options, fold="raise")
    np.testing.assert_array_equal(raised.value.bounds.lower, plain.fold_bounds().lower)


def test_four_axes_are_bounded_by_a_condition():
    with pytest.raises(FoldError, match="the mapping may fold: "):
        Deformation.random((9, 9, 9, 9), sigma=3, points=3, rng=0, fold="raise")
    assert Deformation.random((9, 9, 9, 9), sigma=0, points=3, rng=0, fold="raise").ndim == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": "no"}, r"fold: got 'no', expected 'ignore' or 'warn' or 'raise' or 'scale'"),
        ({"fold": None}, "fold: got None, expected 'ignore'"),
        ({"fold": "scale", "margin": 1}, "margin: got 1, expected a number less than 1"),
        ({"margin": "much"}, "margin: got 'much', expected a number less than 1"),
    ],
)
def test_bad_arguments(options, message):
    image = np.zeros(SHAPE)
    calls = [
        lambda: random(**options),
        lambda: elasticnd.deform_random_grid(image, **options),
        lambda: layers()["torch"](sigma=1, **options),
        lambda: layers()["keras"](sigma=1, **options),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def layers():
    pytest.importorskip("torch")
    pytest.importorskip("keras")
    import elasticnd.keras
    import elasticnd.torch

    return {"torch": elasticnd.torch.ElasticDeform, "keras": elasticnd.keras.ElasticDeform}


@pytest.mark.parametrize("name", ["numpy", "torch", "jax", "tensorflow"])
def test_deform_random_grid(name, rng):
    array = np.asarray if name == "numpy" else frameworks.get(name).array
    image = rng.random(SHAPE)
    options = {"rotate": 10, "crop": (slice(3, 20), slice(4, 30))}
    scaled = Deformation.random(SHAPE, rng=3, **FOLDS, rotate=10, fold="scale")
    got = elasticnd.deform_random_grid(array(image), rng=3, **FOLDS, **options, fold="scale")
    expected = elasticnd.deform_grid(image, scaled.displacement, **options)
    np.testing.assert_array_equal(np.asarray(got), expected)
    with pytest.raises(FoldError):
        elasticnd.deform_random_grid(array(image), rng=3, **FOLDS, fold="raise")
    elasticnd.deform_random_grid(array(image), rng=3, **FLAT, fold="raise")
    assert elasticnd.deform_random_grid(array(image[:0]), rng=3, **FLAT, fold="raise").shape == (0, 30)


def test_large_sigma_is_not_warned_of_twice(rng):
    image = rng.random(SHAPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elasticnd.deform_random_grid(image, 50, fold="scale", rng=0)
    with pytest.warns(FoldWarning) as caught:
        elasticnd.deform_random_grid(image, 50, fold="warn", rng=0)
    assert len(caught) == 1


def test_layer_of_torch(rng):
    torch = frameworks.get("torch").module
    images = torch.from_numpy(rng.random((4, 1, *SHAPE)))
    layer = layers()["torch"](**FOLDS, fold="raise")
    with pytest.raises(FoldError, match="in batch items"):
        layer(images)
    assert "fold='raise'" in repr(layer)
    kept = []
    original = elasticnd.torch._deform_grid

    def record(tensors, displacement, *arguments, **options):
        kept.append(displacement)
        return original(tensors, displacement, *arguments, **options)

    elasticnd.torch._deform_grid = record
    try:
        layers()["torch"](**FOLDS, fold="scale")(images)
    finally:
        elasticnd.torch._deform_grid = original
    assert kept[0].dtype == torch.float32
    assert (Deformation(kept[0], SHAPE).fold_bounds().lower > 0.04).all()


def test_layer_of_keras(rng):
    layer = layers()["keras"](**FOLDS, fold="raise", margin=0.2, seed=0)
    images = rng.random((4, *SHAPE, 1)).astype("float32")
    with pytest.raises(FoldError, match="in batch items"):
        layer(images, training=True)
    again = type(layer).from_config(layer.get_config())
    assert (again.fold, again.margin) == ("raise", 0.2)
    assert layers()["keras"](**FOLDS, fold="scale", seed=0)(images, training=True).shape == images.shape


def test_scaling_in_traced_programs_is_refused(rng):
    jax = frameworks.get("jax").module
    key = jax.random.key(0)
    expected = "fold: got 'scale', expected 'ignore' while a program is traced"

    def function(image):
        return elasticnd.deform_random_grid(image, **FOLDS, rng=key, fold="scale")

    with pytest.raises(ValueError, match=expected):
        jax.jit(lambda image, key: elasticnd.deform_random_grid(image, **FOLDS, rng=key, fold="scale"))(
            jax.numpy.zeros(SHAPE), key
        )
    assert function(jax.numpy.zeros(SHAPE)).shape == SHAPE
    tf = frameworks.get("tensorflow").module
    with pytest.raises(ValueError, match=expected):
        tf.function(lambda image: elasticnd.deform_random_grid(image, **FOLDS, fold="scale"))(tf.zeros(SHAPE))
