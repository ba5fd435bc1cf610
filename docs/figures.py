"""Draw the pictures of the pages: ``python docs/figures.py [NAME ...]``, or all.

The scripts in docs/gallery draw the pictures of the gallery, which shows their code.
"""

import contextlib
import os
import re
import runpy
import sys
from pathlib import Path
from unittest import mock

import matplotlib as mpl
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data

import elasticnd
from elasticnd._cli.demo import figure as demo_figure
from elasticnd._cli.demo import picture as demo_picture
from elasticnd._cli.main import _parser as command_line

HERE = Path(__file__).parent
IMAGES = HERE / "images"
STYLE = HERE / "pages.mplstyle"
INK = mpl.rc_params_from_file(STYLE, use_default_template=False)["text.color"]
LINE, SAMPLE, INSIDE = "C0", "C1", "C3"
MODES = ("constant", "grid-constant", "nearest", "reflect")
MODES += ("grid-mirror", "mirror", "wrap", "grid-wrap")
SOLID = 232  # colours of a palette; the others are for transparent pixels


# ---- pictures and files --------------------------------------------------------------


@contextlib.contextmanager
def drawing_in(folder):
    """Draw in the style of the pages, without a screen, writing files to the folder."""
    before = Path.cwd()
    os.chdir(folder)
    mpl.use("agg")
    try:
        with plt.style.context(STYLE):
            yield
    finally:
        plt.close("all")
        os.chdir(before)


def run(script, folder):
    """Run a script of the gallery, which writes a picture under its own name."""
    with drawing_in(folder):
        runpy.run_path(str(script))
    shrink(folder / f"{script.stem}.png")


def shrink(path):
    """Write a picture again with a palette of 256 colours, a quarter of the size."""
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    opaque = picture.convert("RGB")
    palette = opaque.quantize(SOLID, method=Image.Quantize.MAXCOVERAGE, kmeans=2)
    # Without dithering, whose noise takes a fifth of the file.
    indices = np.array(opaque.quantize(palette=palette, dither=Image.Dither.NONE))
    colours = np.full((256, 4), 255, np.uint8)
    colours[:SOLID, :3] = np.reshape(palette.getpalette(), (-1, 3))[:SOLID]
    pixels = np.asarray(picture)
    translucent = pixels[..., 3] < 255
    if translucent.any():
        some = Image.fromarray(pixels[translucent][np.newaxis])
        some = some.quantize(256 - SOLID, method=Image.Quantize.FASTOCTREE)
        found = np.reshape(some.getpalette("RGBA"), (-1, 4))
        indices[translucent] = np.asarray(some)[0] + np.uint8(SOLID)
        colours[SOLID : SOLID + len(found)] = found
    small = Image.fromarray(indices, "P")
    small.putpalette(colours[:, :3].tobytes())
    small.save(path, optimize=True, transparency=colours[:, 3].tobytes())


def save_svg(figure, name):
    """Write a figure as SVG, with coordinates to a hundredth of a point."""
    figure.savefig(name, metadata={"Date": None})
    path = Path(name)
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r' (d|x|y)="[^"]*"', rounded, text), encoding="utf-8")


def rounded(attribute):
    """Return the text of a match with its numbers rounded to two decimals."""
    return re.sub(
        r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", attribute[0]
    )


# ---- the mathematics -----------------------------------------------------------------


def spline_at(signal, positions, order, mode="mirror", prefilter=True):
    """Evaluate the spline through a signal at any positions.

    Each position is a batch item: the first voxel of a copy of the signal, displaced.
    """
    copies = np.broadcast_to(signal, (len(positions), len(signal)))
    values = elasticnd.deform_grid(
        copies,
        positions.reshape(-1, 1, 1),
        order=order,
        mode=mode,
        prefilter=prefilter,
        axis=1,
        crop=(slice(0, 1),),
    )
    return values[:, 0]


def border_modes_1d():
    """Continue a signal of six samples in each mode."""
    signal = np.array([0.9, 0.3, 0.5, 0.1, 0.45, 0.7])
    length = len(signal)
    positions = np.linspace(-8, length + 7, 421)
    samples = np.arange(-8.0, length + 8)
    beyond = samples[(samples < 0) | (samples >= length)]
    figure, axes = plt.subplots(4, 2, figsize=(10, 8.5), sharex=True, sharey=True)
    for ax, mode in zip(axes.T.flat, MODES, strict=True):
        ax.axvspan(0, length - 1, color=INSIDE, alpha=0.2, lw=0)
        ax.axhline(0, color=INK, alpha=0.3, lw=0.8)
        ends = spline_at(signal, beyond, 1, mode)
        lines = [
            *ax.plot(signal, "o", color=SAMPLE, ms=6),
            *ax.plot(beyond, ends, "o", mfc="none", mec=INK, ms=4),
            *ax.plot(positions, spline_at(signal, positions, 1, mode), ":", color=INK),
            *ax.plot(positions, spline_at(signal, positions, 3, mode), color=LINE),
        ]
        ax.set_title(mode, family="monospace", size=12)
        ax.set_ylim(-0.35, 1.2)
        ticks = {-length: "$-N$", 0: "0", length - 1: "$N-1$", 2 * length - 1: "$2N-1$"}
        ax.set_xticks(list(ticks), list(ticks.values()))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    words = ["sample", "value at a whole number", "linear (order 1)", "cubic (order 3)"]
    figure.legend(lines, words, loc="outside lower center", ncols=4, fontsize=11)
    save_svg(figure, "border_modes_1d.svg")


def basis_splines():
    """Draw the B-splines of order 0 to 5, as the responses to a single coefficient."""
    coefficients = np.zeros(9)
    coefficients[4] = 1
    positions = np.linspace(0.5, 7.5, 141)
    figure, axes = plt.subplots(1, 6, figsize=(10, 2.7), sharey=True)
    for order, ax in enumerate(axes):
        values = spline_at(coefficients, positions, order, prefilter=False)
        ax.fill_between(positions - 4, values, color=LINE, alpha=0.15, lw=0)
        ax.plot(positions - 4, values, color=LINE, lw=1.8)
        ax.set_title(f"order {order}")
        ax.set_xticks([-3, 0, 3])
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    save_svg(figure, "basis_splines.svg")


# ---- other pages ---------------------------------------------------------------------


def source_box():
    """Show a block of an output, where it comes from, and what is read for it."""
    image = data.camera()
    chunk = 128
    displacement = elasticnd.random_displacement(5, 18, ndim=2, rng=3)
    block = (slice(2 * chunk, 3 * chunk), slice(chunk, 2 * chunk))
    deformed = elasticnd.deform_grid(image, displacement, mode="mirror")
    field = elasticnd.dense_displacement(displacement, image.shape, crop=block)
    rows, columns = np.mgrid[block] + field
    sides = [np.s_[0], np.s_[:, -1], np.s_[-1, ::-1], np.s_[::-1, 0]]
    edge = np.concatenate([(columns[side], rows[side]) for side in sides], axis=1)

    figure, axes = plt.subplots(1, 2, figsize=(8.6, 5.4))
    for ax, picture, title in zip(
        axes, (deformed, image), ("output", "image"), strict=True
    ):
        ax.imshow(0.55 * picture + 115, vmin=0, vmax=255)
        for line in range(chunk, 512, chunk):
            ax.axhline(line - 0.5, color="black", lw=0.6)
            ax.axvline(line - 0.5, color="black", lw=0.6)
        ax.set_title(title)
        ax.set_axis_off()
    left, right = axes
    outline(left, block, color=SAMPLE, label="a block")
    right.plot(*edge, color=SAMPLE, lw=2, label="where its voxels come from")
    for order, style in ((1, ":"), (3, "-")):
        box = elasticnd.source_box(
            displacement, image.shape, block, order, mode="mirror", dtype="float32"
        )
        outline(right, box, color=LINE, ls=style, label=f"what order {order} reads")
    for ax in axes:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=9)
    figure.savefig("source_box.png")


def outline(ax, box, **style):
    """Draw a box."""
    rows, columns = box
    size = columns.stop - columns.start, rows.stop - rows.start
    corner = columns.start - 0.5, rows.start - 0.5
    ax.add_patch(plt.Rectangle(corner, *size, fill=False, lw=2, **style))


def demo():
    """Draw the demo's figure, in the ink of the pages instead of that for paper."""
    done = demo_picture.deform(
        *demo_picture.load_picture(None), command_line().parse_args(["demo"])
    )
    by_hand = mpl.rc_context({"figure.constrained_layout.use": False})
    with by_hand, mock.patch.multiple(demo_figure, INK=INK, SOFT_INK=INK):
        figure = demo_figure.draw(matplotlib.figure, done, done.determinant())
        # In a palette, the photographs would take twice the space.
        figure.savefig("demo.webp", dpi=75, pil_kwargs={"quality": 80, "method": 6})


def registration():
    """Draw slices of the registered volumes, which takes half a minute."""
    script = runpy.run_path(str(HERE / "examples" / "register.py"))
    script["main"]("torch", figure="registration.png")
    Path("deformation.tfm").unlink()


PICTURES = {
    "basis_splines": basis_splines,
    "border_modes_1d": border_modes_1d,
    "demo": demo,
    "registration": registration,
    "source_box": source_box,
}
GALLERY = {path.stem: path for path in sorted((HERE / "gallery").glob("*.py"))}


def main(names):
    for name in names or [*PICTURES, *GALLERY]:
        if name in GALLERY:
            run(GALLERY[name], IMAGES)
            continue
        with drawing_in(IMAGES):
            PICTURES[name]()
        path = IMAGES / f"{name}.png"
        if path.exists():
            shrink(path)


if __name__ == "__main__":
    main(sys.argv[1:])
