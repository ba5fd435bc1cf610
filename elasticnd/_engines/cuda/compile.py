"""The source text of the CUDA kernels, and how it is compiled.

The text of a kernel consists of its file and the headers that the file includes. The C++ core shares most of these
headers. All are joined to one string, since NVRTC comes without headers, and CuPy's disk cache does not see included
files. A kernel is compiled when it is first called, for the types and the order of the call.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from ... import _core

FOLDER = Path(_core.__file__).parent / "_kernels"
# The templates of each file, which are compiled one by one, and the other kernels, which are compiled together.
TEMPLATES = {
    "sample.cu": ("sample", "copy", "elect", "displace"),
    "splat.cu": ("splat_image", "add_from_fixed", "splat_transform", "displace_adjoint"),
    "prefilter.cu": ("filter",),
    "elements.cu": ("load", "pad", "pad_adjoint", "store"),
    "evaluate.cu": ("evaluate", "evaluate_adjoint"),
    "affine.cu": ("invert",),
    "coefficients.cu": ("grid_coefficients",),
}
FUNCTIONS = {
    "grid.cu": ("contract_adjoint", "add_sections", "sum_moments", "extend_grid", "fold_grid", "tabulate"),
}
_FILE_OF = {name: file for files in (TEMPLATES, FUNCTIONS) for file, names in files.items() for name in names}
NAMESPACE = "elasticnd::common"
OPTIONS = ("--std=c++17",)
_INCLUDE = re.compile(r'^#include "(?:.*/)?([^"/]+)"$', re.MULTILINE)


def file_of(kernel: str) -> str:
    """Return the name of the file that holds a kernel; the kernel's name may have template arguments."""
    return _FILE_OF[kernel.partition("<")[0]]


@lru_cache
def source(file: str) -> str:
    """Return the texts of all files that a file includes, each once and before its first use, then its own text."""
    texts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (FOLDER / name).read_text(encoding="utf-8")
        for included in _INCLUDE.findall(text):
            if included not in texts:
                add(included)
        texts[name] = _INCLUDE.sub("", text).replace("#pragma once\n", "")

    add(file)
    return "\n".join(texts.values())
