"""Elastic, grid-based deformation of n-dimensional images, with exact gradients."""

try:
    from . import _core
except ImportError as error:  # pragma: no cover - the state of a source tree, not of an installation
    from importlib.util import find_spec
    from pathlib import Path

    if find_spec("elasticnd._core") is None and (Path(__file__).parent.parent / "CMakeLists.txt").exists():
        raise ImportError(
            "elasticnd is being imported from its source tree, which has no compiled core. Either install it "
            "(pip install .) and start Python in another directory, or install it in editable mode "
            "(pip install --editable .)"
        ) from error
    raise

from ._api import (
    Gradients,
    deform_grid,
    deform_grid_gradient,
    deform_grid_vjp,
    deform_random_grid,
    dense_displacement,
    random_displacement,
    source_box,
)
from ._chains import Chain, Inverse
from ._config import (
    engine,
    get_num_threads,
    is_deterministic,
    num_threads,
    read_environment,
    register_with_threadpoolctl,
    set_deterministic,
    set_num_threads,
    show_config,
    use_engine,
)
from ._folds import FoldBounds, FoldError, FoldWarning
from ._points import MovedBoxes, MovedPoints
from ._routes import backend_info, which
from .deformation import Deformation

__all__ = [
    "Chain",
    "Deformation",
    "FoldBounds",
    "FoldError",
    "FoldWarning",
    "Gradients",
    "Inverse",
    "MovedBoxes",
    "MovedPoints",
    "backend_info",
    "deform_grid",
    "deform_grid_gradient",
    "deform_grid_vjp",
    "deform_random_grid",
    "dense_displacement",
    "engine",
    "get_num_threads",
    "is_deterministic",
    "num_threads",
    "random_displacement",
    "set_deterministic",
    "set_num_threads",
    "show_config",
    "source_box",
    "use_engine",
    "which",
]

__version__: str = _core.version

read_environment()
register_with_threadpoolctl()
del read_environment, register_with_threadpoolctl
