"""NVRTC from NVIDIA's Python packages, which compiles CUDA kernels without a device."""

import ctypes
import importlib.util
from functools import lru_cache
from pathlib import Path

import pytest

from elasticnd._engines.cuda.compile import NAMESPACE, OPTIONS, file_of, source

# Architectures that NVRTC 13 supports, and older ones that only NVRTC 12 supports.
ARCHITECTURES = {13: (75, 80, 86, 89, 90, 100, 103, 110, 120), 12: (70, 72)}
LIBRARIES = {13: "cu13/lib/libnvrtc.so.13", 12: "cuda_nvrtc/lib/libnvrtc.so.12"}
COMPILER_OF = {architecture: version for version, known in ARCHITECTURES.items() for architecture in known}


def find(file):
    """Return the path of a file in NVIDIA's packages, or None if there is none."""
    package = importlib.util.find_spec("nvidia")
    paths = (Path(folder, file) for folder in (package.submodule_search_locations if package else ()))
    return next((path for path in paths if path.exists()), None)


@lru_cache(maxsize=2)
def compiler(version):
    path = find(LIBRARIES[version])
    if path is None:
        pytest.skip(f"NVRTC {version} is not installed")
    for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(path))


def release():
    """Return the major and minor version of the newer compiler."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    compiler(max(LIBRARIES)).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def _text_of(library, program, what):
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw


def compiled(architecture, names, *, text=None):
    """Compile kernels of one file to PTX (for ``compute_75``, say) or machine code (for ``sm_75``).

    Return the code, and the names of the kernels in it.
    """
    library = compiler(COMPILER_OF[int(architecture.partition("_")[2])])
    program = ctypes.c_void_p()
    text = (text or source(file_of(names[0]))).encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None) == 0
    expressions = [f"{NAMESPACE}::{name}".encode() for name in names]
    for expression in expressions:
        assert library.nvrtcAddNameExpression(program, expression) == 0
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={architecture}")]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    assert status == 0, _text_of(library, program, "ProgramLog").decode()
    code = _text_of(library, program, "PTX" if architecture.startswith("compute") else "CUBIN")
    lowered = []
    for expression in expressions:
        name = ctypes.c_char_p()
        assert library.nvrtcGetLoweredName(program, expression, ctypes.byref(name)) == 0
        assert name.value in code
        lowered.append(name.value.decode())
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code, lowered


def by_file(names):
    """Group kernels by the source file with which they are compiled."""
    files = {}
    for name in names:
        files.setdefault(file_of(name), []).append(name)
    return list(files.values())
