"""Pictures of deformations: the positions of everything that matplotlib draws, and pictures in notebooks."""

import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from elasticnd import Deformation
from elasticnd._plot.axes import COLUMNS_COLOUR, FOLD_COLOUR, ROWS_COLOUR

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
figures = pytest.importorskip("matplotlib.figure")
collections = pytest.importorskip("matplotlib.collections")

AFFINE = np.array([[1.1, 0.2, 0.5], [-0.1, 0.9, 0.3]])


@pytest.fixture
def ax():
    return figures.Figure().subplots()


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    pytest.importorskip("matplotlib.pyplot").close("all")


def control_points(deformation):
    """Return the positions that control points sample. The spline interpolates, so it has their displacements there."""
    ranges = [np.linspace(0, n - 1, p) for n, p in zip(deformation.shape, deformation.grid_shape, strict=True)]
    f = np.stack(np.meshgrid(*ranges, indexing="ij"), -1)
    x = f if deformation.affine is None else (f - AFFINE[:, -1]) @ np.linalg.inv(AFFINE[:, :-1]).T
    return x + np.moveaxis(deformation.displacement, 0, -1)


def lines_of(ax, colour):
    """Return the thick lines of a colour, as rows and columns."""
    return [
        np.transpose(line.get_data())[:, ::-1] for line in ax.lines if line.get_color() == colour and line.get_lw() > 1
    ]


@pytest.mark.parametrize("affine", [None, AFFINE])
def test_lines_and_points_are_at_their_source_positions(affine, ax, rng):
    deformation = Deformation(rng.normal(0, 2, (2, 4, 3)), (40, 31), affine=affine)
    assert deformation.plot(ax) is ax
    expected = control_points(deformation)
    rows, columns = lines_of(ax, ROWS_COLOUR), lines_of(ax, COLUMNS_COLOUR)
    assert (len(rows), len(columns)) == (4, 3)
    for lines, points in ((rows, expected), (columns, expected.transpose(1, 0, 2))):
        for line, own in zip(lines, points, strict=True):
            for point in own:
                assert np.abs(line - point).sum(-1).min() < 1e-9
    arrows = [(child.xy[::-1], child.xyann[::-1]) for child in ax.texts]  # their tips and tails
    starts = np.stack(np.meshgrid([0, 13, 26, 39], [0, 15, 30], indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_allclose([stop for stop, _ in arrows], expected.reshape(-1, 2), atol=1e-9)
    np.testing.assert_allclose([start for _, start in arrows], starts, atol=1e-9)
    assert ax.yaxis_inverted()
    assert not ax.xaxis_inverted()


def areas(corners):
    """Return the signed areas of quadrilaterals, whose corners have shape (rows, columns, 2)."""
    a, b, c, d = corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]
    first, second = c - a, d - b
    return (first[..., 0] * -second[..., 1] + first[..., 1] * second[..., 0]) / 2


@pytest.mark.parametrize("affine", [None, 1.5 * AFFINE])
def test_colours_are_the_change_of_areas(affine, ax, rng):
    deformation = Deformation(rng.normal(0, 1.5, (2, 4, 3)), (40, 31), affine=affine)
    deformation.plot(ax)
    (mesh,) = [child for child in ax.collections if isinstance(child, collections.QuadMesh)]
    corners = mesh.get_coordinates()[..., ::-1]
    scale = 1 if affine is None else 1 / np.linalg.det(affine[:, :2])
    straight = scale * 39 * 30 / np.prod(np.array(corners.shape[:2]) - 1)
    expected = -np.log2(areas(corners) / straight)
    got = mesh.get_array().reshape(expected.shape)
    # The mean over the corners only approximates the mean over the cell, but cells are small.
    np.testing.assert_allclose(got, expected, atol=0.05)
    assert np.ptp(expected) > 0.5


@pytest.mark.parametrize(("sigma", "folds"), [(0.5, False), (8, True)])
def test_folds_are_marked(sigma, folds, ax):
    deformation = Deformation.random((40, 31), sigma=sigma, points=4, rng=0)
    deformation.plot(ax)
    contours = [child for child in ax.collections if isinstance(child, matplotlib.contour.ContourSet)]
    assert bool(contours) == folds == bool((deformation.jacobian_determinant() <= 0).any())
    if folds:
        assert matplotlib.colors.same_color(contours[0].get_edgecolor(), FOLD_COLOUR)
    assert (f'fill="{FOLD_COLOUR}"' in deformation._repr_html_()) == folds


@pytest.mark.parametrize(
    ("options", "axes", "at"),
    [
        ({}, (1, 2), 9.5),
        ({"at": 3}, (1, 2), 3),
        ({"axes": (0, 1), "at": [7.0]}, (0, 1), 7),
        ({"axes": (-1, 0)}, (2, 0), 14.5),
    ],
)
def test_planes_of_a_volume(options, axes, at, ax, rng):
    deformation = Deformation(rng.normal(0, 1, (3, 3, 4, 5)), (20, 30, 25))
    deformation.plot(ax, **options)
    (normal,) = {0, 1, 2} - set(axes)
    position = np.zeros(3)
    position[normal] = at
    corner = deformation.source_points(position)[list(axes)]
    assert np.abs(lines_of(ax, ROWS_COLOUR)[0][0] - corner).max() < 1e-9
    assert ax.get_ylabel() == f"axis {axes[0]}, voxels"
    assert ax.get_xlabel() == f"axis {axes[1]}, voxels"


def test_a_new_figure_has_a_colour_bar():
    figure = Deformation.random((20, 30), sigma=1, rng=0).plot().figure
    assert len(figure.axes) == 2
    figure.savefig("/dev/null", format="png")


def test_many_control_points_are_not_all_drawn(ax):
    Deformation.random((200, 300), sigma=1, points=(150, 3), rng=0).plot(ax)
    assert len(lines_of(ax, COLUMNS_COLOUR)) == 0  # all lines are thin
    assert len(ax.lines) < 700


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (Deformation.random((5, 6), batch_shape=(3,)), {}, r"batch_shape: got \(3,\)"),
        (Deformation.identity((5,)), {}, r"shape: got 1 axis, expected at least two"),
        (Deformation(np.full((2, 2, 2), np.nan), (5, 6)), {}, r"displacement: got NaN"),
        (Deformation.identity((5, 6)), {"axes": (0, 2)}, r"axes: got \(0, 2\), expected two different axes"),
        (Deformation.identity((5, 6)), {"axes": (1, -1)}, r"axes: got \(1, -1\)"),
        (Deformation.identity((5, 6, 7)), {"axes": (0, 1, 2)}, r"axes: got \(0, 1, 2\)"),
        (Deformation.identity((5, 6, 7)), {"at": (1, 2)}, r"at: got "),
        (Deformation.identity((5, 6, 7)), {"at": np.nan}, r"at: got nan"),
    ],
)
def test_what_is_not_drawn(made, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        made.plot(**options)


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"Deformation.plot needs .*: pip install 'elasticnd\[demo\]'"):
        Deformation.identity((5, 6)).plot()


# ---- notebooks -------------------------------------------------------------------------------------------------------

SHOWN = {
    "plane": Deformation.random((20, 30), sigma=2, points=4, rng=0),
    "volume": Deformation.random((20, 30, 10), sigma=2, points=(4, 2, 3), rng=0, rotate={(0, 2): 20}),
    "many control points": Deformation.random((200, 300), sigma=3, points=100, rng=0),
    "batch": Deformation.random((20, 30), sigma=2, batch_shape=(2, 3), rng=0),
    "five axes": Deformation.random((4, 5, 4, 5, 6), sigma=1, points=2, rng=0),
    "long": Deformation.random((10_000, 3), sigma=1, rng=0),
    "one voxel": Deformation.random((1, 1), sigma=1, rng=0),
    "wild": Deformation.random((9, 9), sigma=1e6, points=8, rng=0),
    "batch of affine maps": Deformation(np.zeros((2, 2, 3, 3)), (5, 6), affine=np.stack([AFFINE, 2 * AFFINE])),
}
NOT_SHOWN = {
    "line": Deformation.random((20,), rng=0),
    "NaN": Deformation(np.full((2, 2, 2), np.nan), (5, 6)),
    "an empty batch": Deformation(np.zeros((0, 2, 2, 2)), (5, 6)),
}


@pytest.mark.parametrize("name", SHOWN)
def test_notebooks_show_a_picture(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    html = SHOWN[name]._repr_html_()
    assert repr(SHOWN[name]) in html
    assert len(html) < 100_000
    svg = ElementTree.fromstring(html)[1]  # noqa: S314 - written by elasticnd
    assert {"width", "height"} <= svg.attrib.keys()
    assert max(float(svg.attrib[name]) for name in ("width", "height")) == 240
    for line in svg:
        for point in line.attrib.get("points", "").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= float(svg.attrib["width"])
            assert 0 <= y <= float(svg.attrib["height"])


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_notebooks_show_the_text_of_others(name):
    assert NOT_SHOWN[name]._repr_html_() is None


def test_traced_deformations_have_no_picture():
    jax = pytest.importorskip("jax")
    seen = []

    def program(displacement):
        seen.append(Deformation(displacement, (5, 6))._repr_html_())
        return displacement

    jax.jit(program)(jax.numpy.zeros((2, 3, 3)))
    assert seen == [None]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_arrays_of_other_libraries_are_drawn(library, ax, rng):
    xp = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[library])
    displacement = xp.asarray(rng.normal(size=(2, 3, 3)).astype(np.float32))
    if library == "torch":
        displacement.requires_grad_()
    made = Deformation(displacement, (9, 8))
    made.plot(ax)
    assert "<svg" in made._repr_html_()
