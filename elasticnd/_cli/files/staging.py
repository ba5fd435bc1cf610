"""Outputs that appear whole or not at all, and several of them together."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..._errors import CommandError, one_line
from .. import signals

_REPLACED = "replaced"  # what an output replaces, inside its temporary folder


@contextmanager
def staged(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a temporary path for each output; at the end, put all in place, or remove all after an error."""
    folders: list[Path] = []
    try:
        with signals.held():
            for target in targets:
                folders.append(_folder_beside(target))
        places = [folder / target.name for folder, target in zip(folders, targets, strict=True)]
        yield places
        with signals.held():
            _put_all(places, targets)
    finally:
        with signals.held():
            for folder, target in zip(folders, targets, strict=False):
                _remove(folder, target)


def _folder_beside(target: Path) -> Path:
    """Make a temporary folder on the output's file system, where renaming is atomic."""
    try:
        return Path(tempfile.mkdtemp(prefix=".elasticnd-", dir=target.parent))
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise CommandError(f"OUT: cannot write {target}, its folder is missing or not writable: {reason}") from None


def _put_all(places: Sequence[Path], targets: Sequence[Path]) -> None:
    """Rename all files, or undo the renaming."""
    with ExitStack() as undo:
        for place, target in zip(places, targets, strict=True):
            try:
                _put(place, target, undo)
            except OSError as error:
                reason = error.strerror or one_line(error)
                raise CommandError(f"OUT: cannot write {target}: {reason}") from None
        undo.pop_all()


def _put(place: Path, target: Path, undo: ExitStack) -> None:
    """Rename a file; an existing one goes to the temporary folder, to be removed with it."""
    if not os.path.lexists(target):
        os.replace(place, target)
        undo.callback(os.replace, target, place)
        return
    _keep_owner_and_mode(target, place)
    aside = place.parent / _REPLACED
    _set_aside(target, aside)
    undo.callback(os.replace, aside, target)
    os.replace(place, target)
    undo.callback(os.replace, target, place)


def _set_aside(target: Path, aside: Path) -> None:
    """Link a file to a second name, so that the first one never disappears; or rename it, like folders."""
    with suppress(OSError):  # folders, and file systems without links
        os.link(target, aside)
        return
    os.replace(target, aside)


def _keep_owner_and_mode(target: Path, place: Path) -> None:
    """Copy owner and mode of the replaced file, so that the same people can read and write the new one."""
    former, new = target.stat(), place.stat()
    if hasattr(os, "chown") and (former.st_uid, former.st_gid) != (new.st_uid, new.st_gid):
        with suppress(PermissionError):  # only root can change owners
            os.chown(place, former.st_uid, former.st_gid)
    shutil.copymode(target, place)


def _remove(folder: Path, target: Path) -> None:
    """Remove a temporary folder, unless it holds something that could not be restored."""
    if (folder / _REPLACED).exists() and not os.path.lexists(target):
        return
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # it holds folders without write permission, such as a replaced Zarr array
        for parent, _, _ in os.walk(folder):
            with suppress(OSError):
                os.chmod(parent, 0o700)
        shutil.rmtree(folder, ignore_errors=True)
