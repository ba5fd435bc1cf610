"""The demo: deform a picture and draw a figure that explains what happened.

Its libraries (matplotlib, imageio, scikit-image) come with an extra and are imported only when needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ... import _api
from ..._errors import CommandError, one_line
from ..output import say
from ..typed import reworded
from .figure import draw
from .picture import (
    RELATIVE_SIGMA,
    Deformed,
    Floats,
    Options,
    at_most,
    by,
    deform,
    load_picture,
    need,
)

__all__ = ["RELATIVE_SIGMA", "Options", "run"]


def run(options: Options) -> None:
    """Deform, draw, and print a report."""
    figures = need("matplotlib.figure")
    name, picture = load_picture(options.image)
    try:
        done = deform(name, picture, options)
    except (TypeError, ValueError) as error:
        raise CommandError(reworded(error, options)) from None
    except MemoryError:
        raise CommandError("there is not enough memory") from None
    determinant = done.determinant()
    figure = draw(figures, done, determinant)
    if Path(options.out).is_dir():
        raise CommandError(f"--out: {options.out} is a folder, expected the name of a file")
    try:
        figure.savefig(options.out, dpi=100, facecolor="white")
    except (OSError, ValueError) as error:
        raise CommandError(f"--out: cannot write {options.out}: {one_line(error)}") from None
    report(options, done, determinant)


def report(options: Options, done: Deformed, determinant: Floats) -> None:
    """Print a report."""
    field = _api.dense_displacement(done.deformation.displacement, at_most(done.shape))
    zoom = 1 if options.zoom is None else options.zoom
    facts = {
        "image": f"{done.name}, shape {done.picture.shape}, {done.picture.dtype}",
        "control grid": f"{by(done.points)} points, sigma {by(done.sigma)} pixels, seed {options.seed}",
        "spline order": f"{options.order}",
        "rotate, zoom": f"{options.rotate or 0:g} degrees, factor {zoom:g}",
        "displacement": f"up to {np.hypot(field[0], field[1]).max():.1f} pixels",
        "Jacobian": f"determinant at least {determinant.min():.3f}, median {np.median(determinant):.3f}",
        "folded": f"{np.mean(determinant <= 0):.2%} of the pixels",
        "time": f"{done.seconds * 1e3:.1f} ms for the deformation",
        "figure": options.out,
    }
    for key, value in facts.items():
        say(f"{key + ':':<14}{value}")
