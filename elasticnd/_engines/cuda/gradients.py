"""Sums over voxels: the gradients of the image's coefficients, of the control grid, and of affine maps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._config import is_deterministic
from ..._limits import check_coefficients
from .call import Call, over_sections
from .coefficients import Source, loaded
from .devices import namespace
from .launches import C_TYPES, FLOAT64, NUMPY_TYPES, launch_flat
from .tangents import from_origin

Array = Any  # of CuPy


class ImageGradient:
    """The gradient of the coefficients, added up by atomic operations: in an order of chance, or in integers."""

    def __init__(self, call: Call) -> None:
        xp = namespace()
        image = call.job["image"][: call.axes]
        padding = int(call.job["padding"])
        check_coefficients(image.tolist(), padding)
        padded = (image + 2 * padding).tolist()
        self.compute_dtype = call.compute_dtype
        self.sum = xp.zeros((call.items * call.channels, *padded), NUMPY_TYPES[self.compute_dtype])
        self.integers: Array | None = None
        self.scale: Array | None = None
        self.adds_integers = is_deterministic()

    def add(self, call: Call, values: Array, dtype: int) -> None:
        """Add the gradient of one output."""
        if self.adds_integers:
            self._begin(values, dtype)
        kernel = (
            f"splat_image<{dtype}, {C_TYPES[self.compute_dtype]}, {call.order}, {call.kernel_axes}, "
            f"{str(call.is_derived).lower()}, {str(self.adds_integers).lower()}>"
        )
        target = (self.sum, self.integers, np.int64(self.sum.size), self.scale)
        call.launch(kernel, call.blocks, *call.transform, *call.planes, values, *target)
        if self.adds_integers:
            kernel = f"add_from_fixed<{C_TYPES[self.compute_dtype]}>"
            launch_flat(kernel, self.sum.size, self.integers, np.int64(self.sum.size), self.scale, self.sum)

    def _begin(self, values: Array, dtype: int) -> None:
        xp = namespace()
        limbs = 2 if self.compute_dtype == FLOAT64 else 1
        self.integers = xp.zeros((limbs, self.sum.size), np.uint64)
        numbers = loaded(values, dtype, self.compute_dtype)
        size = xp.where(xp.isfinite(numbers), xp.abs(numbers), 0).max().astype(np.float64)
        # A power of two, so that scaling rounds nothing; derivatives of splines can pass their coefficients by 2^6.
        exponent = xp.clip(xp.ceil(xp.log2(xp.maximum(size, 1e-300))) + 1, -900, 900)
        self.scale = xp.exp2(-exponent).reshape(1)

    def total(self) -> Array:
        return self.sum


class TransformSums:
    """The gradients of control points and inverse maps, per item."""

    def __init__(self, call: Call, with_affine: bool) -> None:
        self.call = call
        self.rows = call.rows()
        shape = (call.items, call.sections, call.axes, *call.output[:-1], 2)
        self.moments = namespace().zeros(shape, np.float64) if with_affine else None

    def add(self, call: Call, source: Source, values: Array, dtype: int) -> None:
        """Add the gradient of one output."""
        types = f"{source.dtype}, {dtype}, {C_TYPES[call.compute_dtype]}"
        derived = str(call.is_derived).lower()
        kernel = f"splat_transform<{types}, {call.order}, {call.kernel_axes}, {derived}>"
        arguments = (*call.cut, np.int64(call.channels), source.array, values, self.rows, self.moments)
        call.launch(kernel, call.section_blocks, *call.transform, *arguments)

    def total(self) -> tuple[Array, Array | None]:
        return self.call.displacement_gradient(self.rows), None if self.moments is None else self._affine(
            over_sections(self.moments)
        )

    def _affine(self, moments: Array) -> Array:
        xp, axes = namespace(), self.call.axes
        rows = tuple(range(2, axes + 1))
        result = xp.empty((self.call.items, axes, axes + 1), np.float64)
        for k, extent in enumerate(self.call.output[:-1]):
            index = from_origin(self.call.job, k, extent)
            result[..., k] = (moments[..., 0] * index.reshape(-1, *(1,) * (axes - 2 - k))).sum(rows)
        result[..., axes - 1] = moments[..., 1].sum(rows)
        result[..., axes] = moments[..., 0].sum(rows)
        return result
