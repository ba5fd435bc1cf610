"""Headers of NIfTI, TIFF and PNG files, which a deformation keeps."""

import numpy as np
import pytest
from image_files import PIL_Image, deform, expected, nibabel, random_array, read, tifffile, write


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
    """The stored numbers are deformed. Beyond the border, they are the number that stands for `cval`."""
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
