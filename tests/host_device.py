"""The CUDA kernels on the host. The host's compiler compiles each kernel when it is first called. The kernel then runs
on NumPy arrays, one thread block after the other. This tests the results of kernels, but not their parallelism."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from elasticnd._autodiff import compute
from elasticnd._engines import cuda
from elasticnd._engines.cuda import call, control_grid, devices, plans
from elasticnd._engines.cuda.compile import NAMESPACE, file_of

ROOT = Path(__file__).parent.parent
FILES = [*(ROOT / "cpp" / "include" / "elasticnd").glob("*.hpp"), *(ROOT / "cpp" / "cuda").iterdir()]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "elasticnd-kernels"
SHIM = ROOT / "tests" / "cuda_host" / "shim.hpp"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or ""
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g1")
PROGRAM = """#include "{shim}"
#include "{file}"
extern "C" void run(const unsigned* grid, unsigned threads, unsigned long shared, void** arguments, int backward) {{
    shim::backward = backward;
    shim::launch(&{kernel}, Index3{{grid[0], grid[1], grid[2]}}, threads, shared, arguments);
}}
"""


class HostDevice:
    """A stand-in for CuPy's device."""

    xp = np
    keeps_tables = True

    def __init__(self, flags=(), *, backward=False):
        self.backward = backward
        self.flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-w", *flags]
        self._kernels = {}
        text = "".join(path.read_text() for path in [*sorted(FILES), SHIM])
        version = hashlib.sha256((text + " ".join(self.flags) + COMPILER).encode()).hexdigest()[:16]
        self.folder = CACHE / version
        self.folder.mkdir(parents=True, exist_ok=True)

    def stream(self):
        return devices.Stream(0, 0, 0)

    def holding(self, array):
        return contextlib.nullcontext()

    def address(self, array):
        assert array.flags.c_contiguous
        return np.uint64(array.ctypes.data)

    def launch(self, kernel, grid, threads, arguments, shared=0):
        function = self._kernels.get(kernel)
        if function is None:
            function = self._kernels[kernel] = ctypes.CDLL(str(self._compiled(kernel))).run
        values = [np.asarray(argument) for argument in arguments]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        blocks = (ctypes.c_uint * 3)(*grid, *(1,) * (3 - len(grid)))
        function(blocks, ctypes.c_uint(threads), ctypes.c_ulong(shared), addresses, self.backward)

    def clear(self, address, size):
        ctypes.memset(int(address), 0, size)

    def _compiled(self, kernel):
        """Compile a kernel, unless another process already has."""
        library = self.folder / (hashlib.sha256(kernel.encode()).hexdigest()[:16] + ".so")
        if not library.exists():
            own = library.with_suffix(f".{os.getpid()}.so")
            file = ROOT / "cpp" / "cuda" / file_of(kernel)
            program = PROGRAM.format(shim=SHIM, file=file, kernel=f"{NAMESPACE}::{kernel}")
            command = [COMPILER, *self.flags, "-x", "c++", "-", "-o", own]
            subprocess.run(command, input=program, text=True, check=True)
            own.replace(library)
        return library


@contextlib.contextmanager
def installed(device=None, *, sanitize=False):
    """Let the CUDA kernels compute NumPy arrays on the host, in place of the core."""
    device = device or HostDevice(SANITIZE if sanitize else ())
    before = compute.engine_of, devices.CupyDevice
    compute.engine_of, devices.CupyDevice = lambda array: cuda, lambda: device
    _forget()
    try:
        yield device
    finally:
        compute.engine_of, devices.CupyDevice = before
        _forget()


def _forget():
    """Clear everything that the engine caches about a device."""
    for function in (devices._cupy_device, plans.plan_of, control_grid.kept_tables, call.kept_map):
        function.cache_clear()
