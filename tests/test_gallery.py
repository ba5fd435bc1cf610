"""The gallery: each script draws the picture on its page, and pictures are readable on light and dark pages."""

import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("skimage", reason="scikit-image is not installed")

DOCS = Path(__file__).parent.parent / "docs"
IMAGES = DOCS / "images"
SCRIPTS = sorted((DOCS / "gallery").glob("*.py"))
LARGEST = 100_000  # bytes
LIGHT, DARK = "#ffffff", "#131416"  # the backgrounds of the pages
READABLE = 3.8  # the least contrast of colours on both backgrounds; at most 4.6 is possible on both
# The largest difference between thumbnails, in levels of 255. matplotlib 3.8 and 3.11 place panels a pixel apart, which
# changes up to 1.8 levels. Other random displacements change at least 3.6 levels.
THUMBNAIL = (8, 4)
CLOSE = 2.5


@pytest.fixture
def figures(monkeypatch):
    """Return the module that draws the pictures."""
    monkeypatch.setattr(sys, "path", [str(DOCS), *sys.path])
    return import_module("figures")


def pixels(path, size=None):
    """Return the pixels of a picture or of its thumbnail, of shape (rows, columns, 4)."""
    with Image.open(path) as picture:
        colours = picture.convert("RGBA")
    return np.asarray(colours if size is None else colours.resize(size, Image.Resampling.BOX), float)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_draws_the_picture_of_the_page(figures, script, tmp_path):
    figures.run(script, tmp_path)
    drawn, shown = (folder / f"{script.stem}.png" for folder in (tmp_path, IMAGES))
    assert pixels(drawn).shape == pixels(shown).shape
    difference = pixels(drawn, THUMBNAIL) - pixels(shown, THUMBNAIL)
    assert np.sqrt(np.mean(difference**2)) < CLOSE


def test_page_shows_every_script_beside_its_picture():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    beside = re.findall(r"\(images/(\w+)\.png\)\n\n~~~\{literalinclude\} gallery/(\w+)\.py", page)
    assert sorted(beside) == [(script.stem, script.stem) for script in SCRIPTS]


def test_every_picture_is_shown():
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    assert {path.name for path in IMAGES.iterdir()} == set(re.findall(r"\(images/([\w.]+)\)", text))


def test_pictures_are_small():
    assert not {path.name: path.stat().st_size for path in IMAGES.iterdir() if path.stat().st_size > LARGEST}


@pytest.mark.parametrize("path", [*sorted(IMAGES.glob("*.png")), IMAGES / "demo.webp"], ids=lambda path: path.stem)
def test_pictures_have_no_background(path):
    alpha = pixels(path)[..., 3]
    assert (alpha[:2] == 0).mean() > 0.3
    assert (alpha[-1] == 0).mean() > 0.3 or (alpha[:, -1] == 0).mean() > 0.3


def luminance(colour):
    levels = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(levels <= 0.03928, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    """Compute the contrast ratio that the WCAG define."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("path", [DOCS / "pages.mplstyle", *sorted(IMAGES.glob("*.svg"))], ids=lambda path: path.name)
def test_colours_are_readable_on_light_and_dark(path):
    text = path.read_text(encoding="utf-8")
    colours = set(re.findall(r"#[0-9a-f]{6}", text)) | {
        f"#{found}" for found in re.findall(r"\b[0-9a-f]{6}$", text, re.M)
    }
    colours |= {f"#{found}" for found in re.findall(r'"([0-9a-f]{6})"', text)}
    assert colours
    assert not [colour for colour in colours if min(contrast(colour, LIGHT), contrast(colour, DARK)) < READABLE]


def test_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
