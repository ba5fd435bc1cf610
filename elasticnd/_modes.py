"""The border modes and what each of them does: the only place that distinguishes modes."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Continuation(enum.IntEnum):
    """How something is extended beyond the border, numbered as in cpp/include/elasticnd/boundary.hpp."""

    NOTHING = 0
    NEAREST = 1
    REFLECTED = 2  # about the edge of the last voxel
    MIRRORED = 3  # about its centre
    PERIODIC = 4
    SHORT_PERIODIC = 5  # with a period that is one voxel short, as in SciPy


@dataclass(frozen=True)
class ModeTraits:
    """The traits of a border mode, as in cpp/include/elasticnd/boundary.hpp; a test compares the two."""

    coordinates: Continuation  # maps a position beyond the border; NOTHING: it has no value
    coefficients: Continuation  # replaces a tap beyond the border; NOTHING: by the constant
    samples: Continuation  # of the samples in the prefilter
    pads: bool = False  # extended by `PADDING` before filtering
    has_constant: bool = False  # the constant lies far beyond the border
    ends_at_last_voxel: bool = False  # at order 1


class Mode(enum.IntEnum):
    """Border modes, numbered as in cpp/include/elasticnd/boundary.hpp and named as in scipy.ndimage."""

    CONSTANT = 0
    NEAREST = 1
    REFLECT = 2
    MIRROR = 3
    WRAP = 4
    GRID_CONSTANT = 5
    GRID_WRAP = 6

    @property
    def traits(self) -> ModeTraits:
        """The traits of the mode."""
        return _TRAITS[self]


_NOTHING, _NEAREST, _REFLECTED, _MIRRORED, _PERIODIC, _SHORT_PERIODIC = Continuation
_TRAITS = {
    Mode.CONSTANT: ModeTraits(_NOTHING, _MIRRORED, _MIRRORED, has_constant=True, ends_at_last_voxel=True),
    Mode.NEAREST: ModeTraits(_NEAREST, _NEAREST, _REFLECTED, pads=True),
    Mode.REFLECT: ModeTraits(_REFLECTED, _REFLECTED, _REFLECTED),
    Mode.MIRROR: ModeTraits(_MIRRORED, _MIRRORED, _MIRRORED),
    Mode.WRAP: ModeTraits(_SHORT_PERIODIC, _MIRRORED, _MIRRORED, ends_at_last_voxel=True),
    Mode.GRID_CONSTANT: ModeTraits(_NEAREST, _NOTHING, _MIRRORED, pads=True, has_constant=True),
    Mode.GRID_WRAP: ModeTraits(_PERIODIC, _PERIODIC, _PERIODIC),
}

MODES = {
    "constant": Mode.CONSTANT,
    "nearest": Mode.NEAREST,
    "reflect": Mode.REFLECT,
    "mirror": Mode.MIRROR,
    "wrap": Mode.WRAP,
    "grid-constant": Mode.GRID_CONSTANT,
    "grid-mirror": Mode.REFLECT,
    "grid-wrap": Mode.GRID_WRAP,
}

PADDING = 12  # of modes that pad, because their prefilter has no exact start at the border


def padding_of(order: int, mode: Mode, prefilter: bool) -> int:
    """Return the number of voxels by which each side of the image is padded before filtering, as in SciPy."""
    return PADDING if prefilter and order > 1 and mode.traits.pads else 0
