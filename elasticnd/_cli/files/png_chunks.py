"""The chunks of a PNG file: writing them, and reading them with the checks that the standard requires."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ..._errors import counted

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORDERS = (
    ["IHDR", "IDAT", "IEND"],
    ["IHDR", "PLTE", "IDAT", "IEND"],
)  # of the chunks that every picture needs
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # in a pixel, by colour type
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# The seven passes of an interlaced picture: first column and row, and the steps.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_WHOLE = ((0, 0, 1, 1),)


class Chunk(NamedTuple):
    """A part of a file: its four-letter name and its bytes."""

    kind: str
    content: bytes

    @property
    def is_critical(self) -> bool:
        """Whether the picture cannot be decoded without this chunk."""
        return self.kind[0].isupper()

    @property
    def is_safe_to_copy(self) -> bool:
        """Whether the chunk stays valid when pixels change, as its fourth letter says."""
        return self.kind[3].islower()


class Header(NamedTuple):
    """The contents of the first chunk."""

    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filtering: int
    interlacing: int

    @property
    def size(self) -> int:
        """The number of bytes of the rows and their filters, before compression."""
        bits = self.depth * _SAMPLES[self.colour_type]
        total = 0
        for column, row, step, row_step in _PASSES if self.interlacing else _WHOLE:
            width, height = -(-(self.width - column) // step), -(-(self.height - row) // row_step)
            if width > 0 and height > 0:
                total += height * (1 + -(-width * bits // 8))
        return total


def parse(data: bytes) -> tuple[Header, list[Chunk]]:
    """Return the header and all chunks of a file; raise a ValueError if it violates the standard."""
    chunks = list(_chunks(data))
    kinds = [chunk.kind for chunk in chunks]
    runs = [kind for kind, _ in groupby(kinds) if kind[0].isupper()]
    if runs not in _ORDERS or kinds.count("IHDR") > 1 or kinds.count("PLTE") > 1 or len(chunks[0].content) != 13:
        raise ValueError(f"its chunks are unknown, missing, repeated or out of order: {', '.join(runs)}")
    header = Header(*struct.unpack(">IIBBBBB", chunks[0].content))
    _check_header(header)
    _check_rows(header, b"".join(chunk.content for chunk in chunks if chunk.kind == "IDAT"))
    return header, chunks


def join(chunks: Iterable[Chunk]) -> bytes:
    """Return the bytes of a file."""
    return _SIGNATURE + b"".join(_framed(kind.encode(), content) for kind, content in chunks)


def insert(chunks: Sequence[Chunk], before_palette: Iterable[Chunk], behind_palette: Iterable[Chunk]) -> list[Chunk]:
    """Insert chunks before the rows, some of them also before the palette."""
    front = [chunk for chunk in chunks if chunk.kind == "IHDR"]
    palette = [chunk for chunk in chunks if chunk.kind == "PLTE"]
    rest = [chunk for chunk in chunks if chunk.kind not in ("IHDR", "PLTE")]
    return [*front, *before_palette, *palette, *behind_palette, *rest]


def _framed(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(data: bytes) -> Iterator[Chunk]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("it does not begin like a PNG file")
    position, kind = len(_SIGNATURE), ""
    while kind != "IEND":
        if position + 12 > len(data):
            raise ValueError("it ends too early")
        (length,) = struct.unpack_from(">I", data, position)
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        position += 12 + length
        if position > len(data):
            raise ValueError("it ends too early")
        if not (name.isascii() and name.isalpha()):
            raise ValueError(f"it has a chunk with the name {name!r}")
        kind = name.decode()
        if zlib.crc32(name + content) != struct.unpack_from(">I", data, position - 4)[0]:
            raise ValueError(f"the checksum of its chunk {kind} is wrong")
        yield Chunk(kind, content)
    if position < len(data):
        raise ValueError(f"{counted(len(data) - position, 'byte follows', 'bytes follow')} its end")


def _check_header(header: Header) -> None:
    if header.depth not in _DEPTHS.get(header.colour_type, ()):
        raise ValueError(f"it has colour type {header.colour_type} with {header.depth} bits")
    if not (0 < header.width < 2**31 and 0 < header.height < 2**31):
        raise ValueError(f"it has {header.width} columns and {header.height} rows")
    if header.compression or header.filtering or header.interlacing > 1:
        raise ValueError("it has an unknown compression, filter or interlacing")


def _check_rows(header: Header, compressed: bytes) -> None:
    """Decompress the rows up to their checksum."""
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(compressed, header.size + 1))
    except zlib.error as error:
        raise ValueError(f"its rows cannot be decompressed: {error}") from None
    if size != header.size or not stream.eof:
        raise ValueError(f"its rows have {counted(size, 'byte', 'bytes')} or no end, expected {header.size}")
