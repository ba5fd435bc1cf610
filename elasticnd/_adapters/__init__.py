"""What the transforms for MONAI, TorchIO, torchvision and Keras (their hosts) share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(host: str) -> Iterator[None]:
    """Raise an ImportError that names the extra for a host that cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != host:
            raise
        raise ImportError(f"elasticnd.{host} needs {host}: pip install 'elasticnd[{host}]'") from error
