"""Displacement fields in NIfTI files, through nibabel: the vectors of voxels in mm, (x, y, z, 1, 3)."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from .._errors import counted, reject_value
from .._extras import need
from .._types import Floats
from .world import FrameMap, itk_grid, lps

_INTENT = "vector"
_RAS_INTENT = "displacement vector"  # of newer versions of ITK
_SUFFIXES = (".nii", ".nii.gz")


class Kind(NamedTuple):
    """What the vectors of a file mean."""

    intent_name: str  # distinguishes what intent codes do not
    is_position: bool  # else a displacement
    to_ras: Floats


KINDS = {
    "nifti": Kind("RAS", False, np.eye(3)),
    "itk": Kind("LPS", False, lps(3)),
    "spm": Kind("Mapping", True, np.eye(3)),  # SPM's name
}


def write_field(path: str | os.PathLike[str], kind: str, frame_map: FrameMap, field: Floats) -> None:
    """Write where voxels are sampled; `field` is the displacement of each voxel, in voxels."""
    if not isinstance(kind, str) or kind not in KINDS:
        reject_value("kind", repr(kind), f"one of {', '.join(map(repr, KINDS))}")
    if not os.fspath(path).lower().endswith(_SUFFIXES):
        reject_value("path", repr(os.fspath(path)), f"a name that ends in {' or '.join(_SUFFIXES)}")
    if len(frame_map.shape) != 3:
        axes = counted(len(frame_map.shape), "axis", "axes")
        reject_value("shape", axes, "3, as in NIfTI displacement fields")
    if kind == "itk":
        itk_grid(frame_map.to_world)  # raises an error for shear
    nibabel = need("nibabel", "medical", "Deformation.to_nifti")
    voxels = np.stack(np.meshgrid(*map(np.arange, frame_map.shape), indexing="ij"), -1, dtype=np.float64)
    x = voxels @ frame_map.linear.T + frame_map.translation + np.moveaxis(field, 0, -1)
    step, origin = frame_map.to_world[:3, :3], frame_map.to_world[:3, 3]
    vectors = (x @ step.T + origin) if KINDS[kind].is_position else (x - voxels) @ step.T
    image = nibabel.Nifti1Image((vectors @ KINDS[kind].to_ras.T)[:, :, :, np.newaxis], frame_map.to_world)
    image.header.set_intent(_INTENT, name=KINDS[kind].intent_name)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def read_field(path: str | os.PathLike[str]) -> FrameMap:
    """Read where voxels are sampled, as a map with one control point per voxel.

    Vectors without a name in `KINDS` are displacements in LPS coordinates, as ITK and ANTs write them.
    """
    nibabel = need("nibabel", "medical", "a displacement field")
    image = nibabel.load(path)
    vectors = np.asarray(image.dataobj, np.float64)
    intent, _, name = image.header.get_intent()
    if vectors.ndim != 5 or vectors.shape[3:] != (1, 3) or intent not in (_INTENT, _RAS_INTENT):
        got = f"{os.fspath(path)!r} of shape {vectors.shape} and intent {intent!r}"
        reject_value("path", got, f"a displacement field of shape (x, y, z, 1, 3) and intent {_INTENT!r}")
    kind = next((kind for kind in KINDS.values() if kind.intent_name == name), KINDS["itk"])
    if intent == _RAS_INTENT:
        kind = KINDS["nifti"]
    vectors = vectors[:, :, :, 0] @ kind.to_ras.T
    if not np.all(np.isfinite(vectors)):
        reject_value("path", f"{os.fspath(path)!r} with NaN or infinite values", "finite values")
    step = np.linalg.inv(image.affine[:3, :3])
    shape = vectors.shape[:3]
    displacement = (vectors - kind.is_position * image.affine[:3, 3]) @ step.T
    if kind.is_position:
        displacement -= np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return FrameMap(np.moveaxis(displacement, -1, 0), np.eye(3, 4), shape, image.affine)
