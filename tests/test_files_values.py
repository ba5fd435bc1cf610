"""Border values that a file cannot store are refused, and so are data types of NIfTI that no array has."""

import gzip

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, deform, expected, nibabel, random_array, read, write


def scaled(path, dtype, slope, intercept):
    volume = nibabel.Nifti1Image(random_array(dtype, 9, 10, 11) // 2, np.eye(4), dtype=dtype)
    volume.header.set_slope_inter(slope, intercept)
    volume.to_filename(path)
    return volume


# A dtype, slope and intercept, a value that the file cannot store, and words of the error.
BEYOND = [
    ("u1", 1, 0, "256", "0 to 255"),
    ("u1", 1, 0, "-1", "a whole number from 0 to 255"),
    ("u1", 1, 0, "1.5", "a whole number"),
    ("u1", 1, 0, "inf", "0 to 255"),
    ("i2", 1, 0, "-32769", "-32768 to 32767"),
    ("i8", 1, 0, str(2**63), str(2**63 - 1)),
    ("u2", 1, -1000, "-1001", "-1000.0 to 64535.0"),
    ("u2", 0.5, -1000, "31768", "-1000.0 to 31767.5"),
    ("u1", -2, 10, "12", "-500.0 to 10.0"),
    ("u1", 1, 100, "0", "100.0 to 355.0"),
    ("u2", 0.5, -1000, "1" + "0" * 400, "-1000.0 to 31767.5"),
    ("f4", 1, 0, "1e39", "a number from -3.4"),
    ("f8", 1, 0, "1" + "0" * 400, "a number from -1.7"),
]


@pytest.mark.parametrize(("dtype", "slope", "intercept", "cval", "words"), BEYOND)
def test_values_that_a_file_cannot_hold_are_refused(dtype, slope, intercept, cval, words, tmp_path, capsys):
    source, target = tmp_path / "in.nii", tmp_path / "out.nii"
    scaled(source, dtype, slope, intercept)
    assert_fails(capsys, [source, target, *OPTIONS, "--cval", cval], "--cval", "out.nii", words)
    assert not target.exists()
    assert deform(source, target, "--cval", cval, "--mode", "mirror") == 0


@pytest.mark.parametrize("suffix", [".npy", ".png", ".tif"])
def test_values_beyond_integers_are_refused_in_all_formats(suffix, tmp_path, capsys):
    source = write(tmp_path / f"in{suffix}", random_array("u1", 20, 24))
    assert_fails(capsys, [source, tmp_path / f"out{suffix}", *OPTIONS, "--cval", "300"], "--cval", "300", "255")


def test_bool_holds_two_values(tmp_path, capsys):
    source = write(tmp_path / "in.npy", random_array("?", 20, 24))
    assert_fails(capsys, [source, tmp_path / "out.npy", *OPTIONS, "--cval", "2"], "--cval", "0 to 1")
    assert deform(source, tmp_path / "out.npy", "--cval", "1", "--order", "0") == 0
    assert read(tmp_path / "out.npy").all() == expected(read(source), None, order=0, cval=1).all()


@pytest.mark.parametrize(("cval", "stored"), [("-1000", 0), ("31767.5", 65535), ("0.1", 2000), ("0.3", 2001)])
def test_values_are_rounded_to_the_nearest_that_a_scaled_file_holds(cval, stored, tmp_path):
    volume = scaled(tmp_path / "in.nii", "u2", 0.5, -1000)
    assert deform(tmp_path / "in.nii", tmp_path / "out.nii", "--cval", cval) == 0
    result = read(tmp_path / "out.nii")
    np.testing.assert_array_equal(result, expected(np.asarray(volume.dataobj), None, cval=stored))


def test_infinity_is_a_value_of_floats(tmp_path):
    source = write(tmp_path / "in.npy", random_array("f4", 20, 24))
    assert deform(source, tmp_path / "out.npy", "--cval=-inf", "--order", "0") == 0
    assert np.isneginf(read(tmp_path / "out.npy")).any()


@pytest.mark.parametrize(
    ("code", "bits", "words"),
    [
        (1, 1, "code 1"),
        (128, 24, "RGB"),
        (2304, 32, "RGBA"),
        (1536, 128, "code 1536"),
        (0, 0, "code 0"),
        (999, 8, "999"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".nii"])
def test_types_of_nifti_without_an_array_are_refused(code, bits, words, suffix, tmp_path, capfd):
    """The error is one line, without the messages that nibabel logs."""
    nibabel.Nifti1Image(random_array("u1", 8, 8, 8), np.eye(4)).to_filename(tmp_path / "in.nii")
    content = (tmp_path / "in.nii").read_bytes()
    header = code.to_bytes(2, "little") + bits.to_bytes(2, "little")
    (tmp_path / "in.nii").write_bytes(content[:70] + header + content[74:] + bytes(8**4 * 2))
    assert_fails(capfd, [tmp_path / "in.nii", tmp_path / f"out{suffix}", *OPTIONS], "in.nii", words, "int16")


def test_a_volume_in_several_parts_of_gzip(tmp_path):
    """Parallel compressors write gzip files in several parts."""
    write(tmp_path / "in.nii", random_array("i2", 9, 10, 11))
    content = (tmp_path / "in.nii").read_bytes()
    (tmp_path / "in.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert deform(tmp_path / "in.nii.gz", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(read(tmp_path / "in.nii"), None))
