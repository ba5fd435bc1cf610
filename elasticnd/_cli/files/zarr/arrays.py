"""Zarr arrays, through the zarr library: opened after a check of their metadata, or created like other arrays."""

from __future__ import annotations

import atexit
import logging
import shutil
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ...._errors import CommandError
from ...._types import DType
from ...extras import need
from .codecs import check_codecs
from .metadata import Node, array_paths, metadata_files, read_node

if TYPE_CHECKING:
    from zarr import Array
    from zarr.abc.store import Store

NAME = "a Zarr array"


def existing_node(path: Path) -> Node:
    """Return the existing node at a path, an array or a group."""
    node = read_node(path)
    if node is None:
        raise CommandError(f"IN: {path} is neither a Zarr array nor a Zarr group")
    return node


def open_array(path: Path) -> Array:
    """Open an array, without reading its elements."""
    zarr, node = _library(), existing_node(path)
    if not node.is_array:
        names = ", ".join(array_paths(path)) or "none"
        raise CommandError(f"IN: {path} is a Zarr group, expected one of its arrays, as {path}/NAME; it has {names}")
    check_codecs(node)
    from .strict import with_strict_codecs  # noqa: PLC0415 - it imports the library

    return zarr.Array.from_dict(zarr.storage.StorePath(_store(path, read_only=True)), with_strict_codecs(node))


def create_array(path: Path, shape: tuple[int, ...], dtype: DType) -> Array:
    """Make a new array."""
    return _library().create_array(_store(path), shape=shape, dtype=dtype)


def create_like(path: Path, source: Path) -> Array:
    """Make a new array with exactly the metadata of another."""
    path.mkdir(parents=True, exist_ok=True)
    for file in metadata_files(source):
        shutil.copyfile(file, path / file.name)
    return _library().open_array(_store(path), mode="r+", zarr_format=existing_node(path).version)


def _store(path: Path, *, read_only: bool = False) -> Store:
    return _library().storage.LocalStore(path, read_only=read_only)


def _library() -> ModuleType:
    zarr = need("zarr", "files", NAME)
    if not hasattr(zarr, "from_array"):
        raise CommandError(
            f"{NAME} needs a newer zarr than {zarr.__version__}, and Python 3.11: pip install 'zarr>=3.1'"
        )
    _quiet_asyncio()
    return zarr


@lru_cache(maxsize=1)
def _quiet_asyncio() -> None:
    """Silence asyncio's reports of tasks that the library abandons after an error. The error itself is raised."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
    if not sys.flags.dev_mode:  # also reports on tasks that still exist when Python exits
        atexit.register(setattr, sys, "unraisablehook", lambda _: None)
