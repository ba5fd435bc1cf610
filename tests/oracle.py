"""The deformation computed with SciPy: a slow and simple second implementation to compare with.

Nothing here comes from the package. Dense matrices of the basis functions of ``scipy.interpolate`` give the field, and
``map_coordinates`` resamples the image.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import interpolate, ndimage


def grid_matrix(extent, points, crop=slice(None)):
    """Return the dense matrix from the control values along one axis to the displacements of its voxels."""
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
    """Return the displacement of every voxel, of shape (n, M_0, ...)."""
    result = np.asarray(displacement, dtype=np.float64)
    crop = crop or (slice(None),) * len(extent)
    for k, (length, part) in enumerate(zip(extent, crop, strict=True)):
        matrix = grid_matrix(length, result.shape[k + 1], part)
        result = np.moveaxis(np.tensordot(matrix, result, (1, k + 1)), 0, k + 1)
    return result


def coordinates(displacement, extent, crop=None, inverse=None):
    """Return the position at which each output voxel samples the image; `inverse` (n, n + 1) maps patch indices."""
    moved = field(displacement, extent, crop)
    crop = crop or (slice(None),) * len(extent)
    start = np.array([part.indices(length)[0] for part, length in zip(crop, extent, strict=True)])
    o = np.indices(moved.shape[1:], dtype=np.float64)
    if inverse is not None:
        o = np.tensordot(inverse[:, :-1], o, 1) + inverse[:, -1].reshape(-1, *(1,) * len(extent))
    return o + start.reshape(-1, *(1,) * len(extent)) + moved


def resample(image, x, order, mode, cval=0.0, prefilter=True):
    """Return the values that SciPy samples, in float64 or complex128."""
    dtype = np.complex128 if np.iscomplexobj(image) else np.float64
    image = np.asarray(image).astype(dtype)
    return ndimage.map_coordinates(image, x, order=order, mode=mode, cval=cval, prefilter=prefilter, output=dtype)


def deform(image, displacement, order=3, mode="constant", cval=0.0, crop=None, axis=None, inverse=None, prefilter=True):
    """Deform along `axis` (default: all axes), separately for each index along the other axes."""
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
    """Return the voxel that stands for an index beyond the border."""
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
    """Return the dense matrix from the coefficients along one axis to the values of their spline at positions x."""
    half = (order + 1) / 2
    basis = interpolate.BSpline.basis_element(np.linspace(-half, half, order + 2), extrapolate=False)
    matrix = np.zeros((len(x), extent))
    for row, position in enumerate(x):
        for index in range(int(np.floor(position)) - 4, int(np.floor(position)) + 6):
            matrix[row, fold(index, extent, mode)] += np.nan_to_num(basis(position - index))
    return matrix


# ---- labels ----------------------------------------------------------------------------------------------------------


def fold_position(x, extent, mode):
    """Return the position inside the image that stands for one beyond its border; None if the mode has none."""
    last = extent - 1
    reach = {"constant": 0, "grid-constant": 1}.get(mode)
    if reach is not None:
        return x if -reach <= x <= last + reach else None
    if mode == "nearest" or (mode == "wrap" and 0 <= x <= last):
        return min(max(x, 0), last)
    if mode == "grid-wrap" or last == 0:
        return x % extent if last else 0.0
    if mode == "wrap":  # a negative multiple of the period maps to the last voxel
        return x + last * (np.floor(-x / last) + 1) if x < 0 else x - last * np.floor(x / last)
    edge = 0.0 if mode == "mirror" else 0.5
    y = (x + edge) % (2 * last + 4 * edge) - edge
    return y if y <= last + edge else 2 * (last + edge) - y


def elect(image, position, mode, cval):
    """Return the label with the largest sum of order-1 weights. Ties go to the nearest voxel, or the smallest label."""
    y = [fold_position(x, extent, mode) for x, extent in zip(position, image.shape, strict=True)]
    if None in y or np.isnan(position).any():
        return cval

    def label_at(voxel):
        if mode == "grid-constant" and any(not 0 <= i < n for i, n in zip(voxel, image.shape, strict=True)):
            label = cval
        else:
            inner = "mirror" if mode in ("constant", "wrap") else mode
            label = image[tuple(fold(i, n, inner) for i, n in zip(voxel, image.shape, strict=True))].item()
        return "no number" if np.isnan(np.float64(label)) else label

    sums = {}
    for taps in itertools.product((0, 1), repeat=image.ndim):
        weight = np.prod([place % 1 if tap else 1 - place % 1 for place, tap in zip(y, taps, strict=True)])
        label = label_at([int(np.floor(place)) + tap for place, tap in zip(y, taps, strict=True)])
        sums[label] = sums.get(label, 0.0) + weight
    tied = [label for label, votes in sums.items() if max(sums.values()) - votes <= 2.0**-16]
    nearest = label_at([int(np.floor(place + 0.5)) for place in y])
    winner = nearest if nearest in tied else min(tied, key=lambda label: (label == "no number", label))
    return np.nan if winner == "no number" else winner


def vote(image, x, mode, cval=0):
    """Return the label at every position, computed one by one."""
    output = np.empty(x.shape[1:], image.dtype)
    for index in np.ndindex(output.shape):
        output[index] = elect(image, x[(slice(None), *index)], mode, cval)
    return output
