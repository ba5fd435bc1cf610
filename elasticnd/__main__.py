"""The command line: ``elasticnd demo`` or ``python -m elasticnd demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import __version__, _demo


class _UsageError(Exception):
    """The command line is wrong."""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves it to `main` to report errors, in one line."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{message} (see {self.prog} --help)")


def _list_of(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    """Make a type of option values: a number, or several with commas between them."""

    def numbers(text: str) -> list[float]:
        try:
            return [kind(part) for part in text.split(",")]
        except ValueError:
            wanted = "whole numbers" if kind is int else "numbers"
            message = f"got {text!r}, expected one or two {wanted} with a comma between them"
            raise argparse.ArgumentTypeError(message) from None

    return numbers


def _parser() -> _Parser:
    parser = _Parser(prog="elasticnd", description="Elastic, grid-based deformation of n-dimensional images.")
    parser.add_argument("--version", action="version", version=f"elasticnd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="deform a picture and draw what happened",
        description="Deform a picture with a grid of random displacements, and draw one figure: the "
        "original, the result, the control grid and its bent lines, and where the map folds.",
    )
    demo.add_argument(
        "image",
        nargs="?",
        metavar="IMAGE",
        help="a picture, grey or in colour (default: a photograph of a cat)",
    )
    demo.add_argument(
        "--sigma",
        type=_list_of(float),
        help="standard deviation of the displacements, in pixels; SIGMA,SIGMA for rows and columns apart "
        f"(default: {_demo.RELATIVE_SIGMA * 100:g} %% of the shorter side)",
    )
    demo.add_argument(
        "--points",
        type=_list_of(int),
        default=[4],
        help="control points along each side; POINTS,POINTS for rows and columns apart (default: 4)",
    )
    demo.add_argument("--order", type=int, default=3, help="order of the spline, 0 to 5 (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=35, help="seed of the displacements (default: %(default)s)")
    demo.add_argument("--rotate", type=float, help="rotate by so many degrees as well")
    demo.add_argument("--zoom", type=float, help="magnify by this factor as well")
    demo.add_argument(
        "--out",
        default="elasticnd_demo.png",
        help="the figure to write: png, pdf, svg, ... (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    try:
        options = _parser().parse_args(argv)
        _demo.run(
            _demo.Options(
                image=options.image,
                sigma=options.sigma,
                points=options.points,
                order=options.order,
                seed=options.seed,
                rotate=options.rotate,
                zoom=options.zoom,
                out=options.out,
            )
        )
    except (_UsageError, _demo.DemoError) as error:
        print(f"elasticnd: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
