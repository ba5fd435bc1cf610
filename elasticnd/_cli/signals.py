"""Signals that end the process, such as SIGTERM, raised as exceptions so that nothing temporary is left behind."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Windows has no SIGHUP.
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """The process was asked to end; like KeyboardInterrupt, not an error to be handled on the way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Terminated` when a signal would end the process at once."""

    def terminate(number: int, _: FrameType | None) -> None:
        raise Terminated(number)

    # Ignored signals, such as SIGHUP under nohup, stay ignored.
    chosen = [number for number in _ENDING if _in_main_thread() and signal.getsignal(number) is signal.SIG_DFL]
    for number in chosen:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in chosen:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def held() -> Iterator[None]:
    """Defer signals to the end of a block that must not be left half done."""
    arrived: list[int] = []
    former = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, *_ENDING)
        if _in_main_thread() and callable(signal.getsignal(number))
    }
    for number in former:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def _in_main_thread() -> bool:
    """Return whether signals arrive in this thread; Python handles them only in the main thread."""
    return threading.current_thread() is threading.main_thread()
