"""Files of deformations: their formats, reading for --deformation, and writing for --save-deformation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._errors import CommandError, one_line
from .._files import itk, nifti
from .._files.world import FrameMap
from .._spec import Shape
from ..deformation import Deformation
from . import files
from .files import logs
from .output import without_errors_of_libraries


class Frame(NamedTuple):
    """The frame of an input."""

    source: Path
    shape: Shape
    to_world: Any  # the index-to-world matrix, if the file has one


class Format(NamedTuple):
    """How files with one ending are read and written."""

    name: str  # with an article
    read: Callable[[Path, Frame], Deformation]
    write: Callable[[Path, Deformation], None]
    is_in_world: bool  # requires a known index-to-world matrix


def read(argument: str, path: Path, frame: Frame) -> Deformation:
    """Read a deformation for an input."""
    deformation = _read(argument, path, frame)
    in_world = deformation.to_world is not None and frame.to_world is not None
    if deformation.shape != frame.shape and not (in_world and deformation.ndim == len(frame.shape)):
        expected = f"{frame.shape}, the extent of {frame.source} along its deformed axes"
        raise CommandError(f"{argument}: {path} has a frame of shape {deformation.shape}, expected {expected}")
    return deformation


def read_alone(path: Path, volume: str | None) -> Deformation:
    """Read a deformation; its frame comes from its file or, for ITK transforms, from a volume."""
    argument = "DEFORMATION"
    if format_of(argument, path) is not _ITK:
        return _read(argument, path, Frame(path, (), None))
    if volume is None:
        raise CommandError(f"--frame: {path} does not say where the voxels are, expected a NIfTI volume that does")
    return _read(argument, path, _frame_of_volume(Path(volume)))


def _read(argument: str, path: Path, frame: Frame) -> Deformation:
    format_ = format_of(argument, path)
    if not path.is_file():
        raise CommandError(f"{argument}: {path} does not exist, expected {format_.name}")
    try:
        deformation = format_.read(path, frame)
    except (CommandError, MemoryError):
        raise
    except Exception as error:  # every library has its own errors
        raise CommandError(f"{argument}: cannot read {path} as {format_.name}: {one_line(error)}") from None
    if deformation.batch_shape:
        raise CommandError(f"{argument}: {path} has batch axes {deformation.batch_shape}, expected one deformation")
    return deformation


def _frame_of_volume(path: Path) -> Frame:
    """Return the frame that the first three axes of a volume span."""
    try:
        image = files.read(path, files.format_of("IN", path), order=0, keep=False)
    except CommandError as error:
        raise CommandError(str(error).replace("IN:", "--frame:", 1)) from None
    return frame_of(path, image.array.shape, tuple(range(image.array.ndim))[:3], image.to_world)


def write(place: Path, target: Path, source: Path, deformation: Deformation) -> None:
    """Write the file that will be called `target`; the frame is that of the input `source`."""
    option = "--save-deformation"
    format_ = format_of(option, target)
    if format_.is_in_world:
        _check_world(option, target, source, deformation.to_world)
    try:
        format_.write(place, deformation)
    except MemoryError:
        raise
    except Exception as error:
        raise CommandError(f"{option}: cannot write {target} as {format_.name}: {one_line(error)}") from None


def format_of(option: str, path: Path) -> Format:
    """Return the format for a file name."""
    for suffix, format_ in FORMATS.items():
        if path.name.lower().endswith(suffix):
            return format_
    raise CommandError(f"{option}: got {path}, expected a name that ends in {', '.join(FORMATS)}")


def _check_world(option: str, path: Path, source: Path, to_world: object) -> None:
    if to_world is None:
        raise CommandError(
            f"{option}: {source} does not say where its voxels are, which {path} requires, expected a NIfTI volume "
            "whose first three axes are deformed, or a name that ends in .npz"
        )


def _read_npz(path: Path, frame: Frame) -> Deformation:
    return Deformation.load(path)


def _read_itk(path: Path, frame: Frame) -> Deformation:
    """Read a transform exactly, or voxel by voxel if no control grid represents it."""
    _check_world("--deformation", path, frame.source, frame.to_world)
    with without_errors_of_libraries():  # from HDF5
        transform = itk.read_transform(path)
    try:
        return _deformation(itk.from_itk(transform, frame.shape, frame.to_world))
    except ValueError:
        return _deformation(itk.field_of(transform, frame.shape, frame.to_world))


def _write_itk(place: Path, deformation: Deformation) -> None:
    itk.write_transform(deformation.to_itk(), place)


def _read_nifti(path: Path, frame: Frame) -> Deformation:
    with logs.caught("nibabel.global"):  # odd headers
        return _deformation(nifti.read_field(path))


def _write_nifti(place: Path, deformation: Deformation) -> None:
    deformation.to_nifti(place, "itk")


def _deformation(found: FrameMap) -> Deformation:
    return Deformation(found.displacement, found.shape, affine=found.affine, to_world=found.to_world)


def frame_of(source: Path, shape: Shape, axes: Shape, to_world: Any) -> Frame:
    """Return the frame of an image's deformed axes; in the world only if they are the first three."""
    axes = tuple(axis % len(shape) for axis in axes)
    in_world = to_world is not None and sorted(axes) == [0, 1, 2]
    extents = tuple(shape[axis] for axis in axes)
    return Frame(source, extents, np.asarray(to_world)[:, [*axes, 3]] if in_world else None)


def worlds_of(deformation: Deformation, frames: Sequence[Frame]) -> list[Any] | None:
    """Return the index-to-world matrices of inputs if any differs from the frame; None stands for the frame's."""
    own = frames[0].to_world if deformation.to_world is None else deformation.to_world
    if all(_has_voxels_of(deformation.shape, own, frame) for frame in frames):
        return None
    for frame in frames:
        if frame.shape != deformation.shape and (own is None or frame.to_world is None):
            raise CommandError(
                f"IN: {frame.source} has extent {frame.shape} along its deformed axes, expected {deformation.shape}, "
                f"as {frames[0].source} has, or NIfTI volumes that say where their voxels are"
            )
    return [frame.to_world for frame in frames]


def _has_voxels_of(shape: Shape, to_world: Any, frame: Frame) -> bool:
    """Return whether an input has the voxels of a frame; if a matrix is unknown, whether the shapes are equal."""
    if to_world is None or frame.to_world is None:
        return frame.shape == shape
    apart = np.abs(np.linalg.inv(to_world) @ frame.to_world - np.eye(len(shape) + 1)) @ [*shape, 1]
    return frame.shape == shape and bool(np.all(apart < _SAME_VOXELS))


_SAME_VOXELS = 1e-3  # voxels: the difference between equal matrices in single precision

_ITK = Format("an ITK transform", _read_itk, _write_itk, True)
_NIFTI = Format("a NIfTI displacement field", _read_nifti, _write_nifti, True)
FORMATS = {
    ".npz": Format("an elasticnd deformation", _read_npz, lambda place, made: made.save(place), False),
    ".tfm": _ITK,
    ".h5": _ITK,
    ".nii": _NIFTI,
    ".nii.gz": _NIFTI,
}
