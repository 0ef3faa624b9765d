"""What a data set consists of: images or files of images, with their labels."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_npz, write_atomically, write_json
from reproduce.core.rng import derive
from reproduce.registry import DatasetFacts


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


S = TypeVar("S", bound=Rows)

# subsets belong to the protocol, not to a run: seeds of a cell must train on the same images
_SEED = 0


def stratified_subset(split: S, size: int | None, purpose: str) -> S:
    """Take `size` images, each class in its proportion to within one image.

    Parameters
    ----------
    split : Split or FileSplit
        Where to take from.
    size : int or None
        How many; None for all.
    purpose : str
        Names the random choice; equal purposes choose alike.

    Raises
    ------
    HarnessError
        If there are fewer than `size` images.
    """
    if size is None:
        return split
    if size > len(split):
        raise HarnessError(f"{size} {purpose} images are asked for, there are {len(split)}")
    return split.take(_balanced_order(split, purpose)[:size])


def hold_out(split: S, size: int) -> tuple[S, S]:
    """Set `size` balanced images aside.

    Returns
    -------
    kept, held_out
        Of the form of `split`.

    Raises
    ------
    HarnessError
        If nothing would be left to train on.
    """
    if size >= len(split):
        raise HarnessError(
            f"train.holdout is {size}, but there are only {len(split)} training images"
        )
    order = _balanced_order(split, "holdout")
    return split.take(order[size:]), split.take(order[:size])


def _balanced_order(split: Rows, purpose: str) -> np.ndarray:
    """Order the rows so that every beginning of the order is balanced over the classes."""
    stream = np.random.Generator(np.random.Philox(derive(_SEED, f"subset/{purpose}")))
    shuffled = stream.permutation(len(split))
    labels = split.labels[shuffled]
    # place of each image within its class, as a fraction of the class: 0 to 1 in every class
    place = np.empty(len(split))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place, kind="stable")]


KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def check_arrays(facts: DatasetFacts, arrays: Mapping[str, Any], where: str) -> None:
    """Refuse arrays that are not images and labels of this data set.

    Raises
    ------
    HarnessError
        Naming the file, the key and what was expected.
    """
    for key in KEYS:
        if key not in arrays:
            raise HarnessError(f"{where}: key {key!r} is missing; needed are {', '.join(KEYS)}")
    for split in ("train", "test"):
        check_images(facts, arrays, (f"{split}_images", f"{split}_labels"), where)


def check_images(
    facts: DatasetFacts, arrays: Mapping[str, Any], keys: tuple[str, str], where: object
) -> None:
    """Refuse two arrays that are not images of this data set and their labels.

    Parameters
    ----------
    facts : DatasetFacts
        The data set.
    arrays : mapping of str to ndarray
        Has images, uint8, shape (N, height, width, channels), and labels, whole numbers,
        shape (N,).
    keys : tuple of str
        Names of images and labels among them.
    where : object
        What the arrays are from.

    Raises
    ------
    HarnessError
        Naming the file, the key and what was expected.
    """
    images, labels = (arrays[key] for key in keys)
    shape = (facts.size, facts.size, facts.channels)
    if images.dtype != np.uint8:
        raise HarnessError(f"{where}: {keys[0]} has dtype {images.dtype}, expected uint8")
    if images.ndim != 4 or images.shape[1:] != shape or not len(images):
        raise HarnessError(
            f"{where}: {keys[0]} has shape {images.shape}, "
            f"expected (N, {', '.join(map(str, shape))})"
        )
    if labels.dtype.kind not in "iu":
        raise HarnessError(f"{where}: {keys[1]} has dtype {labels.dtype}, expected whole numbers")
    if labels.shape != (len(images),):
        raise HarnessError(
            f"{where}: {keys[1]} has shape {labels.shape}, expected ({len(images)},)"
        )
    for value in (labels.min(), labels.max()):
        if not 0 <= value < facts.classes:
            raise HarnessError(
                f"{where}: {keys[1]} holds {value}, {facts.title} has labels 0 to "
                f"{facts.classes - 1}"
            )


def checksum(arrays: Mapping[str, NDArray[Any]], keys: Iterable[str]) -> str:
    """Return one SHA-256 over names and bytes of arrays, in the order of `keys`."""
    state = hashlib.sha256()
    for key in keys:
        state.update(key.encode())
        state.update(np.ascontiguousarray(arrays[key]).data)
    return state.hexdigest()


def save_prepared(
    path: Path,
    facts: DatasetFacts,
    arrays: Mapping[str, NDArray[Any]],
    source: str,
    official: bool,
) -> None:
    """Check the arrays and write them with a manifest beside them.

    The manifest depends on the images alone, so the same images from another place
    leave it as it was; where they came from stands in the .npz.

    Raises
    ------
    HarnessError
        If the arrays do not fit the data set, or cannot be written.
    """
    check_arrays(facts, arrays, source)
    # what numpy makes of a list of labels is int64
    kept = {key: arrays[key].astype(np.uint8, copy=False) for key in KEYS}

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            origin = {"source": np.array(source), "official": np.array(official)}
            np.savez(handle, allow_pickle=False, **kept, **origin)

    write_atomically(path, write)
    train, test = len(kept["train_labels"]), len(kept["test_labels"])
    save_manifest(path, facts, train, test, checksum(kept, KEYS))


def save_manifest(path: Path, facts: DatasetFacts, train: int, test: int, sha256: str) -> None:
    """Write beside a prepared data set what it holds: numbers of images and their checksum."""
    manifest = {
        "dataset": facts.name,
        "train_images": train,
        "test_images": test,
        "sha256": sha256,
    }
    # Snakemake compares its content
    write_json(path.with_suffix(".json"), manifest)


def load_arrays(path: Path, facts: DatasetFacts, manifest: Mapping[str, Any]) -> Dataset:
    """Read what `save_prepared` wrote and check every byte of it.

    Raises
    ------
    HarnessError
        If it is damaged or does not match its manifest.
    """
    arrays = read_npz(path, (*KEYS, "source", "official"))
    check_arrays(facts, arrays, str(path))
    if any(key not in arrays or arrays[key].shape != () for key in ("source", "official")):
        raise HarnessError(
            f"{path} does not say where its images are from; delete it and run "
            f"`reproduce prepare {facts.name}`"
        )
    found = checksum(arrays, KEYS)
    if manifest.get("sha256") != found:
        raise HarnessError(
            f"{path} does not match its checksum; delete it and run "
            f"`reproduce prepare {facts.name}`"
        )
    splits = {
        name: Split(
            arrays[f"{name}_images"],
            arrays[f"{name}_labels"],
            np.arange(len(arrays[f"{name}_labels"])),
        )
        for name in ("train", "test")
    }
    source, official = str(arrays["source"]), bool(arrays["official"])
    return Dataset(facts, splits["train"], splits["test"], found, source, official)
