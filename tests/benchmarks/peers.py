"""The programs to compare: each turns a work's data into a call that does the work, or reports that it cannot."""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import strengths
from works import Data

import elasticnd

sys.path.append(str(Path(__file__).parents[1]))
import hosts

Call = Callable[[], object]
_PATIENCE = 8_000_000  # voxels; more would take a single-threaded program half a minute
Maker = Callable[[Data, int], "Call | None"]


missing: dict[str, str] = {}  # modules that could not be imported, with the reason


def installed(name: str) -> ModuleType | None:
    """Import a peer if it is installed."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it asks a server for the newest version
    try:
        return hosts.load(name) if any(host in name for host in hosts.NAMES) else importlib.import_module(name)
    except ImportError as error:
        missing[name] = str(error)
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
                    both = {"order": [data.work.order, 0], "axis": [data.work.axis, None]}
                    return elasticnd.deform_grid([image, data.labels], displacement, **options | both)
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
        options |= {
            "order": [work.order, 0],
            "axis": [work.axis or tuple(range(image.ndim)), tuple(range(data.labels.ndim))],
        }
        return lambda: elasticdeform.deform_grid([image, data.labels], displacement, **options)
    return lambda: elasticdeform.deform_grid(image, displacement, **options)


def _is_plain(data: Data) -> bool:
    """Return whether a work resamples one image and nothing else."""
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


def _is_picture(data: Data) -> bool:
    """Return whether a work resamples one 2-D picture, with channels last."""
    work = data.work
    return work.task == "deform" and len(work.shape) == 2 and not work.batch and not work.crop


def _opencv_kind(cv2: Any, order: int) -> int | None:
    return {0: cv2.INTER_NEAREST, 1: cv2.INTER_LINEAR, 3: cv2.INTER_CUBIC}.get(order)


def _opencv_maps(data: Data, threads: int) -> Call | None:
    cv2 = installed("cv2")
    if cv2 is None or not _is_picture(data):
        return None
    y, x = data.coordinates.astype(np.float32)
    kind = _opencv_kind(cv2, data.work.order)

    def call() -> object:
        cv2.setNumThreads(threads)
        return cv2.remap(data.image, x, y, kind, borderMode=cv2.BORDER_REFLECT_101)

    return call


def _opencv_grid(data: Data, threads: int) -> Call | None:
    """Deform as augmentation libraries do with OpenCV: enlarge the control grid, add it to the positions, and remap."""
    cv2 = installed("cv2")
    if cv2 is None or not _is_picture(data):
        return None
    rows, columns = data.work.shape
    grid = np.ascontiguousarray(np.moveaxis(data.displacement, 0, -1), np.float32)
    y, x = np.indices((rows, columns), np.float32)
    kind = _opencv_kind(cv2, data.work.order)

    def call() -> object:
        cv2.setNumThreads(threads)
        dense = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC)
        return cv2.remap(data.image, x + dense[..., 1], y + dense[..., 0], kind, borderMode=cv2.BORDER_REFLECT_101)

    return call


def _albumentations(data: Data, threads: int) -> Call | None:
    cv2, albumentations = installed("cv2"), installed("albumentations")
    if cv2 is None or albumentations is None or not _is_picture(data):
        return None
    deform = albumentations.GridDistortion(
        num_steps=max(2, data.work.points - 1),
        interpolation=_opencv_kind(cv2, data.work.order),
        border_mode=cv2.BORDER_REFLECT_101,
        p=1,
    )

    def call() -> object:
        cv2.setNumThreads(threads)
        return deform(image=data.image)

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
    """Return whether a work deforms an image and its labels, as augmentation libraries do."""
    return data.work.task == "image and labels"


def _is_volume(data: Data) -> bool:
    """Return whether a work deforms a volume and its labels."""
    return _augmentation(data) and len(data.work.shape) == 3


def _channels_first(data: Data) -> Any:
    """Return the image with channels first, as pipelines have it."""
    return np.ascontiguousarray(np.moveaxis(data.image, -1, 0)) if data.work.channels else data.image[np.newaxis]


def _is_linear(data: Data) -> bool:
    """Return whether a work deforms a single image linearly, as augmentation libraries do."""
    return _is_plain(data) and data.work.order == 1 and not data.work.crop


def _monai(data: Data, threads: int) -> Call | None:
    torch, transforms = installed("torch"), installed("monai.transforms")
    axes = len(data.work.shape)
    if torch is None or transforms is None or not (_augmentation(data) or (_is_linear(data) and axes in (2, 3))):
        return None
    sample = {"image": torch.from_numpy(_channels_first(data).astype(np.float32))}
    if _augmentation(data):
        sample["label"] = torch.from_numpy(data.labels)[None]
    make, field = (
        (transforms.Rand2DElasticd, strengths.MONAI_2D)
        if axes == 2
        else (transforms.Rand3DElasticd, strengths.MONAI_3D)
    )
    deform = make(
        keys=list(sample), prob=1.0, mode=["bilinear", "nearest"][: len(sample)], padding_mode="reflection", **field
    )

    def call() -> object:
        torch.set_num_threads(threads)
        return deform(sample)

    return call


def _torchio(data: Data, threads: int) -> Call | None:
    torch, torchio, sitk = installed("torch"), installed("torchio"), installed("SimpleITK")
    if torch is None or torchio is None or sitk is None:
        return None
    if not (_is_volume(data) or (_is_linear(data) and len(data.work.shape) == 3)):
        return None
    deform = torchio.RandomElasticDeformation(**strengths.TORCHIO)
    images = {"image": torchio.ScalarImage(tensor=torch.from_numpy(data.image)[None])}
    if _augmentation(data):
        images["label"] = torchio.LabelMap(tensor=torch.from_numpy(data.labels)[None])
    subject = torchio.Subject(**images)

    def call() -> object:
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        return deform(subject)

    return call


def _batchgenerators(data: Data, threads: int) -> Call | None:
    torch, spatial = installed("torch"), installed("batchgeneratorsv2.transforms.spatial.spatial")
    if torch is None or spatial is None or not _is_volume(data):
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


def _torchvision(data: Data, threads: int) -> Call | None:
    torch, transforms = installed("torch"), installed("torchvision.transforms.v2")
    if torch is None or transforms is None or not (_augmentation(data) and len(data.work.shape) == 2):
        return None
    tensors = installed("torchvision.tv_tensors")
    sample = tensors.Image(torch.from_numpy(_channels_first(data))), tensors.Mask(torch.from_numpy(data.labels))
    deform = transforms.ElasticTransform(**strengths.TORCHVISION)

    def call() -> object:
        torch.set_num_threads(threads)
        return deform(*sample)

    return call


# ---- elasticnd in other libraries' pipelines ------------------------------------------------------------------------


def _with_threads(deform: Callable[..., object], threads: int, *arguments: object) -> Call:
    def call() -> object:
        with elasticnd.num_threads(threads):
            return deform(*arguments)

    return call


def _in_monai(data: Data, threads: int) -> Call | None:
    torch, adapter = installed("torch"), installed("elasticnd.monai")
    if torch is None or adapter is None or not _augmentation(data):
        return None
    work = data.work
    sample = {"image": torch.from_numpy(_channels_first(data)), "label": torch.from_numpy(data.labels)[None]}
    deform = adapter.RandElasticDeformd(
        list(sample), **strengths.ELASTICND, prob=1, mode=[work.order, 0], padding_mode=work.mode
    )
    return _with_threads(deform, threads, sample)


def _in_torchio(data: Data, threads: int) -> Call | None:
    torch, adapter, torchio = installed("torch"), installed("elasticnd.torchio"), installed("torchio")
    if torch is None or adapter is None or torchio is None or not _is_volume(data):
        return None
    work = data.work
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=torch.from_numpy(data.image)[None]),
        label=torchio.LabelMap(tensor=torch.from_numpy(data.labels)[None]),
    )
    deform = adapter.RandomElasticGrid(**strengths.ELASTICND, order=work.order, label_order=0, mode=work.mode)
    return _with_threads(deform, threads, subject)


def _in_torchvision(data: Data, threads: int) -> Call | None:
    torch, adapter = installed("torch"), installed("elasticnd.torchvision")
    if torch is None or adapter is None or not (_augmentation(data) and len(data.work.shape) == 2):
        return None
    work, tensors = data.work, installed("torchvision.tv_tensors")
    sample = tensors.Image(torch.from_numpy(_channels_first(data))), tensors.Mask(torch.from_numpy(data.labels))
    deform = adapter.RandomElasticDeform(**strengths.ELASTICND, order=work.order, mask_order=0, mode=work.mode)
    return _with_threads(deform, threads, *sample)


# Programs that accept a number of threads are timed with one thread and with all.
THREADED: dict[str, Maker] = {
    "elasticnd": _elasticnd,
    "torch grid_sample (linear, grid given)": _torch,
    "OpenCV remap (maps given)": _opencv_maps,
    "OpenCV resize of the grid and remap": _opencv_grid,
    "Albumentations GridDistortion (a field of its own)": _albumentations,
    "SimpleITK": _simpleitk,
    "torch-interpol (grid given)": _torch_interpol,
    "MONAI RandElasticd (linear)": _monai,
    "TorchIO (linear)": _torchio,
    "batchgeneratorsv2 (linear)": _batchgenerators,
    "torchvision (linear)": _torchvision,
    "elasticnd in MONAI": _in_monai,
    "elasticnd in TorchIO": _in_torchio,
    "elasticnd in torchvision": _in_torchvision,
}
SINGLE: dict[str, Maker] = {
    "elasticdeform": _elasticdeform,
    "SciPy map_coordinates (coordinates given)": _scipy,
}


def calls(data: Data, threads: tuple[int, ...], only: str) -> dict[str, Call]:
    """Return the calls that can do a work, by program and number of threads."""
    made: dict[str, Call] = {}
    for name, maker in SINGLE.items():
        if re.search(only, name) and (call := maker(data, 1)) is not None:
            made[name] = call
    for name, maker in THREADED.items():
        for count in threads:
            if re.search(only, name) and (call := maker(data, count)) is not None:
                made[f"{name}, {count} thread{'s' if count > 1 else ''}"] = call
    return made
