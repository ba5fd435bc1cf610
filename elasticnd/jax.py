"""elasticnd for JAX: the public functions, which convert their input to JAX arrays.

The functions of the package itself accept JAX arrays too. All work under `jax.jit`, `jax.grad`, `jax.jvp`, `jax.vmap`
and similar transformations, with respect to image, control grid and affine matrix.

>>> import jax
>>> import jax.numpy as jnp
>>> import elasticnd.jax
>>> image = jnp.arange(12.0).reshape(3, 4)
>>> def energy(displacement):
...     return (elasticnd.jax.deform_grid(image, displacement, mode="mirror") ** 2).sum()
>>> jax.jit(jax.grad(energy))(jnp.zeros((2, 3, 3))).shape
(2, 3, 3)
"""

from __future__ import annotations

import jax.numpy as jnp

from . import _namespaces

__all__ = ["deform_grid", "deform_random_grid", "dense_displacement"]

deform_grid, deform_random_grid, dense_displacement = _namespaces.functions(jnp.asarray)
