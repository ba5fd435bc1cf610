"""PNG pictures: grey, in colour, or with a palette, as label maps often are.

Pillow reads them itself, as other libraries for pictures give no access to palettes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._errors import CommandError
from .._extras import need
from .image import Image, Shape

NAME = "a PNG picture"
HOLDS = "bool, uint8 or uint16 in 2 axes, or uint8 with 2 to 4 colours in a third"

_KEPT = ("icc_profile", "dpi", "transparency")
_BIT_DEPTH = 24  # where a file says it


class _Kept(NamedTuple):
    palette: Any  # of the indices that the picture consists of; None if it does not
    info: dict[str, Any]


def holds(dtype: str, shape: Shape) -> bool:
    """Tell whether a file can hold an array."""
    if 0 in shape:
        return False
    if len(shape) == 2:
        return dtype in ("bool", "uint8", "uint16")
    return len(shape) == 3 and 2 <= shape[2] <= 4 and dtype == "uint8"


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file; of a picture with a palette the indices at order 0, the colours at others."""
    with _pillow().open(path, formats=["PNG"]) as file:
        file.load()
        _check(path, file)
        kept = _Kept(None, {name: file.info[name] for name in _KEPT if name in file.info})
        picture = file
        if file.mode == "P" and order == 0:
            kept = kept._replace(palette=file.getpalette())
        elif file.mode == "P":
            picture = file.convert("RGBA" if kept.info.pop("transparency", None) is not None else "RGB")
        array = np.array(picture, dtype=np.uint16 if file.mode.startswith("I") else None)
    return Image(array, (0, 1), colours=array.ndim == 3, kept=kept if keep else None)


def write(path: Path, image: Image) -> None:
    """Write a file."""
    array = np.ascontiguousarray(image.array)
    kept = image.kept or _Kept(None, {})
    picture = _pillow().fromarray(array)
    if kept.palette is not None:
        if array.size and array.max() >= len(kept.palette) // 3:
            raise CommandError(f"--cval: got {array.max()}, expected a colour of the palette of {path.name}")
        picture.putpalette(kept.palette)
    picture.save(path, format="PNG", **kept.info)


def _pillow() -> Any:
    return need("PIL.Image", "files", NAME)


def _check(path: Path, file: Any) -> None:
    """Reject what Pillow would read in part only."""
    if getattr(file, "n_frames", 1) > 1:
        raise CommandError(f"IN: {path} has {file.n_frames} frames, expected one")
    with path.open("rb") as bytes_:
        depth = bytes_.read(_BIT_DEPTH + 1)[_BIT_DEPTH]
    if depth == 16 and not file.mode.startswith("I"):
        raise CommandError(f"IN: {path} has colours of 16 bits, expected 8; a TIFF file can have 16")
