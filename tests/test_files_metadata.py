"""Metadata of files are kept, or a note on the standard error stream names what is lost.

The tests read outputs with the libraries of the formats. They also read chunks of PNG and tags of TIFF byte by byte.
"""

import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from image_files import PIL_Image, deform, expected, nibabel, random_array, read, tifffile, write, zarr_library
from png_files import chunks, png

PIL_ImageCms = pytest.importorskip("PIL.ImageCms")
PROFILE = PIL_ImageCms.ImageCmsProfile(PIL_ImageCms.createProfile("sRGB")).tobytes()
GREY = random_array("u1", 20, 24)
RGB = random_array("u1", 20, 24, 3)


def noted(capsys):
    """Return what the note on the standard error stream says is lost, or None without a note."""
    captured = capsys.readouterr()
    assert captured.out == ""
    if not captured.err:
        return None
    assert captured.err.startswith("elasticnd: note: ")
    assert captured.err.count("\n") == 1
    return captured.err.rsplit(": ", 1)[1].strip().split(", ")


# PNG.

CHUNKS = {
    "gAMA": struct.pack(">I", 45455),
    "cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    "sRGB": b"\1",
    "iCCP": b"sRGB\0\0" + zlib.compress(PROFILE),
    "cICP": bytes([1, 13, 0, 1]),
    "sBIT": bytes([8, 7, 8]),
    "bKGD": struct.pack(">3H", 1, 2, 3),
    "pHYs": struct.pack(">IIB", 2835, 5670, 1),
    "eXIf": b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",
    "tEXt": b"Title\0a title",
    "zTXt": b"Comment\0\0" + zlib.compress(b"a comment"),
    "iTXt": b"Author\0\0\0\0\0" + "Åse".encode(),
    "sPLT": b"name\0\x08" + bytes(6),
    "oFFs": struct.pack(">iiB", 3, 4, 0),
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_chunks_of_png_are_kept(kind, tmp_path, capsys):
    png(tmp_path / "in.png", RGB, extra=[(kind.encode(), CHUNKS[kind])])
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert noted(capsys) is None
    assert dict(chunks(tmp_path / "out.png"))[kind] == CHUNKS[kind]
    with PIL_Image.open(tmp_path / "out.png") as file:
        np.testing.assert_array_equal(np.array(file), expected(RGB, (0, 1)))


def test_the_order_of_chunks_is_that_of_the_standard(tmp_path):
    many = [(kind.encode(), content) for kind, content in CHUNKS.items() if kind != "sRGB"]
    palette = bytes(range(24))
    png(tmp_path / "in.png", GREY % 8, colour_type=3, extra=[(b"PLTE", palette), *many, (b"tRNS", b"\0")])
    assert deform(tmp_path / "in.png", tmp_path / "out.png", "--order", "0") == 0
    kinds = [kind for kind, _ in chunks(tmp_path / "out.png")]
    assert kinds[0] == "IHDR"
    assert kinds[-1] == "IEND"
    for before, after in [("iCCP", "PLTE"), ("gAMA", "PLTE"), ("PLTE", "tRNS"), ("PLTE", "bKGD"), ("tRNS", "IDAT")]:
        assert kinds.index(before) < kinds.index(after)


@pytest.mark.parametrize(
    ("kind", "content"),
    [("tIME", struct.pack(">H5B", 2020, 1, 2, 3, 4, 5)), ("prIV", b"of pixels"), ("hIST", bytes(16))],
)
def test_chunks_that_are_wrong_for_other_pixels_are_named(kind, content, tmp_path, capsys):
    png(tmp_path / "in.png", RGB, extra=[(kind.encode(), content)])
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert noted(capsys) == [kind]
    assert kind not in dict(chunks(tmp_path / "out.png"))


def test_unknown_chunks_that_stay_valid_are_kept(tmp_path, capsys):
    png(tmp_path / "in.png", RGB, extra=[(b"prIv", b"of the author")])
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert noted(capsys) is None
    assert dict(chunks(tmp_path / "out.png"))["prIv"] == b"of the author"


def test_chunks_of_another_type_of_pixels_are_named(tmp_path, capsys):
    extra = [(b"sBIT", b"\5\5\5"), (b"PLTE", bytes(24)), (b"bKGD", b"\3")]
    png(tmp_path / "in.png", GREY % 8, colour_type=3, extra=extra)
    assert deform(tmp_path / "in.png", tmp_path / "out.png") == 0
    assert noted(capsys) == ["sBIT", "bKGD"]


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".nii", ".zarr"])
def test_chunks_of_png_in_other_formats(suffix, tmp_path, capsys):
    if suffix == ".zarr":
        zarr_library()
    png(tmp_path / "in.png", RGB, extra=[(kind.encode(), CHUNKS[kind]) for kind in ("gAMA", "iCCP", "pHYs", "eXIf")])
    assert deform(tmp_path / "in.png", tmp_path / f"out{suffix}") == 0
    common = [] if suffix == ".tif" else ["colour profile", "resolution"]
    assert noted(capsys) == ["gAMA", "eXIf", *common]
    if suffix == ".tif":
        with tifffile.TiffFile(tmp_path / "out.tif") as file:
            page = file.pages[0]
            assert page.tags.valueof(34675) == PROFILE
            assert page.get_resolution("centimeter") == pytest.approx((28.35, 56.70))


# TIFF.

COPIED = [  # code, type, count, value
    (269, 2, 0, "a document"),
    (271, 2, 0, "a maker"),
    (274, 3, 1, 6),
    (306, 2, 0, "2020:01:02 03:04:05"),
    (315, 2, 0, b"\xc3\x85se"),
    (316, 2, 0, "a computer"),
    (33432, 2, 0, "a copyright"),
    (318, 5, 2, (3127, 10000, 3290, 10000)),
    (319, 5, 6, (64, 100, 33, 100, 30, 100, 60, 100, 15, 100, 6, 100)),
    (700, 1, 9, b"<x:xmp/> "),
    (33723, 7, 12, b"\x1c\2\0\0\2\0\2\x1c\2\x50\0\0"),
    (34377, 7, 16, b"8BIM\4\4\0\0\0\0\0\3abc\0"),
    (34675, 7, len(PROFILE), PROFILE),
    (33550, 12, 3, (0.5, 0.5, 0.0)),
    (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0)),
    (34735, 3, 8, (1, 1, 0, 1, 1024, 0, 1, 1)),
    (34736, 12, 1, (6378137.0,)),
    (34737, 2, 0, "WGS 84|"),
    (42112, 2, 0, "<GDALMetadata/>"),
    (42113, 2, 0, "-9999"),
]


def raw_tags(path):
    """Return the tags of the first page, with their types and bytes, from a file in either byte order."""
    data = path.read_bytes()
    order = "<" if data[:2] == b"II" else ">"
    (position,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, position)
    found = {}
    for entry in range(position + 2, position + 2 + 12 * count, 12):
        code, kind, length = struct.unpack_from(order + "HHI", data, entry)
        size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8}[kind] * length
        start = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        found.setdefault(code, (kind, data[start : start + size]))
    return found


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tags_of_tiff_are_kept(byteorder, tmp_path, capsys):
    """Tags, including those of GeoTIFF, are copied byte by byte, and no other text is added."""
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    options = {"photometric": "minisblack", "metadata": None, "byteorder": byteorder, "software": "a program"}
    tifffile.imwrite(source, GREY, extratags=COPIED, description="a\ndescription", resolution=(72, 36), **options)
    assert deform(source, target) == 0
    assert noted(capsys) is None
    before, after = raw_tags(source), raw_tags(target)
    assert before.keys() == after.keys()
    for code in (*(tag[0] for tag in COPIED), 270, 282, 283, 296, 305):
        assert after[code] == before[code], code
    with tifffile.TiffFile(target) as file:
        assert file.pages[0].description == "a\ndescription"
        np.testing.assert_array_equal(file.asarray(), expected(GREY, None))


def test_descriptions_beyond_ascii(tmp_path, capsys):
    text = "5 µm, Ångström"
    tifffile.imwrite(tmp_path / "in.tif", GREY, description=text.encode(), metadata=None, photometric="minisblack")
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) is None
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.pages[0].description == text


def test_metadata_of_tifffile_are_kept(tmp_path, capsys):
    metadata = {"axes": "TYX", "key": "Å", "list": [1, 2]}
    array = random_array("f4", 3, 20, 24)
    tifffile.imwrite(tmp_path / "in.tif", array, photometric="minisblack", metadata=metadata, description="a text")
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) is None
    with tifffile.TiffFile(tmp_path / "in.tif") as before, tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert after.shaped_metadata == before.shaped_metadata
        assert after.pages[0].description == "a text"
        np.testing.assert_array_equal(after.asarray(), expected(array, (1, 2)))
    assert deform(tmp_path / "in.tif", tmp_path / "out.npy") == 0
    assert noted(capsys) == ["key", "list", "ImageDescription", "names of axes (TYX)"]


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ((280, 3, 1, 3), "MinSampleValue"),
        ((341, 3, 1, 250), "SMaxSampleValue"),
        ((65000, 7, 4, b"any "), "65000"),
    ],
)
def test_tags_that_are_wrong_for_other_pixels_are_named(tag, name, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "in.tif", GREY, photometric="minisblack", metadata=None, extratags=[tag])
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) == [name]
    assert tag[0] not in raw_tags(tmp_path / "out.tif")


def test_exif_of_tiff_is_named(tmp_path, capsys):
    """Exif data are stored elsewhere in the file, and are therefore not copied."""
    tag, options = (65000, 4, 1, 8), {"photometric": "minisblack", "metadata": None, "byteorder": "<"}
    tifffile.imwrite(tmp_path / "in.tif", GREY, extratags=[tag], **options)
    data = (tmp_path / "in.tif").read_bytes().replace(struct.pack("<HHII", *tag), struct.pack("<HHII", 34665, *tag[1:]))
    (tmp_path / "in.tif").write_bytes(data)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) == ["ExifTag"]


def test_levels_of_a_pyramid_are_named(tmp_path, capsys):
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        file.write(GREY, photometric="minisblack", subifds=1, metadata=None)
        file.write(GREY[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) == ["SubIFDs"]


def test_texts_of_later_pages_are_named(tmp_path, capsys):
    stack = random_array("u1", 3, 20, 24)
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        for page, text in zip(stack, "abc", strict=True):
            file.write(page, photometric="minisblack", metadata=None, description=text)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) == ["ImageDescription of all pages except the first"]
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), expected(stack, None))


@pytest.mark.parametrize("suffix", [".npy", ".png", ".nii", ".zarr"])
def test_tags_of_tiff_in_other_formats(suffix, tmp_path, capsys):
    if suffix == ".zarr":
        zarr_library()
    tags = [tag for tag in COPIED if tag[0] in (274, 34675, 33550)]
    options = {"photometric": "minisblack", "metadata": None, "resolution": (254, 127), "resolutionunit": "inch"}
    tifffile.imwrite(tmp_path / "in.tif", GREY, extratags=tags, description="a text", **options)
    assert deform(tmp_path / "in.tif", tmp_path / f"out{suffix}") == 0
    common = [] if suffix == ".png" else ["colour profile", "resolution"]
    assert noted(capsys) == ["Orientation", "ModelPixelScaleTag", "ImageDescription", *common]
    if suffix == ".png":
        said = dict(chunks(tmp_path / "out.png"))
        assert zlib.decompress(said["iCCP"].split(b"\0", 1)[1][1:]) == PROFILE
        assert said["pHYs"] == struct.pack(">IIB", 10000, 5000, 1)


def test_a_plain_file_has_no_metadata_to_lose(tmp_path, capsys):
    for name in ("in.tif", "in.png", "in.nii"):
        write(tmp_path / name, GREY)
        for suffix in (".npy", ".png", ".tif", ".nii"):
            assert deform(tmp_path / name, tmp_path / f"out{suffix}") == 0
            assert noted(capsys) is None, (name, suffix)


# ImageJ and OME.


@pytest.mark.parametrize("unit", ["um", "µm", "Å", "\\u00B5m", "微米"])
def test_units_of_imagej(unit, tmp_path, capsys):
    """Files contain special letters either escaped, as ImageJ writes them, or unchanged."""
    array = random_array("u2", 3, 20, 24)
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    metadata = {
        "axes": "ZYX",
        "unit": "UNIT",
        "spacing": 0.5,
        "Info": "Åse",
        "Labels": ["α", "β", "γ"],
        "Ranges": (0.0, 9.0),
    }
    tifffile.imwrite(source, array, imagej=True, metadata=metadata, resolution=(2, 4))
    with tifffile.TiffFile(source) as file:
        text = file.pages[0].description.replace("UNIT", unit).encode()
    tifffile.tiffcomment(source, text)
    assert deform(source, target) == 0
    assert noted(capsys) is None
    with tifffile.TiffFile(source) as before, tifffile.TiffFile(target) as after:
        assert before.imagej_metadata["unit"] == unit
        escaped = "".join(letter if letter.isascii() else f"\\u{ord(letter):04X}" for letter in unit)
        assert after.imagej_metadata == before.imagej_metadata | {"unit": escaped}
        assert after.pages[0].resolution == (2, 4)
        assert after.series[0].axes == "ZYX"
        np.testing.assert_array_equal(after.asarray(), expected(array, None))


def test_places_of_imagej_are_named(tmp_path, capsys):
    metadata = {"axes": "ZYX", "ROI": b"Iout" + bytes(60), "Overlays": [b"Iout" + bytes(60)]}
    tifffile.imwrite(tmp_path / "in.tif", random_array("u2", 3, 20, 24), imagej=True, metadata=metadata)
    assert deform(tmp_path / "in.tif", tmp_path / "out.tif") == 0
    assert noted(capsys) == ["ROI of ImageJ", "Overlays of ImageJ"]
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert not {"ROI", "Overlays"} & file.imagej_metadata.keys()


OME = {
    "axes": "TCZYX",
    "Name": "a name",
    "Description": "5 µm of Ångström",
    "PhysicalSizeX": 0.25,
    "PhysicalSizeXUnit": "µm",
    "PhysicalSizeY": 0.5,
    "PhysicalSizeYUnit": "µm",
    "PhysicalSizeZ": 2.0,
    "PhysicalSizeZUnit": "Å",
    "TimeIncrement": 3.0,
    "TimeIncrementUnit": "s",
    "Channel": {"Name": ["DAPI", "GFP"], "EmissionWavelength": [460, 510]},
    "Plane": {"DeltaT": [float(k) for k in range(12)], "PositionX": [0.5] * 12},
}


def pixels_of(path):
    """Return what OME metadata say of an image, except the assignment of pages."""
    with tifffile.TiffFile(path) as file:
        root = ElementTree.fromstring(file.ome_metadata)  # noqa: S314
        assert len(file.pages[0].tags.getall(270)) == 1
    (image,) = (child for child in root if child.tag.endswith("Image"))

    def said(element):
        inner = [said(child) for child in element if not child.tag.endswith("TiffData")]
        return element.tag, element.attrib, (element.text or "").strip(), inner

    return said(image)


@pytest.mark.parametrize("name", ["out.ome.tif", "out.tif"])
def test_metadata_of_ome_are_kept(name, tmp_path, capsys):
    array = random_array("u2", 2, 2, 3, 20, 24)
    tifffile.imwrite(tmp_path / "in.ome.tif", array, metadata=OME, photometric="minisblack")
    assert deform(tmp_path / "in.ome.tif", tmp_path / name) == 0
    assert noted(capsys) is None
    assert pixels_of(tmp_path / name) == pixels_of(tmp_path / "in.ome.tif")
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.is_ome
        assert file.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(file.asarray(), expected(array, (2, 3, 4)))


@pytest.mark.parametrize("shape", [(1, 1, 3, 20, 24), (1, 2, 1, 20, 24), (1, 1, 1, 20, 24)])
def test_ome_with_axes_of_one(shape, tmp_path):
    array = random_array("u1", *shape)
    tifffile.imwrite(tmp_path / "in.ome.tif", array, metadata={"axes": "TCZYX"}, photometric="minisblack")
    assert deform(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif") == 0
    assert pixels_of(tmp_path / "out.ome.tif") == pixels_of(tmp_path / "in.ome.tif")
    axes = tuple(k for k in (2, 3, 4) if shape[k] > 1)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray().reshape(shape), expected(array, axes))


def test_ome_in_colour(tmp_path):
    array = random_array("u1", 3, 20, 24, 3)
    tifffile.imwrite(tmp_path / "in.ome.tif", array, metadata={"axes": "ZYXS"}, photometric="rgb")
    assert deform(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif") == 0
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        assert file.series[0].axes == "ZYXS"
        np.testing.assert_array_equal(file.asarray(), expected(array, (0, 1, 2)))


def test_ome_of_pages_in_another_order(tmp_path, capsys):
    """The output has its pages in order, and its metadata refer to no other file."""
    array = random_array("u2", 3, 20, 24)
    tifffile.imwrite(tmp_path / "in.ome.tif", array, metadata={"axes": "ZYX"}, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "in.ome.tif") as file:
        text = file.ome_metadata
    start, end = text.index("<TiffData"), text.index("/>", text.index("<TiffData")) + 2
    uuid = '<UUID FileName="in.ome.tif">urn:uuid:00000000-0000-0000-0000-000000000000</UUID>'
    blocks = "".join(f'<TiffData FirstZ="{z}" IFD="{2 - z}" PlaneCount="1">{uuid}</TiffData>' for z in range(3))
    region = '<ROI ID="ROI:0"><Union><Point ID="Shape:0" X="1" Y="2"/></Union></ROI>'
    text = text[:start] + blocks + text[end:].replace("</Image>", '<ROIRef ID="ROI:0"/></Image>' + region)
    tifffile.tiffcomment(tmp_path / "in.ome.tif", text.encode())
    assert deform(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif") == 0
    assert noted(capsys) == ["ROI of OME"]
    (tmp_path / "in.ome.tif").rename(tmp_path / "gone")
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        assert "UUID" not in file.ome_metadata
        assert "ROI" not in file.ome_metadata
        np.testing.assert_array_equal(file.series[0].asarray(), expected(array[::-1], None))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_imagej_and_ome_in_other_formats(kind, tmp_path, capsys):
    array = random_array("u2", 2, 3, 20, 24)
    axes = "ZCYX" if kind == "imagej" else "CZYX"
    tifffile.imwrite(tmp_path / "in.tif", array, metadata={"axes": axes}, photometric="minisblack", **{kind: True})
    assert deform(tmp_path / "in.tif", tmp_path / "out.npy") == 0
    name = "metadata of ImageJ" if kind == "imagej" else "metadata of OME"
    assert noted(capsys) == [name, f"names of axes ({axes})"]


# NIfTI.


@pytest.mark.parametrize("suffix", [".npy", ".tif", ".zarr"])
def test_headers_of_nifti_in_other_formats(suffix, tmp_path, capsys):
    if suffix == ".zarr":
        zarr_library()
    volume = nibabel.Nifti1Image(random_array("i2", 9, 10, 11), np.diag([2, 2, 3, 1.0]))
    volume.header.set_xyzt_units("mm", "sec")
    volume.header["descrip"] = b"a description"
    volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a comment"))
    volume.to_filename(tmp_path / "in.nii")
    assert deform(tmp_path / "in.nii", tmp_path / f"out{suffix}") == 0
    assert noted(capsys) == ["affine matrix and voxel size", "units", "description", "extensions"]


# Zarr.


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif", ".nii"])
@pytest.mark.parametrize("form", [2, 3])
def test_metadata_of_zarr_in_other_formats(form, suffix, tmp_path, capsys):
    named = {"dimension_names": ["y", "x"]} if form == 3 else {}
    options = {"zarr_format": form, "attributes": {"unit": "nm"}, **named}
    zarr_library().create_array(str(tmp_path / "in.zarr"), data=GREY, **options)
    assert deform(tmp_path / "in.zarr", tmp_path / f"out{suffix}") == 0
    assert noted(capsys) == ["attributes", "names of dimensions"][: form - 1]


@pytest.mark.parametrize("form", [2, 3])
def test_a_plain_zarr_array_has_no_metadata_to_lose(form, tmp_path, capsys):
    zarr_library().create_array(str(tmp_path / "in.zarr"), data=GREY, zarr_format=form)
    for suffix in (".npy", ".png", ".tif", ".nii", ".zarr"):
        assert deform(tmp_path / "in.zarr", tmp_path / f"out{suffix}") == 0
        assert noted(capsys) is None, suffix


@pytest.mark.parametrize("named", [False, True])
def test_metadata_of_zarr_are_kept_beside_other_formats(named, tmp_path, capsys):
    """If one output is not a Zarr array, all images are held in memory, and still keep their metadata."""
    options = {"attributes": {"unit": "nm"}, "dimension_names": ["y", "x"] if named else None}
    zarr_library().create_array(str(tmp_path / "in.zarr"), data=GREY, **options)
    write(tmp_path / "in.npy", GREY)
    files = [tmp_path / name for name in ("in.zarr", "out.zarr", "in.npy", "out.npy")]
    assert deform(*files) == 0
    assert noted(capsys) is None
    assert zarr_library().open_array(str(tmp_path / "out.zarr")).attrs["unit"] == "nm"
