"""The machine code of CUDA kernels, inspected without a device. No kernel for one, two or three axes uses local memory.

The most used kernels need no more registers and instructions than machine_code.json allows. These counts depend on the
compiler. After an intended change, ``python tests/test_machine_code.py`` updates the file.
"""

import json
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import nvrtc
import pytest
from kernel_instances import instances

from elasticnd import _core, _dtypes
from elasticnd._engines.cuda.compile import FUNCTIONS, file_of

KEPT = Path(__file__).parent / "machine_code.json"
ARCHITECTURE = "sm_90"
TOLERANCE = 0.05
# The largest number of instructions in a kernel itself, without the function for positions at the border.
LIMITS = {"sample<11, 11, float, 3, 3, false>": 900, "sample<11, 11, float, 1, 3, false>": 500}
MOST_USED = (
    *LIMITS,
    "sample<11, 11, float, 3, 2, false>",
    "sample<11, 11, float, 1, 2, false>",
    "sample<2, 2, float, 1, 2, false>",
    "copy<unsigned char, 3>",
    "displace<3>",
    "splat_image<11, float, 3, 3, false, false>",
    "splat_transform<11, 11, float, 3, 3, false>",
    "filter<11, float, 3, false, false>",
    "filter<11, float, 3, false, true>",
    "filter<11, float, 3, true, false>",
)
# More kernels: those that need the most registers.
LARGEST = (
    "sample<11, 11, float, 3, 1, false>",
    "sample<12, 12, double, 5, 2, false>",
    "sample<12, 12, double, 5, 3, true>",
    "splat_image<12, double, 5, 3, true, true>",
    "splat_transform<12, 12, double, 3, 3, false>",
    "splat_transform<12, 12, double, 5, 2, true>",
    "splat_transform<12, 12, double, 5, 3, true>",
    "filter<12, double, 5, false, true>",
    "filter<12, double, 5, true, false>",
    "elect<2, 3>",
    "elect<7, 3>",
    "elect<12, 3>",
    "displace_adjoint<2>",
    "displace_adjoint<3>",
    "evaluate<3>",
    "evaluate_adjoint<3>",
    "invert<3>",
    "grid_coefficients<3>",
    "contract_adjoint",
    "add_sections",
    "sum_moments",
)


def cuobjdump(*arguments):
    program = nvrtc.find("cu13/bin/cuobjdump")
    if program is None:
        pytest.skip("cuobjdump is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout


@lru_cache
def machine_code(kernel):
    """Return a kernel's bytes of stack, its registers, its instructions without and with the functions that it calls,
    and the number of instructions that access local memory."""
    names = FUNCTIONS.get(file_of(kernel), (kernel,))
    code, lowered = nvrtc.compiled(ARCHITECTURE, list(names))
    name = lowered[names.index(kernel)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(code)
        usage = cuobjdump("-res-usage", file)
        text = cuobjdump("-sass", "-fun", name, file)
        symbols = cuobjdump("-elf", file)
    registers, stack, local = re.search(rf"{re.escape(name)}:\s+REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage).groups()
    code = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z0-9_]+)", text, re.MULTILINE)
    operations = [operation for operation in code if operation != "NOP"]
    return {
        "stack": int(stack) + int(local),
        "registers": int(registers),
        "own": len(operations) - sum(_functions(symbols, name)),
        "instructions": len(operations),
        "local": sum(operation in {"LDL", "STL"} for operation in operations),
    }


def _functions(symbols, kernel):
    """Return the numbers of instructions, of 16 bytes each, in the functions that a kernel calls."""
    found = re.findall(r"0x([0-9a-f]+)\s+FUNC\s+(\w+)\s+(.*?)(0x[0-9a-f]+)\s+(\S+)$", symbols, re.MULTILINE)
    section = next(section for _, _, _, section, name in found if name == kernel)
    return [int(size, 16) // 16 for size, scope, _, own, _ in found if scope == "LOCAL" and own == section]


@pytest.mark.parametrize("kernel", [*MOST_USED, *LARGEST])
def test_nothing_lies_in_local_memory(kernel):
    measured = machine_code(kernel)
    assert measured["stack"] == 0
    assert measured["local"] == 0


@pytest.mark.parametrize("kernel", MOST_USED)
def test_kernels_take_no_more_than_they_did(kernel):
    kept = json.loads(KEPT.read_text())
    if kept["compiler"] != nvrtc.release():
        pytest.skip(f"the counts are those of NVRTC {kept['compiler']}, not {nvrtc.release()}")
    measured = machine_code(kernel)
    assert set(kept["kernels"]) == set(MOST_USED)
    for what, before in kept["kernels"][kernel].items():
        now = measured[what]
        assert now <= (1 + TOLERANCE) * before, f"{what}: {now}, {now / before - 1:+.1%}"
        assert now >= (1 - TOLERANCE) * before, f"{what}: {now}; run this file to store it"


@pytest.mark.parametrize(("kernel", "most"), LIMITS.items())
def test_sampling_is_short(kernel, most):
    assert machine_code(kernel)["own"] <= most


# At order 3 in float32, a thread loads a margin on both sides of the samples it filters.
SAMPLES = 64
ROWS = SAMPLES + 2 * _core.block_margin(3, _dtypes.CODES["float32"])
EXECUTED = {
    "filter<11, float, 3, false, false>": 45,
    "filter<11, float, 3, false, true>": 60,
    "filter<11, float, 3, true, false>": 55,
}


def executed(kernel):
    """Return a bound on the instructions that a thread executes for each sample, from the loops in the machine code.

    A round of a loop that loads or stores samples handles eight of them. If several loops load from global memory, or
    store there, only one of these is executed. A round of any other loop handles one row, and each thread every 32nd.
    """
    code, (name,) = nvrtc.compiled(ARCHITECTURE, [kernel])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(code)
        text = cuobjdump("-sass", "-fun", name, file)
    lines = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", text, re.MULTILINE)
    code = {int(address, 16): line for address, line in lines}
    back = ((re.search(r"\bBRA\b.*0x([0-9a-f]+)", line), end) for end, line in code.items())
    loops = [(int(found[1], 16), end) for found, end in back if found and int(found[1], 16) < end]
    outside = {address for address in code if not any(start <= address <= end for start, end in loops)}
    alternatives, total = {}, float(len(outside))
    for start, end in loops:
        within = [loop for loop in loops if loop != (start, end) and start <= loop[0] and loop[1] <= end]
        own = [code[at] for at in code if start <= at <= end and not any(a <= at <= b for a, b in within)]
        touched = {kind for kind in ("LDG", "STG", "LDS", "STS") if sum(kind in line for line in own) >= 7}
        if within or not touched:
            total += len(own) * -(-ROWS // 32)
        elif touched & {"LDG", "STG"}:
            kind = min(touched & {"LDG", "STG"})
            rounds = SAMPLES / 8 if kind == "STG" else ROWS / 8
            alternatives[kind] = max(alternatives.get(kind, 0), len(own) * rounds)
        else:
            total += len(own) * ROWS / 8
    assert {"LDG", "STG"} == alternatives.keys()
    return (total + sum(alternatives.values())) / SAMPLES


@pytest.mark.parametrize(("kernel", "most"), EXECUTED.items())
def test_filters_execute_few_instructions(kernel, most):
    assert executed(kernel) <= most


def test_local_memory_is_seen():
    """The measurement detects local memory: kernels for many axes have a stack."""
    measured = machine_code("sample<11, 11, float, 3, 0, false>")
    assert measured["stack"] > 0
    assert measured["local"] > 0


def test_kernels_are_instances():
    assert {*MOST_USED, *LARGEST} <= set(instances())


def write() -> None:
    """Measure all kernels, and update the file."""
    counted = {kernel: machine_code(kernel) for kernel in MOST_USED}
    what = ("registers", "own", "instructions")
    kept = {kernel: {name: code[name] for name in what} for kernel, code in counted.items()}
    KEPT.write_text(json.dumps({"compiler": nvrtc.release(), "kernels": kept}, indent=2) + "\n")


if __name__ == "__main__":
    write()
