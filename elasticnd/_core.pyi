# The compiled module, cpp/src/bindings.cpp. A test compares the names; element types are numbers of `dtypes`.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._geometry import Geometry

_Array = NDArray[Any]
_Floats = NDArray[np.float64]
_Start = tuple[int, ...]
_Extent = tuple[int, ...]

version: str
max_axes: int
modes: dict[str, int]
dtypes: dict[str, int]

def geometry_layout() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def kernels() -> str: ...
def available_kernels() -> list[str]: ...
def choose_kernels(name: str) -> None: ...
def source_box(geometry: Geometry, grid: _Floats, affine: _Floats | None, items: int) -> tuple[_Start, _Extent]: ...
def held_box(geometry: Geometry, dtype: int, filtered: bool) -> tuple[_Start, _Extent]: ...
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
    source: _Array,
    source_dtype: int,
    grid: _Floats,
    affine: _Floats | None,
    output: _Array,
    output_dtype: int,
    batch_axes: int,
    fill_element: bytes,
) -> None: ...
def displace(geometry: Geometry, grid: _Floats, output: _Floats, batch_axes: int) -> None: ...
def scatter_image(
    geometry: Geometry,
    output: _Array,
    output_dtype: int,
    grid: _Floats,
    affine: _Floats | None,
    coefficients: _Array,
    coefficients_dtype: int,
    batch_axes: int,
) -> None: ...
def scatter_grid(
    geometry: Geometry,
    output: _Array,
    output_dtype: int,
    coefficients: _Array,
    coefficients_dtype: int,
    grid: _Floats,
    affine: _Floats | None,
    batch_axes: int,
) -> tuple[_Floats, _Floats]: ...
