"""The command that deforms files: it does what the library does, keeps what files say, and fails in one line."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from image_files import (
    OPTIONS,
    PIL_Image,
    assert_fails,
    contents,
    deform,
    expected,
    nibabel,
    random_array,
    read,
    tifffile,
    write,
    zarr_library,
)

import elasticnd
from elasticnd.__main__ import main
from elasticnd._cli import files as formats

# A name for input and output, what the file holds, and the axes that are deformed.
ROUND_TRIPS = {
    "npy": (".npy", random_array("f4", 20, 24), None),
    "npy, 3 axes": (".npy", random_array("i2", 9, 10, 11), None),
    "npy, 1 axis": (".npy", random_array("f8", 30), None),
    "npy, bool": (".npy", random_array("?", 20, 24), None),
    "npy, half": (".npy", random_array("f2", 20, 24), None),
    "npy, complex": (".npy", random_array("c8", 20, 24), None),
    "npy, not native": (".npy", random_array(">i4", 20, 24), None),
    "npy, Fortran": (".npy", np.asfortranarray(random_array("f4", 20, 24)), None),
    "npy, one plane": (".npy", random_array("f4", 1, 20, 24), (1, 2)),
    "png, grey": (".png", random_array("u1", 20, 24), None),
    "png, 16 bits": (".png", random_array("u2", 20, 24), None),
    "png, 1 bit": (".png", random_array("?", 20, 24), None),
    "png, grey and alpha": (".png", random_array("u1", 20, 24, 2), (0, 1)),
    "png, colour": (".png", random_array("u1", 20, 24, 3), (0, 1)),
    "png, colour and alpha": (".png", random_array("u1", 20, 24, 4), (0, 1)),
    "tiff, grey": (".tiff", random_array("u1", 20, 24), None),
    "tif, colour": (".tif", random_array("u2", 20, 24, 3), (0, 1)),
    "tif, colour of floats": (".tif", random_array("f4", 20, 24, 3), (0, 1)),
    "tif, stack": (".tif", random_array("f4", 9, 10, 11), None),
    "tif, bool": (".tif", random_array("?", 9, 10, 11), None),
    "tif, int8": (".tif", random_array("i1", 20, 24), None),
    "tif, int64": (".tif", random_array("i8", 20, 24), None),
    "tif, complex": (".tif", random_array("c16", 20, 24), None),
    "nii": (".nii", random_array("i2", 9, 10, 11), None),
    "nii.gz": (".nii.gz", random_array("f4", 9, 10, 11), None),
    "nii, 2 axes": (".nii", random_array("u1", 20, 24), None),
    "nii, 4 axes": (".nii", random_array("f8", 9, 10, 11, 2), (0, 1, 2)),
    "nii, one slice": (".nii", random_array("u1", 20, 24, 1), (0, 1)),
    "nii, uint64": (".nii", random_array("u8", 9, 10, 11), None),
    "nii, complex": (".nii", random_array("c8", 9, 10, 11), None),
}


@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_round_trip(case, tmp_path, capsys):
    suffix, array, axes = ROUND_TRIPS[case]
    source, target = write(tmp_path / f"in{suffix}", array), tmp_path / f"out{suffix}"
    before = source.read_bytes()
    assert deform(source, target) == 0
    assert capsys.readouterr() == ("", "")
    result = read(target)
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, expected(array, axes))
    assert source.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [source, target]


CONVERSIONS = {
    "npy to tif": ("in.npy", "out.tif", random_array("f4", 9, 10, 11), None),
    "npy to nii": ("in.npy", "out.nii.gz", random_array("i8", 9, 10, 11), None),
    "npy to a long nii": ("in.npy", "out.nii", random_array("u1", 33000), None),
    "npy to png": ("in.npy", "out.png", random_array("u1", 20, 24, 3), (0, 1)),
    "npy, not native, to png": ("in.npy", "out.png", random_array(">u2", 20, 24), None),
    "npy to zarr": ("in.npy", "out.zarr", random_array("f4", 9, 10, 11), None),
    "zarr to npy": ("in.zarr", "out.npy", random_array("f4", 9, 10, 11), None),
    "zarr to tif": ("in.zarr", "out.tif", random_array("u2", 20, 24), None),
    "png to npy": ("in.png", "out.npy", random_array("u1", 20, 24, 3), (0, 1)),
    "png to tif": ("in.png", "out.tif", random_array("u1", 20, 24, 4), (0, 1)),
    "tif to png": ("in.tif", "out.png", random_array("u1", 20, 24, 3), (0, 1)),
    "nii to npy": ("in.nii", "out.npy", random_array("f4", 9, 10, 11, 2), (0, 1, 2)),
}


@pytest.mark.parametrize("case", CONVERSIONS)
def test_conversion(case, tmp_path):
    source, target, array, axes = CONVERSIONS[case]
    if target.endswith(".zarr"):
        zarr_library()
    source, target = tmp_path / source, tmp_path / target
    write(source, array)
    assert deform(source, target) == 0
    result = read(target)
    assert result.dtype.name == array.dtype.name
    np.testing.assert_array_equal(result, expected(array, axes))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--order", "1", "--mode", "mirror"], {"order": 1, "mode": "mirror"}),
        (["--cval", "-3.5"], {"cval": -3.5}),
        (["--rotate", "-30", "--zoom", "1.5"], {"rotate": -30, "zoom": 1.5}),
        (["--zoom", "1.5,2"], {"zoom": (1.5, 2)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options(arguments, options, tmp_path):
    array = random_array("f4", 20, 24)
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.npy", *arguments) == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None, **options))


def test_options_for_each_axis(tmp_path):
    array = random_array("f4", 3, 20, 24)
    files = [str(write(tmp_path / "in.npy", array)), str(tmp_path / "out.npy")]
    assert main(["deform", *files, "--sigma", "1,2", "--points", "3,5", "--seed", "1", "--axis", "-2,-1"]) == 0
    displacement = elasticnd.random_displacement((3, 5), (1, 2), rng=1)
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), elasticnd.deform_grid(array, displacement, axis=(-2, -1)))


def test_fill_values_of_integers_are_exact(tmp_path):
    array = np.zeros((20, 24), np.int64)
    assert deform(write(tmp_path / "in.npy", array), tmp_path / "out.npy", "--cval", 2**60 + 1, "--order", 0) == 0
    assert set(np.unique(read(tmp_path / "out.npy"))) == {0, 2**60 + 1}


def test_an_image_and_its_labels(tmp_path):
    image, labels = random_array("f4", 20, 24, 3).astype("u1"), random_array("u2", 20, 24) % 5
    files = [
        write(tmp_path / "image.png", image),
        tmp_path / "deformed.png",
        write(tmp_path / "labels.npy", labels),
        tmp_path / "deformed_labels.tif",
    ]
    assert deform(*files, "--order", "3,0", "--mode", "mirror,constant", "--cval", "0,9") == 0
    np.testing.assert_array_equal(read(files[1]), expected(image, (0, 1), mode="mirror"))
    result = read(files[3])
    np.testing.assert_array_equal(result, expected(labels, None, order=0, cval=9))
    assert set(np.unique(result)) == {0, 1, 2, 3, 4, 9}
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_one_order_is_for_all(tmp_path):
    arrays = {"a": random_array("f4", 20, 24), "b": random_array("f8", 20, 24)}
    files = [path for name in arrays for path in (tmp_path / f"{name}.npy", tmp_path / f"{name}_out.npy")]
    for name, array in arrays.items():
        write(tmp_path / f"{name}.npy", array)
    assert deform(*files, "--order", "1") == 0
    for name, array in arrays.items():
        np.testing.assert_array_equal(read(tmp_path / f"{name}_out.npy"), expected(array, None, order=1))


def test_a_seed_that_is_printed_repeats_the_deformation(tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    results = []
    for name in ("first.npy", "second.npy"):
        assert main(["deform", str(source), str(tmp_path / name), "--sigma", "2"]) == 0
        results.append(read(tmp_path / name))
    assert (results[0] != results[1]).any()
    seed = re.findall(r"--seed (\d+)", capsys.readouterr().out)[1]
    assert main(["deform", str(source), str(tmp_path / "again.npy"), "--sigma", "2", "--seed", seed]) == 0
    np.testing.assert_array_equal(read(tmp_path / "again.npy"), results[1])
    assert capsys.readouterr().out == ""


# What files say beside their elements.


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
def test_headers_of_nifti_are_kept(suffix, kind, tmp_path):
    array = random_array("i2", 9, 10, 11)
    affine = np.array([[0, -2, 0, 5], [3, 0, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    volume = getattr(nibabel, kind)(array, affine)
    volume.header.set_xyzt_units("mm", "sec")
    volume.header.set_qform(np.diag([3, 2, 4, 1.0]), "scanner")
    volume.header["descrip"] = b"a description"
    volume.header["cal_max"] = 100
    volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    volume.to_filename(source)
    assert deform(source, target) == 0
    before, after = nibabel.load(source, mmap=False), nibabel.load(target, mmap=False)
    assert type(after) is type(before)
    assert after.header.get_zooms() == before.header.get_zooms() == (3, 2, 4)
    np.testing.assert_array_equal(after.affine, affine)
    assert after.header == before.header
    assert [one.text for one in after.header.extensions] == ["a comment"]


def test_scaled_nifti(tmp_path):
    """The numbers of the file are deformed, those that stand for `cval` beyond the border."""
    array, slope, intercept = random_array("u2", 9, 10, 11) // 16, 0.5, -1000
    volume = nibabel.Nifti1Image(array, np.eye(4))
    volume.header.set_slope_inter(slope, intercept)
    volume.to_filename(tmp_path / "in.nii")
    assert deform(tmp_path / "in.nii", tmp_path / "out.nii", "--cval", "-800") == 0
    result = nibabel.load(tmp_path / "out.nii", mmap=False)
    np.testing.assert_array_equal(result.dataobj.get_unscaled(), expected(array, None, cval=400))
    assert (result.dataobj.slope, result.dataobj.inter) == (slope, intercept)
    assert result.get_data_dtype() == np.uint16

    assert deform(tmp_path / "in.nii", tmp_path / "out.npy", "--cval", "-800") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array * slope + intercept, None, cval=-800))


def test_metadata_of_tiff_are_kept(tmp_path):
    array = random_array("u2", 4, 2, 20, 24)
    metadata = {"axes": "ZCYX", "spacing": 2.5, "unit": "um"}
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, array, imagej=True, resolution=(2.0, 3.0), metadata=metadata)
    assert deform(source, target) == 0
    with tifffile.TiffFile(target) as file:
        assert file.imagej_metadata["spacing"] == 2.5
        assert file.series[0].axes == "ZCYX"
        assert file.pages[0].resolution == (2.0, 3.0)
        np.testing.assert_array_equal(file.asarray(), expected(array, (0, 2, 3)))


@pytest.mark.parametrize(
    ("shape", "axes", "options"),
    [
        ((20, 24), "YX", {"compression": "zlib", "photometric": "miniswhite"}),
        ((3, 20, 4), "SYX", {"planarconfig": "separate", "photometric": "rgb"}),
        ((4, 20, 24, 3), "ZYXS", {"photometric": "rgb"}),
    ],
)
def test_layouts_of_tiff_are_kept(shape, axes, options, tmp_path):
    array = random_array("u1", *shape)
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, array, metadata={"axes": axes}, **options)
    assert deform(source, target) == 0
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert after.series[0].axes == before.series[0].axes == axes
        for name in ("compression", "photometric", "planarconfig"):
            assert getattr(after.pages[0], name) == getattr(before.pages[0], name)
        deformed = tuple(k for k, axis in enumerate(axes) if axis != "S")
        np.testing.assert_array_equal(after.asarray(), expected(array, deformed))


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


def test_metadata_of_png_are_kept(tmp_path):
    profile = b"a profile of colours"
    picture = PIL_Image.fromarray(random_array("u1", 20, 24, 3))
    picture.save(tmp_path / "in.png", icc_profile=profile, dpi=(300, 300))
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    with PIL_Image.open(tmp_path / "in.png") as before, PIL_Image.open(tmp_path / "out.png") as after:
        assert after.info == before.info
        assert after.info["icc_profile"] == profile


def test_colours_are_colours_in_tiff(tmp_path):
    write(tmp_path / "in.png", random_array("u1", 20, 24, 3))
    assert deform(tmp_path / "in.png", tmp_path / "out.tif") == 0
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB


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


# Zarr.


def test_a_zarr_array_in_a_group(tmp_path, capsys):
    zarr = zarr_library()
    array = random_array("u2", 9, 10, 11)
    zarr.create_group(str(tmp_path / "in.zarr"))
    zarr.create_array(str(tmp_path / "in.zarr" / "0"), data=array)
    before = contents(tmp_path)
    assert_fails(capsys, [tmp_path / "in.zarr", tmp_path / "out.npy", *OPTIONS], "in.zarr", "group", "0")
    assert contents(tmp_path) == before
    assert deform(tmp_path / "in.zarr" / "0", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None))


def test_zarr_outputs_replace_arrays_alone(tmp_path, capsys):
    zarr = zarr_library()
    array = random_array("f4", 9, 10, 11)
    source = write(tmp_path / "in.npy", array)
    write(tmp_path / "out.zarr", np.zeros((3, 3)))
    assert deform(source, tmp_path / "out.zarr") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.zarr"), expected(array, None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npy", "out.zarr"]

    zarr.create_group(str(tmp_path / "group.zarr"))
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("a text")
    before = contents(tmp_path)
    for name in ("group.zarr", "folder.zarr", "file.zarr"):
        assert_fails(capsys, [source, tmp_path / name, *OPTIONS], name, "not a Zarr array")
    assert contents(tmp_path) == before


def test_names_of_zarr_axes_choose_those_to_deform(tmp_path):
    array = random_array("u2", 2, 9, 10, 11)
    zarr_library().create_array(str(tmp_path / "in.zarr"), data=array, dimension_names=["c", "z", "y", "x"])
    assert deform(tmp_path / "in.zarr", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, (1, 2, 3)))


def test_zarr_beside_another_format(tmp_path):
    zarr = zarr_library()
    image, labels = random_array("f4", 20, 24), random_array("u1", 20, 24)
    source = zarr.create_array(str(tmp_path / "in.zarr"), data=image, chunks=(8, 8), attributes={"unit": "nm"})
    files = [tmp_path / "in.zarr", tmp_path / "out.zarr", write(tmp_path / "labels.png", labels), tmp_path / "out.png"]
    assert deform(*files) == 0
    result = zarr.open_array(str(tmp_path / "out.zarr"), mode="r")
    np.testing.assert_array_equal(result[...], expected(image, None))
    assert (result.chunks, result.attrs.asdict()) == (source.chunks, {"unit": "nm"})


def test_a_damaged_zarr_array(tmp_path, capsys):
    write(tmp_path / "in.zarr", random_array("f4", 9, 10, 11))
    chunk = next(path for path in (tmp_path / "in.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    before = contents(tmp_path)
    assert_fails(capsys, [tmp_path / "in.zarr", tmp_path / "out.npy", *OPTIONS], "in.zarr")
    assert contents(tmp_path) == before
    (tmp_path / "in.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "sh')
    assert_fails(capsys, [tmp_path / "in.zarr", tmp_path / "out.npy", *OPTIONS], "in.zarr")


@pytest.fixture
def dask_array():
    zarr_library()
    return pytest.importorskip("dask.array")


@pytest.mark.usefixtures("dask_array")
@pytest.mark.parametrize("chunks", [None, "8", "5,20,9", "100"])
@pytest.mark.parametrize("layout", [{"chunks": (4, 5, 6)}, {"chunks": (4, 4, 4), "shards": (8, 8, 8)}])
def test_zarr_by_chunks(layout, chunks, tmp_path, capsys):
    array = random_array("i2", 17, 19, 21)
    source = zarr_library().create_array(
        str(tmp_path / "in.zarr"),
        shape=array.shape,
        dtype=array.dtype,
        fill_value=3,
        attributes={"unit": "nm"},
        dimension_names=["z", "y", "x"],
        **layout,
    )
    source[...] = array
    before = contents(tmp_path)
    arguments = [] if chunks is None else ["--chunks", chunks]
    assert deform(tmp_path / "in.zarr", tmp_path / "out.zarr", *arguments) == 0
    assert capsys.readouterr() == ("", "")
    result = zarr_library().open_array(str(tmp_path / "out.zarr"), mode="r")
    np.testing.assert_array_equal(result[...], expected(array, None))
    for name in ("dtype", "chunks", "shards", "fill_value", "compressors"):
        assert getattr(result, name) == getattr(source, name), name
    assert result.metadata.dimension_names == ("z", "y", "x")
    assert result.attrs.asdict() == {"unit": "nm"}
    assert contents(tmp_path).items() > before.items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


@pytest.mark.usefixtures("dask_array")
@pytest.mark.parametrize("order", [0, "labels"])
def test_an_image_with_channels_and_its_labels_by_chunks(order, tmp_path):
    zarr = zarr_library()
    image, labels = random_array("f4", 2, 17, 19), random_array("u1", 17, 19) % 4
    zarr.create_array(str(tmp_path / "image.zarr"), data=image, chunks=(1, 5, 6), dimension_names=["c", "y", "x"])
    zarr.create_array(str(tmp_path / "labels.zarr"), data=labels, chunks=(8, 8), zarr_format=2)
    files = ["image.zarr", "image_out.zarr", "labels.zarr", "labels_out.zarr"]
    assert deform(*(tmp_path / name for name in files), "--order", f"3,{order}", "--chunks", "7,9") == 0
    np.testing.assert_array_equal(read(tmp_path / "image_out.zarr"), expected(image, (1, 2)))
    np.testing.assert_array_equal(read(tmp_path / "labels_out.zarr"), expected(labels, None, order=order))
    assert zarr.open_array(str(tmp_path / "labels_out.zarr"), mode="r").metadata.zarr_format == 2


@pytest.mark.usefixtures("dask_array")
@pytest.mark.parametrize("damage", ["chunk", "metadata"])
def test_damaged_zarr_by_chunks(damage, tmp_path, capsys):
    write(tmp_path / "in.zarr", random_array("f4", 9, 10, 11))
    damaged = "zarr.json" if damage == "metadata" else "c/0/0/0"
    path = tmp_path / "in.zarr" / damaged
    path.write_bytes(path.read_bytes()[:50])
    before = contents(tmp_path)
    assert_fails(capsys, [tmp_path / "in.zarr", tmp_path / "out.zarr", *OPTIONS], "in.zarr")
    assert contents(tmp_path) == before


def test_chunks_enclose_those_of_the_file(dask_array, tmp_path):
    """So that no chunk of a file is written by two tasks."""
    zarr = zarr_library()
    array = zarr.create_array(str(tmp_path / "in.zarr"), shape=(900, 512, 512), chunks=(1, 512, 512), dtype="u1")

    def lazy(axes, chunks):
        (level,) = formats.zarr.open_levels(tmp_path / "in.zarr", axes, chunks)
        return level.image.array

    assert lazy(None, None).chunksize == (16, 512, 512)
    assert lazy(None, [100]).chunksize == (100, 512, 512)
    assert lazy((-1, 0), [100, 3]).chunksize == (3, 512, 512)
    assert lazy(None, None).dtype == array.dtype


# Errors.


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with one file of each kind, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    array = random_array("u1", 20, 24)
    for suffix in (".npy", ".png", ".tif", ".nii", ".nii.gz"):
        write(tmp_path / f"in{suffix}", array)
    np.save("other.npy", array[:10])
    np.save("void.npy", np.zeros(5, [("a", "i4"), ("b", "f4")]))
    np.save("text.npy", np.array(["a", "b"]))
    np.save("floats.npy", array.astype("f4"))
    np.save("half.npy", array.astype("f2"))
    np.save("scalar.npy", np.float32(3))
    np.save("many.npy", np.zeros((2, 1) * 20, "f4"))
    np.save("empty.npy", np.zeros((0, 4), "u1"))
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "a_file").write_text("no folder")
    return tmp_path


S = ["--sigma", "2", "--seed", "1"]
# What is wrong, and what the error names.
WRONG = {
    "no files": (S, "IN OUT"),
    "no output": (["in.npy", *S], "pairs"),
    "three files": (["in.npy", "out.npy", "in.tif", *S], "3 files"),
    "no sigma": (["in.npy", "out.npy"], "--sigma"),
    "no such file": (["nowhere.npy", "out.npy", *S], "nowhere.npy does not exist"),
    "an input of no format": (["text.txt", "out.npy", *S], "text.txt", ".npy"),
    "an output of no format": (["in.npy", "out.bmp", *S], "out.bmp", ".npy"),
    "a folder for input": (["folder.npy", "out.npy", *S], "folder.npy is a folder"),
    "a folder for output": (["in.npy", "folder.npy", *S], "folder.npy"),
    "an output in no folder": (["in.npy", "nowhere/out.npy", *S], "nowhere", "No such"),
    "an output in a file": (["in.npy", "a_file/out.npy", *S], "a_file"),
    "the input for output": (["in.npy", "in.npy", *S], "in.npy", "input"),
    "the input for output, otherwise named": (["in.npy", "./folder.npy/../in.npy", *S], "in.npy", "input"),
    "another input for output": (["in.npy", "out.npy", "in.tif", "in.npy", *S], "in.npy", "input"),
    "an output in an input": (["in.zarr", "in.zarr/out.npy", *S], "in.zarr", "input"),
    "an output around an input": (["out.zarr/0", "out.zarr", *S], "out.zarr", "input"),
    "an output twice": (["in.npy", "out.npy", "in.tif", "out.npy", *S], "out.npy", "twice"),
    "floats to png": (["floats.npy", "out.png", *S], "out.png", "float32", "uint8"),
    "half to nii": (["half.npy", "out.nii", *S], "out.nii", "float16", "int16"),
    "records": (["void.npy", "out.npy", *S], "void.npy", "int16"),
    "strings": (["text.npy", "out.npy", *S], "text.npy", "int16"),
    "no axes": (["scalar.npy", "out.npy", *S], "scalar.npy", "0 axes"),
    "many axes": (["many.npy", "out.npy", *S], "many.npy", "20 axes"),
    "an empty picture to tif": (["empty.npy", "out.tif", *S], "out.tif", "empty"),
    "an empty picture to png": (["empty.npy", "out.png", *S], "out.png", "(0, 4)"),
    "other extents": (["in.npy", "out.npy", "other.npy", "out2.npy", *S], "other.npy", "(10, 24)", "in.npy"),
    "other number of axes": (["in.npy", "out.npy", "scalar.npy", "out2.npy", *S], "scalar.npy"),
    "sigma": (["in.npy", "out.npy", "--sigma", "-2"], "--sigma", "-2"),
    "sigma no number": (["in.npy", "out.npy", "--sigma", "much"], "--sigma", "much"),
    "three sigmas": (["in.npy", "out.npy", "--sigma", "1,2,3"], "--sigma"),
    "points": (["in.npy", "out.npy", *S, "--points", "0"], "--points"),
    "order": (["in.npy", "out.npy", *S, "--order", "6"], "--order", "6"),
    "order no number": (["in.npy", "out.npy", *S, "--order", "label"], "--order", "'label'", "labels"),
    "order with a cval of no label": (["in.npy", "out.npy", *S, "--order", "labels", "--cval", "0.1"], "--cval", "0.1"),
    "two orders": (["in.npy", "out.npy", *S, "--order", "3,0"], "--order", "1 pairs"),
    "mode": (["in.npy", "out.npy", *S, "--mode", "bent"], "--mode", "bent", "mirror"),
    "cval": (["in.npy", "out.npy", *S, "--cval", "nan"], "--cval", "nan"),
    "axis": (["in.npy", "out.npy", *S, "--axis", "0,2"], "--axis", "in.npy"),
    "axis twice": (["in.npy", "out.npy", *S, "--axis", "0,0"], "--axis"),
    "axis no number": (["in.npy", "out.npy", *S, "--axis", "x"], "--axis"),
    "seed": (["in.npy", "out.npy", "--sigma", "2", "--seed", "-1"], "--seed", "-1"),
    "rotate": (["in.npy", "out.npy", *S, "--rotate", "nan"], "--rotate"),
    "zoom": (["in.npy", "out.npy", *S, "--zoom", "0"], "--zoom"),
    "chunks": (["in.npy", "out.npy", *S, "--chunks", "8"], "--chunks", "Zarr"),
    "unknown option": (["in.npy", "out.npy", *S, "--colour", "red"], "--colour"),
}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("case", WRONG)
def test_wrong(case, tmp_path, capsys):
    before = contents(tmp_path)
    arguments, *words = WRONG[case]
    assert_fails(capsys, arguments, *words)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("dask_array")
@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--chunks", "0"], "--chunks"), (["--chunks", "2,2"], "--chunks"), (["--chunks", "2", "--axis", "4"], "--axis")],
)
def test_wrong_chunks(arguments, word, tmp_path, capsys):
    write(tmp_path / "in.zarr", random_array("f4", 9, 10, 11))
    before = contents(tmp_path)
    assert_fails(capsys, [tmp_path / "in.zarr", tmp_path / "out.zarr", *OPTIONS, *arguments], word)
    assert contents(tmp_path) == before


def stack_of_pages(path, **options):
    tifffile.imwrite(path, random_array("u2", 6, 20, 24), photometric="minisblack", **options)


FILES_TO_DAMAGE = {
    "npy": lambda path: write(path, random_array("f4", 20, 24)),
    "png": lambda path: write(path, random_array("u1", 20, 24)),
    "tif": lambda path: write(path, random_array("u1", 20, 24)),
    "pages.tif": stack_of_pages,
    "bare.tif": lambda path: stack_of_pages(path, metadata=None),
    "imagej.tif": lambda path: stack_of_pages(path, imagej=True),
    "ome.tif": lambda path: stack_of_pages(path, ome=True),
    "zlib.tif": lambda path: stack_of_pages(path, compression="zlib"),
    "nii": lambda path: write(path, random_array("i2", 9, 10, 11)),
    "nii.gz": lambda path: write(path, random_array("i2", 9, 10, 11)),
}
DAMAGES = {
    "half": lambda content: content[: len(content) // 2],
    "random": lambda content: np.random.default_rng(0).bytes(len(content)),
    "header alone": lambda content: content[:16] + np.random.default_rng(0).bytes(len(content) - 16),
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", FILES_TO_DAMAGE)
def test_damaged(kind, damage, tmp_path, capsys):
    path = tmp_path / f"in.{kind}"
    FILES_TO_DAMAGE[kind](path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    before = contents(tmp_path)
    assert_fails(capsys, [path, tmp_path / "out.npy", *OPTIONS], path.name, "cannot read")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", FILES_TO_DAMAGE)
def test_a_file_cut_anywhere_gives_no_wrong_image(kind, tmp_path, capsys):
    """At its end there may be something that does not matter."""
    whole, part = tmp_path / f"whole.{kind}", tmp_path / f"part.{kind}"
    FILES_TO_DAMAGE[kind](whole)
    assert deform(whole, tmp_path / "of_whole.npy") == 0
    capsys.readouterr()
    content = whole.read_bytes()
    for length in np.linspace(0, len(content), 12, dtype=int)[1:-1]:
        part.write_bytes(content[:length])
        if deform(part, tmp_path / "of_part.npy") == 0:
            np.testing.assert_array_equal(read(tmp_path / "of_part.npy"), read(tmp_path / "of_whole.npy"))
        else:
            assert capsys.readouterr().err.count("\n") == 1


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["array of objects", "pickle"])
def test_no_pickle_is_loaded(form, tmp_path, capsys):
    bomb = np.array([Bomb(tmp_path / "exploded")], object)
    if form == "pickle":
        bomb.dump(tmp_path / "in.npy")
    else:
        np.save(tmp_path / "in.npy", bomb)
    before = contents(tmp_path)
    assert_fails(capsys, [tmp_path / "in.npy", tmp_path / "out.npy", *OPTIONS], "in.npy")
    assert contents(tmp_path) == before
    np.load(tmp_path / "in.npy", allow_pickle=True)
    assert (tmp_path / "exploded").exists(), "the bomb is none"


def test_a_header_that_promises_too_much(tmp_path, capsys):
    write(tmp_path / "in.npy", random_array("f4", 20, 24))
    content = (tmp_path / "in.npy").read_bytes()
    (tmp_path / "in.npy").write_bytes(content.replace(b"(20, 24), }         ", b"(2000000, 2400000), "))
    assert (tmp_path / "in.npy").read_bytes() != content
    assert_fails(capsys, [tmp_path / "in.npy", tmp_path / "out.npy", *OPTIONS])


def test_no_png_is_read_in_part(tmp_path, capsys):
    frames = [PIL_Image.fromarray(random_array("u1", 20, 24) // k) for k in (1, 2)]
    frames[0].save(tmp_path / "frames.png", save_all=True, append_images=frames[1:])
    assert_fails(capsys, [tmp_path / "frames.png", tmp_path / "out.png", *OPTIONS], "frames.png", "2 frames")


def test_another_format_by_the_name_of_png(tmp_path, capsys):
    PIL_Image.fromarray(random_array("u1", 20, 24)).save(tmp_path / "in.png", format="JPEG")
    assert_fails(capsys, [tmp_path / "in.png", tmp_path / "out.png", *OPTIONS], "in.png", "cannot read")


def test_libraries_do_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL_Image, "MAX_IMAGE_PIXELS", 400)  # from so many, Pillow warns of bombs
    assert deform(write(tmp_path / "in.png", random_array("u1", 20, 24)), tmp_path / "out.png") == 0


def test_no_tiff_is_read_in_part(tmp_path, capsys):
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        file.write(random_array("u1", 20, 24), photometric="minisblack", metadata=None)
        file.write(random_array("u2", 10, 12), photometric="minisblack", metadata=None)
    assert_fails(capsys, [tmp_path / "in.tif", tmp_path / "out.tif", *OPTIONS], "in.tif", "2 images")


# Outputs appear whole or not at all.


def two_pairs(folder):
    array = random_array("f4", 20, 24)
    return [
        write(folder / "a.npy", array),
        folder / "a_out.npy",
        write(folder / "b.npy", array),
        folder / "b_out.nii",
    ]


def test_outputs_are_replaced_together(tmp_path):
    files = two_pairs(tmp_path)
    for path in files[1::2]:
        path.write_text("before")
    assert deform(*files) == 0
    for path in files[1::2]:
        np.testing.assert_array_equal(read(path), expected(read(files[0]), None))
    assert sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("error", [OSError("the disk\nis full"), MemoryError(), RuntimeError()])
def test_nothing_is_replaced_unless_all_are_written(error, tmp_path, monkeypatch, capsys):
    files = two_pairs(tmp_path)
    files[1].write_text("before")
    before = contents(tmp_path)

    def write_half(path, image):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(formats.nifti, "write", write_half)
    assert_fails(capsys, [*files, *OPTIONS], "memory" if isinstance(error, MemoryError) else "b_out.nii")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["read", "write"])
def test_nothing_is_left_after_an_interrupt(place, tmp_path, monkeypatch, capsys):
    files = two_pairs(tmp_path)
    before = contents(tmp_path)

    def interrupted(path, *_):
        if place == "write":
            path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(formats.nifti if place == "write" else formats.npy, place, interrupted)
    assert deform(*files) == 130
    assert capsys.readouterr() == ("", "elasticnd: interrupted\n")
    assert contents(tmp_path) == before


def test_an_array_of_zarr_comes_back_if_it_cannot_be_replaced(tmp_path, monkeypatch, capsys):
    write(tmp_path / "out.zarr", np.zeros((3, 3)))
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    before, rename = contents(tmp_path), os.replace

    def replace(first, second):
        if os.fspath(first).endswith("out.zarr") and "replaced" not in os.fspath(second):
            raise PermissionError(13, "Permission denied")
        rename(first, second)

    monkeypatch.setattr(os, "replace", replace)
    assert_fails(capsys, [source, tmp_path / "out.zarr", *OPTIONS], "out.zarr", "Permission denied")
    assert contents(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_the_file_that_a_link_names_is_replaced(tmp_path):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    (tmp_path / "store").mkdir()
    (tmp_path / "out.npy").symlink_to(tmp_path / "store" / "out.npy")
    assert deform(source, tmp_path / "out.npy") == 0
    assert (tmp_path / "out.npy").is_symlink()
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["out.npy"]


@pytest.mark.parametrize(
    ("library", "name"), [("PIL.Image", "in.png"), ("tifffile", "in.tif"), ("nibabel", "in.nii"), ("zarr", "in.zarr")]
)
def test_without_a_library_it_says_what_to_install(library, name, tmp_path, monkeypatch, capsys):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, library, None)
    assert_fails(capsys, [tmp_path / name, tmp_path / "out.npy", *OPTIONS], "elasticnd[files]")


def test_as_module(tmp_path):
    array = random_array("u1", 20, 24)
    write(tmp_path / "in.png", array)
    command = [sys.executable, "-I", "-X", "importtime", "-m", "elasticnd", "deform", "in.png", "out.npy", *OPTIONS]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, None))
    assert not re.search(r"\| +(nibabel|tifffile|zarr|dask)\n", done.stderr), "a library that was not needed"
