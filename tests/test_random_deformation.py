"""Random numbers of the transforms for MONAI, TorchIO and torchvision: ranges, mirrors, windows, axes of one voxel."""

from types import SimpleNamespace

import numpy as np
import pytest

from elasticnd import Deformation, FoldError, FoldWarning
from elasticnd._adapters.draws import Drawn, RandomDeformation, Source

SHAPE = (20, 24, 16)


@pytest.fixture
def source(rng):
    return Source(rng.standard_normal, rng.random)


def constant(uniform, normal=1.0):
    """Return a source that always yields the same numbers."""
    return Source(lambda shape: np.full(shape, normal), lambda shape: np.full(shape, uniform))


def draw(source, shape=SHAPE, *, sigma=2, points=4, spacing=None, is_deformed=True, **options):
    return RandomDeformation(sigma, points, **options).draw(shape, source, spacing=spacing, is_deformed=is_deformed)


SIGMAS = {
    "number": (3, [3, 3, 3]),
    "range": ((3, 7), [4, 4, 4]),
    "numbers of axes": ((1, 2, 3), [1, 2, 3]),
    "ranges of axes": (((0, 4), (3, 7), 2), [1, 4, 2]),
}


@pytest.mark.parametrize("sigma", SIGMAS)
def test_sigma_is_drawn_from_its_range(sigma):
    given, expected = SIGMAS[sigma]
    displacement = draw(constant(0.25), sigma=given).deformation.displacement
    np.testing.assert_array_equal(displacement, np.reshape(expected, (3, 1, 1, 1)) * np.ones((3, 4, 4, 4)))


def test_the_grid_is_that_of_the_source(rng):
    drawn = draw(Source(np.random.default_rng(5).standard_normal, rng.random))
    expected = 2 * np.random.default_rng(5).standard_normal((3, 4, 4, 4))
    np.testing.assert_array_equal(drawn.deformation.displacement, expected)
    assert drawn.deformation.affine is None


AFFINE = {
    "all planes": ({"rotate": 8}, {"rotate": {(0, 1): -4, (0, 2): -4, (1, 2): -4}}),
    "pair": ({"rotate": (4, 8)}, {"rotate": {(0, 1): 5, (0, 2): 5, (1, 2): 5}}),
    "planes": ({"rotate": {(0, 2): 8, (1, 2): (4, 8)}}, {"rotate": {(0, 2): -4, (1, 2): 5}}),
    "zoom": ({"zoom": (0.9, 1.1)}, {"zoom": 0.95}),
    "zoom of axes": ({"zoom": ((0.9, 1.1), 1, (2, 4))}, {"zoom": (0.95, 1, 2.5)}),
    "both": ({"zoom": ((0.9, 1.1), 1, 2), "rotate": {(0, 1): 8}}, {"zoom": (0.95, 1, 2), "rotate": {(0, 1): -4}}),
}


@pytest.mark.parametrize("case", AFFINE)
def test_rotation_and_zoom_are_those_of_deformations(case):
    ranges, drawn = AFFINE[case]
    got = draw(constant(0.25), **ranges).deformation
    expected = Deformation(np.zeros((3, 1, 1, 1)), SHAPE, **drawn).affine
    np.testing.assert_allclose(got.affine, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("mirror", [(0,), (0, 2), (-1,)])
def test_mirrors_turn_the_image_about(mirror, rng):
    image = rng.random(SHAPE)
    whole = draw(constant(0.25), sigma=0, mirror=mirror).apply([image], [1], "constant", 0, [(0, 1, 2)])[0]
    np.testing.assert_array_equal(whole, np.flip(image, mirror))
    kept = draw(constant(0.75), sigma=0, mirror=mirror)
    assert kept.is_identity


def test_mirrors_come_last(rng):
    image = rng.random(SHAPE)
    results = [
        draw(constant(0.25), rotate=(20, 20), zoom=(0.8, 0.9), mirror=mirror, points=1, sigma=0).apply(
            [image], [1], "constant", 0, [(0, 1, 2)]
        )[0]
        for mirror in ((), (1,))
    ]
    np.testing.assert_allclose(results[1], np.flip(results[0], 1), rtol=0, atol=1e-12)


def test_rotation_in_mm_keeps_distances_in_mm():
    spacing = np.array([1.0, 2.0, 0.5])
    affine = draw(constant(0.25), rotate=8, spacing=spacing).deformation.affine
    in_mm = affine[:, :3] * spacing[:, np.newaxis] / spacing
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-13)
    centre = np.array(SHAPE) / 2 - 0.5
    np.testing.assert_allclose(affine[:, :3] @ centre + affine[:, 3], centre, atol=1e-12)


def test_sigma_in_mm():
    displacement = draw(constant(0.25), spacing=(1, 2, 0.5)).deformation.displacement
    np.testing.assert_array_equal(displacement[:, 0, 0, 0], [2, 1, 4])


def test_axes_of_one_voxel_stay(source, rng):
    shape = (20, 24, 1)
    options = {"rotate": 10, "zoom": (0.5, 0.6)}
    drawn = draw(source, shape, **options)
    assert not drawn.deformation.displacement[2].any()
    np.testing.assert_array_equal(drawn.deformation.affine[2], [0, 0, 1, 0])
    np.testing.assert_array_equal(drawn.deformation.affine[:, 2], [0, 0, 1])
    image = rng.random(shape)
    flat = Deformation(
        drawn.deformation.displacement[:2, ..., 0], shape[:2], affine=drawn.deformation.affine[:2, [0, 1, 3]]
    )
    got = drawn.apply([image], [3], "nearest", 0, [(0, 1, 2)])[0]
    np.testing.assert_allclose(got[..., 0], flat.apply(image[..., 0], mode="nearest"), rtol=0, atol=1e-12)


def test_windows_lie_everywhere_and_are_parts_of_the_whole(source, rng):
    image = rng.random(SHAPE)
    random = RandomDeformation(2, 4, rotate=10, mirror=(0,), size=(8, -1, 15))
    starts = set()
    for _ in range(200):
        drawn = random.draw(SHAPE, source)
        assert drawn.window.shape == (8, 24, 15)
        starts.add(drawn.window.start)
    assert {start[0] for start in starts} == set(range(13))
    assert {start[1:] for start in starts} == {(0, 0), (0, 1)}
    part = drawn.apply([image], [3], "mirror", 0, [(0, 1, 2)])[0]
    whole = drawn.deformation.apply(image, 3, "mirror")
    np.testing.assert_array_equal(part, whole[drawn.window.slices])


def test_windows_in_the_middle(source):
    assert draw(source, size=(8, 8, 15), at_random=False).window.start == (6, 8, 0)


def test_without_deformation_only_the_window_is_drawn(rng):
    image = rng.random((*SHAPE, 2))
    nothing = SimpleNamespace(normal=None, uniform=rng.random)  # fails if a grid is drawn
    drawn = draw(nothing, size=8, rotate=10, is_deformed=False)
    assert drawn.is_identity
    got = drawn.apply([image], [3], "mirror", 0, [(0, 1, 2)])[0]
    np.testing.assert_array_equal(got, image[drawn.window.slices])


def test_scaling_removes_folds(source):
    folded = RandomDeformation(8, 5)
    unfolded = RandomDeformation(8, 5, fold="scale")
    for _ in range(5):
        assert folded.draw(SHAPE, source).deformation.fold_bounds().upper < 0
        assert unfolded.draw(SHAPE, source).deformation.fold_bounds().lower > 0


def test_folds_are_warned_of_or_raise_an_error(source):
    with pytest.warns(FoldWarning, match="fold"):
        draw(source, sigma=8, points=5, fold="warn")
    with pytest.raises(FoldError, match="fold"):
        draw(source, sigma=8, points=5, fold="raise")
    draw(source, sigma=0.1, rotate=10, fold="raise")


@pytest.mark.parametrize(
    "options", [{}, {"rotate": 10, "size": 8}, {"is_deformed": False}, {"fold": "scale", "sigma": 9}]
)
@pytest.mark.parametrize("convert", [lambda array: array, np.ndarray.tolist], ids=["arrays", "lists"])
def test_records_replay(options, convert, source, rng):
    image = rng.random(SHAPE)
    drawn = draw(source, **options)
    record = {name: convert(array) for name, array in drawn.record().items()}
    again = Drawn.replay(record)
    assert again.deformation == drawn.deformation
    images = [one.apply([image], [3], "mirror", 0, [(0, 1, 2)])[0] for one in (drawn, again)]
    np.testing.assert_array_equal(*images)


def test_records_have_the_same_shapes_whether_or_not_deformed(source):
    records = [draw(source, rotate=5, is_deformed=is_deformed).record() for is_deformed in (True, False)]
    assert len({str({name: (array.shape, array.dtype) for name, array in one.items()}) for one in records}) == 1


ERRORS = {
    "sigma": [-1, (3, 2), (1, -2), "3", None, (), (1, (2, 1), 3), ((1, 2), (3, 4))],
    "points": [0, 2.5, (3, 3)],
    "rotate": ["5", (10, -10), (1, 2, 3), {(0, 1): (2, 1)}, {(0, 5): 3}, {(1, 1): 3}, {0: 3}, np.nan],
    "zoom": [0, (0, 1), (1.1, 0.9), -1, "1", (1, 2, 3, 4), (1, 1, 0)],
    "mirror": [3, (3,), (0.5,), "0"],
    "fold": ["never", None, 1],
    "size": [0, -2, (8, 8), (8, 8, 17), 2.5, "8"],
    "at_random": [1, None],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in ERRORS.items() for value in values])
def test_errors_name_the_argument(name, value):
    argument = "random_center" if name == "at_random" else name
    with pytest.raises((TypeError, ValueError), match=rf"^{argument}\b.*: got .*expected"):
        draw(constant(0.25), **{name: value})
