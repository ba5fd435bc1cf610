"""The tags of TIFF files: which ones are copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffTag

# Written anew by tifffile: the layout of pixels, the number of the page, ImageDescription, and ImageJ's tags.
_WRITTEN_ANEW = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 277, 278, 279, 282, 283, 284, 288, 289, 292, 293, 296, 297),
    *(317, 320, 322, 323, 324, 325, 338, 339, 347, *range(512, 522), 530, 32997, 32998, 50838, 50839),
}
# Wrong for other pixels: the smallest and the largest value.
_OF_PIXELS = {280, 281, 340, 341}
_OF_YCBCR = {529, 531, 532}
# Private tags that contain no offset into the file: offsets differ in the output.
_COPIED_PRIVATE = {
    *(33421, 33422, 33432, 33434, 33437, 33550, 33723, 33922, 34264, 34377, 34675, 34735, 34736, 34737),
    *(34850, 34855, *range(36864, 37395), 40091, 40092, 40093, 40094, 40095, 42112, 42113, 50844),
}
_FIRST_PRIVATE = 32768
_POINTERS = {330, 400, 34665, 34853, 40965}  # SubIFDs, global parameters, Exif, GPS, interoperability
_POINTER_TYPES = (13, 18)
_RATIONALS = (5, 10)

DESCRIPTION, SOFTWARE, ORIENTATION, PROFILE = 270, 305, 274, 34675
_TEXTS_OF_PAGES = (DESCRIPTION, 269, 285)  # DocumentName, PageName


class Tags(NamedTuple):
    """The metadata in the tags of an image."""

    copied: tuple[tuple[int, int, int, object, bool], ...]  # as tifffile writes extra tags
    own: tuple[str, ...]  # names of those that other formats cannot store
    lost: tuple[str, ...]  # names of those that the output will lack


def read(first: TiffPage, pages: Sequence[TiffPage], is_decoded: bool) -> Tags:
    """Return the tags of an image with this first page; without the tags of YCbCr if it is decoded."""
    tags = [tag for tag in first.tags if tag.code not in _WRITTEN_ANEW and not (is_decoded and tag.code in _OF_YCBCR)]
    copied = [tag for tag in tags if _is_copied(tag)]
    lost = [tag.name for tag in tags if not _is_copied(tag)]
    with open(first.parent.filehandle.path, "rb") as file:  # its own file, which may be one of several
        values = [_value(file, tag) for tag in copied]
    return Tags(
        tuple((tag.code, int(tag.dtype), tag.count, value, True) for tag, value in zip(copied, values, strict=True)),
        tuple(tag.name for tag in copied if _says_something(tag)),
        (*lost, *_texts_of_later_pages(first, pages)),
    )


def _is_copied(tag: TiffTag) -> bool:
    if tag.code in _OF_PIXELS or tag.code in _POINTERS or tag.dtype in _POINTER_TYPES:
        return False
    return tag.code < _FIRST_PRIVATE or tag.code in _COPIED_PRIVATE


def _says_something(tag: TiffTag) -> bool:
    """Return whether a lost tag would be missed; the colour profile is handled elsewhere."""
    return tag.code not in (SOFTWARE, PROFILE) and (tag.code, tag.value) != (ORIENTATION, 1)


def _value(file: TiffFile, tag: TiffTag) -> object:
    """Return the bytes of a tag in the byte order of the file, since decoding may lose some."""
    if tag.dtype in _RATIONALS:
        return tag.value
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)


def _texts_of_later_pages(first: TiffPage, pages: Sequence[TiffPage]) -> Iterator[str]:
    """List the texts of later pages that differ from the first page, since only its texts are written."""
    differing = {
        tag.name
        for page in pages[1:]
        for tag in getattr(page, "tags", ())  # identical pages have no tags of their own
        if tag.code in _TEXTS_OF_PAGES and first.tags.valueof(tag.code) != tag.value
    }
    yield from (f"{name} of all pages except the first" for name in sorted(differing))
