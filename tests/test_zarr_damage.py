"""Damaged Zarr chunks, cut or followed by other bytes, are refused with any codec."""

import bz2
import lzma
import struct

import numcodecs
import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read
from zarr_files import zarr

NOISE = random_array("u2", 20, 24)
FEW_VALUES = NOISE % 5
LZMA_2 = {"id": "lzma", "format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2}]}

# All accepted codecs except `pcodec`, which requires another library.
VERSION_2 = {
    **{
        f"blosc, {name}": {"id": "blosc", "cname": name, "shuffle": 1}
        for name in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
    },
    "blosc, not compressed": {"id": "blosc", "clevel": 0},
    **{name: {"id": name} for name in ("bz2", "gzip", "lz4", "lzma", "zlib", "zstd")},
    "lzma, old": {"id": "lzma", "format": lzma.FORMAT_ALONE},
    "lzma, raw": LZMA_2,
    "shuffle": {"id": "shuffle", "elementsize": 2},
    **{name: {"id": name} for name in ("adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3")},
    "blosc as a filter": [{"id": "blosc"}],
    "zlib as a filter": [{"id": "zlib"}],
    "astype": [{"id": "astype", "encode_dtype": "<u4", "decode_dtype": "<u2"}],
    "bitround": [{"id": "bitround", "keepbits": 5}],
    "delta": [{"id": "delta", "dtype": "<u2"}],
    "fixedscaleoffset": [{"id": "fixedscaleoffset", "offset": 0, "scale": 2, "dtype": "<u2", "astype": "<u4"}],
    "packbits": [{"id": "packbits"}],
    "quantize": [{"id": "quantize", "digits": 2, "dtype": "<f4"}],
}
VERSION_3 = {
    **{
        f"blosc, {name}": {"name": "blosc", "configuration": {"cname": name, "shuffle": "shuffle", "typesize": 2}}
        for name in ("blosclz", "lz4", "zlib", "zstd")
    },
    "crc32c": {"name": "crc32c", "configuration": {}},
    "gzip": {"name": "gzip", "configuration": {}},
    "zstd": {"name": "zstd", "configuration": {}},
    **{
        f"numcodecs.{name}": {"name": f"numcodecs.{name}", "configuration": {}}
        for name in ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd", "adler32", "crc32", "fletcher32")
    },
    "none": None,
}
ARRAYS = {"bitround": NOISE.astype("f4"), "packbits": NOISE > 9000, "quantize": NOISE.astype("f4")}
DAMAGES = {
    "cut by 1": lambda data: data[:-1],
    "cut by 2": lambda data: data[:-2],
    "cut by 20": lambda data: data[:-20],
    "cut in half": lambda data: data[: len(data) // 2],
    "ten bytes left": lambda data: data[:10],
    "empty": lambda data: b"",
    "followed by a byte": lambda data: data + b"\1",
    "followed by bytes": lambda data: data + bytes(range(1, 21)),
    "twice": lambda data: 2 * data,
}


def write_version_2(path, case, array):
    codec = VERSION_2[case]
    filters = [numcodecs.get_codec(one) for one in codec] if isinstance(codec, list) else None
    compressor = None if filters else numcodecs.get_codec(codec)
    options = {"filters": filters, "compressors": compressor, "zarr_format": 2}
    zarr.create_array(str(path), data=array, chunks=array.shape, **options)
    return path / "0.0"


def write_version_3(path, case, array):
    zarr.create_array(str(path), data=array, chunks=array.shape, compressors=VERSION_3[case])
    return path / "c" / "0" / "0"


FILES = {
    **{f"Zarr 2, {case}": (write_version_2, case) for case in VERSION_2},
    **{f"Zarr 3, {case}": (write_version_3, case) for case in VERSION_3},
}
# numcodecs warns that its codecs are not part of Zarr 3, but the command does not show this warning.
pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")


@pytest.mark.parametrize("values", ["noise", "few values"])
@pytest.mark.parametrize("case", FILES)
def test_damaged_chunks_are_refused(case, values, tmp_path, capsys):
    write_file, codec = FILES[case]
    array = ARRAYS.get(codec, NOISE if values == "noise" else FEW_VALUES)
    source = tmp_path / "in.zarr"
    chunk = write_file(source, codec, array)
    content, array = chunk.read_bytes(), read(source)
    for target in ("whole.npy", "whole.zarr"):
        assert deform(source, tmp_path / target, "--order", "0") == 0
        np.testing.assert_array_equal(read(tmp_path / target), expected(array, None, order=0))
    capsys.readouterr()
    for damage in DAMAGES.values():
        chunk.write_bytes(damage(content))
        before = contents(tmp_path)
        for target in ("out.npy", "out.zarr"):
            assert_fails(capsys, [source, tmp_path / target, *OPTIONS, "--order", "0"], source.name)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("codec", [name for name in VERSION_3 if "crc" not in name])
@pytest.mark.parametrize("change", [-20, -2, -1, 1])
def test_damaged_chunks_in_shards_are_refused(change, codec, tmp_path, capsys):
    source = tmp_path / "in.zarr"
    compressor = VERSION_3[codec]
    sharding = zarr.codecs.ShardingCodec(
        chunk_shape=(10, 12),
        codecs=[zarr.codecs.BytesCodec(), *([] if compressor is None else [compressor])],
        index_codecs=[zarr.codecs.BytesCodec()],  # without a checksum
    )
    zarr.create_array(str(source), data=NOISE, chunks=NOISE.shape, serializer=sharding, compressors=None)
    for target in ("whole.npy", "whole.zarr"):
        assert deform(source, tmp_path / target, "--order", "0") == 0
        np.testing.assert_array_equal(read(tmp_path / target), expected(NOISE, None, order=0))
    capsys.readouterr()
    shard, index = source / "c" / "0" / "0", 4 * 16
    content = bytearray(shard.read_bytes())
    offset, length = struct.unpack_from("<QQ", content, len(content) - index)
    struct.pack_into("<QQ", content, len(content) - index, offset, length + change)
    shard.write_bytes(content)
    before = contents(tmp_path)
    for target in ("out.npy", "out.zarr"):
        assert_fails(capsys, [source, tmp_path / target, *OPTIONS, "--order", "0"], source.name)
    assert contents(tmp_path) == before


# Flags and the size of elements say how bytes are shuffled. Any values are valid, and no checksum protects them.
@pytest.mark.parametrize("place", [place for place in range(16) if place not in (2, 3)])
@pytest.mark.parametrize("codec", ["blosc, zstd", "numcodecs.blosc"])
def test_headers_of_blosc_are_checked(codec, place, tmp_path):
    source = tmp_path / "in.zarr"
    chunk = write_version_3(source, codec, FEW_VALUES)
    content = bytearray(chunk.read_bytes())
    for bit in range(8):
        chunk.write_bytes(content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :])
        assert deform(source, tmp_path / "out.npy", "--order", "0") == 2, bit


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_streams_may_follow_one_another(compress, tmp_path):
    source = tmp_path / "in.zarr"
    chunk = write_version_2(source, compress.__module__.lstrip("_"), NOISE)
    data = NOISE.tobytes()
    chunk.write_bytes(compress(data[:300]) + compress(data[300:]))
    assert deform(source, tmp_path / "out.npy", "--order", "0") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(NOISE, None, order=0))


@pytest.mark.parametrize("form", [2, 3])
def test_a_codec_that_crashes_on_damaged_chunks_is_refused(form, tmp_path, capsys):
    """The codec is refused whether or not its library is installed."""
    source = tmp_path / "in.zarr"
    zarr.create_array(str(source), data=NOISE, zarr_format=form, compressors=None)
    metadata = source / (".zarray" if form == 2 else "zarr.json")
    before, after = {
        2: ('"compressor": null', '"compressor": {"id": "zfpy", "mode": 4, "tolerance": 0.1}'),
        3: ('"name": "bytes"', '"name": "numcodecs.zfpy"'),
    }[form]
    text = metadata.read_text()
    assert before in text
    metadata.write_text(text.replace(before, after))
    assert_fails(capsys, [source, tmp_path / "out.npy", *OPTIONS], "zfpy", "expected one of")
