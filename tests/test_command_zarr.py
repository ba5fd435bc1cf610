"""Zarr arrays on the command line: whole, and chunk by chunk with dask."""

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read, write, zarr_library

from elasticnd._cli import files as formats


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
    """Chunks contain whole chunks of the file, so that no two tasks write the same one."""
    zarr = zarr_library()
    array = zarr.create_array(str(tmp_path / "in.zarr"), shape=(900, 512, 512), chunks=(1, 512, 512), dtype="u1")

    def lazy(axes, chunks):
        (level,) = formats.zarr.open_levels(tmp_path / "in.zarr", axes, chunks)
        return level.image.array

    assert lazy(None, None).chunksize == (16, 512, 512)
    assert lazy(None, [100]).chunksize == (100, 512, 512)
    assert lazy((-1, 0), [100, 3]).chunksize == (3, 512, 512)
    assert lazy(None, None).dtype == array.dtype


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
