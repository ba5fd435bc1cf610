"""What the transforms for MONAI, TorchIO and torchvision share: random deformations, drawn from a host's generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(host: str) -> Iterator[None]:
    """Name the extra that installs a host, where it cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != host:
            raise
        raise ImportError(f"elasticnd.{host} needs {host}: pip install 'elasticnd[{host}]'") from error
