"""Batches of labelled and pseudo-labelled images, as robust self-training draws them."""

import math

import torch
from torch import Tensor

from reproduce.data.batches import Draws, ImageStore
from reproduce.rng import generator


class MixedBatches:
    """Batches of which a fixed part comes from extra images.

    An epoch has as many steps as one over the labelled images alone would have, so with
    half of every batch from elsewhere it visits half of the labelled images.  Each epoch
    shuffles them anew and takes the front of that order: within an epoch no labelled
    image comes twice.  Extra images are drawn with replacement, every batch anew, and
    fill the batch where labelled ones run out.  The two kinds are shuffled together
    within a batch.  That is what the official sampler does.

    Every batch is a function of seed, epoch and step: a run that continues anywhere
    sees the batches it would have seen.

    Parameters
    ----------
    labelled, extra : ImageStore
        The two sources, on one device.
    batch_size : int
        Images a step.
    seed : int
        Picks all random choices.
    extra_fraction : float
        Part of a batch that comes from `extra`, rounded down to whole images; above
        0 and below 1.

    Source: Carmon et al. 2019 and their code (`SemiSupervisedSampler`).
    """

    def __init__(
        self,
        labelled: ImageStore,
        extra: ImageStore,
        batch_size: int,
        seed: int,
        extra_fraction: float = 0.5,
    ) -> None:
        self.labelled = labelled
        self.extra = extra
        self.batch_size = batch_size
        self.seed = seed
        self._from_labelled = batch_size - int(batch_size * extra_fraction)
        # of the epoch last asked for; a convenience, it could be drawn anew at every step
        self._order: tuple[int, Tensor] | None = None

    def steps(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self.labelled) / self.batch_size)

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return one augmented batch.

        Parameters
        ----------
        epoch, step : int
            Counted from 1 and from 0.

        Returns
        -------
        images : Tensor
            float32 in [0, 1], shape (B, channels, height, width), channels-last.
        labels : Tensor
            int64, shape (B,): labels and pseudo-labels.
        """
        first, device = step * self._from_labelled, self.labelled.device
        rows = self._epoch_order(epoch)[first : first + self._from_labelled]
        count = self.batch_size - len(rows)
        stream = generator(self.seed, "extra", epoch, step, device=device)
        drawn = torch.randint(len(self.extra), (count,), generator=stream, device=device)
        size = self.batch_size
        stream = generator(self.seed, "mix", epoch, step, device=device)
        place = torch.randperm(size, generator=stream, device=device)
        draws = self.labelled.draws(size, self.seed, epoch, step)
        shape = (size, *self.labelled.image_shape)
        images = torch.empty(shape, device=device, memory_format=torch.channels_last)
        labels = torch.empty(size, dtype=torch.int64, device=device)
        for store, chosen, at in (
            (self.labelled, rows, place[: len(rows)]),
            (self.extra, drawn, place[len(rows) :]),
        ):
            images[at] = store.augmented(
                chosen, Draws(draws.top[at], draws.left[at], draws.flip[at])
            )
            labels[at] = store.labels[chosen]
        return images, labels

    def _epoch_order(self, epoch: int) -> Tensor:
        """Return the order in which an epoch visits the labelled images."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, self.labelled.order(self.seed, epoch)
        return self._order[1]
