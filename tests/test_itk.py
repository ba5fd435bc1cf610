"""Deformations as ITK transforms: SimpleITK gives the same points and images, and files can be read back."""

import sys
import warnings

import numpy as np
import oracle
import pytest

from elasticnd import Deformation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the bindings issue warnings on import
    import SimpleITK as sitk  # noqa: N813 - the name that SimpleITK's examples use

LPS = {2: np.eye(2), 3: np.diag([-1.0, -1.0, 1.0])}

# The shape of the frame, and of the control grid.
FRAMES = {
    "plane": ((17, 14), (4, 5)),
    "volume": ((14, 17, 12), (4, 3, 5)),
    "one control point": ((15, 12), (1, 4)),
    "constant": ((12, 9, 8), (1, 1, 1)),
    "one voxel": ((1, 14, 12), (3, 4, 2)),
    "one voxel and one control point": ((1, 14, 12), (1, 4, 2)),
    "two control points": ((13, 11, 10), (2, 2, 2)),
    "a point for each voxel": ((7, 6), (7, 6)),
}
AFFINES = ("none", "affine", "rotate and zoom", "all")


def affine_of(name, n, rng):
    matrix = np.eye(n, n + 1) + rng.normal(0, 0.05, (n, n + 1))
    return {
        "none": {},
        "affine": {"affine": matrix},
        "rotate and zoom": {"rotate": {(0, n - 1): 12}, "zoom": 0.9},
        "all": {"affine": matrix, "rotate": {(0, n - 1): 12}, "zoom": 1.1},
    }[name]


def inverse_of(options, shape):
    """Return the inverse of the affine map as a matrix (n, n + 1), including rotation and zoom about the centre."""
    n = len(shape)
    forward = np.eye(n + 1)
    if "rotate" in options:
        cosine, sine = np.cos(np.radians(12)), np.sin(np.radians(12))
        linear = np.eye(n)
        linear[[0, 0, n - 1, n - 1], [0, n - 1, 0, n - 1]] = cosine, -sine, sine, cosine
        centre = (np.array(shape) - 1) / 2
        forward[:n, :n] = options["zoom"] * linear
        forward[:n, n] = centre - forward[:n, :n] @ centre
    if "affine" in options:
        forward = np.vstack([options["affine"], np.eye(n + 1)[n]]) @ forward
    return np.linalg.inv(forward)[:n]


def oblique(n, rng):
    """Return a random index-to-world matrix, rotated, perhaps mirrored, anisotropic, and far from the origin."""
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.linalg.qr(rng.normal(size=(n, n)))[0] * rng.uniform(0.5, 3, n)
    matrix[:n, n] = rng.normal(0, 50, n)
    return matrix


def make(frame, affine, rng, sigma=1.2, to_world=None):
    shape, points = FRAMES[frame]
    n = len(shape)
    options = affine_of(affine, n, rng)
    displacement = rng.normal(0, sigma, (n, *points))
    to_world = oblique(n, rng) if to_world is None else to_world
    positions = oracle.coordinates(displacement, shape, inverse=inverse_of(options, shape))
    return Deformation(displacement, shape, to_world=to_world, **options), np.moveaxis(positions, 0, -1)


def voxels_of(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, len(shape)).astype(float)


def itk_matrix(to_world):
    n = len(to_world) - 1
    return LPS[n] @ to_world[:n]


def transformed(transform, points):
    return np.array([transform.TransformPoint(point.tolist()) for point in points])


def moved_by(transform, f, to_world):
    """Return the positions, in voxels, to which a transform maps voxels."""
    matrix = itk_matrix(to_world)
    points = transformed(transform, f @ matrix[:, :-1].T + matrix[:, -1])
    return np.linalg.solve(matrix[:, :-1], (points - matrix[:, -1]).T).T


def itk_image(array, to_world):
    matrix = itk_matrix(to_world)
    spacing = np.linalg.norm(matrix[:, :-1], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:, :-1] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:, -1].tolist())
    return image


with_each_frame = pytest.mark.parametrize("frame", FRAMES)
with_each_affine = pytest.mark.parametrize("affine", AFFINES)


# ---- to ITK ----------------------------------------------------------------------------------------------------------


@with_each_affine
@with_each_frame
def test_every_voxel_moves_alike(frame, affine, rng):
    deformation, expected = make(frame, affine, rng)
    got = moved_by(deformation.to_itk(), voxels_of(deformation.shape), deformation.to_world)
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-9)


TURNED = {
    "as it is": np.eye(4),
    "permuted": np.eye(4)[[2, 0, 1, 3]],
    "mirrored": np.diag([-1.0, 1, 1, 1]),
    "reversed": np.eye(4)[[2, 1, 0, 3]],
    "in single precision": np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4))[:3, :3])[0],
}


@pytest.mark.parametrize("turned", TURNED)
def test_axes_in_any_order_and_orientation(turned, rng):
    to_world = np.eye(4)
    to_world[:3, :3] = TURNED[turned][:3, :3] @ np.diag([2, 1, 3])
    to_world[:3, 3] = 10, -20, 30
    if turned == "in single precision":
        to_world = to_world.astype(np.float32)
    deformation, expected = make("volume", "all", rng, to_world=to_world)
    got = moved_by(deformation.to_itk(), voxels_of(deformation.shape), deformation.to_world)
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("order", "interpolator"), [(1, sitk.sitkLinear), (3, sitk.sitkBSpline3)])
@pytest.mark.parametrize("frame", ["plane", "volume"])
@with_each_affine
def test_images_are_resampled_alike(affine, frame, order, interpolator, rng):
    deformation, x = make(frame, affine, rng)
    image = rng.random(deformation.shape)
    source = itk_image(image, deformation.to_world)
    resampled = sitk.Resample(source, source, deformation.to_itk(), interpolator, 0.0, sitk.sitkFloat64)
    # On the border itself, rounding decides what ITK considers outside.
    inside = np.all((x > 1e-6) & (x < np.array(deformation.shape) - 1 - 1e-6), axis=-1)
    assert inside.mean() > 0.4
    got = sitk.GetArrayFromImage(resampled).T
    # The accuracy of ITK's prefilter is limited by its approximate start.
    np.testing.assert_allclose(got[inside], deformation.apply(image, order)[inside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_files_hold_the_transform(suffix, rng, tmp_path):
    deformation, expected = make("volume", "all", rng)
    path = str(tmp_path / f"transform{suffix}")
    sitk.WriteTransform(deformation.to_itk(), path)
    read = sitk.ReadTransform(path)
    got = moved_by(read, voxels_of(deformation.shape), deformation.to_world)
    np.testing.assert_allclose(got, expected.reshape(got.shape), rtol=0, atol=1e-9)
    again = Deformation.from_itk(read, deformation.shape, deformation.to_world)
    np.testing.assert_allclose(again.displacement, deformation.displacement, rtol=0, atol=1e-9)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_arrays_of_other_libraries(library, rng):
    xp = pytest.importorskip({"torch": "torch", "jax": "jax.numpy"}[library])
    deformation, _ = make("plane", "affine", rng)
    displacement = xp.asarray(deformation.displacement.astype(np.float32))
    if library == "torch":
        displacement.requires_grad_()
    affine = xp.asarray(deformation.affine.copy())
    own = Deformation(displacement, deformation.shape, affine=affine, to_world=deformation.to_world)
    as_numpy = Deformation(
        np.asarray(deformation.displacement, np.float32), own.shape, affine=np.asarray(affine), to_world=own.to_world
    )
    assert own.to_itk().GetParameters() == as_numpy.to_itk().GetParameters()


def of_frame(shape=(5, 6), batch=(), to_world=True, **options):
    n = len(shape)
    to_world = np.eye(n + 1) if to_world is True else to_world
    return Deformation(np.zeros((*batch, n, *(2,) * n)), shape, to_world=to_world, **options)


@pytest.mark.parametrize(
    ("deformation", "message"),
    [
        (
            of_frame(to_world=None),
            "to_world: got None, expected a deformation whose frame has an index-to-world matrix",
        ),
        (of_frame(to_world=[[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), "to_world: got .*, expected a matrix without shear"),
        (of_frame(batch=(3,)), r"batch_shape: got \(3,\), expected one deformation, without batch axes"),
        (of_frame((5,)), "shape: got 1 axis, expected 2 or 3"),
        (of_frame((5, 4, 3, 2)), "shape: got 4 axes, expected 2 or 3"),
    ],
)
def test_deformations_that_itk_cannot_represent(deformation, message):
    with pytest.raises(ValueError, match=message):
        deformation.to_itk()


def test_traced_programs_have_no_transform():
    jax = pytest.importorskip("jax")

    def program(displacement):
        return Deformation(displacement, (5, 6), to_world=np.eye(3)).to_itk()

    with pytest.raises(TypeError, match=r"displacement: got .*, expected an array with values"):
        jax.jit(program)(jax.numpy.zeros((2, 3, 3)))


# ---- from ITK --------------------------------------------------------------------------------------------------------


@with_each_affine
@with_each_frame
def test_transforms_are_read_back(frame, affine, rng):
    deformation, expected = make(frame, affine, rng)
    again = Deformation.from_itk(deformation.to_itk(), deformation.shape, deformation.to_world)
    f = voxels_of(deformation.shape)
    np.testing.assert_allclose(again.source_points(f), expected.reshape(f.shape), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(again.to_world, deformation.to_world)
    assert (again.affine is None) == (affine == "none")
    if 1 not in deformation.shape:
        np.testing.assert_allclose(again.displacement, deformation.displacement, rtol=0, atol=1e-9)


def linear_transforms(n):
    euler = sitk.Euler3DTransform((5, 6, 7), 0.1, 0.2, 0.3, (1, 2, 3)) if n == 3 else sitk.Euler2DTransform((5, 6), 0.1)
    affine = sitk.AffineTransform((np.eye(n) + 0.1).ravel().tolist(), [3.0] * n, [20.0] * n)
    composite = sitk.CompositeTransform([affine, sitk.CompositeTransform([euler, sitk.TranslationTransform(n)])])
    scale = sitk.ScaleTransform(n, [1.5] * n)
    return {
        "nothing": sitk.Transform(n, sitk.sitkIdentity),
        "an empty composite": sitk.CompositeTransform(n),
        "translation": sitk.TranslationTransform(n, [4.0] * n),
        "scale": scale,
        "rotation": euler,
        "affine": affine,
        "nested composites": sitk.CompositeTransform([composite, scale]),
    }


@pytest.mark.parametrize("name", linear_transforms(2))
@pytest.mark.parametrize("shape", [(9, 12), (1, 7), (8, 9, 10)])
def test_linear_transforms(shape, name, rng):
    n = len(shape)
    to_world = oblique(n, rng)
    transform = linear_transforms(n)[name]
    deformation = Deformation.from_itk(transform, shape, to_world)
    f = voxels_of(shape)
    np.testing.assert_allclose(deformation.source_points(f), moved_by(transform, f, to_world), rtol=0, atol=1e-9)
    assert deformation.grid_shape == (1,) * n
    assert (deformation.affine is None) == (name in ("nothing", "an empty composite"))


def spline_transform(coefficients, start, cell, to_world, order=None):
    """Return a B-spline transform whose coefficients are `cell` voxels apart and begin at voxel `start`."""
    n = len(coefficients)
    matrix = itk_matrix(to_world)
    order = range(n) if order is None else order
    images = []
    for component in coefficients:
        image = sitk.GetImageFromArray(np.ascontiguousarray(component.transpose(order).T))
        spacing = np.linalg.norm(matrix[:, :n], axis=0)
        image.SetSpacing((spacing * cell)[list(order)].tolist())
        image.SetDirection((matrix[:, :n] / spacing)[:, list(order)].ravel().tolist())
        image.SetOrigin((matrix[:, :n] @ start + matrix[:, n]).tolist())
        images.append(image)
    return sitk.BSplineTransform(images, 3)


def mirrored(inner, width):
    return np.pad(inner, [(0, 0), *[(width, width)] * (inner.ndim - 1)], mode="reflect")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("width", [1, 2, 4])
def test_grids_of_itk(order, width, rng):
    """ITK's grid may have more cells around the frame, and its axes in another order than the array."""
    shape, to_world = (13, 9, 11), oblique(3, rng)
    cell = (np.array(shape) - 1) / (2, 3, 4)
    coefficients = mirrored(rng.normal(size=(3, 3, 4, 5)), width)
    transform = spline_transform(coefficients, -width * cell, cell, to_world, order)
    deformation = Deformation.from_itk(transform, shape, to_world)
    assert deformation.grid_shape == (3, 4, 5)
    f = voxels_of(shape)
    f = f[
        np.all((f > 0) & (f < np.array(shape) - 1), axis=-1)
    ]  # with one coefficient on each side, ITK may ignore positions beyond
    np.testing.assert_allclose(deformation.source_points(f), moved_by(transform, f, to_world), rtol=0, atol=1e-9)


def test_a_grid_in_the_other_orientation(rng):
    shape, to_world = (13, 9), oblique(2, rng)
    flip = np.array([[-1.0, 0, 12], [0, 1, 0], [0, 0, 1]])
    transform = Deformation(rng.normal(size=(2, 4, 3)), shape, to_world=to_world @ flip).to_itk()
    again = Deformation.from_itk(transform, shape, to_world)
    f = voxels_of(shape)
    np.testing.assert_allclose(again.source_points(f), moved_by(transform, f, to_world), rtol=0, atol=1e-9)


def rejected():
    to_world = np.diag([2.0, 3.0, 1.0])
    inner = np.random.default_rng(0).normal(size=(2, 3, 4))
    cell = np.array([4.0, 3.0])  # of a frame of shape (9, 10)
    good = spline_transform(mirrored(inner, 2), -2 * cell, cell, to_world)
    border = mirrored(inner, 2)
    border[0, 1, 3] += 0.5  # in mm: a quarter of a voxel
    turned = to_world @ np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = sitk.AffineTransform(2)
    affine.Scale(2.0)
    return {
        "border": (spline_transform(border, -2 * cell, cell, to_world), r"along axis 0 differ by 0\.25 voxels"),
        "shifted": (spline_transform(mirrored(inner, 2), 1 - 2 * cell, cell, to_world), r"cells between -3 and 13"),
        "too small": (spline_transform(mirrored(inner, 1), 0 * cell, cell, to_world), "along axis 0"),
        "fewer cells": (spline_transform(mirrored(inner, 2), -2 * cell, cell * (1, 0.9), to_world), "along axis 1"),
        "rotated": (spline_transform(mirrored(inner, 2), -2 * cell, cell, turned), "a grid that is rotated"),
        "order": (sitk.BSplineTransform(2, 2), "a B-spline of order 2, expected one of order 3"),
        "affine first": (sitk.CompositeTransform([good, affine]), "with BSplineTransform in it"),
        "two splines": (sitk.CompositeTransform([good, good]), "with BSplineTransform in it"),
        "field": (sitk.DisplacementFieldTransform(2), "with DisplacementFieldTransform in it"),
        "volume": (sitk.AffineTransform(3), "3 dimensions, expected 2"),
    }


@pytest.mark.parametrize("name", rejected())
def test_transforms_that_are_no_deformation_are_refused(name):
    transform, message = rejected()[name]
    with pytest.raises(ValueError, match=f"^transform: .*{message}"):
        Deformation.from_itk(transform, (9, 10), np.diag([2.0, 3.0, 1.0]))


# ---- fitted ----------------------------------------------------------------------------------------------------------


# An orientation for which SimpleITK's initialiser keeps the order of the axes.
TILTED = np.array([[1.9, -0.6, 10], [0.6, 1.9, -20], [0, 0, 1]])


def free_spline(shape, mesh, to_world, rng, sigma=3.0):
    """Return a B-spline transform from SimpleITK's initialiser, with random coefficients."""
    transform = sitk.BSplineTransformInitializer(itk_image(np.zeros(shape), to_world), mesh)
    transform.SetParameters(rng.normal(0, sigma, len(transform.GetParameters())).tolist())
    return transform


@with_each_affine
def test_a_control_grid_is_fitted_exactly_where_it_can_be(affine, rng):
    deformation, _ = make("volume", affine, rng)
    fitted = Deformation.from_itk(deformation.to_itk(), deformation.shape, deformation.to_world, fit=True)
    np.testing.assert_allclose(fitted.displacement, deformation.displacement, rtol=0, atol=1e-8)
    assert (fitted.affine is None) == (affine == "none")


@pytest.mark.parametrize("fit", [True, 5, (4, 5)])
def test_any_spline_is_fitted_in_least_squares(fit, rng):
    shape, to_world = (23, 17), TILTED
    transform = free_spline(shape, [3, 4], to_world, rng)
    after = sitk.AffineTransform(2)
    after.Rotate(0, 1, 0.2)
    composite = sitk.CompositeTransform([after, transform])
    fitted = Deformation.from_itk(composite, shape, to_world, fit=fit)
    # SimpleITK's cells extend half a voxel beyond the frame on each side.
    assert fitted.grid_shape == {True: (4, 5), 5: (5, 5), (4, 5): (4, 5)}[fit]
    f = voxels_of(shape)
    wanted = moved_by(composite, f, to_world) - (fitted.source_points(f) - fitted.field().reshape(2, -1).T)
    matrices = [oracle.grid_matrix(*each) for each in zip(shape, fitted.grid_shape, strict=True)]
    design = np.kron(*matrices)
    expected = np.linalg.lstsq(design, wanted, rcond=None)[0]
    np.testing.assert_allclose(fitted.displacement.reshape(2, -1).T, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.inv(fitted.affine[:, :2]), fitted_linear(after, to_world), atol=1e-9)


def fitted_linear(transform, to_world):
    matrix = itk_matrix(to_world)[:, :-1]
    n = len(matrix)
    return np.linalg.solve(matrix, np.reshape(transform.GetMatrix(), (n, n)) @ matrix)


def test_fields_and_compositions_are_fitted(rng):
    shape, to_world = (23, 17), oblique(2, rng)
    transform = free_spline(shape, [3, 4], to_world, rng, sigma=0.5)
    both = sitk.CompositeTransform([transform, transform])
    fitted = Deformation.from_itk(both, shape, to_world, fit=shape)
    f = voxels_of(shape)
    assert fitted.affine is None
    np.testing.assert_allclose(fitted.source_points(f), moved_by(both, f, to_world), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("fit", "error", "message"),
    [
        (True, ValueError, "fit: got True for a transform that does not begin with a B-spline, expected the number of"),
        (0, ValueError, "fit: got 0, expected True, or numbers of control points"),
        (10, ValueError, "fit: got 10, expected"),
        ((3, 3, 3), ValueError, r"fit: got \(3, 3, 3\), expected"),
        (2.5, TypeError, "fit: got 2.5"),
        ("many", TypeError, "fit: got 'many'"),
        (None, TypeError, "fit: got None"),
    ],
)
def test_how_many_control_points_are_fitted(fit, error, message):
    with pytest.raises(error, match=message):
        Deformation.from_itk(sitk.AffineTransform(2), (9, 10), np.eye(3), fit=fit)


def test_other_objects_are_no_transforms():
    with pytest.raises(TypeError, match=r"transform: got 3 .*, expected a SimpleITK transform"):
        Deformation.from_itk(3, (9, 10), np.eye(3))


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"Deformation.to_itk needs SimpleITK: pip install 'elasticnd\[medical\]'"):
        of_frame().to_itk()
