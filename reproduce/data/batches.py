"""Images on the device, and the training batches made of them: shuffled, cropped, flipped.

All random choices are functions of seed, epoch and step, so a run that continues anywhere sees
the batches that it would have seen.
"""

import math
from copy import copy
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reproduce.core.rng import generator
from reproduce.data.dataset import Split
from reproduce.registry import DatasetFacts


class Draws(NamedTuple):
    """What the augmentation of a batch draws: offsets of the crop, and whether it is mirrored."""

    top: Tensor
    left: Tensor
    flip: Tensor


class ImageStore:
    """A split that lives on the device as uint8 and hands out float batches."""

    def __init__(self, split: Split, facts: DatasetFacts, device: torch.device) -> None:
        self.labels = torch.from_numpy(split.labels.astype(np.int64)).to(device)
        self.indices = split.indices
        self.facts, self.device = facts, device
        self.image_shape = (facts.channels, facts.size, facts.size)
        images = torch.from_numpy(np.ascontiguousarray(split.images)).to(device)
        pad = facts.padding
        # padded once, so that crop, flip and the choice of the batch are a single gather
        self._padded = F.pad(images, (0, 0, pad, pad, pad, pad))

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> Self:
        """Return images `start` to `stop` as a store; it shares their memory."""
        part = copy(self)
        part.labels, part.indices = self.labels[start:stop], self.indices[start:stop]
        part._padded = self._padded[start:stop]
        return part

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop`, unaugmented, as `to_float` does, and their labels."""
        pad, size = self.facts.padding, self.facts.size
        crop = self._padded[start:stop, pad : pad + size, pad : pad + size]
        return to_float(crop), self.labels[start:stop]

    def order(self, seed: int, epoch: int) -> Tensor:
        """Return the order in which an epoch visits the images, int64 on the device."""
        stream = generator(seed, "shuffle", epoch, device=self.device)
        return torch.randperm(len(self), generator=stream, device=self.device)

    def draws(self, count: int, seed: int, epoch: int, step: int) -> Draws:
        """Draw the augmentation of one batch of `count` images."""
        stream = generator(seed, "augment", epoch, step, device=self.device)
        offsets = torch.randint(
            2 * self.facts.padding + 1, (2, count), generator=stream, device=self.device
        )
        coins = torch.rand(count, generator=stream, device=self.device) < 0.5
        return Draws(offsets[0], offsets[1], coins if self.facts.flip else torch.zeros_like(coins))

    def augmented(self, rows: Tensor, draws: Draws) -> Tensor:
        """Return the images `rows`, cropped and flipped as drawn, in the form of `plain`."""
        pixel = torch.arange(self.facts.size, device=self.device)
        down = draws.top[:, None] + pixel
        across = draws.left[:, None] + torch.where(draws.flip[:, None], pixel.flip(0), pixel)
        crop = self._padded[rows[:, None, None], down[:, :, None], across[:, None, :]]
        return to_float(crop)


def to_float(pixels: Tensor) -> Tensor:
    """Turn uint8 (B, H, W, C) into floats (B, C, H, W) in [0, 1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).to(torch.get_default_dtype()).div_(255)


class LabelledBatches:
    """A split in a new order every epoch, every image once; the last batch may be smaller."""

    def __init__(self, store: ImageStore, batch_size: int, seed: int) -> None:
        self.store, self.batch_size, self.seed = store, batch_size, seed

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch, the same for all."""
        return math.ceil(len(self.store) / self.batch_size)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one augmented batch, by epoch (from 1) and step (from 0), as `plain` does."""
        order = self.store.order(self.seed, epoch)
        rows = order[step * self.batch_size : (step + 1) * self.batch_size]
        draws = self.store.draws(len(rows), self.seed, epoch, step)
        return self.store.augmented(rows, draws), self.store.labels[rows]


class MixedBatches(LabelledBatches):
    """Batches of which a fixed part, `extra_fraction` rounded down, comes from extra images.

    An epoch has as many steps as one over the labelled images alone.  It takes the front of
    their new order, so none comes twice.  Extra images are drawn with replacement and fill the
    batch where labelled ones run out.  The two kinds are shuffled together within a batch.

    Source: Carmon et al. 2019 and their code (`SemiSupervisedSampler`).
    """

    def __init__(
        self,
        store: ImageStore,
        extra: ImageStore,
        batch_size: int,
        seed: int,
        extra_fraction: float = 0.5,
    ) -> None:
        super().__init__(store, batch_size, seed)
        self.extra = extra
        self._labelled = batch_size - int(batch_size * extra_fraction)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one batch of labels and pseudo-labels, as `LabelledBatches.batch`."""
        size, seed, device = self.batch_size, self.seed, self.store.device
        rows = self.store.order(seed, epoch)[step * self._labelled : (step + 1) * self._labelled]
        stream = generator(seed, "extra", epoch, step, device=device)
        drawn = torch.randint(len(self.extra), (size - len(rows),), generator=stream, device=device)
        stream = generator(seed, "mix", epoch, step, device=device)
        place = torch.randperm(size, generator=stream, device=device)
        draws = self.store.draws(size, seed, epoch, step)
        shape = (size, *self.store.image_shape)
        images = torch.empty(shape, device=device, memory_format=torch.channels_last)
        labels = torch.empty(size, dtype=torch.int64, device=device)
        for store, chosen, at in (
            (self.store, rows, place[: len(rows)]),
            (self.extra, drawn, place[len(rows) :]),
        ):
            images[at] = store.augmented(chosen, Draws(*(value[at] for value in draws)))
            labels[at] = store.labels[chosen]
        return images, labels
