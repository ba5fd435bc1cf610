"""Zarr on the command line: no code from a file runs, and only the array that is replaced is deleted."""

import json
import os
import pickle

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read, write
from zarr_files import described, make_group, metadata_of, zarr

from elasticnd.__main__ import main


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


CODECS = {  # changes to the metadata of an array
    "Zarr 2, compressor": (2, {"compressor": {"id": "pickle"}}),
    "Zarr 2, filter": (2, {"compressor": None, "filters": [{"id": "delta", "dtype": "|u1"}, {"id": "pickle"}]}),
    "Zarr 2, filter alone": (2, {"compressor": None, "filters": {"id": "pickle"}}),
    "Zarr 2, objects": (2, {"dtype": "|O", "compressor": None, "filters": [{"id": "pickle"}]}),
    "Zarr 2, no name": (2, {"compressor": {"level": 3}}),
    "Zarr 3": (3, {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]}),
    "Zarr 3, by name": (3, {"codecs": [{"name": "bytes"}, "numcodecs.pickle"]}),
    "Zarr 3, unknown": (3, {"codecs": [{"name": "bytes"}, {"name": "of.someone"}]}),
    "Zarr 3, in shards": (
        3,
        {
            "codecs": [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "chunk_shape": [5, 6],
                        "codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}],
                        "index_codecs": [{"name": "bytes"}],
                    },
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("target", ["out.npy", "out.zarr"])
@pytest.mark.parametrize("within", ["an array", "a group"])
@pytest.mark.parametrize("case", CODECS)
def test_only_codecs_of_data_are_run(case, within, target, tmp_path, capsys):
    form, changes = CODECS[case]
    array = random_array("u1", 20, 24)
    if within == "a group":
        source = make_group(tmp_path / "in.zarr", "0.5" if form == 3 else "0.4", described("yx"), [array])
        path = source / "0"
        source = source if target == "out.zarr" else path
    else:
        source = path = tmp_path / "in.zarr"
        zarr.create_array(str(path), data=array, chunks=array.shape, zarr_format=form)
    metadata = path / ("zarr.json" if form == 3 else ".zarray")
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), **changes}))
    for chunk in path.rglob("*"):
        if chunk.is_file() and chunk != metadata and chunk.name != ".zattrs":
            chunk.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    before = contents(tmp_path)
    assert_fails(capsys, [source, tmp_path / target, *OPTIONS], path, "codec")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("form", [2, 3])
def test_metadata_that_name_another_format_are_refused(form, tmp_path, capsys):
    """The Zarr library follows `zarr_format`, and would otherwise read codecs that were not checked."""
    source, other = tmp_path / "in.zarr", tmp_path / "other.zarr"
    array = random_array("u1", 20, 24)
    zarr.create_array(str(source), data=array, chunks=array.shape, zarr_format=form, compressors=None)
    zarr.create_array(str(other), data=array, chunks=array.shape, zarr_format=5 - form, compressors=None)
    name, name_of_other = (".zarray", "zarr.json") if form == 2 else ("zarr.json", ".zarray")
    both = json.loads((source / name).read_text()) | json.loads((other / name_of_other).read_text())
    (source / name).write_text(json.dumps(both))
    for target in ("out.npy", "out.zarr"):
        assert_fails(capsys, [source, tmp_path / target, *OPTIONS], source, "zarr_format", f"expected {form}")


def test_codecs_of_data_are_read(tmp_path):
    """Chunks are read with the codecs that the library writes by default, and with others."""
    array = random_array("u2", 20, 24)
    for k, codec in enumerate(["zstd", "gzip", "blosc"]):
        compressor = {"zstd": zarr.codecs.ZstdCodec, "gzip": zarr.codecs.GzipCodec, "blosc": zarr.codecs.BloscCodec}[
            codec
        ]
        path = tmp_path / f"in{k}.zarr"
        zarr.create_array(
            str(path), data=array, compressors=[compressor()], filters=[zarr.codecs.TransposeCodec(order=(1, 0))]
        )
        assert deform(path, tmp_path / f"out{k}.zarr") == 0
        np.testing.assert_array_equal(read(tmp_path / f"out{k}.zarr"), expected(array, None))


# Only the array that is replaced is deleted.


@pytest.mark.parametrize("form", [2, 3])
@pytest.mark.parametrize("separator", [".", "/"])
def test_an_array_is_replaced(form, separator, tmp_path):
    array = random_array("f4", 20, 24)
    source = write(tmp_path / "in.npy", array)
    zarr.create_array(
        str(tmp_path / "out.zarr"),
        data=array[:9],
        chunks=(3, 3),
        zarr_format=form,
        attributes={"a": 1},
        chunk_key_encoding={"name": "v2" if form == 2 else "default", "separator": separator},
    )
    assert deform(source, tmp_path / "out.zarr") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.zarr"), expected(array, None))


STRANGERS = ["notes.txt", "inner/zarr.json", "c/0/notes.txt", "c/0/0.txt", "0.0", ".hidden", "c.zarr/c/0/0"]


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_not_of_an_array_is_not_deleted(name, tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    write(tmp_path / "out.zarr", np.zeros((3, 3)))
    (tmp_path / "out.zarr" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out.zarr" / name).write_text("precious")
    before = contents(tmp_path)
    assert_fails(capsys, [source, tmp_path / "out.zarr", *OPTIONS], "out.zarr", name)
    assert contents(tmp_path) == before


def test_a_link_in_an_array_is_not_deleted(tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    write(tmp_path / "out.zarr", np.zeros((3, 3)))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out.zarr" / "more").symlink_to(tmp_path / "elsewhere")
    assert_fails(capsys, [source, tmp_path / "out.zarr", *OPTIONS], "more")


def test_the_metadata_of_an_array_are_kept_to_the_letter(tmp_path):
    zarr.create_array(
        str(tmp_path / "in.zarr"), data=random_array("f4", 20, 24), zarr_format=2, order="F", attributes={"unit": "nm"}
    )
    assert main(["deform", str(tmp_path / "in.zarr"), str(tmp_path / "out.zarr"), *OPTIONS]) == 0
    assert metadata_of(tmp_path / "out.zarr") == metadata_of(tmp_path / "in.zarr")
