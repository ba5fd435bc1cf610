"""Progress on a terminal, with tqdm: in steps for images in memory, in tasks for Zarr arrays."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType

from .._errors import printable


@contextmanager
def of_steps(total: int, wanted: bool) -> Iterator[Callable[[str], None]]:
    """Show how many steps are done; the yielded function takes the name of the next step."""
    tqdm = _library("tqdm") if wanted else None
    if tqdm is None:
        yield lambda step: None
        return
    with tqdm.tqdm(total=total, file=sys.stderr, leave=False, unit="step") as bar:

        def start(step: str) -> None:
            if bar.desc:
                bar.update()
            bar.set_description(printable(step))

        yield start


def of_blocks(wanted: bool) -> AbstractContextManager[object]:
    """Show how many dask tasks are done."""
    tqdm = _library("tqdm.dask") if wanted else None
    if tqdm is None:
        return nullcontext()
    callback: AbstractContextManager[object] = tqdm.TqdmCallback(
        desc="deforming", file=sys.stderr, leave=False, unit="task"
    )
    return callback


def _library(name: str) -> ModuleType | None:
    """Import tqdm for a terminal; None without tqdm or a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
