"""The axes of Zarr arrays that the command line deforms."""

import numpy as np
import pytest
from image_files import OPTIONS, assert_fails, contents, deform, expected, random_array, read, write
from zarr_files import described, make_group, zarr

VOLUMES = random_array("f4", 2, 9, 10, 11)


def in_group(version, axes, path="0"):
    def make(folder):
        array = VOLUMES if len(axes) == VOLUMES.ndim else VOLUMES[np.newaxis]
        return make_group(folder / "in.zarr", version, axes, [array], [path]) / path

    return make


def alone(**options):
    def make(folder):
        zarr.create_array(str(folder / "in.zarr"), data=VOLUMES, **options)
        return folder / "in.zarr"

    return make


AXES = {
    "OME 0.4": (in_group("0.4", described("czyx")), (1, 2, 3)),
    "OME 0.5": (in_group("0.5", described("czyx")), (1, 2, 3)),
    "OME, time": (in_group("0.5", described("tzyx")), (1, 2, 3)),
    "OME, 5 axes": (in_group("0.4", described("tczyx")), (2, 3, 4)),
    "OME, types decide": (
        in_group(
            "0.4",
            [
                {"name": "z", "type": "channel"},
                {"name": "c", "type": "space"},
                {"name": "t", "type": "space"},
                {"name": "x", "type": "space"},
            ],
        ),
        (1, 2, 3),
    ),
    "OME, unusual type": (in_group("0.5", [{"name": "angle", "type": "angle"}, *described("zyx")]), (1, 2, 3)),
    "OME, no types": (in_group("0.4", [{"name": name} for name in "czyx"]), (1, 2, 3)),
    "OME, nested": (in_group("0.5", described("czyx"), "scale0/image"), (1, 2, 3)),
    "OME, four spatial axes": (
        in_group("0.5", [{"name": name, "type": "space"} for name in "wzyx"]),
        (0, 1, 2, 3),
    ),
    "OME 0.3": (in_group("0.3", list("czyx")), (1, 2, 3)),
    "names of dimensions": (alone(dimension_names=["channel", "z", "y", "x"]), (1, 2, 3)),
    "only one name": (alone(dimension_names=["time", None, None, None]), (1, 2, 3)),
    "band": (alone(dimension_names=["band", "z", "y", "x"]), (1, 2, 3)),
    "xarray, Zarr 2": (alone(zarr_format=2, attributes={"_ARRAY_DIMENSIONS": ["Band", "z", "y", "x"]}), (1, 2, 3)),
    "xarray, Zarr 3": (alone(attributes={"_ARRAY_DIMENSIONS": ["time", "z", "lat", "lon"]}), (1, 2, 3)),
}


@pytest.mark.parametrize("target", ["out.npy", "out.zarr"])
@pytest.mark.parametrize("case", AXES)
def test_axes(case, target, tmp_path):
    make, axes = AXES[case]
    source = make(tmp_path)
    assert deform(source, tmp_path / target) == 0
    array = zarr.open_array(str(source), mode="r")[...]
    np.testing.assert_array_equal(read(tmp_path / target), expected(array, axes))


def test_five_axes_before_there_were_names(tmp_path):
    """In version 0.1, axes have no names, but are always the same five."""
    array = VOLUMES[np.newaxis]
    zarr.create_group(
        str(tmp_path / "in.zarr"), zarr_format=2, attributes={"multiscales": [{"datasets": [{"path": "0"}]}]}
    )
    zarr.create_array(str(tmp_path / "in.zarr" / "0"), data=array, zarr_format=2)
    assert deform(tmp_path / "in.zarr" / "0", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(array, (2, 3, 4)))


UNKNOWN_AXES = {
    "no names": alone(),
    "Zarr 2": alone(zarr_format=2),
    "unknown names": alone(dimension_names=["a", "b", "d", "e"]),
    "names of other axes": alone(attributes={"_ARRAY_DIMENSIONS": ["y", "x"]}),
    "a missing name": alone(dimension_names=[None, "z", "y", "x"]),
}


@pytest.mark.parametrize("target", ["out.npy", "out.zarr"])
@pytest.mark.parametrize("case", UNKNOWN_AXES)
def test_axes_are_not_guessed(case, target, tmp_path, capsys):
    source = UNKNOWN_AXES[case](tmp_path)
    before = contents(tmp_path)
    assert_fails(capsys, [source, tmp_path / target, *OPTIONS], "--axis", source, "4 axes")
    assert contents(tmp_path) == before
    assert deform(source, tmp_path / target, "--axis", "1,2,-1") == 0
    np.testing.assert_array_equal(read(tmp_path / target), expected(VOLUMES, (1, 2, 3)))


def test_three_axes_need_no_names(tmp_path):
    write(tmp_path / "in.zarr", VOLUMES[0])
    assert deform(tmp_path / "in.zarr", tmp_path / "out.npy") == 0
    np.testing.assert_array_equal(read(tmp_path / "out.npy"), expected(VOLUMES[0], None))
