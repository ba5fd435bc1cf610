"""Outputs appear whole or not at all, and several together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .._errors import CommandError, one_line


@contextmanager
def staged(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Give a temporary name for each output; at the end put all in place, or after an error remove all."""
    with ExitStack() as folders:
        places = [Path(folders.enter_context(_folder_beside(target)), target.name) for target in targets]
        yield places
        for place, target in zip(places, targets, strict=True):
            try:
                _put(place, target)
            except OSError as error:
                raise CommandError(f"OUT: cannot write {target}: {one_line(error)}") from None


def _folder_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    """Make a temporary folder on the file system of the output, where renaming is atomic."""
    try:
        return tempfile.TemporaryDirectory(prefix=".elasticnd-", dir=target.parent, ignore_cleanup_errors=True)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise CommandError(f"OUT: cannot write {target}, expected a folder to write to: {reason}") from None


def _put(place: Path, target: Path) -> None:
    """Rename; a folder that is there already is moved aside, to be removed with the temporary folder."""
    if not target.is_dir():
        os.replace(place, target)
        return
    aside = place.parent / "replaced"
    os.replace(target, aside)
    try:
        os.replace(place, target)
    except BaseException:
        os.replace(aside, target)
        raise
