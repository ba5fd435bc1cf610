"""ITK transforms, through SimpleITK: conversion between a frame's map and a B-spline followed by an affine transform.

x = L f + t + d(f) = L (f + L⁻¹ d(f)) + t, so the B-spline first moves a point by L⁻¹ d. ITK's displacements are in mm,
along the axes of its world. Its coefficients are those of the grid's spline, not the values at control points.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._coerce import as_index, as_indices, is_sequence
from .._engines import cpu
from .._errors import counted, reject_type, reject_value
from .._extras import need
from .._fit import fit_field
from .._job import make_job
from .._modes import Mode
from .._spec import Shape
from .._types import Array, Floats
from .world import FrameMap, ItkGrid, itk_grid

_GUARD = 1  # cells around the grid: ITK does not move points outside its domain, even if only by rounding
_EXACT = 1e-6  # voxels: the error of single-precision ITK transforms
_WITH_FIT = ", or fit=True for an approximation"


def to_itk(frame_map: FrameMap) -> Array:
    """Return the composite of a B-spline transform, which is applied first, and an affine transform."""
    n = len(frame_map.shape)
    sitk = _simple_itk("to_itk")
    _check_axes("shape", n)
    grid = itk_grid(frame_map.to_world)
    composite = sitk.CompositeTransform(n)
    composite.AddTransform(_affine_transform(sitk, frame_map, grid))
    composite.AddTransform(_spline_transform(sitk, frame_map, grid))  # the last one is applied first
    return composite


def from_itk(transform: Array, shape: Shape, to_world: Floats, fit: object = False) -> FrameMap:
    """Convert a transform to the map of a frame: exactly, or by fitting a control grid."""
    n = len(shape)
    sitk = _simple_itk("from_itk")
    _check_axes("shape", n)
    if not isinstance(transform, sitk.Transform):
        reject_type("transform", transform, "a SimpleITK transform")
    if transform.GetDimension() != n:
        reject_value("transform", f"{transform.GetDimension()} dimensions", f"{n}, to match shape")
    grid = itk_grid(to_world)
    if fit is not False:
        return _fitted(sitk, transform, shape, to_world, fit)
    spline, steps = _spline_and_others(sitk, transform)
    for step in steps:
        if not step.IsLinear():
            accepted = f"a B-spline transform and affine ones after it{_WITH_FIT}"
            reject_value("transform", f"{transform.GetName()} with {step.GetName()} in it", accepted)
    inverse_map = _inverse_map(steps, shape, grid)
    displacement = np.zeros((n, *(1,) * n))
    if spline is not None:
        displacement = _displacement(sitk, spline, shape, grid, inverse_map[:, :-1])
    return FrameMap(displacement, inverse_map, shape, to_world)


def _fitted(sitk: Any, transform: Array, shape: Shape, to_world: Floats, fit: object) -> FrameMap:
    """Fit a control grid to where a transform takes the voxels; affine maps after a B-spline are kept."""
    grid = itk_grid(to_world)
    spline, steps = _spline_and_others(sitk, transform)
    counts = _counts(spline, shape, grid, fit)
    every = field_of(transform, shape, to_world)
    if not all(step.IsLinear() for step in steps):
        return every._replace(displacement=fit_field(every.displacement, counts, 0).displacement)
    inverse_map = _inverse_map(steps, shape, grid)
    voxels = np.indices(shape, dtype=np.float64)
    moved = np.tensordot(inverse_map[:, :-1], voxels, 1) + inverse_map[:, -1].reshape(-1, *(1,) * len(shape))
    displacement = fit_field(every.displacement + voxels - moved, counts, 0).displacement
    return FrameMap(displacement, inverse_map, shape, to_world)


def _counts(spline: Array | None, shape: Shape, grid: ItkGrid, fit: object) -> Shape:
    """Return the number of control points to fit: as requested, or as the B-spline has in the frame."""
    n = len(shape)
    accepted = "True, or numbers of control points, at least 1 and at most the number of voxels"
    if fit is not True:
        counts = as_indices("fit", fit, accepted) if is_sequence(fit) else (as_index("fit", fit, accepted),) * n
        if len(counts) != n or any(not 1 <= count <= extent for count, extent in zip(counts, shape, strict=True)):
            reject_value("fit", fit, accepted)
        return counts
    if spline is None:
        reject_value("fit", "True for a transform that does not begin with a B-spline", "the number of control points")
    image = spline.GetCoefficientImages()[0]
    cells = np.linalg.inv(grid.step) @ np.reshape(image.GetDirection(), (n, n)) * np.array(image.GetSpacing())
    per_voxel = np.abs(np.linalg.inv(cells)).max(axis=0)
    wanted = np.ceil((np.array(shape) - 1) * per_voxel - _EXACT).astype(int) + 1
    return tuple(np.minimum(wanted, shape).tolist())


def _spline_and_others(sitk: Any, transform: Array) -> tuple[Array | None, list[Array]]:
    """Return the B-spline that a transform begins with, if any, and the transforms after it."""
    steps = list(_in_order(sitk, transform))
    spline = steps.pop(0) if steps and isinstance(steps[0], sitk.BSplineTransform) else None
    return spline, steps


def field_of(transform: Array, shape: Shape, to_world: Floats) -> FrameMap:
    """Return where a transform takes each voxel of a frame, as a map with one control point per voxel."""
    sitk = _simple_itk("from_itk")
    grid = itk_grid(to_world)
    size, origin, spacing = list(shape), grid.origin.tolist(), grid.spacing.tolist()
    image = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, size, origin, spacing, grid.axes.ravel().tolist()
    )
    moved = sitk.GetArrayFromImage(image).T.reshape(len(shape), -1)
    displacement = (np.linalg.inv(grid.step) @ moved).reshape(-1, *shape)
    return FrameMap(displacement, np.eye(len(shape), len(shape) + 1), shape, to_world)


def read_transform(path: str | os.PathLike[str]) -> Array:
    """Read a transform from a file."""
    sitk = _simple_itk("from_itk")
    if os.fspath(path).lower().endswith(".tfm"):
        _check_text(path)
    return sitk.ReadTransform(os.fspath(path))


def _check_text(path: str | os.PathLike[str]) -> None:
    """Reject a truncated text file: ITK reads a transform without its last lines as one that moves nothing."""
    with open(path, "rb") as file:
        content = file.read()
    kinds = re.findall(rb"^Transform: *(\w+)", content, re.M)
    expected = sum(not kind.startswith(b"CompositeTransform") for kind in kinds)
    lines = [len(re.findall(rb"^%s:.*\n" % name, content, re.M)) for name in (b"Parameters", b"FixedParameters")]
    if lines != [expected, expected]:
        raise ValueError(f"got lines for {min(lines)} of {expected} transforms, expected all: the file is cut")


def write_transform(transform: Array, path: str | os.PathLike[str]) -> None:
    """Write a transform to a file."""
    _simple_itk("to_itk").WriteTransform(transform, os.fspath(path))


def _simple_itk(method: str) -> Any:
    return need("SimpleITK", "medical", f"Deformation.{method}")


def _check_axes(argument: str, n: int) -> None:
    if n not in (2, 3):
        reject_value(argument, counted(n, "axis", "axes"), "2 or 3, as in ITK's transforms")


# ---- to ITK ----------------------------------------------------------------------------------------------------------


def _affine_transform(sitk: Any, frame_map: FrameMap, grid: ItkGrid) -> Array:
    transform = sitk.AffineTransform(len(frame_map.shape))
    linear = grid.step @ frame_map.linear @ np.linalg.inv(grid.step)
    transform.SetMatrix(linear.ravel().tolist())
    transform.SetTranslation((grid.world(frame_map.translation) - linear @ grid.origin).tolist())
    return transform


def _spline_transform(sitk: Any, frame_map: FrameMap, grid: ItkGrid) -> Array:
    coefficients = _with_border(_grid_coefficients(frame_map.displacement), 1 + _GUARD)
    coefficients = np.tensordot(grid.step @ np.linalg.inv(frame_map.linear), coefficients, axes=1)
    cells = np.array(coefficients.shape[1:]) - 3
    inner = cells - 2 * _GUARD
    # For an axis with one voxel, any cell will do: only its first control point matters.
    cell = np.maximum(np.array(frame_map.shape) - 1, 1) / inner
    transform = sitk.BSplineTransform(len(cells), 3)
    transform.SetTransformDomainMeshSize(cells.tolist())
    transform.SetTransformDomainOrigin(grid.world(-_GUARD * cell).tolist())
    transform.SetTransformDomainPhysicalDimensions((cells * cell * grid.spacing).tolist())
    transform.SetTransformDomainDirection(grid.axes.ravel().tolist())
    # Component by component, the first axis fastest.
    transform.SetParameters(np.concatenate([part.ravel(order="F") for part in coefficients]).tolist())
    return transform


def _grid_coefficients(displacement: Floats) -> Floats:
    """Compute the coefficients of the spline through the displacements of the control points."""
    counts = displacement.shape[1:]
    job = make_job(image=counts, grid_shape=(1,) * len(counts), order=3, mode=Mode.MIRROR, prefilter=True)
    coefficients: Floats = cpu.prefilter(job, np.ascontiguousarray(displacement, np.float64))
    return coefficients


def _with_border(coefficients: Floats, width: int) -> Floats:
    """Mirror coefficients beyond both ends; an axis with one control point becomes a cell."""
    for axis, count in enumerate(coefficients.shape[1:], start=1):
        if count == 1:
            coefficients = np.repeat(coefficients, 2, axis=axis)
    return np.pad(coefficients, [(0, 0), *[(width, width)] * (coefficients.ndim - 1)], mode="reflect")


# ---- from ITK --------------------------------------------------------------------------------------------------------


def _in_order(sitk: Any, transform: Array) -> Iterator[Array]:
    """Yield the transforms of a composite in the order in which they are applied."""
    transform = transform.Downcast()
    if not isinstance(transform, sitk.CompositeTransform):
        yield transform
        return
    for k in reversed(range(transform.GetNumberOfTransforms())):
        yield from _in_order(sitk, transform.GetNthTransform(k))


def _inverse_map(steps: Sequence[Array], shape: Shape, grid: ItkGrid) -> Floats:
    """Combine the linear transforms into one map of voxels, [L | t], from where they take corners of the frame."""
    far = np.diag(np.maximum(np.array(shape) - 1.0, 1))
    corners = np.concatenate([np.zeros((1, len(shape))), far])
    points = grid.world(corners)
    for step in steps:
        points = np.array([step.TransformPoint(point.tolist()) for point in points])
    translation, *moved = grid.voxels(points)
    linear = (np.stack(moved, -1) - translation[:, np.newaxis]) / far.diagonal()
    return np.concatenate([linear, translation[:, np.newaxis]], axis=1)


class _Coefficients(NamedTuple):
    """Coefficients of a B-spline transform, on a grid along the axes of the frame."""

    values: Floats  # (n, ...), mm
    start: Floats  # position of the first one, in voxels
    cell: Floats  # from one to the next, in voxels


def _displacement(sitk: Any, transform: Array, shape: Shape, grid: ItkGrid, linear: Floats) -> Floats:
    """Return the displacements of the control points that represent a B-spline transform."""
    if transform.GetOrder() != 3:
        reject_value("transform", f"a B-spline of order {transform.GetOrder()}", f"one of order 3{_WITH_FIT}")
    found = _along_the_axes(sitk, transform, grid)
    values = np.tensordot(linear @ np.linalg.inv(grid.step), found.values, axes=1)
    for axis, extent in enumerate(shape):
        values = _at_control_points(values, axis, extent, found.start[axis], found.cell[axis])
    return values


def _along_the_axes(sitk: Any, transform: Array, grid: ItkGrid) -> _Coefficients:
    """Return the coefficients with their axes in the order and orientation of the frame's."""
    images = transform.GetCoefficientImages()
    values = np.stack([sitk.GetArrayFromImage(image).T for image in images])
    n = len(images)
    origin, spacing = np.array(images[0].GetOrigin()), np.array(images[0].GetSpacing())
    steps = np.linalg.solve(grid.step, np.reshape(images[0].GetDirection(), (n, n)) * spacing)
    start = grid.voxels(origin)
    order = np.argmax(np.abs(steps), axis=1)  # for each axis of the frame, the axis of the coefficients
    cell = steps[np.arange(n), order]
    other = steps.copy()
    other[np.arange(n), order] = 0
    if sorted(order) != list(range(n)) or np.any(np.abs(other) * values.shape[1:] > _EXACT):
        reject_value("transform", "a B-spline on a grid that is rotated", f"one along the axes of the frame{_WITH_FIT}")
    values = values.transpose(0, *(1 + order))
    for axis in np.flatnonzero(cell < 0).tolist():
        start[axis] += cell[axis] * (values.shape[1 + axis] - 1)
        values = np.flip(values, 1 + axis)
    return _Coefficients(values, start, np.abs(cell))


def _at_control_points(coefficients: Floats, axis: int, extent: int, start: float, cell: float) -> Floats:
    """Return the values of a spline at the control points of the frame, along one axis."""
    first, cells = -start / cell, (extent - 1) / cell
    at, count = round(first), round(cells) + 1
    length = coefficients.shape[1 + axis]
    if abs(first - at) * cell > _EXACT or abs(cells - count + 1) * cell > _EXACT or not 1 <= at < length - count:
        ends = f"{start + cell:g} and {start + (length - 2) * cell:g}"
        accepted = f"cells that begin and end on its first and last voxel, 0 and {extent - 1}{_WITH_FIT}"
        got = f"a B-spline on {length - 3} cells between {ends} along axis {axis} of the frame"
        reject_value("transform", got, accepted)
    window = np.moveaxis(coefficients, 1 + axis, 0)[at - 1 : at + count + 1]
    if count > 1:
        _check_mirrored(window, axis)
    if count == 2 and np.array_equal(window[1], window[2]):
        count = 1  # a single control point, stored as a cell
    values = (window[:-2] + 4 * window[1:-1] + window[2:])[:count] / 6
    return np.moveaxis(values, 0, 1 + axis)


def _check_mirrored(window: Floats, axis: int) -> None:
    """Reject coefficients that no control grid has, because a grid is continued by mirroring."""
    residual = max(np.abs(window[0] - window[2]).max(), np.abs(window[-1] - window[-3]).max())
    if residual > _EXACT:
        got = (
            f"a B-spline whose border coefficients along axis {axis} differ by {residual:.3g} voxels from mirrored ones"
        )
        reject_value("transform", got, f"mirrored ones{_WITH_FIT}")
