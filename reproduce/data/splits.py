"""What a data set consists of: images or files of images, with their labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from reproduce.catalogue import DatasetFacts


class Rows(Protocol):
    """Images of whatever form with labels, of which a part can be taken."""

    @property
    def labels(self) -> NDArray[np.integer]:
        """True classes, shape (N,)."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the rows given, in rising order."""


@dataclass(frozen=True)
class Split:
    """Images and labels that belong together.

    Attributes
    ----------
    images : ndarray
        uint8, shape (N, height, width, channels).
    labels : ndarray
        uint8, shape (N,).
    indices : ndarray
        int64, shape (N,): positions in the official split, in rising order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """Return the rows given, in rising order."""
        rows = np.sort(rows)
        return Split(self.images[rows], self.labels[rows], self.indices[rows])


@dataclass(frozen=True)
class FileSplit:
    """Image files and labels that belong together.

    Attributes
    ----------
    folder : Path
        Folder of the split.
    files : ndarray
        bytes, shape (N,): ``class/file`` below the folder, UTF-8.
    labels : ndarray
        int64, shape (N,): places of the classes in their alphabetical order.
    indices : ndarray
        int64, shape (N,): positions in the split, in rising order.
    """

    folder: Path
    files: NDArray[np.bytes_]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> "FileSplit":
        """Return the rows given, in rising order."""
        rows = np.sort(rows)
        return FileSplit(self.folder, self.files[rows], self.labels[rows], self.indices[rows])

    def path(self, row: int) -> Path:
        """Return the file of a row."""
        return self.folder / bytes(self.files[row]).decode()


@dataclass(frozen=True)
class Dataset:
    """A whole data set.

    Attributes
    ----------
    facts : DatasetFacts
        What is fixed about it.
    train, test : Split or FileSplit
        The official splits.
    sha256 : str
        Checksum over the four arrays, or over names, labels and sizes of the files.
    source : str
        Where the images came from, in words.
    official : bool
        Whether they are the official files, by their md5 sums or, of a folder, by names
        and numbers.
    """

    facts: DatasetFacts
    train: Split | FileSplit
    test: Split | FileSplit
    sha256: str
    source: str
    official: bool

    def about(self) -> dict[str, str | int | bool]:
        """Say what images these are, for run.json and records."""
        return {
            "sha256": self.sha256,
            "source": self.source,
            "official": self.official,
            "train": len(self.train),
            "test": len(self.test),
        }
