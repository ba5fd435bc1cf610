"""Zarr files for the tests of the command line."""

import pytest
from image_files import zarr_library

zarr = zarr_library()
pytest.importorskip("dask.array")

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def ome(version, axes, datasets, **more):
    """Return the attributes of an OME-Zarr group."""
    image = {"axes": axes, "datasets": datasets, "name": "a name", "type": "gaussian", **more}
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [image]}}
    return {"multiscales": [{**image, "version": version}]}


def described(names):
    return [{"name": name, "type": TYPES[name], "unit": "micrometer"} for name in names]


def make_group(path, version, axes, levels, paths=None, transforms=None, **more):
    """Write a group with the given arrays as its levels."""
    paths = paths or [str(k) for k in range(len(levels))]
    datasets = [{"path": one} for one in paths]
    for dataset, transform in zip(datasets, transforms or [], strict=False):
        dataset["coordinateTransformations"] = transform
    form = 3 if version == "0.5" else 2
    zarr.create_group(str(path), zarr_format=form, attributes=ome(version, axes, datasets, **more))
    for one, array in zip(paths, levels, strict=True):
        chunks = tuple(min(7, extent) for extent in array.shape)
        zarr.create_array(str(path / one), data=array, chunks=chunks, zarr_format=form)
    return path


def metadata_of(folder):
    names = ("zarr.json", ".zarray", ".zattrs", ".zgroup")
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.name in names}
