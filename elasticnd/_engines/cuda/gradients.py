"""Sums over voxels: the gradients of the image's coefficients, of the control grid, and of affine maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import _core
from ..._limits import check_coefficients
from .call import Call
from .coefficients import Source, loaded, passes_of, source_adjoint
from .devices import device, namespace
from .launches import C_TYPES, FLOAT64, NUMPY_TYPES, launch, launch_flat

if TYPE_CHECKING:
    from ..._job import Job

Array = Any  # of CuPy

_SUM_THREADS = _core.launch["flat_threads"]


class ImageGradient:
    """The gradient of the coefficients, summed by atomic operations: in floats, in a random order, or in integers.

    It is summed in the memory of the result if the passes of the prefilter can start there and if this takes less
    memory in all: integers are released before these passes need memory.
    """

    def __init__(self, call: Call, result: Array, in_integers: bool) -> None:
        job = call.job
        image = job["image"][: call.axes]
        padding = int(job["padding"])
        check_coefficients(image.tolist(), padding)
        self.compute_dtype, self.adds_integers = call.compute_dtype, in_integers
        passes = passes_of(job)
        has_its_values = not padding and call.dtype == call.compute_dtype
        if has_its_values and (passes != 1 if in_integers else passes % 2 == 0):
            self.sum = result
            device().clear(device().address(result), result.size * result.dtype.itemsize)
        else:
            shape = (call.items * call.channels, *(image + 2 * padding).tolist())
            self.sum = namespace().zeros(shape, NUMPY_TYPES[self.compute_dtype])

    def add(self, call: Call, values: Array, dtype: int) -> None:
        """Add the gradient of one output."""
        kernel = (
            f"splat_image<{dtype}, {C_TYPES[self.compute_dtype]}, {call.order}, {call.kernel_axes}, "
            f"{str(call.is_derived).lower()}, {str(self.adds_integers).lower()}>"
        )
        size, integers, scale = np.int64(self.sum.size), None, None
        if self.adds_integers:
            scale = _scale_of(values, dtype, self.compute_dtype)
            limbs = 2 if self.compute_dtype == FLOAT64 else 1
            integers = namespace().zeros((limbs, self.sum.size), np.dtype(np.uint64))
        call.launch(kernel, call.blocks, *call.transform, *call.planes, values, self.sum, integers, size, scale)
        if self.adds_integers:
            kernel = f"add_from_fixed<{C_TYPES[self.compute_dtype]}>"
            launch_flat(kernel, self.sum.size, integers, size, scale, self.sum)

    def finish(self, job: Job, result: Array) -> None:
        """Write the gradient of the image."""
        if self.sum is not result or passes_of(job):
            source_adjoint(job, self.sum, result, overwrites=True)


def _scale_of(values: Array, dtype: int, compute_dtype: int) -> Array:
    """Return the factor of gradients for sums in integers: a power of two, so that scaling rounds nothing."""
    xp = namespace()
    numbers = loaded(values, dtype, compute_dtype)
    size = xp.where(xp.isfinite(numbers), xp.abs(numbers), 0).max().astype(np.float64)
    # Derivatives of splines can be larger than their coefficients by a factor of 2^6.
    exponent = xp.clip(xp.ceil(xp.log2(xp.maximum(size, 1e-300))) + 1, -900, 900)
    return xp.exp2(-exponent).reshape(1)


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

    def finish(self, of_displacement: Array, of_affine: Array | None) -> None:
        """Write the gradients, (items, axes, points ...) and (items, axes, axes + 1)."""
        call = self.call
        call.displacement_gradient(self.rows, of_displacement)
        if of_affine is not None and of_affine.size:
            sizes = np.int64(call.sections), np.int64(math.prod(call.output[:-1]))
            blocks = call.items * call.axes * (call.axes + 1)
            launch("sum_moments", (blocks,), _SUM_THREADS, call.job, *sizes, self.moments, of_affine)
