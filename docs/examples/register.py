"""Find the deformation between two brains by gradient descent: ``python register.py torch|jax|tensorflow``.

The fixed image is a deformed copy of the MNI152 template, so the true control grid is known.
"""
# ruff: noqa: PLC0415 - only the framework that was named is imported

import argparse
import time

import numpy as np
from nilearn.datasets import load_mni152_template
from scipy.optimize import minimize
from tqdm import tqdm

import elasticnd

POINTS = 5
SIGMA = 1.5  # of the true displacements, in voxels
RESOLUTION = 4  # of the images, in millimetres
BRAIN = 0.2  # what is brighter belongs to the brain


def loss_in_torch(template, fixed):
    """Give the function that takes a displacement to the loss and its gradient."""
    import torch

    template, fixed = torch.tensor(template), torch.tensor(fixed)

    def loss_and_gradient(displacement):
        displacement = torch.tensor(displacement, requires_grad=True)
        loss = (elasticnd.deform_grid(template, displacement) - fixed).square().mean()
        loss.backward()
        return loss.item(), displacement.grad.numpy()

    return loss_and_gradient


def loss_in_jax(template, fixed):
    """Give the same function, compiled by JAX."""
    import jax
    import jax.numpy as jnp

    template, fixed = jnp.asarray(template), jnp.asarray(fixed)

    def loss(displacement):
        return ((elasticnd.deform_grid(template, displacement) - fixed) ** 2).mean()

    return jax.jit(jax.value_and_grad(loss))


def loss_in_tensorflow(template, fixed):
    """Give the same function, as a graph of TensorFlow."""
    import tensorflow as tf

    template, fixed = tf.constant(template), tf.constant(fixed)

    @tf.function
    def loss_and_gradient(displacement):
        with tf.GradientTape() as tape:
            tape.watch(displacement)
            loss = tf.reduce_mean((elasticnd.deform_grid(template, displacement) - fixed) ** 2)
        return loss, tape.gradient(loss, displacement)

    return lambda displacement: loss_and_gradient(tf.constant(displacement))


LOSSES = {"torch": loss_in_torch, "jax": loss_in_jax, "tensorflow": loss_in_tensorflow}


def influence(fixed):
    """Tell how much each control point matters: the squared slope of the image under its squared spline."""
    slope = sum(part**2 for part in np.gradient(fixed))
    units = np.eye(POINTS)[:, None]  # each control point of an axis, displaced by one voxel
    splines = [elasticnd.dense_displacement(units, (length,))[:, 0] ** 2 for length in fixed.shape]
    return np.einsum("xyz,ax,by,cz->abc", slope, *splines, optimize=True)


def register(loss_and_gradient, fixed, steps):
    """Minimise a loss from no displacement on, with the L-BFGS method of SciPy."""
    # Points at the corners of the image, which hardly matter, get a larger step than those in the brain.
    weight = influence(fixed)
    scale = 1 / np.sqrt(weight + 1e-3 * weight.max())
    scale = np.broadcast_to(scale / scale.min(), (fixed.ndim, *scale.shape))
    unit = 1e4  # the mean square is small; L-BFGS-B wants numbers near one

    with tqdm(total=steps, unit="step", mininterval=0.5) as bar:

        def objective(x):
            loss, gradient = loss_and_gradient(scale * x.reshape(scale.shape))
            bar.set_postfix(loss=f"{float(loss):.2e}", refresh=False)
            return unit * float(loss), (unit * scale * np.asarray(gradient)).ravel()

        found = minimize(
            objective,
            np.zeros(scale.size),
            jac=True,
            method="L-BFGS-B",
            callback=lambda _: bar.update(),
            options={"maxiter": steps, "maxcor": 20, "ftol": 0, "gtol": 0},
        )
    return scale * found.x.reshape(scale.shape)


def error_map(found, true, shape):
    """Measure how far each voxel is displaced from where it should be, in voxels."""
    return np.linalg.norm(elasticnd.dense_displacement(found - true, shape), axis=0)


def describe(title, error):
    """Print the errors inside the brain."""
    numbers = (error.max(), np.quantile(error, 0.95), error.mean())
    print("{}: largest {:.3f}, 95 % below {:.3f}, mean {:.3f} voxels".format(title, *numbers))


def draw(path, images, error):
    """Draw one slice: the template before and after, the fixed image, and what differs."""
    from matplotlib.figure import Figure

    template, registered, fixed = images
    grey = {"cmap": "gray", "vmin": 0, "vmax": 1}
    signed = {"cmap": "RdBu", "vmin": -0.8, "vmax": 0.8}
    panels = [
        ("template", template, grey),
        ("fixed image", fixed, grey),
        ("difference before", fixed - template, signed),
        ("template, registered", registered, grey),
        ("error of the displacement, in voxels", error, {"cmap": "viridis", "vmin": 0}),
        ("difference after", fixed - registered, signed),
    ]
    figure = Figure(figsize=(10, 6), layout="constrained")
    for ax, (title, image, style) in zip(figure.subplots(2, 3).flat, panels, strict=True):
        shown = ax.imshow(image[image.shape[0] // 2].T, origin="lower", **style)
        ax.set_title(title, loc="left", size=11)
        ax.set_axis_off()
        if title.startswith(("error", "difference after")):
            figure.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.7, pad=0.02)
    figure.savefig(path, dpi=80)


def main(framework, steps=100, seed=0, figure=None):
    """Register in a framework, and print how exactly."""
    template = load_mni152_template(resolution=RESOLUTION).get_fdata(dtype=np.float32)
    true = elasticnd.random_displacement(POINTS, SIGMA, ndim=3, rng=seed)
    fixed = elasticnd.deform_grid(template, true)
    brain = fixed > BRAIN
    describe("before", error_map(np.zeros_like(true), true, fixed.shape)[brain])

    loss_and_gradient = LOSSES[framework](template, fixed)
    began = time.perf_counter()
    found = register(loss_and_gradient, fixed, steps)
    print(f"{steps} steps in {framework}: {time.perf_counter() - began:.1f} s")

    error = error_map(found, true, fixed.shape)
    describe("after", error[brain])
    if figure:
        images = (template, elasticnd.deform_grid(template, found), fixed)
        draw(figure, images, np.where(brain, error, np.nan))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=LOSSES)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the true displacements")
    parser.add_argument("--figure", metavar="FILE", help="draw the images before and after")
    main(**vars(parser.parse_args()))
