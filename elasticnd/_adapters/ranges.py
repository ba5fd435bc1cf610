"""Ranges of numbers for augmentation: one for all axes, or one for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np

from .._coerce import as_number, is_sequence
from .._errors import counted, describe, one_or_each, reject_value
from .._types import Floats

Uniform: TypeAlias = Callable[[tuple[int, ...]], Floats]  # from a shape to numbers from 0 to 1


class Range(NamedTuple):
    """Two bounds, which are equal for a single number."""

    low: float
    high: float

    def draw(self, uniform: Uniform) -> float:
        """Draw a number between the bounds."""
        return self.low + (self.high - self.low) * float(uniform((1,))[0])


def as_range(name: str, value: object, accepted: str, *, around_zero: bool = False) -> Range:
    """Convert a number or a pair of bounds; with `around_zero`, a number r stands for (-r, r)."""
    if is_sequence(value):
        if len(value) != 2:
            reject_value(name, describe(value), accepted)
        low, high = (as_number(name, bound, accepted) for bound in value)
    else:
        high = as_number(name, value, accepted)
        low = -high if around_zero else high
    if low > high:
        reject_value(name, describe(value), f"{accepted}, the lower bound first")
    return Range(low, high)


def check_probability(name: str, value: object) -> None:
    """Check a number from 0 to 1."""
    accepted = "a probability, from 0 to 1"
    if not 0 <= as_number(name, value, accepted) <= 1:
        reject_value(name, describe(value), accepted)


class AxisRanges(NamedTuple):
    """A range from which one number is drawn for all axes, or one range for each axis."""

    name: str
    ranges: tuple[Range, ...]
    is_shared: bool

    @classmethod
    def of(cls, name: str, value: object, least: float, accepted: str) -> AxisRanges:
        """Check that no number is below `least`. A pair of numbers is one range; other sequences have one per axis."""
        is_shared = not is_sequence(value) or (len(value) == 2 and not any(map(is_sequence, value)))
        parts = [value] if is_shared else list(value)  # type: ignore[call-overload]
        ranges = tuple(as_range(name, part, accepted) for part in parts)
        if not ranges or any(one.low < least for one in ranges):
            reject_value(name, describe(value), accepted)
        return cls(name, ranges, is_shared)

    def draw(self, n: int, uniform: Uniform) -> Floats:
        """Draw a number for each of n axes."""
        if self.is_shared:
            return np.full(n, self.ranges[0].draw(uniform))
        if len(self.ranges) != n:
            accepted = one_or_each(n, "deformed axis", "deformed axes")
            reject_value(self.name, counted(len(self.ranges), "range", "ranges"), accepted)
        return np.array([one.draw(uniform) for one in self.ranges])


def plane_ranges(value: object) -> Range | dict[tuple[int, int], Range] | None:
    """Check the argument `rotate`: a range for every plane of two axes, or a mapping of planes to ranges."""
    accepted = "degrees, a pair of bounds, or a mapping {(k, l): degrees or bounds} of planes of deformed axes"
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {plane: as_range(f"rotate[{plane!r}]", one, accepted, around_zero=True) for plane, one in value.items()}
    return as_range("rotate", value, accepted, around_zero=True)
