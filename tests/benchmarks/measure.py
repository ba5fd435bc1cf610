"""Times and peak memory of calls, which take turns so that a slow phase of the machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class Measured(NamedTuple):
    """The time and memory that a call took."""

    minimum: float  # seconds
    median: float
    low: float  # a quarter of the calls took less ...
    high: float  # ... and a quarter took more
    calls: int
    memory: int | None  # bytes added at the peak, output included; None if the system does not report it


def peak_memory(call: Callable[[], object]) -> int | None:
    """Run a call, and return the growth of the resident memory at its peak."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        call()
        return None
    before = _memory("VmRSS")
    call()
    return max(0, _memory("VmHWM") - before)


def resident_peak() -> int:
    """Return the peak of the resident memory since the last `peak_memory`, or else since the process started."""
    return _memory("VmHWM")


def _memory(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def measure(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, Measured]:
    """Time every call in turn, each for about the given number of seconds and at least three times."""
    memory = {name: peak_memory(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    waiting = set(calls)
    while waiting:
        for name in [name for name in calls if name in waiting]:
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
            if len(times[name]) >= 3 and (sum(times[name]) > seconds or len(times[name]) >= 200):
                waiting.remove(name)
    return {name: _summary(sorted(taken), memory[name]) for name, taken in times.items()}


def _summary(taken: list[float], memory: int | None) -> Measured:
    quarter = len(taken) // 4
    return Measured(taken[0], statistics.median(taken), taken[quarter], taken[-1 - quarter], len(taken), memory)
