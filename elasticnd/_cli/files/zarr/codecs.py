"""The accepted Zarr codecs: those that only turn bytes into data.

Others can run code contained in a file, as `pickle` does, or crash on damaged chunks, as `zfpy` does. They are found in
the metadata before a chunk is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...._errors import CommandError, shortened
from .metadata import Node

_NUMCODECS = frozenset(
    [
        *("blosc", "bz2", "gzip", "lz4", "lzma", "pcodec", "zlib", "zstd"),
        *("astype", "bitround", "delta", "fixedscaleoffset", "packbits", "quantize", "shuffle"),
        *("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"),
    ]
)
_OF_VERSION = {
    2: _NUMCODECS,
    3: frozenset(
        ["blosc", "bytes", "crc32c", "endian", "gzip", "sharding_indexed", "transpose", "zstd"]
        + [f"numcodecs.{name}" for name in _NUMCODECS]
    ),
}


def check_codecs(node: Node) -> None:
    """Reject an array with codecs that are not known to be harmless."""
    accepted = _OF_VERSION[node.version]
    for name in _codecs_of_version_2(node.document) if node.version == 2 else _codecs(node.document.get("codecs")):
        if not (isinstance(name, str) and name in accepted):
            raise CommandError(
                f"IN: {node.path} has the codec {shortened(str(name))!r}, expected one of {', '.join(sorted(accepted))}"
            )


def _codecs_of_version_2(document: Mapping[str, object]) -> Iterator[object]:
    filters = document.get("filters") or []
    for codec in [*(filters if isinstance(filters, list) else [filters]), document.get("compressor")]:
        if codec is not None:
            yield codec.get("id") if isinstance(codec, dict) else codec


def _codecs(codecs: object) -> Iterator[object]:
    """Yield the names of codecs, including those within shards."""
    for codec in codecs if isinstance(codecs, list) else [codecs]:
        if not isinstance(codec, dict):
            yield codec
            continue
        yield codec.get("name")
        configuration = codec.get("configuration")
        for inner in ("codecs", "index_codecs"):
            if isinstance(configuration, dict) and inner in configuration:
                yield from _codecs(configuration[inner])
