"""PNG pictures: grey, in colour, or with a palette, as label maps often have.

Pillow reads and writes them, since other picture libraries do not give access to palettes. Imagecodecs handles colours
of 16 bits, which Pillow lacks. Neither preserves the chunks with metadata, so these are read and written here.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from ..._errors import CommandError, counted
from ..._types import NumpyArray
from ..extras import need
from . import png_chunks
from .image import ALPHA, PROFILE, RESOLUTION, Image, Samples, Shape
from .png_chunks import Chunk, Header

NAME = "a PNG picture"
HOLDS = "bool, uint8 or uint16 in 2 axes, or uint8 or uint16 with 2 to 4 samples in a third"
COMMON = frozenset({PROFILE, RESOLUTION})

_BEFORE_PALETTE = ("cICP", "iCCP", "sRGB", "gAMA", "cHRM", "sBIT", "mDCV", "cLLI")
# Chunks that stay valid when pixels change but keep their type.
_OF_PIXEL_TYPE = ("sBIT", "bKGD")
_TRUE_OF_OUTPUT = (*_BEFORE_PALETTE, *_OF_PIXEL_TYPE, "pHYs", "sPLT", "sTER", "oFFs", "pCAL", "sCAL", "eXIf")
_COMMON_KINDS = {"iCCP": PROFILE, "pHYs": RESOLUTION}
_PER_METRE = 1  # the unit of resolutions that have a unit

_GREY, _RGB, _PALETTE, _WITH_ALPHA = 0, 2, 3, 4
_COLOURS = {_GREY: "grey", _RGB: "RGB", _PALETTE: "palette", 4: "grey", 6: "RGB"}


class _Pixels(NamedTuple):
    array: NumpyArray
    samples: Samples
    transparency: tuple[Chunk, ...] = ()  # kept apart from the array


def holds(dtype: str, shape: Shape) -> bool:
    """Return whether a file can store an array."""
    if 0 in shape:
        return False
    if len(shape) == 2:
        return dtype in ("bool", "uint8", "uint16")
    return len(shape) == 3 and 2 <= shape[2] <= 4 and dtype in ("uint8", "uint16")


def read(path: Path, order: int, keep: bool) -> Image:
    """Read a file. Palettes and transparent colours are kept only at order 0."""
    _pillow()  # a missing library is not an error of the file
    header, chunks = png_chunks.parse(path.read_bytes())
    _reject_frames(path, chunks)
    pixels = _pixels(header, chunks, order)
    copied = [chunk for chunk in chunks if _is_copied(chunk, _has_same_type(header, pixels))]
    kept = [*copied, *pixels.transparency]
    others = [chunk for chunk in chunks if not chunk.is_critical and chunk.kind != "tRNS" and chunk not in copied]
    common = dict(_common(copied))
    return Image(
        pixels.array,
        (0, 1),
        pixels.samples,
        common=common,
        own=_names(chunk for chunk in kept if _COMMON_KINDS.get(chunk.kind) not in common),
        lost=_names(others),
        kept=kept if keep else None,
    )


def as_picture(image: Image, source: Path, target: Path) -> Image:
    """Return the image of another format as grey, RGB or palette numbers, or reject it."""
    samples = image.samples
    extra = f" and {', '.join(samples.extra)}" if samples.extra else ""
    if samples.colour not in (None, *_COLOURS.values()) or samples.extra not in ((), (ALPHA,)):
        raise CommandError(
            f"OUT: got {samples.colour}{extra} of {source} for {target}, expected grey, RGB or a palette, alone or "
            "with alpha that is not premultiplied"
        )
    lost = list(image.lost)
    if samples.palette is not None:
        if len(samples.palette) > 256:
            raise CommandError(
                f"OUT: got a palette of {len(samples.palette)} colours for {target}, expected at most 256"
            )
        if (samples.palette % 257).any():
            lost.append("the lower 8 bits of the colours of the palette")
    if samples.inverted:
        image = replace(image, array=_negative(image, source, target))
    return replace(image, lost=lost)


def write(path: Path, image: Image) -> None:
    """Write a file."""
    array, palette = image.array, image.samples.palette
    if image.samples.axis is not None:
        array = np.moveaxis(array, image.samples.axis, -1)
    array = np.ascontiguousarray(array)
    if palette is not None and array.size and array.max() >= len(palette):
        raise CommandError(f"--cval: got {array.max()}, expected a colour of the palette of {path.name}")
    _, chunks = png_chunks.parse(_encoded(array, palette))
    said = image.kept if image.kept is not None else list(_of_common(image))
    before = [chunk for chunk in said if chunk.kind in _BEFORE_PALETTE]
    behind = [chunk for chunk in said if chunk.kind not in _BEFORE_PALETTE]
    path.write_bytes(png_chunks.join(png_chunks.insert(chunks, before, behind)))


def _pillow() -> ModuleType:
    return need("PIL.Image", "files", NAME)


def _imagecodecs() -> ModuleType:
    return need("imagecodecs", "files", f"{NAME} with colours of 16 bits")


def _reject_frames(path: Path, chunks: Sequence[Chunk]) -> None:
    frames = sum(chunk.kind == "fcTL" for chunk in chunks)
    if frames > 1:
        raise CommandError(f"IN: {path} has {frames} frames, expected one")


def _pixels(header: Header, chunks: Sequence[Chunk], order: int) -> _Pixels:
    """Decode the pixels. For orders above 0, convert palettes and transparent colours to samples to interpolate."""
    array = _decoded(header, chunks)
    samples = Samples(
        _COLOURS[header.colour_type],
        axis=2 if array.ndim == 3 else None,
        extra=(ALPHA,) if header.colour_type & _WITH_ALPHA else (),
    )
    transparency = next((chunk for chunk in chunks if chunk.kind == "tRNS"), None)
    if header.colour_type == _PALETTE:
        return _of_palette(array, _palette(chunks), transparency, order)
    if transparency is None or samples.extra:
        return _Pixels(array, samples)
    transparent = _transparent_colour(header, transparency)
    if order == 0:
        content = np.atleast_1d(transparent).astype(">u2").tobytes()
        return _Pixels(array, samples, (Chunk("tRNS", content),))
    return _Pixels(_with_alpha(array, transparent), Samples(samples.colour, 2, (ALPHA,)))


def _decoded(header: Header, chunks: Sequence[Chunk]) -> NumpyArray:
    # Without the other chunks, in case a library applies them.
    data = png_chunks.join(chunk for chunk in chunks if chunk.is_critical)
    if header.depth == 16:
        decoded: NumpyArray = _imagecodecs().png_decode(data)
        return decoded
    with _pillow().open(io.BytesIO(data), formats=["PNG"]) as file:
        return np.array(file)


def _encoded(array: NumpyArray, palette: NumpyArray | None) -> bytes:
    if array.dtype.itemsize == 2:
        return bytes(_imagecodecs().png_encode(array.astype(np.uint16, copy=False)))
    picture, data = _pillow().fromarray(array), io.BytesIO()
    if palette is not None:
        picture.putpalette(((palette.astype(np.uint32) + 128) // 257).astype(np.uint8).tobytes())
    picture.save(data, format="PNG")
    return data.getvalue()


def _palette(chunks: Sequence[Chunk]) -> NumpyArray:
    content = b"".join(chunk.content for chunk in chunks if chunk.kind == "PLTE")
    if not content or len(content) % 3 or len(content) > 768:
        raise ValueError(f"it has a palette (PLTE) of {counted(len(content), 'byte', 'bytes')}")
    return np.frombuffer(content, np.uint8).reshape(-1, 3)


def _of_palette(array: NumpyArray, palette: NumpyArray, transparency: Chunk | None, order: int) -> _Pixels:
    if array.max() >= len(palette):
        raise ValueError(f"it has colour number {array.max()}, but only {counted(len(palette), 'colour', 'colours')}")
    if order == 0:
        kept = () if transparency is None else (transparency,)
        return _Pixels(array, Samples("palette", palette=palette.astype(np.uint16) * 257), kept)
    if transparency is None:
        return _Pixels(palette[array], Samples("RGB", 2))
    alpha = np.full(len(palette), 255, np.uint8)
    alpha[: len(transparency.content)] = np.frombuffer(transparency.content, np.uint8)[: len(palette)]
    return _Pixels(np.column_stack([palette, alpha])[array], Samples("RGB", 2, (ALPHA,)))


def _transparent_colour(header: Header, transparency: Chunk) -> NumpyArray | np.unsignedinteger:
    """Return the transparent colour as it is in the array, where numbers of 2 or 4 bits are scaled to 8 bits."""
    if len(transparency.content) != (2 if header.colour_type == _GREY else 6):
        raise ValueError(f"it has a transparent colour (tRNS) of {counted(len(transparency.content), 'byte', 'bytes')}")
    colour: NumpyArray = np.frombuffer(transparency.content, ">u2") & (2**header.depth - 1)
    colour = colour * (255 // (2**header.depth - 1) if 1 < header.depth < 8 else 1)
    return colour if header.colour_type == _RGB else colour[0]


def _with_alpha(array: NumpyArray, transparent: NumpyArray | np.unsignedinteger) -> NumpyArray:
    """Set the alpha of one colour to 0. Interpolation changes colours, so the colour itself could not be recognised."""
    is_transparent = (array == transparent).all(axis=-1) if array.ndim == 3 else array == transparent
    if array.dtype == bool:
        array = array * np.uint8(255)
    alpha = np.where(is_transparent, 0, np.iinfo(array.dtype).max).astype(array.dtype)
    return np.concatenate([np.atleast_3d(array), alpha[..., None]], axis=-1)


def _has_same_type(header: Header, pixels: _Pixels) -> bool:
    """Return whether pixels are written with the type they were read with."""
    spread = header.colour_type == _GREY and header.depth in (2, 4)
    alpha = bool(header.colour_type & _WITH_ALPHA)
    return not spread and pixels.samples.colour == _COLOURS[header.colour_type] and bool(pixels.samples.extra) == alpha


def _is_copied(chunk: Chunk, same_type: bool) -> bool:
    if chunk.is_critical or chunk.kind == "tRNS":
        return False
    if chunk.kind in _OF_PIXEL_TYPE:
        return same_type
    return chunk.kind in _TRUE_OF_OUTPUT or chunk.is_safe_to_copy


def _names(chunks: Iterable[Chunk]) -> list[str]:
    return list(dict.fromkeys(chunk.kind for chunk in chunks))


def _common(chunks: Sequence[Chunk]) -> Iterator[tuple[str, object]]:
    for kind, content in chunks:
        if kind == "iCCP":
            yield PROFILE, zlib.decompress(content[content.index(b"\0") + 2 :])
        elif kind == "pHYs" and len(content) == 9 and content[8] == _PER_METRE:
            yield RESOLUTION, tuple(int(number) for number in np.frombuffer(content[:8], ">u4"))


def _of_common(image: Image) -> Iterator[Chunk]:
    if PROFILE in image.common:
        yield Chunk("iCCP", b"ICC profile\0\0" + zlib.compress(image.common[PROFILE]))
    if RESOLUTION in image.common:
        numbers = np.rint(image.common[RESOLUTION]).astype(">u4")
        yield Chunk("pHYs", numbers.tobytes() + bytes([_PER_METRE]))


def _negative(image: Image, source: Path, target: Path) -> NumpyArray:
    """Convert numbers where 0 is white to numbers where 0 is black."""
    if image.array.dtype == bool:
        return np.asarray(~image.array)
    if image.array.dtype.kind != "u":
        raise CommandError(f"OUT: got {image.array.dtype} in {source} where 0 is white for {target}, expected uint8")
    largest = image.array.dtype.type(np.iinfo(image.array.dtype).max if image.limits is None else image.limits[1])
    if image.samples.axis is None:
        return np.asarray(largest - image.array)
    negative: NumpyArray = image.array.copy()
    grey = np.moveaxis(negative, image.samples.axis, 0)[0]  # followed by alpha
    grey[...] = largest - grey
    return negative
