"""Threads and instruction sets: functions and environment variables set them, and `show_config` prints them."""

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import threadpoolctl

import elasticnd
from elasticnd import _core


def python(script, **variables):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ELASTICND_")}
    return subprocess.run(
        [sys.executable, "-I", "-c", script],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def printed(expression, **variables):
    done = python(f"import elasticnd; from elasticnd import _core; print({expression})", **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = elasticnd.get_num_threads()
    yield
    elasticnd.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 7, np.int64(3), 1000])
def test_set(threads):
    assert elasticnd.set_num_threads(threads) is None
    assert elasticnd.get_num_threads() == threads
    assert type(elasticnd.get_num_threads()) is int
    image = np.random.default_rng(0).random((300, 310))
    displacement = np.ones((2, 3, 3))
    with elasticnd.num_threads(1):
        expected = elasticnd.deform_grid(image, displacement)
    np.testing.assert_array_equal(elasticnd.deform_grid(image, displacement), expected)


def test_setting_holds_for_the_process():
    elasticnd.set_num_threads(5)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(elasticnd.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [5]


def test_context():
    elasticnd.set_num_threads(2)
    with elasticnd.num_threads(3):
        assert elasticnd.get_num_threads() == 3
        with elasticnd.num_threads(4):
            assert elasticnd.get_num_threads() == 4
        assert elasticnd.get_num_threads() == 3
    assert elasticnd.get_num_threads() == 2


def test_context_ends_with_an_exception():
    elasticnd.set_num_threads(2)
    with pytest.raises(KeyError), elasticnd.num_threads(3):
        raise KeyError
    assert elasticnd.get_num_threads() == 2


def test_context_as_decorator():
    @elasticnd.num_threads(6)
    def counted():
        return elasticnd.get_num_threads()

    elasticnd.set_num_threads(2)
    assert [counted(), counted(), elasticnd.get_num_threads()] == [6, 6, 2]


def test_default_is_what_the_process_may_use():
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert printed("elasticnd.get_num_threads()") == str(expected)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot restrict processors")
def test_default_heeds_the_affinity():
    one = min(os.sched_getaffinity(0))
    done = python(f"import os; os.sched_setaffinity(0, [{one}]); import elasticnd; print(elasticnd.get_num_threads())")
    assert done.stdout.strip() == "1", done.stderr


@pytest.mark.parametrize(("value", "threads"), [("1", 1), ("3", 3), ("007", 7)])
def test_variable_for_threads(value, threads):
    assert printed("elasticnd.get_num_threads()", ELASTICND_NUM_THREADS=value) == str(threads)


@pytest.mark.parametrize("kernels", _core.available_kernels())
def test_variable_for_kernels(kernels):
    assert printed("_core.kernels()", ELASTICND_KERNELS=kernels) == kernels


@pytest.mark.parametrize("name", ["ELASTICND_NUM_THREADS", "ELASTICND_KERNELS"])
def test_empty_variable_is_none(name):
    expression = "elasticnd.get_num_threads(), _core.kernels()"
    assert printed(expression, **{name: ""}) == printed(expression)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        *(("ELASTICND_NUM_THREADS", value, "a positive integer") for value in ("0", "-1", "two", "1.5", "1e3")),
        *(("ELASTICND_NUM_THREADS", value, "a positive integer") for value in ("9" * 30, "9" * 5000, "²", " ")),
        *(("ELASTICND_KERNELS", value, "one of baseline") for value in ("avx1024", "BASELINE", "baseline,", " ")),
    ],
    ids=lambda value: value[:20],
)
def test_wrong_variable(name, value, accepted):
    """The import fails with a message that names the variable, its value and the accepted values."""
    done = python("import elasticnd", **{name: value})
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ValueError: environment variable {name}: got ")
    assert value[:20] in message
    assert f"expected {accepted}" in message
    assert len(message) < 500


def test_show_config(capsys):
    elasticnd.set_num_threads(3)
    elasticnd.show_config()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"elasticnd {elasticnd.__version__}"
    assert re.fullmatch(r"instruction set: (\S+) \(available: .*\b\1\b.*\)", lines[1])
    assert lines[2] == "threads: 3"


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", elasticnd.__version__)


def test_threadpoolctl_limits_the_threads():
    elasticnd.set_num_threads(3)
    with threadpoolctl.threadpool_limits(limits=2, user_api="elasticnd"):
        assert elasticnd.get_num_threads() == 2
    assert elasticnd.get_num_threads() == 3
    (ours,) = [info for info in threadpoolctl.threadpool_info() if info["user_api"] == "elasticnd"]
    assert ours["num_threads"] == 3
    assert ours["version"] == elasticnd.__version__


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_processes_compute_the_same(method):
    """Workers compute the same values, whether spawned or forked while the threads of the pool exist."""
    elasticnd.set_num_threads(2)
    image = np.random.default_rng(0).random((200, 210), dtype=np.float32)
    arguments = (image, elasticnd.random_displacement(3, 5, ndim=2, rng=0), 3, "mirror")
    expected = elasticnd.deform_grid(*arguments)
    with warnings.catch_warnings():
        # Python warns of forks in a process with threads, and so does JAX if another test has imported it.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        with multiprocessing.get_context(method).Pool(2) as pool:
            for got in pool.starmap_async(elasticnd.deform_grid, [arguments] * 4).get(timeout=60):
                np.testing.assert_array_equal(got, expected)


def test_older_names():
    assert elasticnd.which is elasticnd.backend_info
    with elasticnd.engine("generic"):
        assert elasticnd.which(np.zeros(3)).engine == "generic"
    assert elasticnd.which(np.zeros(3)).engine == "cpu"
