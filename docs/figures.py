"""Draw the pictures of the documentation: ``python docs/figures.py``."""

import io
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from skimage import data

import elasticnd
from elasticnd.__main__ import main as command

IMAGES = Path(__file__).parent / "images"
MODES = (
    "constant",
    "grid-constant",
    "nearest",
    "reflect",
    "grid-mirror",
    "mirror",
    "wrap",
    "grid-wrap",
)
INK = "#22252b"
SOFT_INK = "#5d626c"
INSIDE = "#fff3d6"
LINE = "#00695c"
SAMPLE = "#e5004f"


def spline_at(signal, positions, order, mode, cval=0.0):
    """Evaluate the spline through a signal at any positions.

    Each position is a batch item: the first voxel of a copy of the signal, displaced.
    """
    copies = np.broadcast_to(signal, (len(positions), len(signal)))
    displacement = positions.reshape(-1, 1, 1)
    values = elasticnd.deform_grid(
        copies,
        displacement,
        order=order,
        mode=mode,
        cval=cval,
        axis=1,
        crop=(slice(0, 1),),
    )
    return values[:, 0]


def bare(ax):
    """Take ticks and frame from a panel."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def save_png(figure, name, dpi):
    """Write a picture with a palette of 256 colours, which is a third of the size."""
    memory = io.BytesIO()
    figure.savefig(memory, dpi=dpi, facecolor="white")
    shrink(memory, IMAGES / name)


def shrink(source, target):
    """Write a picture with a palette of 256 colours."""
    picture = Image.open(source).convert("RGB")
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
        target, optimize=True
    )


def border_modes_of_a_signal():
    """Continue a signal of six samples in each mode."""
    signal = np.array([0.9, 0.3, 0.5, 0.1, 0.45, 0.7])
    length = len(signal)
    positions = np.linspace(-8, length + 7, 1201)
    samples = np.arange(-8.0, length + 8)
    inside = (samples >= 0) & (samples < length)
    figure = Figure(figsize=(11, 9.5))
    axes = figure.subplots(len(MODES) // 2, 2, sharex=True, sharey=True)
    for ax, mode in zip(axes.T.flat, MODES, strict=True):
        ax.axvspan(0, length - 1, color=INSIDE, lw=0)
        ax.axhline(0, color="#d5d5d5", lw=0.8)
        cubic = spline_at(signal, positions, 3, mode)
        ax.plot(positions, cubic, color=LINE, lw=1.8, label="cubic spline (order 3)")
        linear = spline_at(signal, positions, 1, mode)
        ax.plot(
            positions,
            linear,
            color=SOFT_INK,
            lw=1,
            ls=(0, (3, 2)),
            label="linear (order 1)",
        )
        beyond = spline_at(signal, samples, 1, mode)
        ax.plot(
            samples[~inside],
            beyond[~inside],
            "o",
            mfc="white",
            mec=SOFT_INK,
            ms=4,
            label="value at a whole number",
        )
        ax.plot(np.arange(length), signal, "o", color=SAMPLE, ms=6, label="sample")
        ax.set_title(
            mode, loc="left", size=12, weight="bold", color=INK, family="monospace"
        )
        ax.set_ylim(-0.35, 1.2)
        ax.set_xticks([-length, 0, length - 1, 2 * length - 1])
        ax.set_xticklabels(["$-N$", "0", "$N-1$", "$2N-1$"], color=SOFT_INK)
        ax.set_yticks([])
        ax.spines[["top", "left", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles[::-1],
        labels[::-1],
        loc="lower center",
        ncols=4,
        frameon=False,
        fontsize=11,
    )
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(
        IMAGES / "border_modes_1d.svg", facecolor="white", metadata={"Date": None}
    )


def border_modes_of_a_picture():
    """Shrink a picture inside its frame, so that what lies beyond comes into view."""
    picture = data.cat()[20:230, 120:400]
    height, width = picture.shape[:2]
    shrink_to = 0.36
    nothing = np.zeros((2, 1, 1))
    figure = Figure(figsize=(11, 4.8))
    for ax, mode in zip(figure.subplots(2, 4).flat, MODES, strict=True):
        shown = elasticnd.deform_grid(
            picture, nothing, mode=mode, cval=200, axis=(0, 1), zoom=shrink_to
        )
        ax.imshow(shown)
        corner = (
            width / 2 - 0.5 - shrink_to * width / 2,
            height / 2 - 0.5 - shrink_to * height / 2,
        )
        ax.add_patch(
            Rectangle(
                corner,
                shrink_to * width,
                shrink_to * height,
                fill=False,
                ec="#ffd60a",
                lw=2,
            )
        )
        ax.set_title(
            mode, loc="left", size=11, weight="bold", color=INK, family="monospace"
        )
        bare(ax)
    figure.tight_layout()
    save_png(figure, "border_modes_2d.png", 90)


def basis_splines():
    """Draw the B-splines of order 0 to 5, as the answers to a single coefficient."""
    coefficients = np.zeros(9)
    coefficients[4] = 1
    positions = np.linspace(0.5, 7.5, 281)
    figure = Figure(figsize=(11, 3))
    for order, ax in enumerate(figure.subplots(1, 6, sharey=True)):
        copies = np.broadcast_to(coefficients, (len(positions), len(coefficients)))
        values = elasticnd.deform_grid(
            copies,
            positions.reshape(-1, 1, 1),
            order=order,
            axis=1,
            prefilter=False,
            crop=(slice(0, 1),),
        )
        ax.fill_between(positions - 4, values[:, 0], color=LINE, alpha=0.12, lw=0)
        ax.plot(positions - 4, values[:, 0], color=LINE, lw=1.8)
        ax.set_title(f"order {order}", size=11, color=INK)
        ax.set_xticks([-3, 0, 3])
        ax.set_yticks([])
        ax.tick_params(colors=SOFT_INK)
        ax.spines[["top", "left", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(
        IMAGES / "basis_splines.svg", facecolor="white", metadata={"Date": None}
    )


def source_box_of_a_block():
    """Show a block of an output, where it comes from, and what is read for it."""
    image = data.camera()
    chunk = 128
    displacement = elasticnd.random_displacement(5, 18, ndim=2, rng=3)
    block = (slice(2 * chunk, 3 * chunk), slice(chunk, 2 * chunk))
    deformed = elasticnd.deform_grid(image, displacement, mode="mirror")
    rows, columns = np.mgrid[block]
    positions = np.stack([rows, columns]) + elasticnd.dense_displacement(
        displacement, image.shape, crop=block
    )
    edge = np.concatenate(
        [
            positions[:, 0],
            positions[:, :, -1],
            positions[:, -1, ::-1],
            positions[:, ::-1, 0],
        ],
        axis=1,
    )

    figure = Figure(figsize=(9.6, 5.8))
    for ax, picture, title in zip(
        figure.subplots(1, 2), (deformed, image), ("output", "image"), strict=True
    ):
        ax.imshow(picture, cmap="gray", alpha=0.55)
        for line in range(chunk, 512, chunk):
            ax.axhline(line - 0.5, color=INK, lw=0.6)
            ax.axvline(line - 0.5, color=INK, lw=0.6)
        ax.set_title(title, size=11, color=INK)
        bare(ax)
    left, right = figure.axes
    outline(left, block, SAMPLE, "a block")
    right.plot(edge[1], edge[0], color=SAMPLE, lw=2, label="where its voxels come from")
    for order, style in ((1, ":"), (3, "-")):
        box = elasticnd.source_box(
            displacement, image.shape, block, order, mode="mirror", dtype="float32"
        )
        outline(right, box, LINE, f"what is read at order {order}", ls=style)
    for ax in figure.axes:
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.02),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
    figure.subplots_adjust(left=0.02, right=0.98, top=0.95, bottom=0.15, wspace=0.06)
    save_png(figure, "source_box.png", 110)


def label_shapes(rows, columns):
    """Return functions that are negative inside of a disc and of a ring."""
    disc = np.hypot(rows - 14, columns - 14) - 8.3
    ring = abs(np.hypot(rows - 33, columns - 34) - 8) - 2.4
    return disc, ring


def labels_by_order_and_by_votes():
    """Deform labels with order 0 and by votes, and draw exact outlines over both."""
    shape = (48, 48)
    labels = np.zeros(shape, np.uint8)
    for number, shapes in enumerate(label_shapes(*np.indices(shape)), 1):
        labels[shapes < 0] = number
    labels[4:44, 4] = labels[43, 8:30] = 3  # lines of one voxel
    labels[4:20:5, 28:44:5] = 4  # single voxels
    displacement = elasticnd.random_displacement(5, 1.5, ndim=2, rng=5)
    fine = np.stack(np.meshgrid(*[np.linspace(0, 47, 480)] * 2, indexing="ij"))
    deformation = elasticnd.Deformation(displacement, shape)
    positions = deformation.source_points(np.moveaxis(fine, 0, -1).reshape(-1, 2)).T
    figure = Figure(figsize=(11, 4))
    colours = ListedColormap(["#f2f2f0", "#8ecae6", "#ffd166", SOFT_INK, SAMPLE])
    panels = [("labels", labels, fine)]
    for order in (0, "labels"):
        deformed = elasticnd.deform_grid(labels, displacement, order=order)
        panels.append((f"order={order!r}", deformed, positions.reshape(fine.shape)))
    for ax, (title, shown, where) in zip(figure.subplots(1, 3), panels, strict=True):
        ax.imshow(shown, cmap=colours, vmin=0, vmax=4)
        for outline_of in label_shapes(*where):
            ax.contour(fine[1], fine[0], outline_of, [0], colors=[INK], linewidths=1.2)
        ax.set_title(
            title, loc="left", size=11, weight="bold", color=INK, family="monospace"
        )
        bare(ax)
    figure.tight_layout()
    save_png(figure, "labels.png", 90)


def outline(ax, box, color, label, **style):
    """Draw a box."""
    corner = (box[1].start - 0.5, box[0].start - 0.5)
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    ax.add_patch(
        Rectangle(corner, *size, fill=False, color=color, lw=2, label=label, **style)
    )


def deformation_by_plot():
    """Draw a deformation that folds in a corner, as `Deformation.plot` does."""
    ax = elasticnd.Deformation.random((64, 48), sigma=6, points=4, rng=1).plot()
    save_png(ax.figure, "deformation.png", 90)


def demo():
    """Run the demo and shrink its figure."""
    full = IMAGES / "demo_full.png"
    if command(["demo", "--out", str(full)]) != 0:
        raise SystemExit(2)
    picture = Image.open(full).convert("RGB")
    size = (1230, round(picture.height * 1230 / picture.width))
    small = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(small, "png")
    shrink(small, IMAGES / "demo.png")
    full.unlink()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    border_modes_of_a_signal()
    border_modes_of_a_picture()
    basis_splines()
    source_box_of_a_block()
    labels_by_order_and_by_votes()
    deformation_by_plot()
    demo()
