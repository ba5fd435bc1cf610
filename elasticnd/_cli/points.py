"""The command that moves points with the content of a deformed image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._errors import CommandError, counted, one_line
from .._types import Floats, NumpyArray
from . import deformations, files, tables
from .output import note
from .pairs import check_output

if TYPE_CHECKING:
    from ..deformation import Deformation

_MOST_NAMED = 5  # rows that a note lists


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    deformation: str
    source: str
    target: str
    coordinates: str | None
    frame: str | None


def run(options: Options) -> None:
    """Move the points of a file, and put the output in place once it is written."""
    source = Path(options.source)
    others = [options.deformation, options.source, *([options.frame] if options.frame else [])]
    target = check_output("OUT", options.target, others)
    tables.check_names(source, target)
    deformation = deformations.read_alone(Path(options.deformation), options.frame)
    table = tables.read(source, deformation.ndim)
    system = _system(options, table, source)
    to_world = _to_world(options.deformation, deformation, system)
    moved = deformation.move_points(_affine(np.asarray(np.linalg.inv(to_world)), table.points))
    with files.staged([target]) as (place,):
        try:
            tables.write(place, table, _affine(to_world, np.asarray(moved.points)))
        except OSError as error:
            raise CommandError(f"OUT: cannot write {target}: {one_line(error)}") from None
    for one, many, flags in (
        ("point could not be moved exactly", "points could not be moved exactly", ~moved.converged),
        ("point is outside the output", "points are outside the output", moved.outside),
        (
            "point lies in a fold, so it also appears elsewhere",
            "points lie in a fold, so they also appear elsewhere",
            moved.folded,
        ),
    ):
        _note_rows(target, one, many, np.flatnonzero(flags) + 1)


def _system(options: Options, table: tables.Table, source: Path) -> str:
    """Return the coordinate system of the points: the file's, or else the option's."""
    if table.system is None:
        return options.coordinates or "voxels"
    if options.coordinates not in (None, table.system):
        raise CommandError(f"--coordinates: got {options.coordinates}, but {source} says {table.system}")
    return table.system


def _to_world(path: str, deformation: Deformation, system: str) -> Floats:
    """Return the matrix from voxels to the coordinates of the points."""
    n = deformation.ndim
    if system == "voxels":
        return np.eye(n + 1)
    if deformation.to_world is None:
        raise CommandError(
            f"--coordinates: got {system}, but {path} does not say where the voxels are, expected voxels"
        )
    signs = np.diag([-1.0, -1, 1, 1]) if system == "lps" and n == 3 else np.eye(n + 1)
    return np.asarray(signs @ deformation.to_world)


def _affine(matrix: Floats, points: Floats) -> Floats:
    moved: Floats = points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    return moved


def _note_rows(target: Path, one: str, many: str, rows: NumpyArray) -> None:
    if len(rows):
        what = f"{counted(len(rows), one, many)}: {'row' if len(rows) == 1 else 'rows'}"
        named = ", ".join(map(str, rows[:_MOST_NAMED].tolist())) + (", ..." if len(rows) > _MOST_NAMED else "")
        note(f"of {target}, {what} {named}")
