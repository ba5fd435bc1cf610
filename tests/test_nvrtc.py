"""NVRTC compiles every kernel, without a device: all instances to PTX, each for one of the architectures, and the most
used ones to machine code for every architecture. ``pip install ".[nvrtc]"`` brings the compilers."""

import ctypes
import importlib.util
import itertools
from functools import lru_cache
from pathlib import Path

import pytest
from kernel_instances import FUNCTIONS, instances

from elasticnd._engines import kernels

# What NVRTC 13 knows, and what it has dropped but NVRTC 12 knows.
ARCHITECTURES = {13: (75, 80, 86, 89, 90, 100, 103, 110, 120), 12: (70, 72)}
LIBRARIES = {13: "cu13/lib/libnvrtc.so.13", 12: "cuda_nvrtc/lib/libnvrtc.so.12"}
COMPILER_OF = {architecture: version for version, known in ARCHITECTURES.items() for architecture in known}
MOST_USED = (
    "sample<11, 11, float, 3, 3, false>",
    "sample<12, 12, double, 5, 2, false>",
    "sample<2, 2, float, 1, 2, false>",
    "sample<12, 12, double, 3, 0, true>",
    "copy<unsigned char, 3>",
    "splat_image<11, float, 3, 3, false, false>",
    "splat_image<12, double, 3, 2, true, true>",
    "splat_transform<11, 11, float, 3, 3, false>",
    "displace_adjoint<0>",
    "evaluate<3>",
    "evaluate_adjoint<3>",
    "filter<9, float, 3, false, true>",
    "filter<11, float, 3, false, false>",
    "filter<12, double, 5, true, true>",
    *FUNCTIONS,
)
CHUNK = 24


@lru_cache(maxsize=2)
def compiler(version):
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations if package else ():
        path = Path(folder, LIBRARIES[version])
        if path.exists():
            for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(path))
    pytest.skip(f"NVRTC {version} is not installed")


def text_of(library, program, what):
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, buffer)
    return buffer.raw


def compiled(architecture, names, *, source=None):
    """Compile kernels of one file to PTX (for ``compute_75``, say) or machine code (for ``sm_75``)."""
    library = compiler(COMPILER_OF[int(architecture.partition("_")[2])])
    program = ctypes.c_void_p()
    text = (source or kernels.source(kernels.file_of(names[0]))).encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None) == 0
    expressions = [f"{kernels.NAMESPACE}::{name}".encode() for name in names]
    for expression in expressions:
        assert library.nvrtcAddNameExpression(program, expression) == 0
    options = [option.encode() for option in (*kernels.OPTIONS, f"--gpu-architecture={architecture}")]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    assert status == 0, text_of(library, program, "ProgramLog").decode()
    code = text_of(library, program, "PTX" if architecture.startswith("compute") else "CUBIN")
    for expression in expressions:
        lowered = ctypes.c_char_p()
        assert library.nvrtcGetLoweredName(program, expression, ctypes.byref(lowered)) == 0
        assert lowered.value in code
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code


def by_file(names):
    """Return kernels in lists that are compiled together."""
    files = {}
    for name in names:
        files.setdefault(kernels.file_of(name), []).append(name)
    return list(files.values())


def chunks():
    architectures = itertools.cycle(sorted(COMPILER_OF))
    for names in by_file(instances()):
        for first in range(0, len(names), CHUNK):
            chunk = names[first : first + CHUNK]
            yield pytest.param(f"compute_{next(architectures)}", chunk, id=f"{kernels.file_of(chunk[0])}-{first}")


@pytest.mark.parametrize(("architecture", "names"), list(chunks()))
def test_every_instance(architecture, names):
    compiled(architecture, names)


@pytest.mark.parametrize("architecture", sorted(COMPILER_OF))
def test_every_architecture(architecture):
    for names in by_file(MOST_USED):
        compiled(f"sm_{architecture}", names)


def test_most_used_are_instances():
    assert set(MOST_USED) <= set(instances())


def test_a_wrong_kernel_is_seen():
    with pytest.raises(AssertionError, match="error"):
        compiled("compute_80", ["sample<11, 11, float, 3, 3, maybe>"])
    with pytest.raises(AssertionError, match="not_a_word"):
        compiled("compute_80", ["tabulate"], source=kernels.source("grid.cu") + "\nnot_a_word;")
