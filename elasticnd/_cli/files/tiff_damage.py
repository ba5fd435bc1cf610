"""Detection of damage in TIFF files that tifffile would partly read, or fill with grey."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import logs

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

# Messages of tifffile about files that it then reads only in part, or fills with zeros.
_DAMAGE = re.compile("corrupt|failed to|incomplete|incorrect|invalid (page|value)|missing|out of range", re.IGNORECASE)
# JPEG and JPEG 2000: their decoders fill in whatever is missing before the end marker.
_WITH_END = (7, 33003, 33004, 33005, 33007, 34712, 34892)
_END, _LAST_BYTES = b"\xff\xd9", 16


@contextmanager
def raised() -> Iterator[None]:
    """Turn what tifffile only logs about damaged files into errors."""
    with logs.caught("tifffile") as messages:
        yield
    for message in messages:
        if _DAMAGE.search(message):
            raise ValueError(message)


def check_pages(pages: Sequence[TiffPage], file: TiffFile) -> None:
    """Raise a ValueError if pages, strips or tiles are missing or cut."""
    for page in pages:
        if page is None:
            raise ValueError("some of its planes are missing")
        segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
        # Both are 0 where a file omits empty parts.
        if len(segments) > 1 and any((offset == 0) != (count == 0) for offset, count in segments):
            raise ValueError("some of its strips or tiles are missing")
        if page.parent.filehandle is file and page.compression in _WITH_END:
            for offset, count in segments:
                _check_end(file, offset, count)


def _check_end(file: TiffFile, offset: int, count: int) -> None:
    length = min(count, _LAST_BYTES)
    file.seek(offset + count - length)
    if length and _END not in file.read(length):
        raise ValueError("some of its strips or tiles are cut")
