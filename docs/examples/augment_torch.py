"""Train a small U-Net in PyTorch: ``python augment_torch.py loader|model``.

Sixteen images are deformed anew in every epoch. The task is to tell round cells from
ring-shaped ones, in noise.
"""

import argparse

import numpy as np
import torch
from cells import CLASSES, draw
from torch import nn
from torch.utils.data import DataLoader, Dataset

import elasticnd
import elasticnd.torch

GRID = {"sigma": 3, "points": 5, "mode": "nearest"}


class Cells(Dataset):
    """Images with their labels, deformed together each time they are read."""

    def __init__(self, images, labels, deform=True):
        self.images, self.labels = torch.tensor(images), torch.tensor(labels)
        self.deform = deform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        pair = [self.images[index], self.labels[index]]
        if self.deform:
            # Order 3 is for the image; order 0 copies labels.
            pair = elasticnd.deform_random_grid(pair, order=[3, 0], **GRID)
        image, label = pair
        return image[None], label[None]


def loader(dataset, seed):
    """Read batches in two worker processes, whose grids come from PyTorch's seeds."""
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        dataset,
        batch_size=4,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        generator=generator,
    )


def convolutions(channels_in, channels):
    """Convolve twice."""
    layers = []
    for source in (channels_in, channels):
        layers += [
            nn.Conv2d(source, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class SmallUNet(nn.Module):
    """A U-Net with two levels."""

    def __init__(self, width=8):
        super().__init__()
        self.down = nn.ModuleList(
            [convolutions(1, width), convolutions(width, 2 * width)]
        )
        self.bottom = convolutions(2 * width, 2 * width)
        self.up = nn.ModuleList(
            [convolutions(4 * width, width), convolutions(2 * width, width)]
        )
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x):
        """Return a score for each class."""
        skips = []
        for block in self.down:
            skips.append(block(x))
            x = nn.functional.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for block in self.up:
            x = nn.functional.interpolate(x, scale_factor=2)
            x = block(torch.cat([x, skips.pop()], dim=1))
        return self.head(x)


class Segmenter(nn.Module):
    """Segment images; in training, deform them and their labels first, if asked to."""

    def __init__(self, deform):
        super().__init__()
        self.deform = (
            elasticnd.torch.ElasticDeform(order=(3, 0), **GRID) if deform else None
        )
        self.network = SmallUNet()

    def forward(self, images, labels):
        """Return scores, and the labels that belong to them."""
        if self.deform is not None:
            images, labels = self.deform(images, labels)
        return self.network(images), labels


def dice(scores, labels):
    """Return the mean overlap of cells and of rings; 1 is perfect."""
    found = scores.argmax(dim=1, keepdim=True)
    overlaps = []
    for kind in range(1, CLASSES):
        mine, true = found == kind, labels == kind
        overlaps.append(
            2 * (mine & true).sum() / (mine.sum() + true.sum()).clamp(min=1)
        )
    return torch.stack(overlaps).mean().item()


def train(model, batches, epochs):
    """Train a model; return the loss of each epoch and the labels seen."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, seen = [], set()
    for _ in range(epochs):
        total = 0.0
        for images, labels in batches:
            scores, labels = model(images, labels)
            loss = nn.functional.cross_entropy(scores, labels[:, 0].long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() / len(batches)
            seen |= set(labels.unique().tolist())
        losses.append(total)
    return losses, seen


def score(model, images, labels):
    """Measure the overlap on undeformed images."""
    model.eval()
    with torch.no_grad():
        scores, labels = model(
            torch.tensor(images)[:, None], torch.tensor(labels)[:, None]
        )
    model.train()
    return dice(scores, labels)


def main(place="loader", epochs=30, seed=0):
    """Train, deforming in the loader or the model, and print the results."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    (images, labels), unseen = draw(16, rng), draw(32, rng)
    model = Segmenter(deform=place == "model")
    batches = loader(Cells(images, labels, deform=place == "loader"), seed)
    before = score(model, *unseen)
    losses, seen = train(model, batches, epochs)
    after = score(model, *unseen)
    print(
        f"deformed in the {place}: loss {losses[0]:.3f} to {losses[-1]:.3f}, "
        f"Dice {before:.3f} to {after:.3f}"
    )
    return {"losses": losses, "dice": [before, after], "labels": sorted(seen)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "place", choices=["loader", "model"], nargs="?", default="loader"
    )
    parser.add_argument("--epochs", type=int, default=30)
    main(**vars(parser.parse_args()))
