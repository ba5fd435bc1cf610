"""The deformation in SciPy's terms: an independent second opinion, slow and plain.

Nothing here comes from the package: the field is made of dense matrices of the basis functions of
``scipy.interpolate``, the image is resampled by ``map_coordinates``.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import interpolate, ndimage


def grid_matrix(extent, points, crop=slice(None)):
    """The dense matrix from the control values of one axis to the displacements of its voxels."""
    f = np.arange(extent)[crop]
    g = f * (points - 1) / (extent - 1) if extent > 1 and points > 1 else np.zeros(len(f))
    reach = np.arange(-3, points + 3)
    basis = interpolate.BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    weights = np.nan_to_num(basis(g[:, None] - reach[None, :]))
    folded = np.zeros((len(f), points))
    for column, index in enumerate(reach):
        period = max(2 * (points - 1), 1)
        place = index % period
        folded[:, min(place, period - place) if points > 1 else 0] += weights[:, column]
    samples = np.zeros((points, points))
    for row in range(points):
        for index in range(row - 1, row + 2):
            period = max(2 * (points - 1), 1)
            place = index % period
            samples[row, min(place, period - place) if points > 1 else 0] += 2 / 3 if index == row else 1 / 6
    return folded @ np.linalg.inv(samples)


def field(displacement, extent, crop=None):
    """The displacement of every voxel, (n, M_0, ...)."""
    result = np.asarray(displacement, dtype=np.float64)
    crop = crop or (slice(None),) * len(extent)
    for k, (length, part) in enumerate(zip(extent, crop, strict=True)):
        matrix = grid_matrix(length, result.shape[k + 1], part)
        result = np.moveaxis(np.tensordot(matrix, result, (1, k + 1)), 0, k + 1)
    return result


def coordinates(displacement, extent, crop=None, inverse=None):
    """Where each output voxel samples the image; `inverse` is the (n, n + 1) map of patch indices."""
    moved = field(displacement, extent, crop)
    crop = crop or (slice(None),) * len(extent)
    start = np.array([part.indices(length)[0] for part, length in zip(crop, extent, strict=True)])
    o = np.indices(moved.shape[1:], dtype=np.float64)
    if inverse is not None:
        o = np.tensordot(inverse[:, :-1], o, 1) + inverse[:, -1].reshape(-1, *(1,) * len(extent))
    return o + start.reshape(-1, *(1,) * len(extent)) + moved


def resample(image, x, order, mode, cval=0.0, prefilter=True):
    """SciPy's answer in float64, or complex128."""
    dtype = np.complex128 if np.iscomplexobj(image) else np.float64
    image = np.asarray(image).astype(dtype)
    return ndimage.map_coordinates(image, x, order=order, mode=mode, cval=cval, prefilter=prefilter, output=dtype)


def deform(image, displacement, order=3, mode="constant", cval=0.0, crop=None, axis=None, inverse=None, prefilter=True):
    """Deform along `axis` (default all), each other index by itself."""
    image = np.asarray(image)
    axis = tuple(range(image.ndim)) if axis is None else axis
    moved = np.moveaxis(image, axis, range(-len(axis), 0))
    lead = moved.shape[: -len(axis)]
    x = coordinates(displacement, moved.shape[len(lead) :], crop, inverse)
    dtype = np.complex128 if np.iscomplexobj(image) else np.float64
    result = np.empty((*lead, *x.shape[1:]), dtype)
    for index in itertools.product(*map(range, lead)):
        result[index] = resample(moved[index], x, order, mode, cval, prefilter)
    return np.moveaxis(result, range(-len(axis), 0), axis)


def fold(index, extent, mode):
    """The voxel that stands for an index beyond the border."""
    if mode == "nearest":
        return min(max(index, 0), extent - 1)
    if mode == "grid-wrap":
        return index % extent
    period = max(2 * extent - 2, 1) if mode == "mirror" else 2 * extent
    place = index % period
    if place < extent:
        return place
    return period - place - (0 if mode == "mirror" else 1)


def sampling_matrix(x, extent, order, mode):
    """The dense matrix from the coefficients of one axis to the values of their spline at positions x."""
    half = (order + 1) / 2
    basis = interpolate.BSpline.basis_element(np.linspace(-half, half, order + 2), extrapolate=False)
    matrix = np.zeros((len(x), extent))
    for row, position in enumerate(x):
        for index in range(int(np.floor(position)) - 4, int(np.floor(position)) + 6):
            matrix[row, fold(index, extent, mode)] += np.nan_to_num(basis(position - index))
    return matrix
