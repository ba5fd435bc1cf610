"""All private names of dask that the package uses."""

from __future__ import annotations

import dask.array as da

# Called by the tasks of `dask.array.from_array` to read part of a stored array.
_GETTERS = (da.core.getter, da.core.getter_nofancy, da.core.getter_inline)


def meta_of(array: da.Array) -> object:
    """Return an empty array of the type of the blocks."""
    return array._meta


def stored_array_key(array: da.Array) -> str | None:
    """Return the key of the stored array behind a result of `dask.array.from_array`, if any part of it can be read.

    Return None if the array was made in another way, or if reading requires a lock.
    """
    original = f"original-{array.name}"
    layers = array.dask.layers
    if original not in layers or array.dask.dependencies.get(array.name) != {original}:
        return None
    task = getattr(layers[array.name], "task", None)
    if task is None or task.func not in _GETTERS or task.kwargs.get("lock"):
        return None
    return original
