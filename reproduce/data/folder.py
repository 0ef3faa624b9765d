"""ImageNet from a folder a class: an index of its files instead of their pixels."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reproduce.catalogue import DatasetFacts
from reproduce.data.decoding import FORMATS, UNREADABLE
from reproduce.data.prepared import checksum, save_manifest
from reproduce.data.splits import Dataset, FileSplit
from reproduce.errors import HarnessError
from reproduce.files import read_npz, write_atomically

# of the official archives: the test split is what ImageNet calls val
_SPLITS = {"train": "train", "test": "val"}
_KEYS = ("classes", *(f"{s}_{key}" for s in _SPLITS for key in ("files", "sizes", "labels")))
_OFFICIAL_CLASS = re.compile(r"n\d{8}")
_ENDINGS = (".jpeg", ".jpg", ".png")
_READERS = 16
_PART = 10_000


def prepare_folder(
    folder: str | None, facts: DatasetFacts, path: Path, say: Callable[[str], None]
) -> None:
    """Scan a folder of classes and write its index to `path`, with a manifest beside it.

    The checksum covers names, labels and sizes of the files.  Their pixels are read
    when they are needed, of every file only the header is now.

    Parameters
    ----------
    folder : str or None
        Holds ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``.
    facts : DatasetFacts
        The data set.
    path : Path
        The .npz to write.
    say : callable
        Told how far it is.

    Raises
    ------
    HarnessError
        If the folder or a class is missing, or a file is no image.
    """
    if folder is None:
        raise HarnessError(
            f"data.{facts.name} is not set: {facts.title} cannot be downloaded, name the folder "
            "with train/CLASS/*.JPEG and val/CLASS/*.JPEG"
        )
    root = Path(folder).absolute()
    found = {split: _scan(root / name, facts) for split, name in _SPLITS.items()}
    classes = _classes(root, {split: set(files) for split, files in found.items()})
    arrays: dict[str, NDArray[Any]] = {"classes": np.char.encode(np.array(classes), "utf-8")}
    for split, name in _SPLITS.items():
        files = [file for label in classes for file in found[split][label]]
        say(f"{facts.name}: checking {len(files)} images in {root / name}")
        arrays[f"{split}_files"] = np.char.encode(np.array(files), "utf-8")
        arrays[f"{split}_sizes"] = _check_headers(root / name, files)
        counts = [len(found[split][label]) for label in classes]
        arrays[f"{split}_labels"] = np.repeat(np.arange(len(classes)), counts).astype(np.uint16)
    _save(path, facts, root, arrays)


def _scan(folder: Path, facts: DatasetFacts) -> dict[str, list[str]]:
    """Return the files of every class, ``class/file``, all in alphabetical order."""
    if not folder.is_dir():
        raise HarnessError(
            f"{folder} does not exist; data.{facts.name} must name a folder with "
            "train/CLASS/*.JPEG and val/CLASS/*.JPEG"
        )
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise HarnessError(f"{folder} holds no folders of classes")
    files = {}
    for name in classes:
        # a pipe that is called an image would be waited for
        inside = sorted(entry.name for entry in os.scandir(folder / name) if _is_image(entry))
        files[name] = [f"{name}/{file}" for file in inside]
        for file in files[name]:
            if any("\ud800" <= character <= "\udfff" for character in file):
                raise HarnessError(f"{folder / file}: its name is not UTF-8, rename it")
        if not files[name]:
            raise HarnessError(f"class {name!r} has no images in {folder / name}")
    return files


def _is_image(entry: os.DirEntry[str]) -> bool:
    # a link that leads nowhere is named when it is read
    return entry.name.lower().endswith(_ENDINGS) and (entry.is_file() or entry.is_symlink())


def _classes(root: Path, found: dict[str, set[str]]) -> list[str]:
    """Return the names of the classes; both splits must have the same."""
    for split, other in (("test", "train"), ("train", "test")):
        missing = sorted(found[other] - found[split])
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise HarnessError(
                f"class {missing[0]!r}{more} of {root / _SPLITS[other]} is missing from "
                f"{root / _SPLITS[split]}"
            )
    return sorted(found["train"])


def _check_headers(folder: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """Read the header of every image and return the sizes of the files in bytes."""

    def size(file: str) -> int:
        path = folder / file
        try:
            with Image.open(path, formats=FORMATS):
                return path.stat().st_size
        except UNREADABLE as error:
            raise HarnessError(f"image {path} cannot be read: {error}") from error

    sizes: list[int] = []
    with ThreadPoolExecutor(_READERS) as pool:
        # in parts: a task waiting for each of a million files would take a gigabyte
        for first in range(0, len(files), _PART):
            sizes += pool.map(size, files[first : first + _PART])
    return np.array(sizes, dtype=np.int64)


def _save(path: Path, facts: DatasetFacts, root: Path, arrays: dict[str, NDArray[Any]]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez(handle, allow_pickle=False, folder=np.array(str(root)), **arrays)

    write_atomically(path, write)
    train, test = len(arrays["train_files"]), len(arrays["test_files"])
    save_manifest(path, facts, train, test, checksum(arrays, _KEYS))


def load_folder(path: Path, facts: DatasetFacts, manifest: Mapping[str, Any]) -> Dataset:
    """Read an index that `prepare_folder` wrote.

    Returns
    -------
    Dataset
        Its facts have the folder's own number of classes.

    Raises
    ------
    HarnessError
        If it is damaged, or the folder is not where it was.
    """
    arrays = read_npz(path, (*_KEYS, "folder"))
    again = f"delete it and run `reproduce prepare {facts.name}`"
    if not _is_index(arrays):
        raise HarnessError(f"{path} is no index of a folder; {again}")
    root, sha256 = Path(str(arrays.pop("folder"))), checksum(arrays, _KEYS)
    if manifest.get("sha256") != sha256:
        raise HarnessError(f"{path} does not match its checksum; {again}")
    if not root.is_dir():
        raise HarnessError(
            f"the images of {path} are gone: {root} does not exist; set data.{facts.name} to "
            f"where they are and run `reproduce prepare {facts.name}`"
        )
    splits = {
        split: FileSplit(
            root / name,
            arrays[f"{split}_files"],
            arrays[f"{split}_labels"].astype(np.int64),
            np.arange(len(arrays[f"{split}_files"])),
        )
        for split, name in _SPLITS.items()
    }
    official = _is_official(facts, arrays)
    source = "ILSVRC2012 by names and numbers" if official else "a folder given by the user"
    own = replace(facts, classes=len(arrays["classes"]))
    return Dataset(own, splits["train"], splits["test"], sha256, source, official)


def _is_index(arrays: dict[str, NDArray[Any]]) -> bool:
    """Say whether arrays are those that `prepare_folder` writes."""
    kinds = {"classes": "S", "files": "S", "sizes": "i", "labels": "u", "folder": "U"}
    for key in (*_KEYS, "folder"):
        if key not in arrays or arrays[key].dtype.kind != kinds[key.rpartition("_")[2]]:
            return False
    rows = all(
        arrays[f"{split}_{key}"].shape == (arrays[f"{split}_files"].size,)
        for split in _SPLITS
        for key in ("files", "sizes", "labels")
    )
    return rows and arrays["classes"].ndim == 1 and arrays["folder"].ndim == 0


def _is_official(facts: DatasetFacts, arrays: dict[str, NDArray[Any]]) -> bool:
    """Say whether names and numbers are those of ILSVRC2012, which has no published sums."""
    named = all(_OFFICIAL_CLASS.fullmatch(name.decode()) for name in arrays["classes"])
    train, test = arrays["train_labels"], np.bincount(arrays["test_labels"])
    return (
        named
        and (len(test), len(train)) == (facts.classes, facts.train)
        and bool((test == facts.test // facts.classes).all())
    )
