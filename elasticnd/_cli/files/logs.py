"""Catch what libraries log, because the command line reports what matters itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def caught(name: str) -> Iterator[list[str]]:
    """Silence a logger, and collect its warnings and errors in a list."""
    logger, collector = logging.getLogger(name), _Collector()
    handlers, propagates = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [collector], False
    try:
        yield collector.messages
    finally:
        logger.handlers, logger.propagate = handlers, propagates


class _Collector(logging.Handler):
    """A handler that collects messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a message."""
        self.messages.append(record.getMessage())
