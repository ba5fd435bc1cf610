# The compiled module, cpp/src/bindings. A test compares the names; element types are numbers of `dtypes`.
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._geometry import Geometry

_Array = NDArray[Any]
_Floats = NDArray[np.float64]
_Directions = Sequence[tuple[_Floats, _Floats | None]]
_Extents = Sequence[tuple[int, int]]

version: str
max_axes: int
max_order: int
modes: dict[str, int]
mode_traits: list[tuple[int, int, int, bool, bool, bool]]
mode_padding: int
launch: dict[str, int]
tiles: tuple[tuple[int, int, int], ...]
dtypes: dict[str, int]
xla_version: tuple[int, int]

def block_margin(order: int, arithmetic: int) -> int: ...
def geometry_layout() -> dict[str, Any]: ...
def xla_targets() -> dict[str, Any]: ...
def floating_point_state() -> int: ...
def default_floating_point_state() -> int: ...
def set_floating_point_state(state: int) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def keep_to_thread(keep: bool) -> bool: ...
def kernels() -> str: ...
def available_kernels() -> list[str]: ...
def choose_kernels(name: str) -> None: ...
def prefilter(
    geometry: Geometry,
    image: _Array,
    image_dtype: int,
    coefficients: _Array,
    coefficients_dtype: int,
    filtered: bool,
) -> None: ...
def prefilter_adjoint(
    geometry: Geometry,
    coefficients: _Array,
    coefficients_dtype: int,
    image: _Array,
    image_dtype: int,
    filtered: bool,
) -> None: ...
def sample(
    geometry: Geometry,
    image: _Array,
    dtype: int,
    points: _Floats,
    affine: _Floats | None,
    fixed: _Floats | None,
    directions: _Directions,
    output: _Array,
    batch_axes: int,
    filtered: bool,
    arithmetic: int,
    fill_element: bytes,
    roi: _Extents | None,
) -> None: ...
def source_voxels(
    geometry: Geometry,
    blocks: NDArray[np.int64],
    points: _Floats,
    affine: _Floats | None,
    fixed: _Floats | None,
    filtered: bool,
    arithmetic: int,
) -> NDArray[np.int64]: ...
def displace(geometry: Geometry, points: _Floats, output: _Floats, batch_axes: int) -> None: ...
def displace_adjoint(geometry: Geometry, gradient: _Floats, points: _Floats, batch_axes: int) -> _Floats: ...
def sample_adjoint(
    geometry: Geometry,
    gradient: _Array,
    dtype: int,
    image: _Array | None,
    points: _Floats,
    affine: _Floats | None,
    fixed: _Floats | None,
    directions: _Directions,
    image_gradient: _Array | None,
    batch_axes: int,
    filtered: bool,
    arithmetic: int,
    roi: _Extents | None,
) -> tuple[_Floats, _Floats | None] | None: ...
def evaluate(geometry: Geometry, points: _Floats, positions: _Floats, order: int) -> _Floats: ...
def evaluate_adjoint(geometry: Geometry, gradient: _Floats, positions: _Floats, order: int) -> _Floats: ...
