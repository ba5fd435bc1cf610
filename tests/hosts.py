"""The pipeline libraries (hosts) for which elasticnd has transforms, and checks that their tests share."""

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
    """Import a host, or skip the tests that need it."""
    require_all("torch", name)
    return load(name)


def require_all(*names):
    """Skip a test unless all hosts are installed."""
    import pytest

    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


def load(name):
    """Import a host, ignoring the warnings of the libraries that it imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if importlib.util.find_spec("torchvision") is not None:
            _load_torchvision()  # the other hosts import torchvision too, if it is installed
        return importlib.import_module(name)


def _load_torchvision():
    """Import torchvision.

    Its wheel on PyPI is built for CUDA. With PyTorch for the CPU, its compiled library does not load, so the operators
    that this library registers are missing when torchvision is imported. They are therefore defined here without an
    implementation. No transform uses them: transforms work on tensors with PyTorch's own operations.
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


_libraries = []  # keeps the libraries alive, and with them their operators


def samples_of_loaders(host):
    """Return digests of the samples from a host's loaders: without workers, with forked and with spawned workers."""
    script = Path(__file__).with_name("pipeline_workers.py")
    done = subprocess.run([sys.executable, script, host], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


def check_samples(host):
    """Check that equal seeds give equal samples, and that samples differ between workers and between epochs."""
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
    """Check that an inverse restores the interior of the image, and nearly all of the label (Dice coefficient)."""
    interior = tuple(slice(extent // 4, -(extent // 4)) for extent in image.shape)
    assert np.abs(restored_image - image)[interior].max() < 1e-3 * np.ptp(image)
    common = (label.astype(bool) & restored_label.astype(bool)).sum()
    assert 2 * common / (label.astype(bool).sum() + restored_label.astype(bool).sum()) > 0.985
