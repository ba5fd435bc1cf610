"""Tables of points, which the command line moves together with the content of the image."""

import csv

import nibabel
import numpy as np
import pytest
from image_files import contents

from elasticnd import Deformation
from elasticnd.__main__ import main

SHAPE = (14, 12, 10)
TO_WORLD = np.array([[1.9, -0.5, 0, -40], [0.5, 1.9, 0, -60], [0, 0, 2.5, 20], [0, 0, 0, 1]])
AFFINE = np.array([[1.05, 0.1, 0, 0.5], [-0.1, 1, 0, 0.3], [0, 0, 0.95, 0.2]])


@pytest.fixture
def made(rng):
    return Deformation(rng.normal(0, 0.7, (3, 3, 3, 3)), SHAPE, affine=AFFINE, to_world=TO_WORLD)


@pytest.fixture
def points(rng):
    """Return points in the output, and their positions in the image, computed with the map and not its inverse."""
    return rng.uniform(2, 7, (6, 3))


def run(*arguments):
    return main(["points", *map(str, arguments)])


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def in_system(voxels, system):
    if system == "voxels":
        return voxels
    ras = voxels @ TO_WORLD[:3, :3].T + TO_WORLD[:3, 3]
    return ras * (-1, -1, 1) if system == "lps" else ras


def text_of(rows):
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize("system", ["voxels", "ras", "lps"])
@pytest.mark.parametrize("suffix", [".npz", ".tfm", ".h5", ".nii.gz"])
def test_points_go_where_the_content_goes(suffix, system, made, points, tmp_path, capsys):
    file = tmp_path / f"made{suffix}"
    options = ["--coordinates", system]
    if suffix == ".npz":
        made.save(file)
    elif suffix == ".nii.gz":
        made.to_nifti(file, "itk")
    else:
        import SimpleITK

        SimpleITK.WriteTransform(made.to_itk(), str(file))
        nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), TO_WORLD), tmp_path / "frame.nii")
        options += ["--frame", tmp_path / "frame.nii"]
    (tmp_path / "in.csv").write_text(text_of(in_system(made.source_points(points), system).tolist()))
    assert run(file, tmp_path / "in.csv", tmp_path / "out.csv", *options) == 0
    assert capsys.readouterr() == ("", "")
    got = np.array(rows_of(tmp_path / "out.csv"), float)
    # NIfTI stores matrices in single precision.
    atol = 1e-6 if suffix == ".npz" else 1e-3
    np.testing.assert_allclose(got, in_system(points, system), rtol=0, atol=10 * atol)


HEADERS = {
    "x, y, z": (["name", "z", "x", "y", "note"], (2, 3, 1)),
    "napari": (["index", "axis-0", "axis-1", "axis-2"], (1, 2, 3)),
    "capitals": (["X", "Y", "Z"], (0, 1, 2)),
    "other names": (["row", "column", "plane", "score"], (0, 1, 2)),
    "none": (None, (0, 1, 2)),
}


@pytest.mark.parametrize("case", HEADERS)
def test_columns(case, made, points, tmp_path):
    header, columns = HEADERS[case]
    width = 5 if header is None else len(header)
    places = made.source_points(points)
    rows = [['a "b", c'] * width for _ in places]
    for row, place in zip(rows, places.tolist(), strict=True):
        for column, value in zip(columns, place, strict=True):
            row[column] = repr(value)
    with open(tmp_path / "in.csv", "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)
    made.save(tmp_path / "made.npz")
    assert run(tmp_path / "made.npz", tmp_path / "in.csv", tmp_path / "out.csv") == 0
    got = rows_of(tmp_path / "out.csv")
    if header:
        assert got.pop(0) == header
    for before, after, point in zip(rows, got, points, strict=True):
        np.testing.assert_allclose([float(after[column]) for column in columns], point, rtol=0, atol=1e-5)
        others = [column for column in range(width) if column not in columns]
        assert [before[column] for column in others] == [after[column] for column in others]


SLICER = """\
# Markups fiducial file version = 4.11
# CoordinateSystem = {}
# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
{}"""


@pytest.mark.parametrize(
    ("name", "system"), [("LPS", "lps"), ("RAS", "ras"), ("0", "ras"), ("1", "lps"), ("IJK", "voxels")]
)
def test_lists_of_slicer(name, system, made, points, tmp_path):
    places = in_system(made.source_points(points), system).tolist()
    rows = [[f"id_{k}", *place, 0, 0, 0, 1, 1, 1, 0, f"F-{k}", "", ""] for k, place in enumerate(places)]
    (tmp_path / "in.fcsv").write_text(SLICER.format(name, text_of(rows)))
    made.save(tmp_path / "made.npz")
    assert run(tmp_path / "made.npz", tmp_path / "in.fcsv", tmp_path / "out.fcsv") == 0
    text = (tmp_path / "out.fcsv").read_text()
    assert text.startswith(SLICER.format(name, "id_0,"))
    got = [line.split(",") for line in text.splitlines()[3:]]
    np.testing.assert_allclose(np.array([row[1:4] for row in got], float), in_system(points, system), rtol=0, atol=1e-5)
    assert [row[4:] for row in got] == [list(map(str, row[4:])) for row in rows]


def test_two_axes_and_no_points(rng, tmp_path):
    made = Deformation(rng.normal(0, 0.5, (2, 3, 3)), (20, 30))
    made.save(tmp_path / "made.npz")
    place = made.source_points([7.0, 8.0])
    (tmp_path / "in.csv").write_text(f"x,y\n{place[0]},{place[1]}\n")
    assert run(tmp_path / "made.npz", tmp_path / "in.csv", tmp_path / "out.csv") == 0
    np.testing.assert_allclose(np.array(rows_of(tmp_path / "out.csv")[1], float), [7, 8], rtol=0, atol=1e-5)
    (tmp_path / "in.csv").write_text("x,y\n")
    assert run(tmp_path / "made.npz", tmp_path / "in.csv", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text() == "x,y\n"


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "1 point is outside the output: row 2"), (7, "7 points are outside the output: rows 2, 3, 4, 5, 6, ...")],
)
def test_points_that_are_no_longer_in_the_image_are_named(count, words, tmp_path, capsys):
    Deformation(np.full((2, 1, 1), 5.0), (20, 30)).save(tmp_path / "made.npz")
    (tmp_path / "in.csv").write_text(text_of([[10, 10], *[[1, 1]] * count]))
    assert run(tmp_path / "made.npz", tmp_path / "in.csv", tmp_path / "out.csv") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"elasticnd: note: of {tmp_path / 'out.csv'}, {words}\n"
    np.testing.assert_allclose(np.array(rows_of(tmp_path / "out.csv")[:2], float), [[5, 5], [-4, -4]], atol=1e-6)


def text(name, content):
    with open(name, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


GOOD = ["made.npz", "in.csv", "out.csv"]
WRONG = {
    "a missing deformation": (None, ["no.npz", "in.csv", "out.csv"], "DEFORMATION: no.npz does not exist"),
    "a deformation of unknown format": (None, ["made.txt", "in.csv", "out.csv"], "DEFORMATION: got made.txt"),
    "a missing table": (None, ["made.npz", "no.csv", "out.csv"], "IN: cannot read no.csv"),
    "a table of unknown format": (
        None,
        ["made.npz", "in.txt", "out.csv"],
        "IN: got in.txt, expected a name that ends in",
    ),
    "another format": (
        None,
        ["made.npz", "in.csv", "out.fcsv"],
        "OUT: got ",
        "out.fcsv, expected a name that ends in .csv",
    ),
    "the same file": (None, ["made.npz", "in.csv", "in.csv"], "OUT: ", "another file of this call"),
    "a word": (lambda: text("in.csv", "1,2,3\n4,five,6\n"), GOOD, "IN: row 2 of in.csv is '4,five,6'", "3 finite"),
    "too few columns": (lambda: text("in.csv", "x,y,z\n1,2\n"), GOOD, "IN: row 1 of in.csv is '1,2'"),
    "NaN": (lambda: text("in.csv", "1,2,nan\n"), GOOD, "IN: row 1"),
    "a binary file": (lambda: text("in.csv", b"\xff\xfe\x00"), GOOD, "IN: cannot read in.csv"),
    "another coordinate system": (
        lambda: text("in.fcsv", "# CoordinateSystem = XYZ\n"),
        ["made.npz", "in.fcsv", "out.fcsv"],
        "IN: in.fcsv is in the coordinate system XYZ",
    ),
    "two coordinate systems": (
        lambda: text("in.fcsv", "# CoordinateSystem = LPS\n"),
        ["made.npz", "in.fcsv", "out.fcsv", "--coordinates", "ras"],
        "--coordinates: got ras, but in.fcsv says",
    ),
    "an unknown coordinate system": (None, [*GOOD, "--coordinates", "mm"], "--coordinates", "'mm'"),
    "no world coordinates": (
        lambda: Deformation.identity(SHAPE).save("made.npz"),
        [*GOOD, "--coordinates", "ras"],
        "made.npz does not say where the voxels are",
    ),
    "no frame": (lambda: text("a.tfm", ""), ["a.tfm", "in.csv", "out.csv"], "--frame: a.tfm does not say where"),
    "a missing frame": (
        lambda: text("a.tfm", ""),
        ["a.tfm", "in.csv", "out.csv", "--frame", "no.nii"],
        "--frame: no.nii does not exist",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors(case, tmp_path, monkeypatch, capsys):
    prepare, arguments, *words = WRONG[case]
    monkeypatch.chdir(tmp_path)
    Deformation.identity(SHAPE, to_world=TO_WORLD).save("made.npz")
    text("in.csv", "1,2,3\n")
    if prepare is not None:
        prepare()
    before = contents(tmp_path)
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("elasticnd: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert contents(tmp_path) == before
