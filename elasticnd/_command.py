"""The command that deforms files: from its options to files in place."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeVar

from . import _api, _files
from ._errors import CommandError, one_line
from ._files import Format, Image, values
from ._geometry import MAX_AXES

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What the command line asks for; of sequences, one for all or one for each axis or pair of files."""

    files: Sequence[str]
    sigma: Sequence[float]
    points: Sequence[int]
    seed: int | None
    order: Sequence[int]
    mode: Sequence[str]
    cval: Sequence[float]
    axis: Sequence[int] | None
    rotate: float | None
    zoom: Sequence[float] | None
    chunks: Sequence[int] | None


class _Pair(NamedTuple):
    """An input and what becomes of it."""

    source: Path
    target: Path
    reader: Format
    writer: Format


def run(options: Options) -> None:
    """Deform all inputs alike, and put the outputs in place when all are written."""
    pairs = _pairs(options.files)
    by_chunks = all(pair.reader is pair.writer is _files.zarr for pair in pairs)
    if options.chunks is not None and not by_chunks:
        raise CommandError("--chunks: expected only where all inputs and outputs are Zarr arrays")
    if options.seed is not None and options.seed < 0:
        raise CommandError(f"--seed: got {options.seed}, expected a whole number that is not negative")
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    with _files.staged([pair.target for pair in pairs]) as places:
        try:
            (_run_by_chunks if by_chunks else _run_in_memory)(pairs, places, replace(options, seed=seed))
        except MemoryError:
            raise CommandError("there is not enough memory") from None
    if options.seed is None:
        print(f"seed {seed}: add --seed {seed} to repeat this deformation")


def _run_in_memory(pairs: Sequence[_Pair], places: Sequence[Path], options: Options) -> None:
    orders = _per_pair("--order", options.order, pairs)
    images = [_read(pair, order) for pair, order in zip(pairs, orders, strict=True)]
    for pair, image in zip(pairs, images, strict=True):
        _files.check_array(pair.target, pair.writer, image)
    for pair, place, image in zip(pairs, places, _deformed(pairs, images, options), strict=True):
        _files.write(place, pair.target, pair.writer, image)
    for pair, image in zip(pairs, images, strict=True):
        if image.lost:
            names = ", ".join(image.lost)
            print(f"elasticnd: note: {pair.target} lacks what {pair.source} says: {names}", file=sys.stderr)


def _read(pair: _Pair, order: int) -> Image:
    """Read an input as the format of the output has it."""
    same = pair.reader is pair.writer
    image = _files.read(pair.source, pair.reader, order, same)
    return image if same else _files.converted(image, pair.source, pair.target, pair.writer)


def _run_by_chunks(pairs: Sequence[_Pair], places: Sequence[Path], options: Options) -> None:
    images = []
    for pair in pairs:
        with _files.reading(pair.source, pair.reader):
            images.append(_files.zarr.lazy(pair.source, options.axis, options.chunks))
        _files.check_read(pair.source, images[-1])
    images = _deformed(pairs, images, options)
    try:
        _files.zarr.store(places, images)
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # of damaged chunks, of the file system, ...
        names = ", ".join(f"{pair.source} to {pair.target}" for pair in pairs)
        raise CommandError(f"cannot deform {names}: {one_line(error)}") from None


def _pairs(files: Sequence[str]) -> list[_Pair]:
    """Pair inputs and outputs, and reject outputs that would destroy something."""
    if len(files) % 2:
        raise CommandError(f"got {len(files)} files, expected pairs: IN OUT [IN OUT ...]")
    pairs = [
        _Pair(source, target, _files.format_of("IN", source), _files.format_of("OUT", target))
        for source, target in zip(map(Path, files[::2]), _real(files[1::2]), strict=True)
    ]
    for pair in pairs:
        for other in pairs:
            _reject_overlap(pair.target, other.source, "an input as well")
    for first, second in combinations(pairs, 2):
        _reject_overlap(first.target, second.target, "named twice")
    for pair in pairs:
        _files.check_target(pair.target, pair.writer)
    return pairs


def _real(paths: Sequence[str]) -> list[Path]:
    """Follow links: the file that a link names is replaced, not the link."""
    return [Path(os.path.realpath(path)) for path in paths]


def _reject_overlap(target: Path, other: Path, what: str) -> None:
    """Reject an output that is another file, or a folder around it, or within it."""
    real = Path(os.path.realpath(other))
    same = os.path.exists(target) and os.path.exists(real) and os.path.samefile(target, real)
    if same or target == real or target in real.parents or real in target.parents:
        raise CommandError(f"OUT: {target} is {what}, expected another name")


def _per_pair(argument: str, values: Sequence[T], pairs: Sequence[_Pair]) -> list[T]:
    if len(values) not in (1, len(pairs)):
        raise CommandError(f"{argument}: got {len(values)} values, expected one, or one for each of {len(pairs)} pairs")
    return list(values) * len(pairs) if len(values) == 1 else list(values)


def _deformed(pairs: Sequence[_Pair], images: Sequence[Image], options: Options) -> list[Image]:
    """Deform images alike."""
    axes = [_axes(pair, image, options.axis) for pair, image in zip(pairs, images, strict=True)]
    cvals, modes = _per_pair("--cval", options.cval, pairs), _per_pair("--mode", options.mode, pairs)
    try:
        displacement = _api.random_displacement(
            _one_or_all(options.points), _one_or_all(options.sigma), ndim=len(axes[0]), rng=options.seed
        )
        results = _api.deform_grid(
            [image.array for image in images],
            displacement,
            order=_per_pair("--order", options.order, pairs),
            mode=modes,
            cval=[_stored(*each) for each in zip(cvals, modes, pairs, images, strict=True)],
            axis=axes,
            rotate=options.rotate,
            zoom=None if options.zoom is None else _one_or_all(options.zoom),
        )
    except (TypeError, ValueError) as error:
        raise CommandError(_reworded(error, pairs)) from None
    # The library gives numbers in the processor's order of bytes.
    return [
        replace(image, array=result.astype(image.array.dtype, copy=False))
        for image, result in zip(images, results, strict=True)
    ]


def _axes(pair: _Pair, image: Image, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Choose the axes to deform; if none are named, those in space along which there is something."""
    if wanted is not None:
        axes = tuple(wanted)
    else:
        own = (0, 1) if pair.writer is _files.png and image.samples.axis is None else image.axes
        axes = tuple(axis for axis in own if image.array.shape[axis] > 1) or own
    if not 1 <= len(axes) <= MAX_AXES:
        raise CommandError(f"--axis: got {len(axes)} axes of {pair.source} to deform, expected 1 to {MAX_AXES}")
    return axes


def _one_or_all(values: Sequence[T]) -> T | list[T]:
    return values[0] if len(values) == 1 else list(values)


def _stored(cval: float, mode: str, pair: _Pair, image: Image) -> float:
    """Return the element that stands for a value in a file; 0 in the modes that do not use it."""
    if mode not in ("constant", "grid-constant"):
        return 0
    try:
        return values.element_of(cval, image)
    except ValueError as error:
        raise CommandError(f"--cval: got {cval} for {pair.target}, expected {error}") from None


def _reworded(error: Exception, pairs: Sequence[_Pair]) -> str:
    """Say an error of the library in the words of the command line."""

    def source(match: re.Match[str]) -> str:
        return str(pairs[int(match[1] or 0)].source)

    message = re.sub(r"^(axis|cval|mode|order|points|rotate|sigma|zoom)\b", r"--\1", one_line(error))
    return re.sub(r"\bX(?:\[(\d+)\])?(?!\w)", source, message)
