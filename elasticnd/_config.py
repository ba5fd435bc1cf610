"""How the core runs: threads, engines and instruction sets."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import parent_process

from . import _core
from ._errors import reject_type, reject_value

THREADS_VARIABLE = "ELASTICND_NUM_THREADS"
KERNELS_VARIABLE = "ELASTICND_KERNELS"
ENGINE_VARIABLE = "ELASTICND_ENGINE"


def _checked_threads(argument: str, threads: int) -> int:
    accepted = "a positive integer"
    try:
        count = operator.index(threads)
    except TypeError:
        reject_type(argument, threads, accepted)
    if not 0 < count < 2**31:
        reject_value(argument, count, accepted)
    return count


_settled = False  # whether the default of this process is known


def settle_threads() -> None:
    """Set one thread for calls in the workers of PyTorch's data loader, since there are several. Done once."""
    global _settled  # noqa: PLW0603 - one for the process
    if not _settled:
        _settled = True
        loader = sys.modules.get("torch.utils.data")
        if loader is not None and loader.get_worker_info() is not None:
            _core.set_num_threads(1)


def _unsettle() -> None:
    global _settled  # noqa: PLW0603
    _settled = _chosen


_chosen = False  # by the caller or the environment
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unsettle)


def _choose_threads(threads: int) -> None:
    global _settled, _chosen  # noqa: PLW0603
    _settled = _chosen = True
    _core.set_num_threads(threads)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    The default is the number of processors available to the process, 1 in a worker of PyTorch's data loader, or the
    value of the environment variable ``ELASTICND_NUM_THREADS``. Results do not depend on it.

    Returns
    -------
    int
        The number of threads, at least 1.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.get_num_threads() >= 1
    True
    """
    settle_threads()
    return _core.get_num_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads a call may use, for the whole process.

    Parameters
    ----------
    threads : int
        At least 1. Small images use fewer.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Examples
    --------
    >>> import elasticnd
    >>> before = elasticnd.get_num_threads()
    >>> elasticnd.set_num_threads(1)
    >>> elasticnd.get_num_threads()
    1
    >>> elasticnd.set_num_threads(before)
    """
    _choose_threads(_checked_threads("threads", threads))


@contextlib.contextmanager
def num_threads(threads: int) -> Iterator[None]:
    """Set how many threads a call may use, inside a ``with`` block.

    The setting applies to the whole process, not only to the thread that enters the block.

    Parameters
    ----------
    threads : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not a positive integer.

    Examples
    --------
    >>> import elasticnd
    >>> with elasticnd.num_threads(1):
    ...     print(elasticnd.get_num_threads())
    1
    """
    before = get_num_threads()
    set_num_threads(threads)
    try:
        yield
    finally:
        set_num_threads(before)


@contextlib.contextmanager
def sharing_threads() -> Iterator[None]:
    """Limit calls to one thread where workers of another library, such as dask, share the processors.

    The main thread is not such a worker, and may use all threads, unless its process was started by another one.
    """
    is_worker = threading.current_thread() is not threading.main_thread() or parent_process() is not None
    before = _core.keep_to_thread(is_worker)
    try:
        yield
    finally:
        _core.keep_to_thread(before)


ENGINES = ("cpu", "cuda", "generic")
_forced_engine: str | None = None


def forced_engine() -> str | None:
    """Return the name of the requested engine, if any."""
    return _forced_engine


def _checked_engine(argument: str, name: str | None) -> str | None:
    if name is not None and name not in ENGINES:
        reject_value(argument, repr(name), f"one of {', '.join(map(repr, ENGINES))}, or None")
    return name


@contextlib.contextmanager
def use_engine(name: str | None) -> Iterator[None]:
    """Choose the engine inside a ``with`` block. `engine` is an older name.

    By default, the engine is chosen from the device of each array (see `backend_info`). The environment variable
    ``ELASTICND_ENGINE`` chooses one for the whole process.

    Parameters
    ----------
    name : {"cpu", "cuda", "generic", None}
        ``"generic"`` uses plain operations of the array's own library. It is slower and takes more memory, but needs
        nothing else, and libraries that differentiate find the derivatives themselves. ``"cpu"`` is the C++ core and
        ``"cuda"`` the CUDA kernels; they raise an error for arrays that another engine would compute. None restores the
        default choice.

    Raises
    ------
    ValueError
        If there is no such engine, or it cannot compute an array.

    Examples
    --------
    >>> import numpy as np
    >>> import elasticnd
    >>> with elasticnd.use_engine("generic"):
    ...     print(elasticnd.backend_info(np.zeros((3, 4))).engine)
    generic
    """
    global _forced_engine  # noqa: PLW0603 - one for the process
    before = _forced_engine
    _forced_engine = _checked_engine("name", name)
    try:
        yield
    finally:
        _forced_engine = before


engine = use_engine

_deterministic = False


def is_deterministic() -> bool:
    """Return whether gradients of images on CUDA devices are bit-reproducible from run to run.

    On the CPU they always are. CUDA devices need `set_deterministic` or PyTorch's own switch,
    ``torch.use_deterministic_algorithms``.

    Returns
    -------
    bool
        Whether `set_deterministic` or PyTorch's switch requests it.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.is_deterministic()
    False
    """
    torch = sys.modules.get("torch")
    return _deterministic or (torch is not None and bool(torch.are_deterministic_algorithms_enabled()))


def set_deterministic(deterministic: bool) -> None:
    """Set whether gradients of images on CUDA devices are bit-reproducible from run to run.

    They are sums accumulated by many threads in a nondeterministic order. With this setting they are computed in
    integers, which is slower and takes more memory. All other results are bit-reproducible anyway.

    Parameters
    ----------
    deterministic : bool
        The setting for the whole process.

    Raises
    ------
    TypeError
        If `deterministic` is not a bool.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.set_deterministic(True)
    >>> elasticnd.is_deterministic()
    True
    >>> elasticnd.set_deterministic(False)
    """
    global _deterministic  # noqa: PLW0603 - one for the process
    if not isinstance(deterministic, bool):
        reject_type("deterministic", deterministic, "True or False")
    _deterministic = deterministic


def show_config() -> None:
    """Print the version, the instruction set and the number of threads in use.

    By default, the instruction set is the best one that the processor supports. Set the environment variable
    ``ELASTICND_KERNELS`` to ``baseline`` to use one that every processor supports. Results are the same with both.

    Examples
    --------
    >>> import elasticnd
    >>> elasticnd.show_config()  # doctest: +ELLIPSIS
    elasticnd ...
    instruction set: ... (available: ...)
    threads: ...
    """
    print(f"elasticnd {_core.version}")
    print(f"instruction set: {_core.kernels()} (available: {', '.join(_core.available_kernels())})")
    print(f"threads: {get_num_threads()}")


def register_with_threadpoolctl() -> None:
    """Register elasticnd with threadpoolctl, if installed, so that it is listed and can be limited."""
    try:
        import threadpoolctl  # noqa: PLC0415 - optional
    except ImportError:
        return

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "elasticnd"
        internal_api = "elasticnd"
        filename_prefixes = ("_core",)
        check_symbols = ("elasticnd_get_num_threads",)

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return _core.version

    threadpoolctl.register(Controller)


def read_environment() -> None:
    """Apply the environment variables, once, at import."""
    threads = os.environ.get(THREADS_VARIABLE, "")
    if threads:
        if not threads.isdecimal() or len(threads) > 10:
            reject_value(f"environment variable {THREADS_VARIABLE}", repr(threads), "a positive integer")
        _choose_threads(_checked_threads(f"environment variable {THREADS_VARIABLE}", int(threads)))
    global _forced_engine  # noqa: PLW0603
    _forced_engine = _checked_engine(f"environment variable {ENGINE_VARIABLE}", os.environ.get(ENGINE_VARIABLE) or None)
    kernels = os.environ.get(KERNELS_VARIABLE, "")
    if kernels:
        available = _core.available_kernels()
        if kernels not in available:
            reject_value(f"environment variable {KERNELS_VARIABLE}", repr(kernels), f"one of {', '.join(available)}")
        _core.choose_kernels(kernels)
