"""The command that deforms files."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from .._errors import CommandError, one_line, shortened
from .._limits import LABELS, MAX_AXES
from .._modes import MODES
from .._types import NumpyArray, Order
from ..deformation import Deformation
from . import deformations, files, progress
from .files import Image, values
from .files.zarr import OpenLevel
from .levels import on_level
from .output import note, say
from .pairs import Pair, check_output, pairs_of, per_pair
from .rotation import Rotation, planes_of
from .typed import reworded, text_of

T = TypeVar("T")

_POINTS = 4


@dataclass(frozen=True)
class Options:
    """The options of the command line; sequences have one value for all axes or pairs of files, or one for each."""

    files: Sequence[str]
    sigma: Sequence[float] | None
    points: Sequence[int] | None
    seed: int | None
    order: Sequence[Order]
    mode: Sequence[str]
    cval: Sequence[float]
    axis: Sequence[int] | None
    rotate: Sequence[Rotation] | None
    zoom: Sequence[float] | None
    fold: str | None
    deformation: str | None
    save_deformation: str | None
    chunks: Sequence[int] | None
    progress: bool
    is_fresh: bool = False  # whether the seed was chosen here


def run(options: Options) -> None:
    """Deform all inputs in the same way, and put the outputs in place once all are written."""
    pairs = pairs_of(options.files)
    by_chunks = all(pair.reader is pair.writer is files.zarr for pair in pairs)
    if options.chunks is not None and not by_chunks:
        raise CommandError("--chunks: not accepted unless all inputs and outputs are Zarr arrays")
    options = _with_seed(options)
    saved = _saved_file(pairs, options)
    with files.staged([*(pair.target for pair in pairs), *saved]) as places:
        saving = zip(places[len(pairs) :], saved, strict=True)
        try:
            notes, deformation = (_run_by_chunks if by_chunks else _run_in_memory)(pairs, places[: len(pairs)], options)
            if options.fold == "warn":
                notes += _notes_on_folds(deformation)
            for place, target in saving:
                deformations.write(place, target, pairs[0].source, deformation)
        except MemoryError:
            raise CommandError("there is not enough memory") from None
        if options.is_fresh:  # before the outputs appear: if printing fails, there must be none
            say(f"seed {options.seed}: add --seed {options.seed} to repeat this deformation")
    for text in notes:  # once all outputs are in place, because an error is reported on a single line
        note(text)


def _with_seed(options: Options) -> Options:
    """Check that a deformation is either drawn or read from a file, and choose a seed if none is given."""
    if options.deformation is not None:
        for name in ("sigma", "points", "seed", "rotate", "zoom", "fold"):
            if getattr(options, name) is not None:
                raise CommandError(
                    f"--{name}: not accepted with --deformation, whose file specifies the whole deformation"
                )
        return options
    if options.sigma is None:
        raise CommandError("--sigma: missing; it is required unless --deformation is given")
    if options.seed is None:
        return replace(options, seed=secrets.randbelow(2**32), is_fresh=True)
    return options


def _saved_file(pairs: Sequence[Pair], options: Options) -> list[Path]:
    """Return the file in which to save the deformation, if any."""
    if options.save_deformation is None:
        return []
    others = [place for pair in pairs for place in (pair.source, pair.target)]
    if options.deformation is not None:
        others.append(Path(options.deformation))
    target = check_output("--save-deformation", options.save_deformation, others)
    deformations.format_of("--save-deformation", target)
    return [target]


def _run_in_memory(pairs: Sequence[Pair], places: Sequence[Path], options: Options) -> tuple[list[str], Deformation]:
    """Deform whole images; return a note for each output that lacks something of its input, and the deformation."""
    orders = per_pair("--order", options.order, pairs)
    images = []
    with progress.of_steps(2 * len(pairs) + 1, options.progress) as start:
        for pair, order in zip(pairs, orders, strict=True):
            start(f"reading {pair.source.name}")
            images.append(_read(pair, order))
        for pair, image in zip(pairs, images, strict=True):
            files.check_array(pair.target, pair.writer, image)
        start("deforming")
        axes = _all_axes(pairs, images, options)
        deformation = _deformation(pairs[0], images[0], axes[0], options)
        results = _deformed(deformation, pairs, images, axes, options)
        for pair, place, image in zip(pairs, places, results, strict=True):
            start(f"writing {pair.target.name}")
            files.write(place, pair.target, pair.writer, image)
    return _notes(pairs, images), deformation


def _read(pair: Pair, order: Order) -> Image:
    """Read an input in the format of its output. Labels are read as for order 0, since they are not interpolated."""
    same = pair.reader is pair.writer
    image = files.read(pair.source, pair.reader, 0 if order == LABELS else order, same)
    return image if same else files.converted(image, pair.source, pair.target, pair.writer)


def _run_by_chunks(pairs: Sequence[Pair], places: Sequence[Path], options: Options) -> tuple[list[str], Deformation]:
    """Deform Zarr arrays block by block; return notes and the deformation as for whole images."""
    inputs = []
    for pair in pairs:
        with files.reading(pair.source, pair.reader):
            inputs.append(files.zarr.open_levels(pair.source, options.axis, options.chunks))
        for one in inputs[-1]:
            files.check_read(pair.source / one.level.path, one.image)
    finest = [levels[0].image for levels in inputs]
    axes = _all_axes(pairs, finest, options)
    deformation = _deformation(pairs[0], finest[0], axes[0], options)
    outputs = _deformed_levels(deformation, pairs, inputs, axes, options)
    try:
        files.zarr.store([pair.source for pair in pairs], places, outputs, progress.of_blocks(options.progress))
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # of damaged chunks, of the file system, ...
        names = ", ".join(f"{pair.source} to {pair.target}" for pair in pairs)
        raise CommandError(f"cannot deform {names}: {one_line(error)}") from None
    return _notes(pairs, finest), deformation


def _notes(pairs: Sequence[Pair], images: Sequence[Image]) -> list[str]:
    """Return notes on what outputs lack compared with their inputs."""
    return [
        f"{pair.target} lacks metadata of {pair.source}: {', '.join(image.lost)}"
        for pair, image in zip(pairs, images, strict=True)
        if image.lost
    ]


def _notes_on_folds(deformation: Deformation) -> list[str]:
    bounds = deformation.fold_bounds()
    if bounds.lower > 0:
        return []
    does = "folds" if bounds.upper <= 0 else "may fold"
    return [
        f"the mapping {does}: its smallest volume ratio lies between {bounds.lower:.3g} and {bounds.upper:.3g}; "
        f"--fold scale reduces the displacements"
    ]


def _deformed(
    deformation: Deformation,
    pairs: Sequence[Pair],
    images: Sequence[Image],
    axes: Sequence[tuple[int, ...]],
    options: Options,
) -> list[Image]:
    """Deform images in the same way."""
    cvals, modes = per_pair("--cval", options.cval, pairs), per_pair("--mode", options.mode, pairs)
    frames = [_frame(*each) for each in zip(pairs, images, axes, strict=True)]
    try:
        results = deformation.apply(
            [image.array for image in images],
            order=per_pair("--order", options.order, pairs),
            mode=modes,
            cval=[_stored(*each) for each in zip(cvals, modes, pairs, images, strict=True)],
            axis=axes,
            to_world=deformations.worlds_of(deformation, frames),
        )
    except (TypeError, ValueError) as error:
        raise CommandError(_reworded(error, options, pairs)) from None
    return [_with(image, result) for image, result in zip(images, results, strict=True)]


def _deformation(pair: Pair, image: Image, axes: Sequence[int], options: Options) -> Deformation:
    """Return the requested deformation of an image's frame: read from a file, or drawn."""
    frame = _frame(pair, image, axes)
    if options.deformation is not None:
        return deformations.read("--deformation", Path(options.deformation), frame)
    try:
        return Deformation.random(
            frame.shape,
            _one_or_all(options.sigma or []),
            _one_or_all(options.points or [_POINTS]),
            rng=options.seed,
            rotate=planes_of(options.rotate, len(axes)),
            zoom=None if options.zoom is None else _one_or_all(options.zoom),
            to_world=frame.to_world,
            fold="ignore" if options.fold in (None, "warn") else options.fold,  # notes are printed at the end
        )
    except (TypeError, ValueError) as error:
        raise CommandError(_reworded(error, options, [pair])) from None


def _frame(pair: Pair, image: Image, axes: Sequence[int]) -> deformations.Frame:
    return deformations.frame_of(pair.source, image.array.shape, tuple(axes), image.to_world)


def _deformed_levels(
    deformation: Deformation,
    pairs: Sequence[Pair],
    inputs: Sequence[Sequence[OpenLevel]],
    axes: Sequence[tuple[int, ...]],
    options: Options,
) -> list[list[OpenLevel]]:
    """Deform images in the same way, and the other levels of each like its first level."""
    finest = _deformed(deformation, pairs, [levels[0].image for levels in inputs], axes, options)
    outputs = [[replace(levels[0], image=image)] for levels, image in zip(inputs, finest, strict=True)]
    for k, (pair, levels, own) in enumerate(zip(pairs, inputs, axes, strict=True)):
        mode, cval = per_pair("--mode", options.mode, pairs)[k], per_pair("--cval", options.cval, pairs)[k]
        order = per_pair("--order", options.order, pairs)[k]
        for level in levels[1:]:
            its_axes = files.zarr.corresponding(own, levels[0].level.axes, level.level.axes)
            shape = [level.image.array.shape[axis] for axis in its_axes]
            on_this = on_level(deformation, shape, *files.zarr.placement(levels[0], own, level, its_axes))
            of_image = (0, 0) if level.level.is_labels else (order, _stored(cval, mode, pair, level.image))
            result = on_this.apply(level.image.array, of_image[0], mode, of_image[1], axis=its_axes)
            outputs[k].append(replace(level, image=_with(level.image, result)))
    return outputs


def _with(image: Image, result: NumpyArray) -> Image:
    """Return an image with a result in the file's byte order; the library returns native order."""
    return replace(image, array=result.astype(image.array.dtype, copy=False))


def _all_axes(pairs: Sequence[Pair], images: Sequence[Image], options: Options) -> list[tuple[int, ...]]:
    return [_axes(pair, image, options.axis) for pair, image in zip(pairs, images, strict=True)]


def _axes(pair: Pair, image: Image, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Choose the axes to deform; by default, the spatial axes longer than one voxel."""
    if wanted is not None:
        axes = tuple(wanted)
    elif image.axes is None:
        raise CommandError(
            f"--axis: {pair.source} has {image.array.ndim} axes and does not say which of them are spatial, expected "
            "the axes to deform, such as --axis=-3,-2,-1"
        )
    else:
        own = (0, 1) if pair.writer is files.png and image.samples.axis is None else image.axes
        axes = tuple(axis for axis in own if image.array.shape[axis] > 1) or own
    if not 1 <= len(axes) <= MAX_AXES:
        raise CommandError(f"--axis: got {len(axes)} axes of {pair.source} to deform, expected 1 to {MAX_AXES}")
    rank = image.array.ndim
    if any(not -rank <= axis < rank for axis in axes):
        accepted = f"axes from {-rank} to {rank - 1} for {pair.source} of shape {image.array.shape}"
        raise CommandError(f"--axis: got {text_of(wanted)}, expected {accepted}")
    return axes


def _one_or_all(values: Sequence[T]) -> T | list[T]:
    return values[0] if len(values) == 1 else list(values)


def _stored(cval: float, mode: str, pair: Pair, image: Image) -> float:
    """Return the element that represents a value in a file; 0 in the modes that do not use it."""
    if mode in MODES and not MODES[mode].traits.has_constant:
        return 0
    try:
        return values.element_of(cval, image)
    except ValueError as error:
        raise CommandError(f"--cval: got {shortened(str(cval))} for {pair.target}, expected {error}") from None


def _reworded(error: Exception, options: Options, pairs: Sequence[Pair]) -> str:
    """Return the message of a library error in terms of options and files."""

    def source(match: re.Match[str]) -> str:
        return str(pairs[int(match[1] or 0)].source)

    message = reworded(error, options).replace("fold='scale'", "--fold scale")
    return re.sub(r"\bX(?:\[(\d+)\])?(?!\w)", source, message)
