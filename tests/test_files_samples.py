"""The meaning of pixel values is kept, converted or refused when the output has another format.

The tests read outputs with the libraries of the formats, and PNG files also chunk by chunk.
"""

import numpy as np
import pytest
from image_files import (
    OPTIONS,
    PIL_Image,
    assert_fails,
    deform,
    expected,
    random_array,
    read,
    tifffile,
    write,
    zarr_library,
)
from png_files import chunks, picture, png

SHAPE = 20, 24
PALETTE = np.array([(17 * k) % 256 for k in range(3 * 8)], np.uint8).reshape(8, 3)
COLOURMAP = np.zeros((3, 256), np.uint16)
COLOURMAP[:, :8] = PALETTE.T * np.uint16(257)


def samples(dtype, count):
    return random_array(dtype, *SHAPE, count)


# The array in a TIFF file, the options with which tifffile writes it, and its order. Rows and columns are deformed.
TIFFS = {
    "grey": (random_array("u1", *SHAPE), {"photometric": "minisblack"}),
    "grey, 16 bits": (random_array("u2", *SHAPE), {"photometric": "minisblack"}),
    "white is 0": (random_array("u1", *SHAPE), {"photometric": "miniswhite"}),
    "white is 0, 16 bits": (random_array("u2", *SHAPE), {"photometric": "miniswhite"}),
    "white is 0, 12 bits": (random_array("u2", *SHAPE) % 4096, {"photometric": "miniswhite", "bitspersample": 12}),
    "white is 0, 1 bit": (random_array("?", *SHAPE), {"photometric": "miniswhite"}),
    "grey, alpha": (samples("u1", 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "grey, alpha, 16 bits": (samples("u2", 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "grey, premultiplied": (samples("u1", 2), {"photometric": "minisblack", "extrasamples": ["assocalpha"]}),
    "white is 0, alpha": (samples("u1", 2), {"photometric": "miniswhite", "extrasamples": ["unassalpha"]}),
    "7 bands": (samples("u1", 7), {"photometric": "minisblack", "extrasamples": [0] * 6}),
    "rgb": (samples("u1", 3), {"photometric": "rgb"}),
    "rgb, 16 bits": (samples("u2", 3), {"photometric": "rgb"}),
    "rgb, alpha": (samples("u1", 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgb, alpha, 16 bits": (samples("u2", 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgb, premultiplied": (samples("u1", 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "rgb, near infrared": (samples("u1", 4), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    "rgb, floats": (samples("f4", 3), {"photometric": "rgb"}),
    "cmyk": (samples("u1", 4), {"photometric": "separated"}),
    "cmyk, alpha": (samples("u1", 5), {"photometric": "separated", "extrasamples": ["unassalpha"]}),
    "ycbcr": (samples("u1", 3), {"photometric": "ycbcr", "subsampling": (1, 1)}),
    "icclab": (samples("u1", 3), {"photometric": "icclab"}),
    "itulab": (samples("u1", 3), {"photometric": "itulab"}),
    "palette": (random_array("u1", *SHAPE) % 8, {"photometric": "palette", "colormap": COLOURMAP, "order": 0}),
}
# The files of this table that PNG cannot store, each with a word of the error.
NOT_IN_PNG = {
    "grey, premultiplied": "premultiplied",
    "rgb, premultiplied": "premultiplied",
    "rgb, near infrared": "unspecified meaning",
    "rgb, floats": "float32",
    "7 bands": "unspecified meaning",
    "cmyk": "CMYK",
    "cmyk, alpha": "CMYK",
    "ycbcr": "YCbCr",
    "icclab": "ICCLAB",
    "itulab": "ITULAB",
}
# What a NumPy array cannot express, as the note calls it.
NOTED = {"white": "that 0 is white", "cmyk": "CMYK", "ycbcr": "YCbCr", "lab": "LAB", "palette": "palette"}


def tiff(path, kind, planar=False):
    """Write a TIFF file without metadata of tifffile, and return its array, axes and order."""
    array, options = TIFFS[kind]
    options = dict(options)
    if "bitspersample" in options:
        require_packing()
    order = options.pop("order", 3)
    if array.ndim == 3:
        options["planarconfig"] = "separate" if planar else "contig"
        array = np.moveaxis(array, -1, 0) if planar else array
    tifffile.imwrite(path, array, metadata=None, **options)
    return array, ((1, 2) if planar and array.ndim == 3 else (0, 1)), order


def require_packing():
    """Skip a test of packed samples if this version of imagecodecs cannot write them."""
    imagecodecs = pytest.importorskip("imagecodecs")
    try:
        imagecodecs.packints_encode(np.zeros(8, np.uint8), 4)
    except (AttributeError, NotImplementedError):
        pytest.skip("this version of imagecodecs does not pack integers")


def saturated(array, kind):
    return np.minimum(array, 4095) if "12 bits" in kind else array


@pytest.mark.parametrize("planar", [False, True], ids=["", "planar"])
@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_file_keeps_what_its_samples_mean(kind, planar, tmp_path, capsys):
    array, axes, order = tiff(tmp_path / "in.tif", kind, planar)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif", "--order", order) == 0
    assert capsys.readouterr() == ("", "")
    with tifffile.TiffFile(tmp_path / "in.tif") as before, tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert after.series[0].axes == before.series[0].axes
        for tag in ("photometric", "extrasamples", "planarconfig", "samplesperpixel", "bitspersample"):
            assert getattr(after.pages[0], tag) == getattr(before.pages[0], tag), tag
        if kind == "palette":
            np.testing.assert_array_equal(after.pages[0].colormap, COLOURMAP)
        np.testing.assert_array_equal(after.asarray(), saturated(expected(array, axes, order=order), kind))


@pytest.mark.parametrize("suffix", [".npy", ".nii", ".zarr"])
@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_file_becomes_an_array_of_its_numbers(kind, suffix, tmp_path, capsys):
    if suffix == ".zarr":
        zarr_library()
    array, axes, order = tiff(tmp_path / "in.tif", kind)
    if suffix == ".nii" and array.dtype == bool:
        assert_fails(capsys, [tmp_path / "in.tif", tmp_path / "out.nii", *OPTIONS], "out.nii", "bool")
        return
    assert deform(tmp_path / "in.tif", tmp_path / f"out{suffix}", "--order", order) == 0
    np.testing.assert_array_equal(read(tmp_path / f"out{suffix}"), expected(array, axes, order=order))
    captured = capsys.readouterr()
    words = [word for part, word in NOTED.items() if part in kind]
    assert captured.err.count("\n") == len(words)
    assert all(word in captured.err for word in words)


@pytest.mark.parametrize("planar", [False, True], ids=["", "planar"])
@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_file_becomes_a_picture_that_looks_the_same(kind, planar, tmp_path, capsys):
    array, axes, order = tiff(tmp_path / "in.tif", kind, planar)
    files = [tmp_path / "in.tif", tmp_path / "out.png"]
    if kind in NOT_IN_PNG:
        assert_fails(capsys, [*files, *OPTIONS], "out.png", NOT_IN_PNG[kind])
        return
    assert deform(*files, "--order", order) == 0
    assert capsys.readouterr() == ("", "")
    if kind.startswith("white is 0"):
        largest = 1 if array.dtype == bool else 4095 if "12 bits" in kind else np.iinfo(array.dtype).max
        array = array.copy()
        grey = array if array.ndim == 2 else array[0] if planar else array[..., 0]
        grey[...] = ~grey if array.dtype == bool else largest - grey
    result = expected(array, axes, order=order)
    result = np.moveaxis(result, 0, -1) if planar and array.ndim == 3 else result
    np.testing.assert_array_equal(picture(files[1]), result)
    if kind == "palette":
        with PIL_Image.open(files[1]) as after:
            assert after.mode == "P"
            assert after.getpalette()[:24] == PALETTE.ravel().tolist()


# PNG. Pillow does not read 16-bit colours.


def saves(path, array):
    png(path, array)
    return array


PNGS = {
    f"{dtype}, {count}": random_array(dtype, *SHAPE, *([count] if count > 1 else []))
    for dtype in ("u1", "u2")
    for count in (1, 2, 3, 4)
}


@pytest.mark.parametrize("suffix", [".png", ".npy", ".tif", ".nii", ".zarr"])
@pytest.mark.parametrize("kind", PNGS)
def test_a_picture_keeps_its_samples(kind, suffix, tmp_path, capsys):
    if suffix == ".zarr":
        zarr_library()
    array, target = saves(tmp_path / "in.png", PNGS[kind]), tmp_path / f"out{suffix}"
    assert deform(tmp_path / "in.png", target) == 0
    assert capsys.readouterr() == ("", "")
    result = picture(target) if suffix == ".png" else read(target)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, expected(array, (0, 1)))
    if suffix == ".tif":
        count = int(kind[-1])
        with tifffile.TiffFile(target) as file:
            assert len(file.pages) == 1
            assert file.pages[0].photometric.name == ("RGB" if count > 2 else "MINISBLACK")
            assert [extra.name for extra in file.pages[0].extrasamples] == ["UNASSALPHA"] * (count in (2, 4))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_is_kept_at_order_0(suffix, depth, tmp_path):
    count = min(2**depth, 8)
    labels = random_array("u1", *SHAPE) % count
    png(tmp_path / "in.png", labels, depth=depth, colour_type=3, extra=[(b"PLTE", PALETTE[:count].tobytes())])
    assert deform(tmp_path / "in.png", tmp_path / f"out{suffix}", "--order", "0") == 0
    result = expected(labels, None, order=0)
    np.testing.assert_array_equal(read(tmp_path / f"out{suffix}"), result)
    if suffix == ".tif":
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            assert file.pages[0].photometric.name == "PALETTE"
            np.testing.assert_array_equal(file.pages[0].colormap[:, :count], COLOURMAP[:, :count])
    else:
        with PIL_Image.open(tmp_path / "out.png") as file:
            np.testing.assert_array_equal(np.array(file.convert("RGB")), PALETTE[result])


def test_transparent_colours_of_a_palette(tmp_path, capsys):
    labels, alpha = random_array("u1", *SHAPE) % 8, bytes([0, 100, 200])
    png(tmp_path / "in.png", labels, colour_type=3, extra=[(b"PLTE", PALETTE.tobytes()), (b"tRNS", alpha)])
    assert deform(tmp_path / "in.png", tmp_path / "out.png", "--order", "0") == 0
    assert dict(chunks(tmp_path / "out.png"))["tRNS"] == alpha
    colours = np.column_stack([PALETTE, np.array([*alpha, *[255] * 5], np.uint8)])[labels]
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.png"), expected(colours, (0, 1)))
    assert capsys.readouterr() == ("", "")
    assert deform(tmp_path / "in.png", tmp_path / "out.tif", "--order", "0") == 0
    assert "tRNS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "count", "depth"), [("u1", 1, 1), ("u1", 1, 2), ("u1", 1, 4), ("u1", 1, 8), ("u2", 1, 16), ("u1", 3, 8)]
)
def test_a_transparent_colour(dtype, count, depth, tmp_path):
    """Order 0 keeps the transparent colour. At other orders, pixels next to it are partly transparent."""
    shape = SHAPE if count == 1 else (*SHAPE, count)
    array = (random_array(dtype, *shape).astype(int) % 2**depth).astype(dtype)
    colour = np.atleast_1d(array[5, 6])
    extra = [(b"tRNS", colour.astype(">u2").tobytes())]
    png(tmp_path / "in.png", array, depth=depth, extra=extra)
    whole = array * np.array(255 // (2**depth - 1) if depth < 8 else 1, dtype)
    alpha = np.where((np.atleast_3d(array) == colour).all(-1), 0, np.iinfo(dtype).max).astype(dtype)
    assert deform(tmp_path / "in.png", tmp_path / "out.png", "--order", "1") == 0
    rgba = np.concatenate([np.atleast_3d(whole), alpha[..., None]], -1)
    np.testing.assert_array_equal(picture(tmp_path / "out.png"), expected(rgba, (0, 1), order=1))

    assert deform(tmp_path / "in.png", tmp_path / "out.png", "--order", "0", "--mode", "nearest") == 0
    result = picture(tmp_path / "out.png")
    wanted = expected(whole, (0, 1), order=0, mode="nearest")
    np.testing.assert_array_equal(result, wanted.astype(result.dtype) if depth > 1 else wanted > 0)
    kept = np.frombuffer(dict(chunks(tmp_path / "out.png"))["tRNS"], ">u2")
    np.testing.assert_array_equal(kept, np.atleast_1d(whole[5, 6]) if depth > 1 else colour)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("planar", [False, True], ids=["", "planar"])
def test_cielab_is_interpolated_with_its_signs(dtype, planar, tmp_path, capsys):
    """The axes red-green and yellow-blue are signed, but files store them as unsigned numbers."""
    signed = np.dtype(f"i{2 * np.dtype(dtype).itemsize}")
    half = np.iinfo(dtype).max // 2 + 1
    wide = samples(dtype, 3).astype(signed)
    wide[..., 1:] = wide[..., 1:] % 40 - 20  # around 0, where the stored numbers jump
    wide = np.moveaxis(wide, -1, 0) if planar else wide
    axes = (1, 2) if planar else (0, 1)
    options = {"photometric": "cielab", "planarconfig": "separate" if planar else "contig", "metadata": None}
    tifffile.imwrite(tmp_path / "in.tif", wide.astype(dtype), **options)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert capsys.readouterr() == ("", "")
    result = np.moveaxis(expected(wide, axes), 0, -1) if planar else expected(wide, axes)
    result[..., 0] = result[..., 0].clip(0, 2 * half - 1)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].photometric.name == "CIELAB"
        stored = np.moveaxis(file.asarray(), 0, -1) if planar else file.asarray()
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, result.astype(dtype))
    assert_fails(capsys, [tmp_path / "in.tif", tmp_path / "out.png", *OPTIONS], "CIELAB", "out.png")
    assert deform(tmp_path / "in.tif", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(wide, axes))


def test_ycbcr_in_jpeg_is_decoded_to_rgb(tmp_path):
    pytest.importorskip("imagecodecs")
    smooth = np.stack(np.meshgrid(np.arange(0, 192, 8), np.arange(0, 160, 8), [9, 90, 200]), -1)[..., 0].astype("u1")
    smooth = np.stack([smooth[..., 0], smooth[..., 1], smooth[..., 2]], -1)
    tifffile.imwrite(tmp_path / "in.tif", smooth, photometric="rgb", compression="jpeg", metadata=None)
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        assert file.pages[0].photometric.name == "YCBCR"
        decoded = file.asarray()
    assert np.abs(decoded.astype(int) - smooth).max() < 40, "they are not RGB"
    for name in ("out.tif", "out.png"):
        assert deform(tmp_path / "in.tif", tmp_path / name) == 0
        np.testing.assert_array_equal(read(tmp_path / name), expected(decoded, (0, 1)))
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].photometric.name == "RGB"


def test_a_palette_of_16_bits_in_a_picture(tmp_path, capsys):
    colours = random_array("u2", 3, 256)
    labels = random_array("u1", *SHAPE)
    tifffile.imwrite(tmp_path / "in.tif", labels, photometric="palette", colormap=colours, metadata=None)
    assert deform(tmp_path / "in.tif", tmp_path / "out.png", "--order", "0") == 0
    assert "lower 8 bits" in capsys.readouterr().err
    with PIL_Image.open(tmp_path / "out.png") as file:
        palette = np.array(file.getpalette()).reshape(-1, 3)
    assert np.abs(palette * 257.0 - colours.T).max() <= 128.5


@pytest.mark.parametrize("bits", [4, 12])
def test_values_stay_within_few_bits(bits, tmp_path, capsys):
    require_packing()
    dtype = "u1" if bits == 4 else "u2"
    array = (random_array(dtype, *SHAPE) % 2**bits).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", array, photometric="minisblack", bitspersample=bits, metadata=None)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif", "--mode", "mirror") == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].bitspersample == bits
        result = file.asarray()
    np.testing.assert_array_equal(result, np.minimum(expected(array, None, mode="mirror"), 2**bits - 1))
    assert result.max() == 2**bits - 1
    files = [tmp_path / "in.tif", tmp_path / "out2.tif", *OPTIONS, "--cval", str(2**bits)]
    assert_fails(capsys, files, "--cval", 2**bits, f"0 to {2**bits - 1}")


def test_arrays_to_pictures_of_16_bits(tmp_path):
    array = random_array("u2", *SHAPE, 3)
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.png") == 0
    np.testing.assert_array_equal(picture(tmp_path / "out.png"), expected(array, (0, 1)))
