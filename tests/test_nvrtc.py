"""NVRTC compiles every kernel without a device: each instance to PTX for one of the architectures, and the most used
ones to machine code for every architecture. ``pip install ".[nvrtc]"`` installs the compilers. All instances take
minutes, so by default every third group of them is compiled, and all of them with ``--exhaustive``."""

import itertools

import first_light
import pytest
from kernel_instances import FUNCTIONS, instances
from nvrtc import COMPILER_OF, by_file, compiled

from elasticnd._engines.cuda.compile import file_of, source

MOST_USED = (
    "sample<11, 11, float, 3, 3, false>",
    "sample<12, 12, double, 5, 2, false>",
    "sample<2, 2, float, 1, 2, false>",
    "sample<12, 12, double, 3, 0, true>",
    "copy<unsigned char, 3>",
    "elect<2, 3>",
    "elect<12, 0>",
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
SHARE = (
    3  # By default, every third chunk. Since 3 does not divide the number of architectures, all architectures occur.
)


def chunks():
    architectures = itertools.cycle(sorted(COMPILER_OF))
    groups = (names[first : first + CHUNK] for names in by_file(instances()) for first in range(0, len(names), CHUNK))
    for number, names in enumerate(groups):
        by_default = number % SHARE == 0
        yield pytest.param(f"compute_{next(architectures)}", names, by_default, id=f"{file_of(names[0])}-{number}")


@pytest.mark.parametrize(("architecture", "names", "by_default"), list(chunks()))
def test_every_instance(architecture, names, by_default, request):
    if not by_default:
        request.getfixturevalue("exhaustive")
    compiled(architecture, names)


@pytest.mark.parametrize("architecture", sorted(COMPILER_OF))
def test_every_architecture(architecture):
    for names in by_file(MOST_USED):
        compiled(f"sm_{architecture}", names)


def test_most_used_are_instances():
    assert set(MOST_USED) <= set(instances())


def test_the_layout_of_a_job():
    """NVRTC compiles the kernel with which the first run on a device compares the layout."""
    compiled("compute_80", ["tabulate"], text=source("grid.cu") + first_light.LAYOUT)


def test_a_wrong_kernel_is_seen():
    with pytest.raises(AssertionError, match="error"):
        compiled("compute_80", ["sample<11, 11, float, 3, 3, maybe>"])
    with pytest.raises(AssertionError, match="not_a_word"):
        compiled("compute_80", ["tabulate"], text=source("grid.cu") + "\nnot_a_word;")
