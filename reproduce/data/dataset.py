"""A data set: two splits of images or image files, parts of them, and the form they are kept in.

Every data set is prepared once: an .npz of arrays, and a manifest (.json) with their checksum.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz, write_atomically, write_json
from reproduce.core.rng import derive
from reproduce.registry import DatasetFacts


@dataclass(frozen=True)
class Split:
    """Images in memory or in files, with their labels."""

    images: NDArray[Any]
    """uint8 (N, height, width, channels), or the names of files below `folder`, UTF-8 (N,)."""
    labels: NDArray[Any]
    """Whole numbers (N,)."""
    indices: NDArray[np.int64]
    """Positions in the official split, in rising order (N,)."""
    folder: Path | None = None
    """Where the files are; None if the images are in memory."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the rows given, in rising order."""
        rows = np.sort(rows)
        return replace(
            self, images=self.images[rows], labels=self.labels[rows], indices=self.indices[rows]
        )

    def path(self, row: int) -> Path:
        """Return the file of a row."""
        return Path(self.folder or "", self.images[row].decode())


@dataclass(frozen=True)
class Dataset:
    """A whole data set: its facts, the official splits, and where they came from.

    `sha256` is over the arrays, or over names, labels and sizes of the files; `official` says
    whether they are the official files, by their md5 sums or, of a folder, by names and numbers.
    """

    facts: DatasetFacts
    train: Split
    test: Split
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


# subsets belong to the protocol, not to a run: seeds of a cell must train on the same images
_SEED = 0


def stratified_subset(split: Split, size: int | None, purpose: str) -> Split:
    """Take `size` images, each class in its proportion to within one image; None takes all.

    `purpose` names the random choice: equal purposes choose alike.
    """
    if size is None:
        return split
    if size > len(split):
        raise HarnessError(f"{size} {purpose} images are asked for, there are {len(split)}")
    return split.take(_balanced_order(split, purpose)[:size])


def hold_out(split: Split, size: int) -> tuple[Split, Split]:
    """Set `size` balanced images aside; returns those kept and those held out."""
    if size >= len(split):
        raise HarnessError(
            f"train.holdout is {size}, but there are only {len(split)} training images"
        )
    order = _balanced_order(split, "holdout")
    return split.take(order[size:]), split.take(order[:size])


def _balanced_order(split: Split, purpose: str) -> NDArray[np.int64]:
    """Order the rows so that every beginning of the order is balanced over the classes."""
    stream = np.random.Generator(np.random.Philox(derive(_SEED, f"subset/{purpose}")))
    shuffled = stream.permutation(len(split))
    labels = pd.Series(split.labels[shuffled])
    classes = labels.groupby(labels)
    # place of each image within its class, as a fraction of the class: 0 to 1 in every class
    place = (classes.cumcount() + 0.5) / classes.transform("size")
    return shuffled[np.argsort(place.to_numpy(), kind="stable")]


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> str:
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
    origin: Mapping[str, str | bool],
) -> None:
    """Write arrays as .npz, and next to it a manifest that ends with their checksum.

    `origin` is in neither: the same images from elsewhere leave the manifest, which Snakemake
    watches, as it is.
    """

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            places = {key: np.array(value) for key, value in origin.items()}
            np.savez(handle, allow_pickle=False, **arrays, **places)

    write_atomically(path, write)
    write_json(path.with_suffix(".json"), {**manifest, "sha256": _checksum(arrays)})


def read_prepared(
    path: Path, keys: Iterable[str], origin: Iterable[str]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays that `write_prepared` wrote, `origin` among them, and the manifest."""
    if not path.exists():
        raise HarnessError(f"{path} is missing; run `reproduce prepare {path.stem}` first")
    manifest = read_json(path.with_suffix(".json"))
    arrays = read_npz(path, (*keys, *origin))
    whole = arrays.keys() == {*keys, *origin}
    if not whole or manifest.get("sha256") != _checksum({key: arrays[key] for key in keys}):
        raise HarnessError(
            f"{path} does not match its checksum; delete it and run `reproduce prepare {path.stem}`"
        )
    return arrays, manifest
