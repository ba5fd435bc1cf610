"""OME-Zarr images on the command line, with all levels and labels."""

import json

import numpy as np
import pytest
from image_files import OPTIONS, POINTS, SEED, SIGMA, assert_fails, contents, deform, expected, random_array, write
from scipy import ndimage
from zarr_files import described, make_group, metadata_of, zarr

import elasticnd


def waves(extents, factor, offset):
    """Return a smooth image, sampled at the voxels of a level."""
    places = np.meshgrid(
        *(f * np.arange(n) + o for n, f, o in zip(extents, factor, offset, strict=True)), indexing="ij"
    )
    return 50 + 40 * np.sin(places[0] / 7) * np.cos(places[1] / 9)


def oracle_of_level(extents, first, factor, offset, rotate=None):
    """Return the same deformation of the same waves computed with SciPy, with the map of the first level."""
    displacement = elasticnd.random_displacement(POINTS, SIGMA, ndim=2, rng=SEED)
    factor, offset, first = (np.reshape(one, (2, 1, 1)) for one in (factor, offset, first))
    u = factor * np.indices(extents) + offset  # in voxels of the first level
    places = u * (POINTS - 1) / (first - 1)
    field = np.stack([ndimage.map_coordinates(one, places, order=3, mode="mirror") for one in displacement])
    if rotate is not None:
        cosine, sine = np.cos(np.deg2rad(rotate)), np.sin(np.deg2rad(rotate))
        centre = first / 2 - 0.5
        u = np.einsum("ij,jkl->ikl", [[cosine, sine], [-sine, cosine]], u - centre) + centre
    x = (u + field - offset) / factor
    image = waves(extents, factor.ravel(), offset.ravel())
    return ndimage.map_coordinates(image, x, order=3, mode="mirror")


LEVELS = {  # extents, factor, offset
    "halved": [((48, 64), (1, 1), (0, 0)), ((24, 32), (2, 2), (0.5, 0.5)), ((12, 16), (4, 4), (1.5, 1.5))],
    "every second voxel": [((48, 64), (1, 1), (0, 0)), ((24, 32), (2, 2), (0, 0))],
    "odd extents, one axis": [((47, 63), (1, 1), (0, 0)), ((47, 32), (1, 2), (0, 0.5))],
}


@pytest.mark.parametrize("rotate", [None, 20])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("case", LEVELS)
def test_all_levels_are_deformed_alike(case, version, rotate, tmp_path):
    voxel = (0.5, 0.25)
    levels, transforms = [], []
    for extents, factor, offset in LEVELS[case]:
        image = waves(extents, factor, offset)
        levels.append(np.stack([image, 100 - image]))
        scale = [1, *(v * f for v, f in zip(voxel, factor, strict=True))]
        translation = [0, *(v * o for v, o in zip(voxel, offset, strict=True))]
        transforms.append([{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}])
    source = make_group(tmp_path / "in.zarr", version, described("cyx"), levels, transforms=transforms)
    before = contents(tmp_path)
    target = tmp_path / "out.zarr"
    more = [] if rotate is None else ["--rotate", rotate]
    assert deform(source, target, "--mode", "mirror", *more) == 0

    first = LEVELS[case][0][0]
    for k, (extents, factor, offset) in enumerate(LEVELS[case]):
        result = zarr.open_array(str(target / str(k)), mode="r")[...]
        wanted = oracle_of_level(extents, first, factor, offset, rotate)
        # A level with more voxels than control points has a spline error of 0.003 voxels, and the waves change by up to
        # 12 per voxel.
        np.testing.assert_allclose(result[0], wanted, atol=1e-9 if k != 1 else 0.04)
        np.testing.assert_allclose(result[0] + result[1], 100, atol=1e-9)
    assert contents(tmp_path).items() > before.items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.zarr", "out.zarr"]


@pytest.fixture(params=["0.4", "0.5"])
def labelled(request, tmp_path):
    """Write an image with channels on two levels, its labels without channels, and a table."""
    form = 3 if request.param == "0.5" else 2
    group = tmp_path / "in.zarr"
    halves = [[{"type": "scale", "scale": [1, f, f]}] for f in (1, 2)]
    image = [random_array("u2", 2, 20, 24), random_array("u2", 2, 10, 12)]
    make_group(
        group,
        request.param,
        described("cyx"),
        image,
        transforms=halves,
        coordinateTransformations=[{"type": "scale", "scale": [1, 3, 3]}],
    )
    labels = {"labels": ["cells"]} if form == 2 else {"ome": {"version": "0.5", "labels": ["cells"]}}
    zarr.create_group(str(group / "labels"), zarr_format=form, attributes=labels)
    cells = [random_array("u1", 20, 24) % 9]
    make_group(
        group / "labels" / "cells",
        request.param,
        described("yx"),
        cells,
        transforms=[[{"type": "scale", "scale": [3, 3]}]],
    )
    zarr.create_array(str(group / "table"), data=np.arange(5.0), zarr_format=form)
    (group / "OME").mkdir()
    (group / "OME" / "METADATA.ome.xml").write_text("<OME/>")
    return group, image, cells


def test_labels_of_an_image_and_all_else_in_its_group(labelled, tmp_path, capsys):
    source, image, cells = labelled
    target = tmp_path / "out.zarr"
    before = contents(tmp_path)
    assert deform(source, target, "--cval", "7") == 0
    assert capsys.readouterr() == ("", "")
    assert contents(tmp_path).items() > before.items()
    assert metadata_of(target) == metadata_of(source)
    first, second = (zarr.open_array(str(target / name), mode="r")[...] for name in "01")
    np.testing.assert_array_equal(first, expected(image[0], (1, 2), cval=7))
    assert 7 in second
    assert (second != image[1]).any()
    # Order 0 copies labels, with background beyond the border. Labels have the same voxels as the first level.
    result = zarr.open_array(str(target / "labels" / "cells" / "0"), mode="r")[...]
    np.testing.assert_array_equal(result, expected(cells[0], None, order=0))
    np.testing.assert_array_equal(zarr.open_array(str(target / "table"), mode="r")[...], np.arange(5))
    assert (target / "OME" / "METADATA.ome.xml").read_text() == "<OME/>"


def test_chosen_axes_are_found_in_labels_by_name(labelled, tmp_path):
    source, image, cells = labelled
    assert deform(source, tmp_path / "out.zarr", "--axis", "-1,1", "--chunks", "5,9") == 0
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path / "out.zarr" / "0"), mode="r")[...], expected(image[0], (-1, 1))
    )
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path / "out.zarr" / "labels" / "cells" / "0"), mode="r")[...],
        expected(cells[0], (1, 0), order=0),
    )


def test_groups_of_an_image_and_of_its_labels(labelled, tmp_path):
    """Image and labels can be two pairs with separate options."""
    source, _, cells = labelled
    files = [source, tmp_path / "out.zarr", source / "labels" / "cells", tmp_path / "cells.zarr"]
    assert deform(*files, "--order", "1,0", "--cval", "3,5") == 0
    np.testing.assert_array_equal(
        zarr.open_array(str(tmp_path / "cells.zarr" / "0"), mode="r")[...], expected(cells[0], None, order=0, cval=5)
    )


def test_every_level_of_a_label_image_is_deformed_by_votes(tmp_path):
    """Each level equals the argmax of one-hot images at order 1, and has no label that its input lacks."""
    names = np.array([0, 7, 1000, 60000], "u2")
    coarse = np.random.default_rng(1).integers(0, 4, (5, 6))
    levels = [np.kron(coarse, np.ones((8 // factor,) * 2, int)) for factor in (1, 2, 4)]
    transforms = [[{"type": "scale", "scale": [f, f]}] for f in (1, 2, 4)]
    hot_transforms = [[{"type": "scale", "scale": [1, f, f]}] for f in (1, 2, 4)]
    hot = [np.moveaxis(np.eye(4)[level], -1, 0) for level in levels]
    make_group(tmp_path / "in.zarr", "0.5", described("yx"), [names[level] for level in levels], transforms=transforms)
    make_group(tmp_path / "hot.zarr", "0.5", described("cyx"), hot, transforms=hot_transforms)
    assert deform(tmp_path / "in.zarr", tmp_path / "out.zarr", "--order", "labels", "--mode", "nearest") == 0
    assert deform(tmp_path / "hot.zarr", tmp_path / "sums.zarr", "--order", "1", "--mode", "nearest") == 0
    for k, level in enumerate(levels):
        result, sums = (
            zarr.open_array(str(tmp_path / name / str(k)), mode="r")[...] for name in ("out.zarr", "sums.zarr")
        )
        second, first = np.sort(sums, axis=0)[-2:]
        is_clear = first - second > 2**-15  # closer sums may be tied
        np.testing.assert_array_equal(result[is_clear], names[sums.argmax(axis=0)][is_clear])
        assert is_clear.mean() > 0.9
        assert set(np.unique(result)) <= set(np.unique(names[level]))
        assert (result != names[level]).any()


def damaged_group(folder, **changes):
    """Write a group and change its metadata."""
    group = make_group(folder / "in.zarr", "0.5", described("yx"), [random_array("f4", 20, 24)])
    document = json.loads((group / "zarr.json").read_text())
    image = document["attributes"]["ome"]["multiscales"][0]
    image.update(changes)
    (group / "zarr.json").write_text(json.dumps(document))
    return group


SCALE = "coordinateTransformations"
DAMAGED_GROUPS = {
    "a path outside the group": ({"datasets": [{"path": "../victim"}]}, "path"),
    "an absolute path": ({"datasets": [{"path": "/etc"}]}, "path"),
    "no path": ({"datasets": [{}]}, "path"),
    "the group itself": ({"datasets": [{"path": "."}]}, "path"),
    "no levels": ({"datasets": []}, "datasets"),
    "a level twice": ({"datasets": [{"path": "0"}, {"path": "0/"}]}, "datasets"),
    "a missing level": ({"datasets": [{"path": "0"}, {"path": "1"}]}, "1"),
    "other axes": ({"axes": described("zyx")}, "3 axes"),
    "axes without names": ({"axes": [1, 2]}, "axes"),
    "a scale of 0": ({"datasets": [{"path": "0", SCALE: [{"type": "scale", "scale": [0, 1]}]}]}, "scale"),
    "a scale of text": ({"datasets": [{"path": "0", SCALE: [{"type": "scale", "scale": ["a", 1]}]}]}, "scale"),
    "a scale of the wrong length": ({"datasets": [{"path": "0", SCALE: [{"type": "scale", "scale": [1]}]}]}, "1 axis"),
    "an affine map": ({"datasets": [{"path": "0", SCALE: [{"type": "affine"}]}]}, SCALE),
}


@pytest.mark.parametrize("case", DAMAGED_GROUPS)
def test_damaged_groups(case, tmp_path, capsys):
    write(tmp_path / "victim.zarr", random_array("f4", 20, 24))
    changes, word = DAMAGED_GROUPS[case]
    group = damaged_group(tmp_path, **changes)
    before = contents(tmp_path)
    assert_fails(capsys, [group, tmp_path / "out.zarr", *OPTIONS], "in.zarr", word)
    assert contents(tmp_path) == before


def test_a_group_is_deformed_as_a_whole_from_zarr_to_zarr_alone(labelled, tmp_path, capsys):
    source, *_ = labelled
    before = contents(tmp_path)
    assert_fails(capsys, [source, tmp_path / "out.npy", *OPTIONS], "in.zarr", "labels/cells/0")
    zarr.create_group(str(tmp_path / "other.zarr"))
    assert_fails(capsys, [tmp_path / "other.zarr", tmp_path / "out.zarr", *OPTIONS], "OME-Zarr")
    assert contents(tmp_path).items() > before.items()


@pytest.mark.parametrize("path", ["0", "labels/cells/0"])
@pytest.mark.parametrize("target", ["out.npy", "out.zarr"])
def test_a_level_alone_loses_the_metadata_of_its_group(path, target, labelled, tmp_path, capsys):
    source, *_ = labelled
    assert deform(source / path, tmp_path / target) == 0
    captured = capsys.readouterr()
    assert captured.err.endswith(f"{target} lacks metadata of {source / path}: metadata of OME\n")
    assert captured.err.count("\n") == 1
