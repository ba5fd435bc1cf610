"""NIfTI volumes, plain or compressed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..._errors import CommandError, one_line
from ..._types import NumpyArray
from ..extras import need
from . import logs
from .image import DTYPES, Image, Shape

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti1 import Nifti1Image as _Volume

NAME = "a NIfTI volume"
_DTYPES = tuple(name for name in DTYPES if name not in ("bool", "float16"))
HOLDS = f"one of {', '.join(_DTYPES)} in 1 to 7 axes"
COMMON: frozenset[str] = frozenset()

_LONGEST_OF_FIRST_VERSION = 2**15 - 1
_BLOCK = 2**20  # bytes to decompress at a time


class _Kept(NamedTuple):
    kind: type[_Volume]  # the class: version 1 or 2
    affine: NumpyArray
    header: Nifti1Header


def holds(dtype: str, shape: Shape) -> bool:
    """Return whether a file can store an array."""
    return dtype in _DTYPES and 1 <= len(shape) <= 7


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file; for a NIfTI output, keep the stored numbers with slope and intercept beside them."""
    if path.name.lower().endswith(".gz"):
        _check_compression(path)
    volume = _loaded(path)
    axes = tuple(range(min(volume.ndim, 3)))
    stored = volume.dataobj
    to_world = _world_of(volume)
    if not keep:
        return Image(np.asarray(stored), axes, own=tuple(_said(volume)), to_world=to_world)
    scale = (float(stored.slope), float(stored.inter))
    kept = _Kept(type(volume), volume.affine, volume.header.copy())
    return Image(stored.get_unscaled(), axes, scale=scale, to_world=to_world, kept=kept)


def write(path: Path, image: Image) -> None:
    """Write a file."""
    kept = image.kept or _new(image.array.shape)
    kept.header.set_data_dtype(image.array.dtype)
    volume = kept.kind(image.array, kept.affine, kept.header)
    # Set explicitly, so that nibabel stores the numbers unchanged instead of rescaling them.
    volume.header.set_slope_inter(*image.scale)
    volume.to_filename(path)


def _check_compression(path: Path) -> None:
    """Read up to the checksum at the end, which nibabel does not reach."""
    with gzip.open(path) as stream:
        while stream.read(_BLOCK):
            pass


def _loaded(path: Path) -> _Volume:
    nibabel = _nibabel()
    with logs.caught("nibabel.global"):  # odd headers are kept
        try:
            volume = nibabel.load(path, mmap=False)
        except nibabel.spatialimages.HeaderDataError as error:
            raise CommandError(
                f"IN: cannot read {path} as {NAME}: {one_line(error)}, expected {', '.join(_DTYPES)}"
            ) from None
    if not isinstance(volume, (nibabel.Nifti1Image, nibabel.Nifti2Image)):
        raise CommandError(f"IN: {path} holds a {type(volume).__name__}, expected {NAME}")
    extents = tuple(map(int, volume.header.get_data_shape()))
    if 0 in extents:
        raise CommandError(f"IN: {path} has shape {extents}, expected at least one voxel along each axis")
    if volume.get_data_dtype().names:
        names = "".join(volume.get_data_dtype().names)
        raise CommandError(f"IN: {path} holds colours ({names}), expected one of {', '.join(_DTYPES)}")
    return volume


def _world_of(volume: _Volume) -> NumpyArray | None:
    """Return the RAS matrix of the voxels from sform or qform; None if neither is set, or the matrix is invalid."""
    matrix = np.asarray(volume.affine, np.float64)
    said = any(int(volume.header[code]) > 0 for code in ("sform_code", "qform_code"))
    is_valid = said and volume.ndim >= 3 and np.all(np.isfinite(matrix)) and np.linalg.det(matrix) != 0
    return matrix if is_valid else None


def _said(volume: _Volume) -> Iterator[str]:
    """List what a header holds that other formats do not."""
    header = volume.header
    if not np.array_equal(volume.affine, np.eye(4)) or any(size != 1 for size in header.get_zooms()):
        yield "affine matrix and voxel size"
    if any(unit != "unknown" for unit in header.get_xyzt_units()):
        yield "units"
    if header["descrip"].item().strip(b"\0 "):
        yield "description"
    if header.get_intent()[0] != "none":
        yield "intent"
    if len(header.extensions):
        yield "extensions"


def _new(shape: Shape) -> _Kept:
    nibabel = _nibabel()
    kind = nibabel.Nifti1Image if max(shape) <= _LONGEST_OF_FIRST_VERSION else nibabel.Nifti2Image
    return _Kept(kind, np.eye(4), kind.header_class())


def _nibabel() -> ModuleType:
    return need("nibabel", "files", NAME)
