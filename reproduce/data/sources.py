"""Where a training run's batches come from."""

import math
from typing import Protocol

from torch import Tensor

from reproduce.data.batches import ImageStore


class BatchSource(Protocol):
    """Batches of a run by their place in it: the same place gives the same batch, always."""

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch (from 1)."""

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one batch, augmented.

        Parameters
        ----------
        epoch : int
            Epoch, from 1.
        step : int
            Place in the epoch, from 0.

        Returns
        -------
        images : Tensor
            float32 in [0, 1], shape (B, channels, height, width), on the device.
        labels : Tensor
            int64, shape (B,).
        """


class LabelledBatches:
    """A split in a new order every epoch, every image once; the last batch may be smaller.

    Parameters
    ----------
    store : ImageStore
        The images, on their device.
    batch_size : int
        Images a batch.
    seed : int
        Seed of the order and of the augmentation.
    """

    def __init__(self, store: ImageStore, batch_size: int, seed: int) -> None:
        self._store, self._size, self._seed = store, batch_size, seed
        self._epoch, self._order = 0, store.labels[:0]

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch, the same for all."""
        return math.ceil(len(self._store) / self._size)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one batch, as `BatchSource.batch`."""
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._store.order(self._seed, epoch)
        rows = self._order[step * self._size : (step + 1) * self._size]
        draws = self._store.draws(len(rows), self._seed, epoch, step)
        return self._store.augmented(rows, draws), self._store.labels[rows]
