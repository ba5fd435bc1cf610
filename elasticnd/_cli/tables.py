"""Tables of points: CSV files and Slicer lists (.fcsv). Everything except coordinates is kept."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._errors import CommandError, counted, shortened
from .._types import Floats

SUFFIXES = (".csv", ".fcsv")
SYSTEMS = ("voxels", "ras", "lps")
_SLICER_SYSTEMS = {"0": "ras", "RAS": "ras", "1": "lps", "LPS": "lps", "2": "voxels", "IJK": "voxels"}
_ACCEPTED = f"a name that ends in {' or '.join(SUFFIXES)}"


@dataclass(frozen=True)
class Table:
    """The rows of a file, and which columns are coordinates."""

    comments: Sequence[str]  # lines before the first row
    header: Sequence[Sequence[str]]  # at most one row, the column names
    rows: Sequence[Sequence[str]]
    columns: Sequence[int]
    system: str | None  # coordinate system, if the file names one
    points: Floats  # (rows, n)


def check_names(source: Path, target: Path) -> None:
    """Reject names of other formats, and pairs of different formats."""
    for argument, path in (("IN", source), ("OUT", target)):
        if path.suffix.lower() not in SUFFIXES:
            raise CommandError(f"{argument}: got {path}, expected {_ACCEPTED}")
    if source.suffix.lower() != target.suffix.lower():
        raise CommandError(f"OUT: got {target}, expected a name that ends in {source.suffix}, as {source} does")


def read(path: Path, n: int) -> Table:
    """Read the points of a frame with n axes."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"IN: cannot read {path} as a table of points: {error}") from None
    lines = text.splitlines(keepends=True)
    is_slicer = path.suffix.lower() == ".fcsv"
    comments = [line for line in lines if is_slicer and line.startswith("#")]
    rows = [row for row in csv.reader(io.StringIO("".join(lines[len(comments) :]))) if row]
    header = rows[:1] if not is_slicer and rows and not all(map(_is_number, rows[0][:n])) else []
    names = _names_of(comments) if is_slicer else (header[0] if header else [])
    columns = _columns(names, n)
    values = [_values(path, number, row, columns) for number, row in enumerate(rows[len(header) :], start=1)]
    system = _system_of(path, comments) if is_slicer else None
    return Table(comments, header, rows[len(header) :], columns, system, np.reshape(values, (-1, n)))


def write(path: Path, table: Table, points: Floats) -> None:
    """Write a table with other points."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(table.comments)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows(table.header)
        for row, point in zip(table.rows, points.tolist(), strict=True):
            moved = list(row)
            for column, value in zip(table.columns, point, strict=True):
                moved[column] = repr(value)
            writer.writerow(moved)


def _names_of(comments: Sequence[str]) -> list[str]:
    """Return the column names of a Slicer list."""
    found = re.search(r"^# *columns *= *(.*)$", "".join(comments), re.M)
    return found[1].strip().split(",") if found else ["id", "x", "y", "z"]


def _system_of(path: Path, comments: Sequence[str]) -> str:
    """Return the coordinate system of a Slicer list."""
    found = re.search(r"^# *CoordinateSystem *= *(\S+)", "".join(comments), re.M)
    name = found[1] if found else "0"
    if name not in _SLICER_SYSTEMS:
        raise CommandError(f"IN: {path} is in the coordinate system {name}, expected RAS, LPS or IJK")
    return _SLICER_SYSTEMS[name]


def _columns(names: Sequence[str], n: int) -> list[int]:
    """Choose the columns of coordinates: napari's names, x, y, z, or else the first columns."""
    lower = [name.strip().lower() for name in names]
    for wanted in ([f"axis-{k}" for k in range(n)], list("xyz")[:n]):
        if len(wanted) == n and set(wanted) <= set(lower):
            return [lower.index(name) for name in wanted]
    return list(range(n))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(path: Path, number: int, row: Sequence[str], columns: Sequence[int]) -> list[float]:
    texts = [row[column] if column < len(row) else "" for column in columns]
    if not all(map(_is_number, texts)) or not np.all(np.isfinite([float(text) for text in texts])):
        got = shortened(",".join(row))
        accepted = counted(len(columns), "finite coordinate", "finite coordinates")
        raise CommandError(f"IN: row {number} of {path} is {got!r}, expected {accepted}")
    return [float(text) for text in texts]
