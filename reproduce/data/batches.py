"""Images on the device: shuffle, random crop and flip as tensor operations."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from reproduce.catalogue import DatasetFacts
from reproduce.data.splits import Split
from reproduce.rng import generator


@dataclass(frozen=True)
class Draws:
    """What the augmentation of one batch draws, one entry an image.

    Attributes
    ----------
    top, left : Tensor
        int64: offset of the crop in the padded image, 0 to 2 * padding.
    flip : Tensor
        bool: whether the crop is mirrored left to right.
    """

    top: Tensor
    left: Tensor
    flip: Tensor


class ImageStore:
    """A split that lives on the device as uint8 and hands out float batches.

    Parameters
    ----------
    split : Split
        Images and labels.
    facts : DatasetFacts
        Says how the data set is augmented.
    device : torch.device
        Where the images stay.
    """

    def __init__(self, split: Split, facts: DatasetFacts, device: torch.device) -> None:
        self.labels = torch.from_numpy(split.labels.astype(np.int64)).to(device)
        self.indices = split.indices
        self.facts = facts
        images = torch.from_numpy(np.ascontiguousarray(split.images)).to(device)
        pad = facts.padding
        # padded once, so that crop, flip and the choice of the batch are a single gather
        self._padded = F.pad(images, (0, 0, pad, pad, pad, pad))
        self.device = device

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (channels, height, width)."""
        return self.facts.channels, self.facts.size, self.facts.size

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop`, unaugmented, with their labels.

        Returns
        -------
        images : Tensor
            float32 in [0, 1], shape (B, channels, height, width), channels-last.
        labels : Tensor
            int64, shape (B,).
        """
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
        """Return the images `rows`, cropped and flipped as drawn.

        The pixels equal those of PIL's pad, crop and mirror for the same draws.

        Returns
        -------
        Tensor
            float32 in [0, 1], shape (B, channels, height, width), channels-last.
        """
        pixel = torch.arange(self.facts.size, device=self.device)
        down = draws.top[:, None] + pixel
        across = draws.left[:, None] + torch.where(draws.flip[:, None], pixel.flip(0), pixel)
        crop = self._padded[rows[:, None, None], down[:, :, None], across[:, None, :]]
        return to_float(crop)


def to_float(pixels: Tensor) -> Tensor:
    """Turn uint8 (B, H, W, C) into floats (B, C, H, W) in [0, 1], channels-last in memory."""
    return pixels.permute(0, 3, 1, 2).to(torch.get_default_dtype()).div_(255)
