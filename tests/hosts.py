"""The libraries for pipelines that elasticnd has transforms for, imported for tests."""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

NAMES = ("monai", "torchio", "torchvision")


def require(name):
    """Import a host, or skip what needs it."""
    require_all("torch", name)
    return load(name)


def require_all(*names):
    """Skip what needs libraries that are not all installed."""
    import pytest

    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


def load(name):
    """Import a host, without the warnings of what it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if importlib.util.find_spec("torchvision") is not None:
            _load_torchvision()  # the others import it too, if there is one
        return importlib.import_module(name)


def _load_torchvision():
    """Import torchvision.

    Its wheel on PyPI is for CUDA. Beside PyTorch for the CPU its compiled library does not load, and so the operators
    that it registers are missing when it is imported: they are defined here, without a computation. No transform uses
    them, which work on tensors with PyTorch's own operations.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    while True:
        try:
            importlib.import_module("torchvision.transforms.v2")
        except RuntimeError as error:
            missing = re.fullmatch(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(f"{missing[1]}(Tensor boxes) -> Tensor")
            for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
                del sys.modules[module]
        else:
            _libraries.append(library)
            return


_libraries = []  # whose operators go with them


def samples_of_loaders(host):
    """Return the digests of what loaders of a host yield: without workers, with forked and with spawned ones."""
    script = Path(__file__).with_name("pipeline_workers.py")
    done = subprocess.run([sys.executable, script, host], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def check_samples(host):
    """Check that equal seeds give equal samples, and that all samples of workers and epochs differ."""
    found = samples_of_loaders(host)
    for first, second in (found["none"], found["fork"]):
        assert first == second
        samples = [sample for epoch in first for sample in epoch]
        assert len(set(samples)) == len(samples)
    assert found["spawn"][0][0] == found["fork"][0][0]


def smooth_sample(shape):
    """Return a smooth image in [0, 1], and the label of a ball, without channels."""
    grids = np.meshgrid(*(np.linspace(-1, 1, extent) for extent in shape), indexing="ij")
    image = 0.5 + 0.5 * np.sin(3 * grids[0] + 1) * np.cos(2 * grids[1] + grids[-1])
    return image, (sum(grid**2 for grid in grids) < 0.4).astype(np.uint8)


def check_restored(image, label, restored_image, restored_label):
    """Check that an inverse takes image and label back: the image in the interior, the label by Dice's coefficient."""
    interior = tuple(slice(extent // 4, -(extent // 4)) for extent in image.shape)
    assert np.abs(restored_image - image)[interior].max() < 1e-3 * np.ptp(image)
    common = (label.astype(bool) & restored_label.astype(bool)).sum()
    assert 2 * common / (label.astype(bool).sum() + restored_label.astype(bool).sum()) > 0.985
