"""The command line: ``elasticnd`` or ``python -m elasticnd``, with the commands ``deform``, ``points`` and ``demo``."""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from .. import __version__
from .._errors import CommandError, one_line, shortened
from .._folds import POLICIES
from .._limits import LABELS
from .._modes import MODES
from .._types import Order
from . import deform, deformations, demo, files, output, points, signals, tables
from .rotation import rotation_of
from .typed import Typed

_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors `main` reports, in one line."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help and version; argparse itself would hide a failure to do so."""
        output.say(message, end="")


def _list_of(kind: Callable[[str], float]) -> Callable[[str], Typed[float]]:
    """Return a type of option values: a number, or several separated by commas."""

    def numbers(text: str) -> Typed[float]:
        try:
            return Typed(map(kind, text.split(",")), text)
        except ValueError:
            wanted = "whole numbers" if kind is int else "numbers"
            message = f"got {shortened(text)!r}, expected {wanted} separated by commas"
            raise argparse.ArgumentTypeError(message) from None

    return numbers


def _orders(text: str) -> Typed[Order]:
    """Read one or several orders: whole numbers, or the word for labels."""
    try:
        return Typed([LABELS if part == LABELS else int(part) for part in text.split(",")], text)
    except ValueError:
        message = f"got {shortened(text)!r}, expected whole numbers or {LABELS} separated by commas"
        raise argparse.ArgumentTypeError(message) from None


def number(text: str) -> float:
    """Read a number; whole numbers exactly, since floats cannot hold all of those beyond 2**53."""
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if math.isinf(value) and "inf" not in text.lower():
            raise ValueError from None
        return value


def _seed(text: str) -> int:
    seed = int(text) if text.isascii() and text.isdigit() else -1
    if seed < 0:
        raise argparse.ArgumentTypeError(f"got {shortened(text)!r}, expected a non-negative whole number")
    return seed


def _add_deform(commands: _Commands) -> None:
    parser = commands.add_parser(
        "deform",
        help="deform files",
        description="Deform an image, or several in the same way, with a grid of random displacements. "
        f"Accepted files are {', '.join(files.FORMATS)}.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="IN OUT",
        help="input and output file; an existing output is overwritten. Several pairs, such as an image and its "
        "labels, are deformed in the same way",
    )
    parser.add_argument(
        "--sigma",
        type=_list_of(float),
        help="standard deviation of the displacements, in voxels; one for all axes, or SIGMA,SIGMA,... (required "
        "unless --deformation is given)",
    )
    parser.add_argument(
        "--points",
        type=_list_of(int),
        help="number of control points along each axis; one number, or POINTS,POINTS,... (default: 4)",
    )
    parser.add_argument(
        "--seed", type=_seed, help="seed of the displacements (default: a fresh seed, which is printed)"
    )
    parser.add_argument(
        "--order",
        type=_orders,
        default=[3],
        help="order of the spline, 0 to 5, or labels for label images, which are resampled by votes; "
        "one for all pairs of files, or ORDER,ORDER,... (default: 3)",
    )
    parser.add_argument(
        "--mode",
        type=lambda text: Typed(text.split(","), text),
        default=["constant"],
        help=f"how the image is extended beyond its border: {', '.join(MODES)}; one for all pairs of files, or "
        "MODE,MODE,... (default: constant)",
    )
    parser.add_argument(
        "--cval",
        type=_list_of(number),
        default=[0],
        help="value beyond the border in the modes with a constant; one for all pairs of files, or CVAL,CVAL,... "
        "(default: 0)",
    )
    parser.add_argument(
        "--axis",
        type=_list_of(int),
        metavar="AXIS,AXIS",
        help="axes to deform; negative ones count from the end (default: the first three axes of NIfTI files, "
        "otherwise all except colours, channels and time)",
    )
    parser.add_argument(
        "--rotate",
        type=rotation_of,
        action="append",
        metavar="[AXIS,AXIS:]DEGREES",
        help="also rotate. For two deformed axes, give an angle; for more, a plane and its angle, such as 1,2:10, "
        "where deformed axes are numbered from 0. Repeat the option to rotate in several planes, in this order",
    )
    parser.add_argument("--zoom", type=_list_of(float), help="also magnify; one factor, or ZOOM,ZOOM,...")
    parser.add_argument(
        "--fold",
        choices=POLICIES,
        help="what to do if the mapping folds: ignore it, warn, raise an error, or scale the displacements down until "
        "nothing folds (default: ignore)",
    )
    parser.add_argument(
        "--deformation",
        metavar="FILE",
        help=f"apply the deformation in this file instead of a random one: {', '.join(deformations.FORMATS)}",
    )
    parser.add_argument(
        "--save-deformation",
        metavar="FILE",
        help="also save the deformation, for later use (.npz) or, for NIfTI volumes, as an ITK transform (.tfm, .h5) "
        "or a displacement field (.nii, .nii.gz)",
    )
    parser.add_argument(
        "--chunks",
        type=_list_of(int),
        help="between Zarr arrays: how many voxels along each axis to compute at a time; one number, or "
        "CHUNKS,CHUNKS,... (default: blocks of about four million voxels)",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show progress if standard error is a terminal (default: yes)",
    )


def _add_points(commands: _Commands) -> None:
    parser = commands.add_parser(
        "points",
        help="move points with the content of a deformed image",
        description="Move points, such as landmarks, from their positions in an image to those in the deformed image. "
        "Columns that are not coordinates are kept.",
    )
    parser.add_argument(
        "deformation",
        metavar="DEFORMATION",
        help=f"deformation saved by elasticnd deform, or another file of type {', '.join(deformations.FORMATS)}",
    )
    parser.add_argument(
        "source",
        metavar="IN",
        help="table of points (.csv) or list of Slicer markups (.fcsv). Columns named x, y, z or axis-0, axis-1, "
        "... are the coordinates; without such names, the first columns are used",
    )
    parser.add_argument(
        "target", metavar="OUT", help="the same table with the moved points; an existing file is overwritten"
    )
    parser.add_argument(
        "--coordinates",
        choices=tables.SYSTEMS,
        help="what the coordinates are: voxels, or mm in RAS or LPS (default: voxels, or what an .fcsv file says)",
    )
    parser.add_argument(
        "--frame",
        metavar="VOLUME",
        help="the NIfTI volume that was deformed; required for an ITK transform",
    )


def _add_demo(commands: _Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="deform a picture and draw what happens",
        description="Deform a picture with a grid of random displacements, and draw a figure of the original, the "
        "result, the control grid, its bent lines, and where the mapping folds.",
    )
    parser.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help="picture, grey or in colour (default: a photograph of a cat)",
    )
    parser.add_argument(
        "--sigma",
        type=_list_of(float),
        help="standard deviation of the displacements, in pixels; SIGMA,SIGMA for rows and columns "
        f"(default: {demo.RELATIVE_SIGMA * 100:g} %% of the shorter side)",
    )
    parser.add_argument(
        "--points",
        type=_list_of(int),
        default=[4],
        help="number of control points along each side; POINTS,POINTS for rows and columns (default: 4)",
    )
    parser.add_argument("--order", type=int, default=3, help="order of the spline, 0 to 5 (default: %(default)s)")
    parser.add_argument("--seed", type=_seed, default=35, help="seed of the displacements (default: %(default)s)")
    parser.add_argument("--rotate", type=number, help="also rotate by this many degrees")
    parser.add_argument("--zoom", type=number, help="also magnify by this factor")
    parser.add_argument(
        "--out",
        default="elasticnd_demo.png",
        help="figure to write: png, pdf, svg, ... (default: %(default)s)",
    )


def _parser() -> _Parser:
    parser = _Parser(prog="elasticnd", description="Elastic, grid-based deformation of n-dimensional images.")
    parser.add_argument("--version", action="version", version=f"elasticnd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_deform(commands)
    _add_points(commands)
    _add_demo(commands)
    return parser


def _with_negative_values(argv: Sequence[str]) -> list[str]:
    """Join options with values such as ``-2,-1``, which argparse would mistake for options."""
    joined: list[str] = []
    for argument in argv:
        if re.match(r"-[.\d]", argument) and joined and re.fullmatch(r"--\w+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if argv is None:  # in a process of its own, where libraries may warn until the very end
        warnings.simplefilter("ignore")
    try:
        with signals.raised(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from libraries: what matters ends in an error
            _run(sys.argv[1:] if argv is None else argv)
    except CommandError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("there is not enough memory")
    except KeyboardInterrupt:
        return _failed("interrupted", 128 + signal.SIGINT)
    except signals.Terminated as error:
        return _failed("terminated", 128 + error.number)
    except Exception as error:
        if sys.flags.dev_mode:
            raise
        return _failed(f"{type(error).__name__}: {one_line(error)}")
    return 0


_COMMANDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "deform": lambda options: deform.run(deform.Options(**options)),
    "points": lambda options: points.run(points.Options(**options)),
    "demo": lambda options: demo.run(demo.Options(**options)),
}


def _run(argv: Sequence[str]) -> None:
    try:
        options = vars(_parser().parse_args(_with_negative_values(argv)))
        _COMMANDS[options.pop("command")](options)
    finally:
        output.flush()


def _failed(message: str, code: int = 2) -> int:
    """Print the reason in one line."""
    prefix = "elasticnd: error: " if code == 2 else "elasticnd: "
    output.report(f"{prefix}{message}")
    return code
