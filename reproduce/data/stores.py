"""A split to attack: images of one size in memory, or files that are decoded when asked for."""

from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproduce.catalogue import DatasetFacts
from reproduce.data.batches import ImageStore, to_float
from reproduce.data.decoding import Decoder
from reproduce.data.splits import FileSplit, Split


class EvaluationStore(Protocol):
    """Images that can be attacked."""

    @property
    def labels(self) -> Tensor:
        """True classes, int64 on the device, shape (N,)."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Positions in the official split, shape (N,)."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (channels, height, width)."""

    def __len__(self) -> int: ...

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop`, unaugmented, with their labels.

        Returns
        -------
        images : Tensor
            float32 in [0, 1], shape (B, channels, height, width), channels-last.
        labels : Tensor
            int64, shape (B,).
        """


class FolderStore:
    """A split of image files, cut from the middle and decoded on demand.

    Parameters
    ----------
    split : FileSplit
        Files and labels.
    facts : DatasetFacts
        Its size is what is cut, in pixels.
    device : torch.device
        Where the images go.
    loaders : int
        Threads that decode; 0 for none beside this one.
    """

    def __init__(
        self,
        split: FileSplit,
        facts: DatasetFacts,
        device: torch.device,
        loaders: int,
    ) -> None:
        self.labels = torch.from_numpy(split.labels).to(device)
        self.indices = split.indices
        self._split, self._facts, self._device = split, facts, device
        self._loaders = max(loaders, 1)
        self._decoder = Decoder(facts.size)

    def __len__(self) -> int:
        return len(self._split)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, (channels, height, width)."""
        return self._facts.channels, self._facts.size, self._facts.size

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop` and their labels, as `EvaluationStore.plain`.

        Raises
        ------
        HarnessError
            If an image cannot be read.
        """
        rows = range(len(self))[start:stop]
        # PIL decodes without holding Python's lock
        with ThreadPoolExecutor(self._loaders) as pool:
            pixels = list(pool.map(lambda row: self._decoder.middle(self._split.path(row)), rows))
        together = torch.from_numpy(np.stack(pixels)).to(self._device)
        return to_float(together), self.labels[start:stop]


class StorePart:
    """Some images of a store that lie side by side, as a store.

    Parameters
    ----------
    store : EvaluationStore
        All images.
    start, stop : int
        Where the part begins and ends.
    """

    def __init__(self, store: EvaluationStore, start: int, stop: int) -> None:
        self.labels = store.labels[start:stop]
        self.indices = store.indices[start:stop]
        self.image_shape = store.image_shape
        self._store, self._start = store, start

    def __len__(self) -> int:
        return len(self.labels)

    def plain(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return images `start` to `stop` of the part, unaugmented, with their labels."""
        return self._store.plain(self._start + start, self._start + min(stop, len(self)))


def open_store(
    split: Split | FileSplit, facts: DatasetFacts, device: torch.device, loaders: int
) -> EvaluationStore:
    """Return a split as evaluation takes it, whatever its form.

    `loaders` threads decode files; images in memory need none.
    """
    if isinstance(split, FileSplit):
        return FolderStore(split, facts, device, loaders)
    return ImageStore(split, facts, device)
