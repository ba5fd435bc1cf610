"""The programs that are compared: each makes, of a work's data, a call that does the work, or says that it cannot."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from works import Data

import elasticnd

Call = Callable[[], object]
_PATIENCE = 8_000_000  # voxels: more would take a program of one thread half a minute
Maker = Callable[[Data, int], "Call | None"]


def installed(name: str) -> ModuleType | None:
    """Import a peer, if there is one."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _options(data: Data) -> dict[str, Any]:
    work = data.work
    return {"order": work.order, "mode": work.mode, "axis": work.axis, "crop": work.patch}


def _elasticnd(data: Data, threads: int) -> Call:
    options = _options(data)
    image, displacement = data.image, data.displacement

    def call() -> object:
        with elasticnd.num_threads(threads):
            match data.work.task:
                case "image gradient":
                    return elasticnd.deform_grid_gradient(image, displacement, **options)
                case "all gradients":
                    return elasticnd.deform_grid_vjp(image, image, displacement, **options)
                case "image and labels":
                    options["order"] = [data.work.order, 0]
                    return elasticnd.deform_grid([image, data.labels], displacement, **options)
                case _:
                    return elasticnd.deform_grid(image, displacement, **options)

    return call


def _elasticdeform(data: Data, _: int) -> Call | None:
    elasticdeform = installed("elasticdeform")
    work = data.work
    if elasticdeform is None or work.task == "all gradients" or math.prod(work.shape) > _PATIENCE:
        return None
    options = _options(data)
    image, displacement = data.image, data.displacement
    if work.batch:
        options["axis"] = None
        grids = list(zip(image, displacement, strict=True))
        return lambda: [elasticdeform.deform_grid(one, grid, **options) for one, grid in grids]
    if work.task == "image gradient":
        return lambda: elasticdeform.deform_grid_gradient(image, displacement, **options)
    if work.task == "image and labels":
        options["order"] = [work.order, 0]
        return lambda: elasticdeform.deform_grid([image, data.labels], displacement, **options)
    return lambda: elasticdeform.deform_grid(image, displacement, **options)


def _is_plain(data: Data) -> bool:
    """Tell whether a work is the resampling of one image."""
    return data.work.task == "deform" and not data.work.channels and not data.work.batch


def _scipy(data: Data, _: int) -> Call | None:
    ndimage = installed("scipy.ndimage")
    if ndimage is None or not _is_plain(data) or data.work.crop or math.prod(data.work.shape) > _PATIENCE:
        return None
    image, coordinates, work = data.image, data.coordinates, data.work
    return lambda: ndimage.map_coordinates(image, coordinates, order=work.order, mode=work.mode)


def _torch(data: Data, threads: int) -> Call | None:
    torch = installed("torch")
    work = data.work
    if torch is None or not _is_plain(data) or work.order > 1 or work.dtype != "float32" or work.crop:
        return None
    if len(work.shape) not in (2, 3):
        return None
    scale = np.array([2 / (extent - 1) for extent in work.shape]).reshape(-1, *(1,) * len(work.shape))
    grid = np.moveaxis((data.coordinates * scale - 1)[::-1], 0, -1).astype(np.float32)
    image, grid = torch.from_numpy(data.image)[None, None], torch.from_numpy(np.ascontiguousarray(grid))[None]
    kind = "bilinear" if work.order else "nearest"

    def call() -> object:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return torch.nn.functional.grid_sample(
                image, grid, mode=kind, padding_mode="reflection", align_corners=True
            )

    return call


def _opencv(data: Data, threads: int) -> Call | None:
    cv2 = installed("cv2")
    work = data.work
    if cv2 is None or work.task != "deform" or len(work.shape) != 2 or work.batch or work.order > 1:
        return None
    y, x = data.coordinates.astype(np.float32)
    kind = cv2.INTER_LINEAR if work.order else cv2.INTER_NEAREST

    def call() -> object:
        cv2.setNumThreads(threads)
        return cv2.remap(data.image, x, y, kind, borderMode=cv2.BORDER_REFLECT_101)

    return call


def _simpleitk(data: Data, threads: int) -> Call | None:
    sitk = installed("SimpleITK")
    work = data.work
    if sitk is None or not _is_plain(data) or len(work.shape) not in (2, 3) or work.crop or work.points > 3:
        return None
    image = sitk.GetImageFromArray(data.image)
    transform = sitk.BSplineTransformInitializer(image, [2] * len(work.shape), 3)
    count = len(transform.GetParameters())
    transform.SetParameters(tuple(5 * np.random.default_rng(0).standard_normal(count)))
    kind = {0: sitk.sitkNearestNeighbor, 1: sitk.sitkLinear, 3: sitk.sitkBSpline}.get(work.order)

    def call() -> object:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        return sitk.Resample(image, image, transform, kind, 0.0)

    return None if kind is None else call


def _torch_interpol(data: Data, threads: int) -> Call | None:
    torch, interpol = installed("torch"), installed("interpol")
    work = data.work
    if torch is None or interpol is None or not _is_plain(data) or work.dtype != "float32" or work.crop:
        return None
    if len(work.shape) not in (2, 3) or work.mode != "mirror":
        return None
    grid = torch.from_numpy(np.moveaxis(data.coordinates, 0, -1).astype(np.float32))[None]
    image = torch.from_numpy(data.image)[None]

    def call() -> object:
        torch.set_num_threads(threads)
        return interpol.grid_pull(
            image, grid, interpolation=work.order, bound="dct1", extrapolate=True, prefilter=work.order > 1
        )

    return call


def _augmentation(data: Data) -> bool:
    """Tell whether a work is what programs for augmentation do: an image and its labels in three dimensions."""
    return data.work.task == "image and labels"


def _monai(data: Data, threads: int) -> Call | None:
    torch, transforms = installed("torch"), installed("monai.transforms")
    if torch is None or transforms is None or not _augmentation(data):
        return None
    deform = transforms.Rand3DElasticd(
        keys=["image", "label"],
        sigma_range=(5, 5),
        magnitude_range=(50, 50),
        prob=1.0,
        mode=["bilinear", "nearest"],
        padding_mode="reflection",
    )
    sample = {"image": torch.from_numpy(data.image)[None], "label": torch.from_numpy(data.labels)[None]}

    def call() -> object:
        torch.set_num_threads(threads)
        return deform(sample)

    return call


def _torchio(data: Data, threads: int) -> Call | None:
    torch, torchio, sitk = installed("torch"), installed("torchio"), installed("SimpleITK")
    if torch is None or torchio is None or sitk is None or not _augmentation(data):
        return None
    deform = torchio.RandomElasticDeformation(num_control_points=7, max_displacement=7.5)
    image = torchio.ScalarImage(tensor=torch.from_numpy(data.image)[None])
    label = torchio.LabelMap(tensor=torch.from_numpy(data.labels)[None])
    subject = torchio.Subject(image=image, label=label)

    def call() -> object:
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        return deform(subject)

    return call


def _batchgenerators(data: Data, threads: int) -> Call | None:
    torch, spatial = installed("torch"), installed("batchgeneratorsv2.transforms.spatial.spatial")
    if torch is None or spatial is None or not _augmentation(data):
        return None
    deform = spatial.SpatialTransform(
        data.work.shape,
        0,
        random_crop=False,
        p_elastic_deform=1.0,
        elastic_deform_scale=(0.2, 0.2),
        elastic_deform_magnitude=(0.1, 0.1),
    )
    image, labels = torch.from_numpy(data.image)[None], torch.from_numpy(data.labels.astype(np.int16))[None]

    def call() -> object:
        torch.set_num_threads(threads)
        return deform(image=image, segmentation=labels)

    return call


# Those with threads are timed with one and with all.
THREADED: dict[str, Maker] = {
    "elasticnd": _elasticnd,
    "torch grid_sample (linear, grid given)": _torch,
    "OpenCV remap (linear, maps given)": _opencv,
    "SimpleITK": _simpleitk,
    "torch-interpol (grid given)": _torch_interpol,
    "MONAI Rand3DElasticd (linear)": _monai,
    "TorchIO (linear)": _torchio,
    "batchgeneratorsv2 (linear)": _batchgenerators,
}
SINGLE: dict[str, Maker] = {
    "elasticdeform": _elasticdeform,
    "SciPy map_coordinates (coordinates given)": _scipy,
}


def calls(data: Data, threads: tuple[int, ...], only: str) -> dict[str, Call]:
    """Give what can do a work, by program and number of threads."""
    made: dict[str, Call] = {}
    for name, maker in SINGLE.items():
        if re.search(only, name) and (call := maker(data, 1)) is not None:
            made[name] = call
    for name, maker in THREADED.items():
        for count in threads:
            if re.search(only, name) and (call := maker(data, count)) is not None:
                made[f"{name}, {count} thread{'s' if count > 1 else ''}"] = call
    return made
