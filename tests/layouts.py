"""Functions that copy an array to a different memory layout."""

import numpy as np


def unaligned(array):
    memory = bytearray(array.nbytes + 1)
    moved = np.frombuffer(memory, np.uint8, offset=1).view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def swapped(array):
    return array if array.dtype.name == "bfloat16" else array.astype(array.dtype.newbyteorder())


def inside_another(array):
    larger = np.zeros([2 * extent + 3 for extent in array.shape], array.dtype)
    part = larger[tuple(slice(2, 2 + 2 * extent, 2) for extent in array.shape)]
    part[...] = array
    return part


def field_of_records(array):
    records = np.zeros(array.shape, [("before", "u1"), ("value", array.dtype), ("after", "u1")])
    records["value"] = array
    return records["value"]


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda array: np.flip(np.flip(array).copy()),
    "one axis reversed": lambda array: np.flip(np.flip(array, -1).copy(), -1),
    "transposed": lambda array: np.moveaxis(np.moveaxis(array, 0, -1).copy(), -1, 0),
    "sliced": inside_another,
    "read-only": read_only,
    "byte-swapped": swapped,
    "unaligned": unaligned,
    "in records": field_of_records,
    "subclass": lambda array: array.view(np.recarray),
}
