"""Register two volumes, from an affine map to fine grids: ``python register.py jax``.

The volumes are synthetic, so the true position of each landmark is known. Part of the
fixed volume is lost; a mask excludes it.
"""
# ruff: noqa: PLC0415 - only the framework that was named is imported

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813 - as its own examples do
from scipy.optimize import minimize

import elasticnd

SHAPE = (48, 44, 40)
LEVELS = 3  # of control grids, starting with 3 points along each axis
MARGIN = 0.2  # relative volumes below this are penalised
BENDING = 1e-3  # weight of the bending energy relative to the mean squared difference
FOLDING = 1.0
LANDMARKS = 40  # the centres of the brightest blobs
UNIT = 1e4  # the mean square is small; L-BFGS-B needs numbers near one

# The index-to-world matrix of the volumes, in mm.
TO_WORLD = np.array(
    [[1.9, -0.5, 0, -40], [0.5, 1.9, 0, -60], [0, 0, 2.5, 20], [0, 0, 0, 1]]
)


class Scans(NamedTuple):
    """The volumes to register, and what is known about them."""

    moving: np.ndarray
    fixed: np.ndarray
    mask: np.ndarray  # of the fixed volume: 0 where it is missing
    landmarks: np.ndarray  # in the fixed volume, in voxels
    targets: np.ndarray  # their positions in the moving volume


def voxels_of(shape):
    """Return the positions of all voxels, (..., 3)."""
    return np.moveaxis(np.indices(shape, float), 0, -1)


def make_scans(shape=SHAPE, seed=0):
    """Make a volume of blobs, and one deformed by a map that is not a spline."""
    rng = np.random.default_rng(seed)
    size = np.array(shape) - 1
    count = int(np.prod(shape) / 200)
    centres = rng.uniform(0.2, 0.8, (count, 3)) * size
    heights = rng.uniform(0.3, 1, count)
    linear = np.eye(3) + rng.normal(0, 0.04, (3, 3))
    shift, phases = rng.normal(0, 1, 3), rng.uniform(0, 2 * np.pi, (3, 3))

    def volume_at(x):
        return sum(
            a * np.exp(-((x - c) ** 2).sum(-1) / (2 * 2.5**2))
            for a, c in zip(heights, centres, strict=True)
        )

    def true_map(f):
        waves = np.sin(np.pi * f[..., np.newaxis, :] / size * 1.5 + phases).prod(-1)
        return (f - size / 2) @ linear.T + size / 2 + shift + 2 * waves

    voxels = voxels_of(shape)
    fixed, mask = volume_at(true_map(voxels)), np.ones(shape)
    lost = tuple(slice(n // 2, n // 2 + n // 8) for n in shape)
    fixed[lost], mask[lost] = 0, 0
    targets = centres[np.argsort(-heights)[:LANDMARKS]]
    landmarks = targets
    for _ in range(50):  # solve for them: the map is close to the identity
        landmarks = landmarks + targets - true_map(landmarks)
    return Scans(volume_at(voxels), fixed, mask, landmarks, targets)


class Library(NamedTuple):
    """The functions of a framework that the loss needs."""

    array: object
    relu: object
    mean: object
    value_and_gradient: object


def library_of(framework):
    """Return the functions of a framework."""
    if framework == "jax":
        import jax

        # Line searches need more than seven digits.
        jax.config.update("jax_enable_x64", True)

        def compiled(function):
            return jax.jit(jax.value_and_grad(function))

        return Library(jax.numpy.asarray, jax.nn.relu, jax.numpy.mean, compiled)
    if framework == "tensorflow":
        import tensorflow as tf

        # This gives tensors methods such as reshape.
        tf.experimental.numpy.experimental_enable_numpy_behavior()

        def with_tape(function):
            @tf.function(autograph=False)
            def both(numbers):
                with tf.GradientTape() as tape:
                    tape.watch(numbers)
                    value = function(numbers)
                return value, tape.gradient(value, numbers)

            return both

        return Library(tf.constant, tf.nn.relu, tf.reduce_mean, with_tape)
    import torch

    def with_backward(function):
        def both(numbers):
            numbers = numbers.requires_grad_()
            value = function(numbers)
            value.backward()
            return value.detach(), numbers.grad

        return both

    return Library(torch.tensor, torch.relu, torch.mean, with_backward)


def loss_of(library, scans, grid_shape):
    """Return the loss as a function of one array: an affine map and a control grid."""
    shape = scans.fixed.shape
    moving, fixed, mask = map(library.array, scans[:3])
    identity = library.array(np.eye(3, 4))
    about_centre = library.array(affine_basis(shape))
    every_other = voxels_of(shape)[::2, ::2, ::2].copy()

    def loss(numbers):
        affine = identity + numbers[:12].reshape(3, 4) @ about_centre
        deformation = elasticnd.Deformation(
            numbers[12:].reshape(3, *grid_shape), shape, affine=affine
        )
        difference = mask * (deformation.apply(moving) - fixed)
        volumes = deformation.jacobian_determinant(every_other, relative=True)
        bending = BENDING * deformation.bending_energy()
        folding = FOLDING * library.mean(library.relu(MARGIN - volumes) ** 2)
        return library.mean(difference**2) + bending + folding

    return loss


def affine_basis(shape):
    """Return the matrix that turns numbers (3, 4) into an affine map about the centre.

    A number of 1 moves the border by one voxel.
    """
    basis = np.diag([*(2 / (np.array(shape) - 1)), 1.0])
    basis[:3, 3] = -1
    return basis


def minimised(library, scans, grid_shape, numbers, free, steps):
    """Minimise the loss over the numbers in the slice `free` with L-BFGS."""
    value_and_gradient = library.value_and_gradient(loss_of(library, scans, grid_shape))
    numbers = numbers.copy()

    def objective(some):
        numbers[free] = some
        value, gradient = value_and_gradient(library.array(numbers))
        return UNIT * float(value), UNIT * np.asarray(gradient, np.float64)[free]

    options = {"maxiter": steps, "maxcor": 20, "ftol": 1e-8, "gtol": 0}
    start = numbers[free]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    numbers[free] = found.x
    return numbers


def register(framework, scans, steps):
    """Register from coarse to fine; return the deformation after each stage."""
    library, shape = library_of(framework), scans.fixed.shape
    numbers = minimised(library, scans, (1, 1, 1), np.zeros(15), slice(12), steps)
    affine = np.eye(3, 4) + numbers[:12].reshape(3, 4) @ affine_basis(shape)
    stages = [
        elasticnd.Deformation.identity(shape),
        elasticnd.Deformation(np.zeros((3, 3, 3, 3)), shape, affine=affine),
    ]
    for level in range(LEVELS):
        grid = stages[-1].refined() if level else stages[-1]
        numbers = np.concatenate([numbers[:12], grid.displacement.ravel()])
        free = slice(12, None)
        numbers = minimised(library, scans, grid.grid_shape, numbers, free, steps)
        displacement = numbers[12:].reshape(grid.displacement.shape)
        world = {"affine": affine, "to_world": TO_WORLD}
        stages.append(elasticnd.Deformation(displacement, shape, **world))
    return stages


def errors(deformation, scans):
    """Return the distance of each moved landmark from its target, in voxels."""
    found = deformation.source_points(scans.landmarks)
    return np.linalg.norm(found - scans.targets, axis=-1)


def difference_from_itk(deformation, scans, path):
    """Save the deformation, apply it with SimpleITK, and compare inside the volume."""
    sitk.WriteTransform(deformation.to_itk(), str(path))
    image = itk_image(scans.moving)
    transform = sitk.ReadTransform(str(path))
    resampled = sitk.Resample(image, image, transform, sitk.sitkBSpline3)
    theirs, ours = sitk.GetArrayFromImage(resampled).T, deformation.apply(scans.moving)
    x = deformation.source_points(voxels_of(deformation.shape))
    inside = np.all((x > 1e-6) & (x < np.array(deformation.shape) - 1 - 1e-6), axis=-1)
    return np.abs(theirs - ours)[inside].max()


def itk_image(array):
    """Return an ITK volume, in LPS coordinates and with reversed axes."""
    matrix = np.diag([-1, -1, 1]) @ TO_WORLD[:3]
    spacing = np.linalg.norm(matrix[:, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:, 3].tolist())
    return image


def draw(path, scans, deformation):
    """Draw one slice: moving, fixed, their differences, and the deformation."""
    from matplotlib.figure import Figure

    middle = scans.fixed.shape[0] // 2
    result = deformation.apply(scans.moving)
    grey = {"cmap": "gray", "vmin": 0, "vmax": scans.moving.max()}
    signed = {"cmap": "RdBu", "vmin": -1, "vmax": 1}
    panels = [
        ("moving volume", scans.moving, grey),
        ("fixed volume, with a part that is lost", scans.fixed, grey),
        ("difference before", scans.mask * (scans.fixed - scans.moving), signed),
        ("moving volume, registered", result, grey),
        ("difference after", scans.mask * (scans.fixed - result), signed),
    ]
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    axes = figure.subplots(2, 3)
    for ax, (title, volume, style) in zip(axes.flat, panels, strict=False):
        ax.imshow(volume[middle], **style)
        ax.set_title(title, loc="left", size=11)
        ax.set_axis_off()
    deformation.plot(axes.flat[-1], at=middle)
    axes.flat[-1].set_title("the deformation", loc="left", size=11)
    figure.savefig(path, dpi=80)


def main(framework, shape=SHAPE, steps=60, folder=".", figure=None):
    """Register in a framework, and print the errors."""
    scans = make_scans(shape)
    began = time.perf_counter()
    stages = register(framework, scans, steps)
    print(f"{framework}: {time.perf_counter() - began:.1f} s")
    titles = ("before", "affine", *(f"level {k + 1}" for k in range(LEVELS)))
    for title, stage in zip(titles, stages, strict=True):
        own = errors(stage, scans)
        print(
            f"{title}: landmarks off by {own.max():.3f} voxels at most, "
            f"{own.mean():.3f} on average"
        )
    found = stages[-1]
    print(f"smallest relative volume: at least {found.fold_bounds().lower:.3f}")
    difference = difference_from_itk(found, scans, Path(folder) / "deformation.tfm")
    print(f"SimpleITK's result differs by {difference:.1e}")
    if figure:
        draw(figure, scans, found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=("torch", "jax", "tensorflow"))
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--steps", type=int, default=60, help="limit for each stage")
    parser.add_argument(
        "--folder", default=".", help="where to write the transform for ITK"
    )
    parser.add_argument(
        "--figure", metavar="FILE", help="draw the volumes before and after"
    )
    main(**vars(parser.parse_args()))
