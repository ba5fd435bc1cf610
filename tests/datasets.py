"""A dataset for data loaders, in a module that spawned workers can import."""

import torch

import elasticnd


class Deformed(torch.utils.data.Dataset):
    """Deformed images of constant value, each with the number of threads that its worker may use."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = torch.full((64, 48), float(index))
        return elasticnd.deform_random_grid(image, 3.0, mode="nearest"), elasticnd.get_num_threads()
