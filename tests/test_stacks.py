"""Threads may have small stacks, such as the 128 KiB of musl's threads."""

import subprocess
import sys

import pytest

CODE = """
import sys, threading
import numpy as np
import elasticnd

axes, order, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
elasticnd.set_num_threads(1)
X = np.random.default_rng(0).normal(size=(3,) * axes).astype(dtype)
displacement = np.zeros((axes,) + (2,) * axes)

def call():
    for mode in ("constant", "nearest", "grid-wrap"):
        elasticnd.deform_grid(X, displacement, order=order, mode=mode)
        elasticnd.deform_grid_vjp(X, X, displacement, order=order, mode=mode, affine=np.eye(axes, axes + 1))
    done.append(True)

done = []
call()  # imports are done on the main thread
threading.stack_size(64 * 1024)
thread = threading.Thread(target=call)
thread.start()
thread.join()
assert len(done) == 2
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("axes", "order"), [(1, 3), (2, 5), (3, 3), (4, 5), (5, 1), (5, 3)])
def test_small_stack(axes, order, dtype):
    arguments = [str(axes), str(order), dtype]
    done = subprocess.run(
        [sys.executable, "-I", "-c", CODE, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
