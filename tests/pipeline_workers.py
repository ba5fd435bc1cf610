"""Prints a digest of each sample that a host's data loader yields; the tests of the hosts' transforms run it.

Spawned workers import this file again, and therefore find the classes that they unpickle.
"""

import hashlib
import json
import sys
import warnings

import hosts
import numpy as np
import torch

warnings.simplefilter("ignore")
HOST = sys.argv[1]
host = hosts.load(HOST)
OPTIONS = {"sigma": 2, "points": 4}  # only a random grid, so that equal grids give equal samples


def digest(*arrays):
    """Return a short digest of arrays."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


class Pictures(torch.utils.data.Dataset):
    """The same picture and mask at every index, transformed each time."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, index):
        from torchvision import tv_tensors

        image = tv_tensors.Image(torch.arange(480, dtype=torch.float32).reshape(1, 20, 24))
        mask = tv_tensors.Mask((image[0] > 200).long())
        return tuple(one.as_subclass(torch.Tensor) for one in self.transform(image, mask))


def torchvision_loader(workers, context):
    """Return a loader of pictures, and a function that reads the arrays of its batches."""
    from torchvision.transforms import v2

    import elasticnd.torchvision

    transform = v2.Compose([elasticnd.torchvision.RandomElasticDeform(**OPTIONS)])
    loader = torch.utils.data.DataLoader(Pictures(transform), num_workers=workers, multiprocessing_context=context)
    return loader, lambda batch: batch


def monai_loader(workers, context):
    """Return a loader of volumes, and a function that reads the arrays of its batches."""
    from monai.data import DataLoader, Dataset
    from monai.transforms import Compose

    import elasticnd.monai

    sample = {"image": np.arange(480, dtype=np.float32).reshape(1, 20, 24), "label": np.ones((1, 20, 24), np.uint8)}
    transform = Compose([elasticnd.monai.RandElasticDeformd(["image", "label"], prob=1, **OPTIONS)])
    transform.set_random_state(5)
    loader = DataLoader(Dataset([sample] * 8, transform), num_workers=workers, multiprocessing_context=context)
    return loader, lambda batch: [one.as_tensor() for one in (batch["image"], batch["label"])]


def torchio_loader(workers, context):
    """Return a loader of subjects, and a function that reads the arrays of its batches."""
    import torchio

    import elasticnd.torchio

    image = torch.arange(480, dtype=torch.float32).reshape(1, 20, 24, 1)
    subject = torchio.Subject(image=torchio.ScalarImage(tensor=image), label=torchio.LabelMap(tensor=image > 200))
    transform = torchio.Compose([elasticnd.torchio.RandomElasticGrid(**OPTIONS)])
    data = torchio.SubjectsDataset([subject] * 8, transform=transform)
    loader = torchio.SubjectsLoader(data, num_workers=workers, multiprocessing_context=context)
    return loader, lambda batch: [batch["image"][torchio.DATA], batch["label"][torchio.DATA]]


LOADERS = {"monai": monai_loader, "torchio": torchio_loader, "torchvision": torchvision_loader}


def run(workers, context, epochs):
    """Return the digests of all samples of the given number of epochs."""
    torch.manual_seed(5)
    loader, arrays_of = LOADERS[HOST](workers, context)
    return [[digest(*arrays_of(batch)) for batch in loader] for _ in range(epochs)]


if __name__ == "__main__":
    results = {"none": [run(0, None, 2), run(0, None, 2)], "fork": [run(2, "fork", 2), run(2, "fork", 2)]}
    results["spawn"] = [run(2, "spawn", 1)]
    print(json.dumps(results))
