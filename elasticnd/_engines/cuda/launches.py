"""Launches of kernels, and arrays in C order for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ... import _core, _dtypes
from .devices import Grid, device, namespace

Array = Any  # of CuPy

_THREADS = _core.launch["flat_threads"]
_NOTHING = np.uint64(0)
FLOAT32, FLOAT64 = _dtypes.CODES["float32"], _dtypes.CODES["float64"]
C_TYPES = {FLOAT32: "float", FLOAT64: "double"}
NUMPY_TYPES: dict[int, np.dtype[Any]] = {FLOAT32: np.dtype(np.float32), FLOAT64: np.dtype(np.float64)}


def kernel_axes(axes: int) -> int:
    """Return the number of axes that a kernel is compiled for: 0 for four or more."""
    return axes if axes < 4 else 0


def launch_flat(kernel: str, size: int, *arguments: Any) -> None:
    """Launch a kernel with one thread per number, unless there are none."""
    if size:
        launch(kernel, (-(-size // _THREADS),), _THREADS, *arguments)


def launch(kernel: str, grid: Grid, threads: int, *arguments: Any, shared: int = 0) -> None:
    """Launch a kernel with numbers, structures and arrays; None stands for a missing array."""
    device().launch(kernel, grid, threads, list(_passed(arguments)), shared)


def _passed(arguments: Sequence[Any]) -> Iterator[Any]:
    """Yield the numbers, structures and addresses of arguments."""
    for argument in arguments:
        if argument is None:
            yield _NOTHING
        elif isinstance(argument, np.generic) or (isinstance(argument, np.ndarray) and argument.ndim == 0):
            yield argument
        else:
            yield device().address(argument)


def contiguous(array: Array) -> Array:
    """Return an array in C order; elements of types that NumPy lacks become their bits."""
    return namespace().ascontiguousarray(_raw(array))


def _raw(array: Array) -> Array:
    return array.view(np.uint16) if array.dtype.kind == "V" else array


def contiguous_like(output: Array) -> Array:
    """Return the output or, if its elements are not in C order, a place for them."""
    raw = _raw(output)
    return raw if raw.flags.c_contiguous else namespace().empty(raw.shape, raw.dtype)


def copy_back(result: Array, output: Array) -> None:
    """Copy a result to the output, if it was computed in the place of `contiguous_like`."""
    raw = _raw(output)
    if result is not raw and not raw.flags.c_contiguous:
        raw[...] = result
