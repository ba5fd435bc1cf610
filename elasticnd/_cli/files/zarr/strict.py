"""Decoders that reject chunks that are cut or followed by other bytes; the libraries' own decoders accept them.

The decoder for Blosc trusts the length stated by a chunk, and reads past the end of a cut one. The decoders for bz2,
lzma and zlib ignore what follows their streams.
"""

from __future__ import annotations

import asyncio
import bz2
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numcodecs import get_codec
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes
from zarr.abc.codec import BytesBytesCodec

from .metadata import Node

Decoder = Callable[[bytes], bytes]

# Four bytes for versions, flags and the element size; then the lengths of the data, of a block, and of the chunk.
_BLOSC_HEADER = struct.Struct("<4s3I")


def with_strict_codecs(node: Node) -> dict[str, Any]:
    """Return an array's metadata for the library, with codecs in place of their names."""
    document = dict(node.document)
    if node.version == 3:
        return {**document, "codecs": _strict_codecs(document.get("codecs"))}
    if isinstance(document.get("filters"), list):
        document["filters"] = [_strict_of_version_2(codec) for codec in document["filters"]]
    return {**document, "compressor": _strict_of_version_2(document.get("compressor"))}


def _strict_of_version_2(codec: object) -> object:
    decoder = _decoder_of(codec.get("id"), codec) if isinstance(codec, dict) else None
    return codec if decoder is None else BufferCodec(decoder)


def _strict_codecs(codecs: object) -> object:
    """Replace codecs in a list, including those within shards."""
    return [_strict_of_version_3(codec) for codec in codecs] if isinstance(codecs, list) else codecs


def _strict_of_version_3(codec: object) -> object:
    if not isinstance(codec, dict):
        return codec
    configuration = codec.get("configuration")
    if not isinstance(configuration, dict):
        configuration = {}
    decoder = _decoder_of(codec["name"].removeprefix("numcodecs."), configuration)
    if decoder is not None:
        return BytesCodec(decoder)
    inner = {key: _strict_codecs(configuration[key]) for key in ("codecs", "index_codecs") if key in configuration}
    return {**codec, "configuration": {**configuration, **inner}} if inner else codec


@dataclass(frozen=True)
class BytesCodec(BytesBytesCodec):
    """A codec of Zarr 3, for reading."""

    decoder: Decoder
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        decoded = await asyncio.to_thread(self.decoder, chunk_bytes.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(decoded)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Raise an error, since the decoded size does not determine the encoded one."""
        raise NotImplementedError


class BufferCodec(Codec):
    """A compressor or filter of Zarr 2, for reading."""

    codec_id = "elasticnd.strict"

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    def encode(self, buf: Any) -> Any:
        """Raise an error, since outputs use the library's own codecs."""
        raise NotImplementedError

    def decode(self, buf: Any, out: Any = None) -> bytes:
        """Decode a chunk."""
        return self.decoder(ensure_bytes(buf))


def _decoder_of(name: str | None, configuration: dict[str, Any]) -> Decoder | None:
    """Return the strict decoder for a codec; None if the codec itself is strict."""
    if name == "blosc":
        return _decode_blosc
    if name == "bz2":
        return partial(_decode_streams, bz2.BZ2Decompressor)
    if name == "lzma":
        return partial(_decode_lzma, configuration)
    if name == "zlib":
        return partial(_decode_streams, zlib.decompressobj)
    return None


def _decode_blosc(data: bytes) -> bytes:
    if len(data) < _BLOSC_HEADER.size:
        raise ValueError(f"a chunk of Blosc has {len(data)} bytes, expected a header of {_BLOSC_HEADER.size}")
    length = _BLOSC_HEADER.unpack_from(data)[-1]
    if length != len(data):
        raise ValueError(f"a chunk of Blosc has {len(data)} bytes, expected {length}, as its header states")
    decoded: bytes = get_codec({"id": "blosc"}).decode(data)
    return decoded


def _decode_lzma(configuration: dict[str, Any], data: bytes) -> bytes:
    import lzma  # noqa: PLC0415 -- some builds of Python lack it

    options = {"format": configuration.get("format", lzma.FORMAT_XZ), "filters": configuration.get("filters")}
    return _decode_streams(partial(lzma.LZMADecompressor, **options), data)


def _decode_streams(decompressor: Callable[[], Any], data: bytes) -> bytes:
    """Decode streams one after the other, to the end of the data."""
    decoded: list[bytes] = []
    while data or not decoded:
        stream = decompressor()
        decoded.append(stream.decompress(data))
        if not stream.eof:
            raise ValueError("a compressed chunk ends before its stream does")
        data = stream.unused_data
    return b"".join(decoded)
