"""Damaged files that a format's own checks detect are refused with a one-line error, and nothing is written."""

import gzip
import struct
import zlib

import numpy as np
import pytest
from image_files import (
    OPTIONS,
    assert_fails,
    contents,
    deform,
    nibabel,
    random_array,
    tifffile,
    write,
    zarr_library,
)
from png_files import framed, png

GREY = random_array("u1", 20, 24)
VOLUME = random_array("i2", 9, 10, 11)


def npy(path):
    write(path, random_array("f4", 20, 24))


def coloured(path):
    extra = [(b"PLTE", bytes(24)), (b"tEXt", b"Title\0a title")]
    png(path, GREY % 8, colour_type=3, extra=extra)


def nifti(path):
    nibabel.Nifti1Image(VOLUME, np.eye(4)).to_filename(path)


def tiff(**options):
    def write_file(path):
        tifffile.imwrite(path, random_array("u2", 3, 20, 24), photometric="minisblack", **options)

    return write_file


def zarr(codec):
    """Return a function that writes an array of one chunk, or of one shard with several chunks."""

    def write_file(path):
        library, array = zarr_library(), random_array("u2", 20, 24)
        if codec == "shards":
            library.create_array(str(path), data=array, chunks=(10, 12), shards=(20, 24), compressors=None)
        else:
            compressor = {
                "none": None,
                "crc32c": library.codecs.Crc32cCodec,
                "gzip": library.codecs.GzipCodec,
                "zstd": lambda: library.codecs.ZstdCodec(checksum=True),
            }[codec]
            library.create_array(str(path), data=array, chunks=(20, 24), compressors=compressor and compressor())

    return write_file


def part(path):
    """Return the file to damage, which is the chunk of a Zarr array."""
    return path / "c" / "0" / "0" if path.is_dir() else path


def cut(count):
    return lambda data: data[:-count]


def followed_by(more):
    return lambda data: data + more


def flipped(where):
    """Return a function that flips a bit."""

    def damage(data):
        changed = bytearray(data)
        changed[where] ^= 16
        return bytes(changed)

    return damage


def replaced(before, after):
    def damage(data):
        assert data.count(before) >= 1
        return data.replace(before, after, 1)

    return damage


def flipped_chunk(kind):
    """Return a function that flips a bit in the checksum of a chunk."""

    def damage(data):
        start = data.index(kind) - 4
        return flipped(start + 8 + int.from_bytes(data[start : start + 4], "big"))(data)

    return damage


def other_chunk(kind, change):
    """Return a function that changes the content of a chunk and adapts its checksum."""

    def damage(data):
        start = data.index(kind) - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        return data[:start] + framed(kind, change(data[start + 8 : end - 4])) + data[end:]

    return damage


def other_rows(change):
    return other_chunk(b"IDAT", lambda content: zlib.compress(change(zlib.decompress(content))))


def other_tag(code, change):
    """Return a function that changes the first value of a tag in a little-endian TIFF file."""

    def damage(data):
        (position,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, position)
        for entry in range(position + 2, position + 2 + 12 * count, 12):
            if struct.unpack_from("<H", data, entry) == (code,):
                kind, length = struct.unpack_from("<HI", data, entry + 2)
                form = {3: "<H", 4: "<I"}[kind]
                inline = struct.calcsize(form) * length <= 4
                place = entry + 8 if inline else struct.unpack_from("<I", data, entry + 8)[0]
                changed = bytearray(data)
                struct.pack_into(form, changed, place, change(struct.unpack_from(form, data, place)[0]))
                return bytes(changed)
        raise AssertionError(code)

    return damage


END = framed(b"IEND", b"")
OFFSETS, COUNTS, WIDTH, COMPRESSION = 273, 279, 256, 259

DAMAGED = {
    "npy, cut": (".npy", npy, cut(1)),
    "npy, cut in its header": (".npy", npy, lambda data: data[:40]),
    "npy, followed by a byte": (".npy", npy, followed_by(b"\0")),
    "npy, of another kind": (".npy", npy, flipped(1)),
    "npy, no shape": (".npy", npy, replaced(b"(20, 24)", b"(20, 24]")),
    "png, header": (".png", coloured, flipped_chunk(b"IHDR")),
    "png, palette": (".png", coloured, flipped_chunk(b"PLTE")),
    "png, rows": (".png", coloured, flipped_chunk(b"IDAT")),
    "png, text": (".png", coloured, flipped_chunk(b"tEXt")),
    "png, end": (".png", coloured, flipped_chunk(b"IEND")),
    "png, no end": (".png", coloured, cut(12)),
    "png, cut": (".png", coloured, cut(1)),
    "png, followed by a byte": (".png", coloured, followed_by(b"\0")),
    "png, no palette": (".png", coloured, replaced(framed(b"PLTE", bytes(24)), b"")),
    "png, colours beyond the palette": (".png", coloured, other_chunk(b"PLTE", lambda _: bytes(12))),
    "png, half a colour": (".png", coloured, other_chunk(b"PLTE", lambda _: bytes(25))),
    "png, checksum of rows": (".png", coloured, other_chunk(b"IDAT", flipped(-1))),
    "png, rows without end": (".png", coloured, other_chunk(b"IDAT", cut(4))),
    "png, too few rows": (".png", coloured, other_rows(cut(25))),
    "png, too many rows": (".png", coloured, other_rows(followed_by(bytes(25)))),
    "png, no such filter": (".png", coloured, other_rows(lambda rows: b"\7" + rows[1:])),
    "png, no such depth": (".png", coloured, other_chunk(b"IHDR", lambda header: header[:8] + b"\3" + header[9:])),
    "png, no columns": (".png", coloured, other_chunk(b"IHDR", lambda header: bytes(4) + header[4:])),
    "png, unknown critical chunk": (
        ".png",
        coloured,
        replaced(framed(b"IEND", b""), framed(b"CRIT", b"") + framed(b"IEND", b"")),
    ),
    "png, two headers": (".png", coloured, lambda data: data[:33] + data[8:33] + data[33:]),
    "png, rows apart": (
        ".png",
        coloured,
        replaced(END, framed(b"tEXt", b"a\0b") + framed(b"IDAT", b"") + END),
    ),
    "nii, cut": (".nii", nifti, cut(1)),
    "nii, cut in its header": (".nii", nifti, lambda data: data[:200]),
    "nii, no type": (".nii", nifti, lambda data: data[:70] + b"\x0f\x27" + data[72:]),
    "nii.gz, checksum": (".nii.gz", nifti, flipped(-8)),
    "nii.gz, size": (".nii.gz", nifti, flipped(-4)),
    "nii.gz, no checksum": (".nii.gz", nifti, cut(8)),
    "nii.gz, half a checksum": (".nii.gz", nifti, cut(1)),
    "nii.gz, followed by bytes": (".nii.gz", nifti, followed_by(b"garbage")),
    "nii.gz, followed by a damaged part": (".nii.gz", nifti, followed_by(gzip.compress(b"more")[:-2])),
    "nii.gz, not compressed": (".nii.gz", nifti, gzip.decompress),
    "tif, cut": (".tif", lambda path: tifffile.imwrite(path, GREY), cut(1)),
    "tif, ends before its strips": (".tif", tiff(byteorder="<"), lambda data: data[: len(data) // 2]),
    "tif, strips beyond the end": (".tif", tiff(byteorder="<"), other_tag(OFFSETS, lambda _: 10**6)),
    "tif, short strips": (".tif", tiff(byteorder="<", rowsperstrip=5), other_tag(COUNTS, lambda count: count - 2)),
    "tif, no strips": (".tif", tiff(byteorder="<", rowsperstrip=5), other_tag(COUNTS, lambda _: 0)),
    "tif, no such compression": (".tif", tiff(byteorder="<"), other_tag(COMPRESSION, lambda _: 999)),
    "tif, no columns": (".tif", tiff(byteorder="<"), other_tag(WIDTH, lambda _: 0)),
    "tif, zlib, short strip": (
        ".tif",
        tiff(compression="zlib", byteorder="<"),
        other_tag(COUNTS, lambda count: count - 3),
    ),
    "tif, lzw, short strip": (
        ".tif",
        tiff(compression="lzw", byteorder="<"),
        other_tag(COUNTS, lambda count: count // 2),
    ),
    "tif, zstd, short strip": (
        ".tif",
        tiff(compression="zstd", byteorder="<"),
        other_tag(COUNTS, lambda count: count - 3),
    ),
    "tif, packbits, short strip": (
        ".tif",
        tiff(compression="packbits", byteorder="<"),
        other_tag(COUNTS, lambda count: count // 2),
    ),
    "tif, jpeg, short strip": (
        ".tif",
        lambda path: tifffile.imwrite(path, GREY, compression="jpeg", byteorder="<"),
        other_tag(COUNTS, lambda count: count // 2),
    ),
    "zarr, cut": (".zarr", zarr("none"), cut(1)),
    "zarr, followed by a byte": (".zarr", zarr("none"), followed_by(b"\0")),
    "zarr, crc32c": (".zarr", zarr("crc32c"), flipped(100)),
    "zarr, checksum of crc32c": (".zarr", zarr("crc32c"), flipped(-1)),
    "zarr, gzip, checksum": (".zarr", zarr("gzip"), flipped(-8)),
    "zarr, gzip, size": (".zarr", zarr("gzip"), flipped(-4)),
    "zarr, gzip, cut": (".zarr", zarr("gzip"), cut(1)),
    "zarr, gzip, followed by bytes": (".zarr", zarr("gzip"), followed_by(b"garbage")),
    "zarr, zstd, checksum": (".zarr", zarr("zstd"), flipped(-1)),
    "zarr, zstd, cut": (".zarr", zarr("zstd"), cut(1)),
    "zarr, zstd, followed by bytes": (".zarr", zarr("zstd"), followed_by(b"garbage")),
    "zarr, index of shards": (".zarr", zarr("shards"), flipped(-10)),
    "zarr, shards, cut": (".zarr", zarr("shards"), cut(1)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(case, tmp_path, capsys):
    suffix, write_file, damage = DAMAGED[case]
    path = tmp_path / f"in{suffix}"
    write_file(path)
    assert deform(path, tmp_path / "whole.npy", "--order", "0") == 0
    (tmp_path / "whole.npy").unlink()
    capsys.readouterr()
    part(path).write_bytes(damage(part(path).read_bytes()))
    before = contents(tmp_path)
    assert_fails(capsys, [path, tmp_path / "out.npy", *OPTIONS, "--order", "0"], "IN: ", path.name)
    assert contents(tmp_path) == before
