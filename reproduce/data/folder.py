"""The index of image files in a folder a class, as ImageNet's archives unpack to."""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reproduce.core.errors import HarnessError
from reproduce.data.dataset import Dataset, FileSplit, read_prepared, write_prepared
from reproduce.data.imagenet import FORMATS
from reproduce.registry import DatasetFacts

_ENDINGS = (".jpeg", ".jpg", ".png")
# of the official archives: the test split is what ImageNet calls val
_SPLITS = {"train": "train", "test": "val"}
_KEYS = ("classes", *(f"{s}_{key}" for s in _SPLITS for key in ("files", "sizes", "labels")))
_OFFICIAL_CLASS = re.compile(r"n\d{8}")
# threads that read headers, and headers they are asked for at once
_READERS, _AT_ONCE = 16, 10_000


def prepare_folder(
    folder: str | None, facts: DatasetFacts, path: Path, say: Callable[[str], None]
) -> None:
    """Write an index of ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG`` to `path`.

    Its checksum covers names, labels and sizes of the files.  Pixels are read when they are
    needed; now every file's header is.
    """
    if folder is None:
        raise HarnessError(
            f"data.{facts.name} is not set: {facts.title} cannot be downloaded, name the folder "
            "with train/CLASS/*.JPEG and val/CLASS/*.JPEG"
        )
    root = Path(folder).absolute()
    found = {split: _scan(root / name, facts) for split, name in _SPLITS.items()}
    _check_classes(root, found)
    classes = list(found["train"])
    arrays: dict[str, NDArray[Any]] = {"classes": np.char.encode(np.array(classes), "utf-8")}
    for split, name in _SPLITS.items():
        files = [file for label in classes for file in found[split][label]]
        counts = [len(found[split][label]) for label in classes]
        say(f"{facts.name}: checking {len(files)} images in {root / name}")
        arrays[f"{split}_files"] = np.char.encode(np.array(files), "utf-8")
        arrays[f"{split}_sizes"] = _check_headers(root / name, files)
        arrays[f"{split}_labels"] = np.repeat(np.arange(len(classes)), counts).astype(np.uint16)
    manifest: dict[str, str | int] = {
        "dataset": facts.name,
        "train_images": len(arrays["train_files"]),
        "test_images": len(arrays["test_files"]),
    }
    write_prepared(path, arrays, manifest, folder=str(root))


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
        inside = sorted(entry.name for entry in os.scandir(folder / name) if entry.is_file())
        files[name] = [f"{name}/{file}" for file in inside if file.lower().endswith(_ENDINGS)]
        if not files[name]:
            raise HarnessError(f"class {name!r} has no images in {folder / name}")
    return files


def _check_classes(root: Path, found: dict[str, dict[str, list[str]]]) -> None:
    """Refuse two splits that do not have the same classes."""
    for split, other in (("test", "train"), ("train", "test")):
        missing = sorted(found[other].keys() - found[split].keys())
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise HarnessError(
                f"class {missing[0]!r}{more} of {root / _SPLITS[other]} is missing from "
                f"{root / _SPLITS[split]}"
            )


def _check_headers(folder: Path, files: Sequence[str]) -> NDArray[np.int64]:
    """Read the header of every image and return the sizes of the files in bytes."""

    def size(file: str) -> int:
        path = folder / file
        try:
            with Image.open(path, formats=FORMATS):
                return path.stat().st_size
        except Exception as error:  # PIL raises many things
            raise HarnessError(f"image {path} cannot be read: {error}") from error

    sizes: list[int] = []
    with ThreadPoolExecutor(_READERS) as pool:
        # a task waiting for each of a million files would take a gigabyte
        for first in range(0, len(files), _AT_ONCE):
            sizes += pool.map(size, files[first : first + _AT_ONCE])
    return np.array(sizes, dtype=np.int64)


def load_folder(path: Path, facts: DatasetFacts) -> Dataset:
    """Read an index that `prepare_folder` wrote; its facts have the folder's own classes."""
    arrays, manifest = read_prepared(path, _KEYS, ("folder",))
    root = Path(str(arrays["folder"]))
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
    return Dataset(own, splits["train"], splits["test"], manifest["sha256"], source, official)


def _is_official(facts: DatasetFacts, arrays: dict[str, NDArray[Any]]) -> bool:
    """Say whether names and numbers are those of ILSVRC2012, which has no published sums."""
    named = all(_OFFICIAL_CLASS.fullmatch(name.decode()) for name in arrays["classes"])
    train, test = arrays["train_labels"], np.bincount(arrays["test_labels"])
    return (
        named
        and (len(test), len(train)) == (facts.classes, facts.train)
        and bool((test == facts.test // facts.classes).all())
    )
