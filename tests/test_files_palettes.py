"""Palettes of PNG and TIFF: labels keep them, and other orders interpolate colours."""

import numpy as np
import pytest
from image_files import OPTIONS, PIL_Image, assert_fails, deform, expected, random_array, read, tifffile

PALETTE = [(17 * k) % 256 for k in range(3 * 8)]


@pytest.fixture
def labels_with_palette(tmp_path):
    labels = random_array("u1", 20, 24) % 8
    picture = PIL_Image.fromarray(labels)
    picture.putpalette(PALETTE)
    picture.save(tmp_path / "labels.png")
    return tmp_path / "labels.png", labels


@pytest.mark.parametrize("order", [0, "labels"])
def test_a_palette_is_kept_by_labels(order, labels_with_palette, tmp_path):
    source, labels = labels_with_palette
    assert deform(source, tmp_path / "out.png", "--order", order, "--cval", "7") == 0
    with PIL_Image.open(tmp_path / "out.png") as result:
        assert result.mode == "P"
        assert result.getpalette()[: len(PALETTE)] == PALETTE
        np.testing.assert_array_equal(np.array(result), expected(labels, None, order=order, cval=7))


def test_the_colours_of_a_palette_are_interpolated(labels_with_palette, tmp_path):
    source, labels = labels_with_palette
    assert deform(source, tmp_path / "out.png") == 0
    colours = np.array(PALETTE, np.uint8).reshape(-1, 3)[labels]
    np.testing.assert_array_equal(read(tmp_path / "out.png"), expected(colours, (0, 1)))


def test_fill_values_are_of_the_palette(labels_with_palette, tmp_path, capsys):
    source, _ = labels_with_palette
    files = [source, tmp_path / "out.png"]
    assert_fails(capsys, [*files, *OPTIONS, "--order", "0", "--cval", "99"], "--cval", "99", "out.png")
    assert list(tmp_path.iterdir()) == [source]


def test_palettes_of_tiff(tmp_path, capsys):
    labels, colours = random_array("u1", 20, 24) % 8, random_array("u2", 3, 256)
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, labels, photometric="palette", colormap=colours)
    assert_fails(capsys, [source, target, *OPTIONS], "--order", "in.tif")
    for order in (0, "labels"):
        assert deform(source, target, "--order", order) == 0
        with tifffile.TiffFile(target) as file:
            np.testing.assert_array_equal(file.pages[0].colormap, colours)
            np.testing.assert_array_equal(file.asarray(), expected(labels, None, order=order))
