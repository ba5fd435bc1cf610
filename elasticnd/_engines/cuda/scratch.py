"""The layout of scratch memory: which of its bytes are in use."""

from __future__ import annotations

from collections.abc import Callable

ALIGNMENT = 256


class Scratch:
    """The layout of scratch memory. Released bytes are reused, since launches run one after another."""

    def __init__(self) -> None:
        self.size = 0
        self._free: list[tuple[int, int]] = []  # begin and end, in order

    def take(self, size: int) -> int:
        """Return the offset of `size` bytes: the first free ones, or new ones."""
        for k, (begin, end) in enumerate(self._free):
            if end - begin >= size:
                self._free[k : k + 1] = [(begin + size, end)] if end - begin > size else []
                return begin
        begin = self._free.pop()[0] if self._free and self._free[-1][1] == self.size else self.size
        self.size = begin + size
        return begin

    def give_back(self, begin: int, size: int) -> None:
        """Release bytes for reuse."""
        parts: list[tuple[int, int]] = []
        for part in sorted([*self._free, (begin, begin + size)]):
            joins = parts and parts[-1][1] == part[0]
            parts[-1:] = [(parts[-1][0], part[1])] if joins else [*parts[-1:], part]
        self._free = parts


class Region:
    """A part of scratch memory, given back when no array is left in it."""

    def __init__(self, scratch: Scratch, size: int) -> None:
        self.scratch, self.size = scratch, -(-size // ALIGNMENT) * ALIGNMENT
        self.begin = scratch.take(self.size)

    def __del__(self) -> None:
        self.scratch.give_back(self.begin, self.size)


Lend = Callable[[int], tuple[int, object]]  # from a size to an address, and the object that holds the memory


def lender(begin: int, size: int, holder: object, allocate: Lend) -> Lend:
    """Return a function that lends parts of some memory or, if too little is left, calls `allocate`."""
    scratch = Scratch()

    def lend(wanted: int) -> tuple[int, object]:
        region = Region(scratch, wanted)
        if region.begin + wanted <= size:
            return begin + region.begin, (region, holder)
        return allocate(wanted)

    return lend
