"""Voxel grids other than the frame of a deformation, and the positions they sample, computed with SciPy's splines."""

import numpy as np
from scipy.ndimage import map_coordinates

from elasticnd import Deformation

SHAPES = {2: (19, 16), 3: (14, 12, 11)}
COUNTS = {2: (4, 5), 3: (4, 3, 5)}


def turn_of(name, n):
    """Return the rotation of a grid relative to the frame."""
    if name == "permuted":
        return np.roll(np.eye(n), 1, axis=0)
    if name == "flipped":
        return np.diag([-1.0] + [1.0] * (n - 1))
    if name == "oblique":
        turn = np.eye(n)
        turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
        return np.roll(turn, 1, axis=0) @ np.roll(turn, 1, axis=1)
    return np.eye(n)


# Each grid relative to the frame: its rotation, the size of its voxels, the position of its first voxel (both in voxels
# of the frame), and its extent as a multiple of the frame's.
GRIDS = {
    "same": ("", 1.0, 0.0, 1.0),
    "shifted": ("", 1.0, 1.25, 0.7),
    "finer": ("", 0.55, 1.5, 1.4),
    "coarser": ("", 1.9, 0.5, 0.5),
    "permuted": ("permuted", 0.8, 1.0, 0.9),
    "flipped": ("flipped", 0.9, (12.0, 1.0, 1.0), 0.9),
    "oblique": ("oblique", 0.7, 1.2, 1.0),
    "partly beyond": ("", 1.1, -6.3, 1.5),
    "beyond on all sides": ("", 1.7, -20.0, 3.0),
    "permuted and beyond": ("permuted", 1.2, -3.0, 1.3),
    "flipped and beyond": ("flipped", 1.1, (30.0, -2.0, -5.0), 2.2),
    "oblique and beyond": ("oblique", 1.2, -4.0, 1.4),
}
AFFINES = ("none", "affine", "rotate and zoom", "all")


def frame_of(n, rng):
    """Return the index-to-world matrix of an oblique frame. Its voxels are cubic, so no rotated grid is sheared."""
    matrix = np.eye(n + 1)
    turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
    turn[:, 0] *= np.sign(np.linalg.det(turn))
    matrix[:n, :n] = 1.7 * turn
    matrix[:n, n] = rng.normal(0, 20, n)
    return matrix


def grid_of(name, frame, n):
    """Return the index-to-world matrix of a grid, and its shape."""
    turn, step, start, size = GRIDS[name]
    to_frame = np.eye(n + 1)
    to_frame[:n, :n] = turn_of(turn, n) * step
    to_frame[:n, n] = start if np.ndim(start) == 0 else start[:n]
    return frame @ to_frame, tuple(max(round(size * extent), 2) for extent in SHAPES[n])


def affine_of(name, n, rng):
    matrix = np.eye(n, n + 1) + rng.normal(0, 0.05, (n, n + 1))
    return {
        "none": {},
        "affine": {"affine": matrix},
        "rotate and zoom": {"rotate": {(0, 1): 8}, "zoom": 0.9},
        "all": {"affine": matrix, "rotate": {(0, 1): 8}, "zoom": 1.1},
    }[name]


def make(n, rng, affine="none", sigma=1.0):
    frame = frame_of(n, rng)
    displacement = rng.normal(0, sigma, (n, *COUNTS[n]))
    return Deformation(displacement, SHAPES[n], to_world=frame, **affine_of(affine, n, rng))


def mapped(matrix, points):
    return points @ matrix[:-1, :-1].T + matrix[:-1, -1]


def positions(deformation, image, output, shape, displacement=None):
    """Return x(o), the position that each voxel o samples, computed with SciPy's splines."""
    n = deformation.ndim
    displacement = deformation.displacement if displacement is None else displacement
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
    f = mapped(np.linalg.inv(deformation.to_world) @ output, voxels)
    places = [
        f[..., k] * (count - 1) / (extent - 1)
        for k, (count, extent) in enumerate(zip(displacement.shape[1:], deformation.shape, strict=True))
    ]
    moved = np.stack([map_coordinates(one, places, order=3, mode="mirror") for one in displacement], -1)
    affine = np.eye(n + 1) if deformation.affine is None else np.vstack([deformation.affine, np.eye(n + 1)[n]])
    return mapped(np.linalg.inv(image) @ deformation.to_world, mapped(np.linalg.inv(affine), f) + moved)


def resampled(image, x, order=3, mode="constant", cval=0.0):
    return map_coordinates(image, np.moveaxis(x, -1, 0), order=order, mode=mode, cval=cval)
