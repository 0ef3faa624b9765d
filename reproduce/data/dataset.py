"""A data set: two splits of images or image files, parts of them, and the form they are kept in.

Every data set is prepared once: an .npz of arrays, and a manifest (.json) with their checksum.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz, write_atomically, write_json
from reproduce.core.rng import derive
from reproduce.registry import DatasetFacts


@dataclass(frozen=True)
class Split:
    """Images in memory, with their labels.

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

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the rows given, in rising order."""
        rows = np.sort(rows)
        return replace(
            self, images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows]
        )


@dataclass(frozen=True)
class FileSplit:
    """Image files, with their labels.

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

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the rows given, in rising order."""
        rows = np.sort(rows)
        return replace(
            self, files=self.files[rows], labels=self.labels[rows], indices=self.indices[rows]
        )

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
        Where the images came from, for a reader.
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


class _Rows(Protocol):
    """A split of either kind."""

    @property
    def labels(self) -> NDArray[np.integer]: ...

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.int64]) -> Self: ...


S = TypeVar("S", bound=_Rows)

# subsets belong to the protocol, not to a run: seeds of a cell must train on the same images
_SEED = 0


def stratified_subset(split: S, size: int | None, purpose: str) -> S:
    """Take `size` images, each class in its proportion to within one image; None takes all.

    `purpose` names the random choice: equal purposes choose alike.
    """
    if size is None:
        return split
    if size > len(split):
        raise HarnessError(f"{size} {purpose} images are asked for, there are {len(split)}")
    return split.take(_balanced_order(split, purpose)[:size])


def hold_out(split: S, size: int) -> tuple[S, S]:
    """Set `size` balanced images aside; returns those kept and those held out."""
    if size >= len(split):
        raise HarnessError(
            f"train.holdout is {size}, but there are only {len(split)} training images"
        )
    order = _balanced_order(split, "holdout")
    return split.take(order[size:]), split.take(order[:size])


def _balanced_order(split: _Rows, purpose: str) -> NDArray[np.int64]:
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


def checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return one SHA-256 over names and bytes of arrays, in their order."""
    state = hashlib.sha256()
    for key, array in arrays.items():
        state.update(key.encode())
        state.update(np.ascontiguousarray(array).data)
    return state.hexdigest()


def write_prepared(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    manifest: Mapping[str, str | int],
    **origin: str | bool,
) -> None:
    """Write arrays as .npz, and next to it a manifest that ends with their checksum.

    `origin` goes into the .npz alone and no checksum covers it: the same images from another
    place leave the manifest as it is, which Snakemake watches.
    """

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            places = {key: np.array(value) for key, value in origin.items()}
            np.savez(handle, allow_pickle=False, **arrays, **places)

    write_atomically(path, write)
    write_json(path.with_suffix(".json"), {**manifest, "sha256": checksum(arrays)})


def read_prepared(
    path: Path, keys: Iterable[str], origin: Iterable[str] = ()
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays that `write_prepared` wrote, `origin` among them, and the manifest.

    Every byte of the arrays is checked against the manifest's checksum.
    """
    if not path.exists():
        raise HarnessError(f"{path} is missing; run `reproduce prepare {path.stem}` first")
    manifest = read_json(path.with_suffix(".json"))
    arrays = read_npz(path, (*keys, *origin))
    whole = arrays.keys() == {*keys, *origin}
    if not whole or manifest.get("sha256") != checksum({key: arrays[key] for key in keys}):
        raise HarnessError(
            f"{path} does not match its checksum; delete it and run `reproduce prepare {path.stem}`"
        )
    return arrays, manifest


KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def save_prepared(
    path: Path,
    facts: DatasetFacts,
    arrays: Mapping[str, NDArray[Any]],
    source: str,
    official: bool,
) -> None:
    """Check the four arrays of a data set, named as `KEYS`, and write its prepared form."""
    for key in KEYS:
        if key not in arrays:
            raise HarnessError(f"{source}: key {key!r} is missing; needed are {', '.join(KEYS)}")
    for split in ("train", "test"):
        check_images(facts, arrays, (f"{split}_images", f"{split}_labels"), source)
    # what numpy makes of a list of labels is int64
    kept = {key: arrays[key].astype(np.uint8, copy=False) for key in KEYS}
    manifest: dict[str, str | int] = {
        "dataset": facts.name,
        "train_images": len(kept["train_labels"]),
        "test_images": len(kept["test_labels"]),
    }
    write_prepared(path, kept, manifest, source=source, official=official)


def load_arrays(path: Path, facts: DatasetFacts) -> Dataset:
    """Read what `save_prepared` wrote, and check every byte of it."""
    arrays, manifest = read_prepared(path, KEYS, ("source", "official"))
    train, test = (
        Split(images, labels, np.arange(len(labels)))
        for images, labels in (
            (arrays["train_images"], arrays["train_labels"]),
            (arrays["test_images"], arrays["test_labels"]),
        )
    )
    source, official = str(arrays["source"]), bool(arrays["official"])
    return Dataset(facts, train, test, manifest["sha256"], source, official)


def check_images(
    facts: DatasetFacts, arrays: Mapping[str, Any], keys: tuple[str, str], where: object
) -> None:
    """Refuse arrays, of the names `keys`, that are not images of this data set and their labels."""
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
