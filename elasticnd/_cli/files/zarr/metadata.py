"""Metadata of Zarr arrays and groups (formats 2 and 3), read before the zarr library acts on them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...._errors import CommandError, shortened

_NAMES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


@dataclass(frozen=True)
class Node:
    """An array or a group."""

    path: Path
    version: int  # of the format: 2 or 3
    is_array: bool
    document: dict[str, Any]
    attributes: dict[str, Any]


def read_node(path: Path) -> Node | None:
    """Return the node that a folder holds; None if it is neither an array nor a group."""
    document = _document(path / "zarr.json")
    if document is not None:
        _check_format(path, document, 3)
        is_array = document.get("node_type") == "array"
        return Node(path, 3, is_array, document, _mapping(document.get("attributes")))
    for name in (".zarray", ".zgroup"):
        document = _document(path / name)
        if document is not None:
            _check_format(path, document, 2)
            return Node(path, 2, name == ".zarray", document, _mapping(_document(path / ".zattrs")))
    return None


def own_names(node: Node) -> Iterator[str]:
    """List an array's metadata that other formats cannot store."""
    if node.attributes:
        yield "attributes"
    names = node.document.get("dimension_names")
    if isinstance(names, list) and any(isinstance(name, str) for name in names):
        yield "names of dimensions"


def metadata_files(path: Path) -> list[Path]:
    """Return the files that describe an array or a group, without its chunks."""
    return [path / name for name in _NAMES if (path / name).is_file()]


def first_stranger(node: Node) -> str | None:
    """Return an entry of an array's folder that is neither metadata nor a chunk, if there is one."""
    chunk = _chunk_names(node)
    for parent, folders, files in os.walk(node.path):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in sorted([*files, *links]):
            within = Path(parent, name).relative_to(node.path).as_posix()
            if within not in _NAMES and not chunk.fullmatch(within):
                return within
    return None


def array_paths(path: Path) -> Iterator[str]:
    """Yield the paths of arrays within a group."""
    for parent, folders, _ in os.walk(path):
        folders.sort()
        node = read_node(Path(parent))
        if node is not None and node.is_array:
            folders.clear()  # those of chunks
            yield Path(parent).relative_to(path).as_posix()


def _chunk_names(node: Node) -> re.Pattern[str]:
    """Return a pattern for the names of chunks."""
    if node.version == 2:
        separator = node.document.get("dimension_separator", ".")
        return re.compile(rf"\d+({re.escape(str(separator))}\d+)*")
    encoding = _mapping(node.document.get("chunk_key_encoding"))
    first = r"\d+" if encoding.get("name") == "v2" else "c"
    default = "." if encoding.get("name") == "v2" else "/"
    separator = _mapping(encoding.get("configuration")).get("separator", default)
    return re.compile(rf"{first}({re.escape(str(separator))}\d+)*")


def _check_format(path: Path, document: dict[str, Any], accepted: int) -> None:
    """Check the format that the metadata state, by which the library reads them; the name of the file may differ."""
    if document.get("zarr_format") != accepted:
        got = shortened(str(document.get("zarr_format")))
        raise CommandError(f"cannot read {path} as Zarr metadata: zarr_format: got {got}, expected {accepted}")


def _document(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CommandError(f"cannot read {path} as Zarr metadata: {error}") from None
    if not isinstance(document, dict):
        raise CommandError(f"cannot read {path} as Zarr metadata: it holds no JSON object")
    return document


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
