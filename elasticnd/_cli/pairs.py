"""Pairs of input and output files; outputs that would destroy something are rejected."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

from .._errors import CommandError, counted, one_or_each
from .files import Format, check_target, format_of

T = TypeVar("T")


class Pair(NamedTuple):
    """An input and its output."""

    source: Path
    target: Path
    reader: Format
    writer: Format


def pairs_of(files: Sequence[str]) -> list[Pair]:
    """Pair inputs with outputs, and reject outputs that would destroy something."""
    if len(files) % 2:
        raise CommandError(f"got {counted(len(files), 'file', 'files')}, expected pairs: IN OUT [IN OUT ...]")
    pairs = [
        Pair(source, target, format_of("IN", source), format_of("OUT", target))
        for source, target in zip(map(Path, files[::2]), _real(files[1::2]), strict=True)
    ]
    for pair in pairs:
        for other in pairs:
            _reject_overlap(pair.target, other.source, "also an input")
    for first, second in combinations(pairs, 2):
        _reject_overlap(first.target, second.target, "named twice")
    for pair in pairs:
        check_target(pair.target, pair.writer)
    return pairs


def check_output(argument: str, path: str, others: Sequence[str | Path]) -> Path:
    """Return the path of another output, which must not be another file of the call."""
    (target,) = _real([path])
    for other in others:
        _reject_overlap(target, Path(other), "another file of this call", argument)
    if os.path.lexists(target) and not target.is_file():
        raise CommandError(f"{argument}: {target} cannot be replaced, expected the name of a file")
    return target


def per_pair(argument: str, values: Sequence[T], pairs: Sequence[Pair]) -> list[T]:
    """Return one value for each pair."""
    if len(values) not in (1, len(pairs)):
        accepted = one_or_each(len(pairs), "pair", "pairs")
        raise CommandError(f"{argument}: got {len(values)} values, expected {accepted}")
    return list(values) * len(pairs) if len(values) == 1 else list(values)


def _real(paths: Sequence[str]) -> list[Path]:
    """Follow links: the file that a link points to is replaced, not the link."""
    return [Path(os.path.realpath(path)) for path in paths]


def _reject_overlap(target: Path, other: Path, what: str, argument: str = "OUT") -> None:
    """Reject an output that equals, contains or lies within another path."""
    real = Path(os.path.realpath(other))
    same = os.path.exists(target) and os.path.exists(real) and os.path.samefile(target, real)
    if same or target == real or target in real.parents or real in target.parents:
        raise CommandError(f"{argument}: {target} is {what}, expected another name")
