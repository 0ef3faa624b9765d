"""The prepared form of images of one size: uint8 arrays in an .npz, with checksums."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.catalogue import DatasetFacts
from reproduce.data.splits import Dataset, Split
from reproduce.errors import HarnessError
from reproduce.files import read_npz, write_atomically, write_json

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
    # unsealed: its checksum is of the images, and Snakemake compares its content
    write_json(path.with_suffix(".json"), manifest, sealed=False)


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
