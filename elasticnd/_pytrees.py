"""Registers the classes that hold arrays as pytrees, so that JAX's transformations accept their objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from . import _floating_point

T = TypeVar("T")

_registered: set[type] = set()


def register_with_jax(
    cls: type[T], flatten: Callable[[T], tuple[Any, Any]], unflatten: Callable[[Any, Any], T]
) -> None:
    """Register a class as a pytree, once JAX has been imported.

    Constructors call this, since JAX may be imported after elasticnd. PyTorch's compiler cannot trace the call, so the
    class is registered when the next object is made outside of a compiled program.
    """
    tree_util = getattr(sys.modules.get("jax"), "tree_util", None)
    if tree_util is None or cls in _registered or _floating_point.is_recorded():
        return
    _registered.add(cls)
    tree_util.register_pytree_node(cls, flatten, unflatten)
