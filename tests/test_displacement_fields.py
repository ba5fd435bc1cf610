"""Displacement fields in NIfTI files, as SimpleITK and nibabel read them, and as elasticnd reads them back."""

import warnings

import nibabel
import numpy as np
import oracle
import pytest

from elasticnd import Deformation
from elasticnd._files import nifti

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the bindings issue warnings on import
    import SimpleITK as sitk  # noqa: N813 - the name that SimpleITK's examples use

SHAPE = (9, 8, 7)
AFFINE = np.array([[1.1, 0.2, 0.05, 0.5], [-0.1, 0.9, 0, 0.3], [0, 0.1, 1, -0.5]])
KINDS = ("nifti", "itk", "spm")

with_each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def to_world(rng):
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)
    matrix[:3, 3] = rng.normal(0, 50, 3)
    return matrix


@pytest.fixture
def deformation(to_world, rng):
    return Deformation(rng.normal(0, 1, (3, 3, 4, 2)), SHAPE, affine=AFFINE, to_world=to_world)


@pytest.fixture
def voxels():
    return np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(float)


@pytest.fixture
def expected(deformation):
    """Return the positions that voxels sample, in voxels."""
    inverse = np.linalg.inv(np.vstack([AFFINE, np.eye(4)[3]]))[:3]
    return np.moveaxis(oracle.coordinates(deformation.displacement, SHAPE, inverse=inverse), 0, -1)


def in_world(to_world, positions):
    return positions @ to_world[:3, :3].T + to_world[:3, 3]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@with_each_kind
def test_vectors(kind, suffix, deformation, voxels, expected, tmp_path):
    deformation.to_nifti(tmp_path / f"field{suffix}", kind)
    image = nibabel.load(tmp_path / f"field{suffix}")
    assert image.header.get_intent()[0] == "vector"
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.shape == (*SHAPE, 1, 3)
    np.testing.assert_allclose(image.affine, deformation.to_world, rtol=1e-6)
    x = in_world(deformation.to_world, expected)
    moved = x - in_world(deformation.to_world, voxels)
    vectors = {"nifti": moved, "itk": moved * (-1, -1, 1), "spm": x}[kind]
    np.testing.assert_allclose(image.get_fdata()[:, :, :, 0], vectors, rtol=0, atol=1e-9)


def test_itk_reads_the_field(deformation, voxels, expected, tmp_path):
    path = str(tmp_path / "field.nii.gz")
    deformation.to_nifti(path, "itk")
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))
    inner = (slice(1, -1),) * 3  # on the border, rounding decides what ITK considers outside
    points = (in_world(deformation.to_world, voxels) * (-1, -1, 1))[inner].reshape(-1, 3)
    got = np.array([transform.TransformPoint(point.tolist()) for point in points]) * (-1, -1, 1)
    # NIfTI stores the matrix in single precision, and coordinates are about 100 mm.
    np.testing.assert_allclose(got, in_world(deformation.to_world, expected)[inner].reshape(-1, 3), rtol=0, atol=1e-4)


@with_each_kind
def test_fields_are_read_back(kind, deformation, voxels, expected, tmp_path):
    deformation.to_nifti(tmp_path / "field.nii", kind)
    found = nifti.read_field(tmp_path / "field.nii")
    again = Deformation(found.displacement, found.shape, affine=found.affine, to_world=found.to_world)
    # NIfTI stores the matrix in single precision, so positions in mm differ by 1e-5 or more.
    np.testing.assert_allclose(again.source_points(voxels), expected, rtol=0, atol=1e-4)


def test_fields_of_itk_are_read(deformation, voxels, expected, tmp_path):
    ours, theirs = str(tmp_path / "ours.nii"), str(tmp_path / "theirs.nii")
    deformation.to_nifti(ours, "itk")
    sitk.WriteImage(sitk.ReadImage(ours, sitk.sitkVectorFloat64), theirs)
    found = nifti.read_field(theirs)
    np.testing.assert_allclose(np.moveaxis(found.displacement, 0, -1), expected - voxels, rtol=0, atol=1e-4)


@pytest.mark.parametrize("intent", ["vector", "displacement vector"])
def test_vectors_of_other_programs(intent, tmp_path, rng):
    """In fields without a name, the intent decides the axes: LPS for vectors, and RAS for displacement vectors."""
    vectors = rng.normal(size=(3, 4, 5, 1, 3))
    image = nibabel.Nifti1Image(vectors, np.diag([2.0, 4.0, 0.5, 1.0]))
    image.header.set_intent(intent)
    nibabel.save(image, tmp_path / "field.nii")
    signs = (-1, -1, 1) if intent == "vector" else (1, 1, 1)
    moved = np.moveaxis(nifti.read_field(tmp_path / "field.nii").displacement, 0, -1)
    np.testing.assert_allclose(moved, vectors[:, :, :, 0] * signs / (2, 4, 0.5), rtol=0, atol=1e-12)


def with_world(shape=SHAPE, to_world=None, batch=()):
    n = len(shape)
    return Deformation(
        np.zeros((*batch, n, *(1,) * n)), shape, to_world=np.eye(n + 1) if to_world is None else to_world
    )


SHEARED = [[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("made", "path", "kind", "message"),
    [
        (with_world(), "a.nii", "fsl", r"kind: got 'fsl', expected one of 'nifti', 'itk', 'spm'"),
        (with_world(), "a.nii", None, r"kind: got None, expected one of"),
        (with_world(), "a.mha", "itk", r"path: got .*a.mha', expected a name that ends in .nii or .nii.gz"),
        (with_world((4, 5)), "a.nii", "itk", r"shape: got 2 axes, expected 3"),
        (with_world(to_world=SHEARED), "a.nii", "itk", r"to_world: got .*, expected a matrix without shear"),
        (with_world(batch=(2,)), "a.nii", "nifti", r"batch_shape: got \(2,\)"),
        (Deformation.identity(SHAPE), "a.nii", "nifti", r"to_world: got None"),
    ],
)
def test_deformations_without_a_field_are_refused(made, path, kind, message, tmp_path):
    with pytest.raises(ValueError, match=f"^{message}"):
        made.to_nifti(tmp_path / path, kind)
    assert not list(tmp_path.iterdir())


def test_shear_in_a_field_of_spm(tmp_path):
    with_world(to_world=SHEARED).to_nifti(tmp_path / "a.nii", "spm")
    np.testing.assert_allclose(nibabel.load(tmp_path / "a.nii").affine, SHEARED, rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "intent", "message"),
    [
        (np.zeros((3, 4, 5)), "none", "expected a displacement field of shape"),
        (np.zeros((3, 4, 5, 1, 3)), "none", "expected a displacement field of shape"),
        (np.zeros((3, 4, 5, 2, 3)), "vector", "expected a displacement field of shape"),
        (np.zeros((3, 4, 5, 1, 2)), "vector", "expected a displacement field of shape"),
        (np.full((3, 4, 5, 1, 3), np.nan), "vector", "expected finite values"),
    ],
)
def test_files_that_are_no_field_are_refused(vectors, intent, message, tmp_path):
    image = nibabel.Nifti1Image(vectors, np.eye(4))
    image.header.set_intent(intent)
    nibabel.save(image, tmp_path / "field.nii")
    with pytest.raises(ValueError, match=message):
        nifti.read_field(tmp_path / "field.nii")
