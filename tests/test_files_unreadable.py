"""Files that are cut, overwritten, dangerous or of another format are refused in one line, and never read in part."""

import os

import numpy as np
import pytest
from image_files import OPTIONS, PIL_Image, assert_fails, contents, deform, random_array, read, tifffile, write


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
    """A file whose irrelevant end is cut off may be accepted, but only with the right image."""
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
    assert (tmp_path / "exploded").exists(), "the bomb does not work"


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


def test_no_tiff_is_read_in_part(tmp_path, capsys):
    with tifffile.TiffWriter(tmp_path / "in.tif") as file:
        file.write(random_array("u1", 20, 24), photometric="minisblack", metadata=None)
        file.write(random_array("u2", 10, 12), photometric="minisblack", metadata=None)
    assert_fails(capsys, [tmp_path / "in.tif", tmp_path / "out.tif", *OPTIONS], "in.tif", "2 images")
