"""NIfTI volumes, plain or compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._errors import CommandError
from .._extras import need
from .image import DTYPES, Image, Shape

NAME = "a NIfTI volume"
_DTYPES = tuple(name for name in DTYPES if name not in ("bool", "float16"))
HOLDS = f"one of {', '.join(_DTYPES)} in 1 to 7 axes"

_LONGEST_OF_FIRST_VERSION = 2**15 - 1


class _Kept(NamedTuple):
    kind: Any  # the class: version 1 or 2
    affine: Any
    header: Any


def holds(dtype: str, shape: Shape) -> bool:
    """Tell whether a file can hold an array."""
    return dtype in _DTYPES and 1 <= len(shape) <= 7


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file: for another NIfTI file the numbers as they are stored, with slope and intercept beside them."""
    nibabel = _nibabel()
    with nibabel.imageglobals.LoggingOutputSuppressor():  # of oddities in headers, which are kept as they are
        volume = nibabel.load(path, mmap=False)
    if not isinstance(volume, (nibabel.Nifti1Image, nibabel.Nifti2Image)):
        raise CommandError(f"IN: {path} holds a {type(volume).__name__}, expected {NAME}")
    axes = tuple(range(min(volume.ndim, 3)))
    stored = volume.dataobj
    if not keep:
        return Image(np.asarray(stored), axes)
    scale = (float(stored.slope), float(stored.inter))
    return Image(
        stored.get_unscaled(), axes, scale=scale, kept=_Kept(type(volume), volume.affine, volume.header.copy())
    )


def write(path: Path, image: Image) -> None:
    """Write a file."""
    kept = image.kept or _new(image.array.shape)
    kept.header.set_data_dtype(image.array.dtype)
    volume = kept.kind(image.array, kept.affine, kept.header)
    # Said outright, so that nibabel stores the numbers as they are instead of scaling them anew.
    volume.header.set_slope_inter(*image.scale)
    volume.to_filename(path)


def _new(shape: Shape) -> _Kept:
    nibabel = _nibabel()
    kind = nibabel.Nifti1Image if max(shape) <= _LONGEST_OF_FIRST_VERSION else nibabel.Nifti2Image
    return _Kept(kind, np.eye(4), kind.header_class())


def _nibabel() -> Any:
    return need("nibabel", "files", NAME)
