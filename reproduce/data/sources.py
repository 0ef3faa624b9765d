"""The official CIFAR files: download with retries, md5 of every file, arrays."""

import os
import re
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import other_kind, read_json, read_npz, write_atomically
from reproduce.core.vision import torchvision
from reproduce.data.dataset import (
    KEYS,
    Dataset,
    FileSplit,
    checksum,
    load_arrays,
    save_manifest,
    save_prepared,
)
from reproduce.data.extra import prepare_extra
from reproduce.data.imagenet import FORMATS, UNREADABLE
from reproduce.experiments.paths import extra_source
from reproduce.registry import EXTRA, DatasetFacts, dataset_facts

ATTEMPTS = 3
PAUSE_SECONDS = 5.0
# of what lies in a folder that is another
_MOST_NAMES = 5


def official_class(name: str) -> Any:
    """Return torchvision's class for a data set: it knows address, files and md5 sums."""
    datasets = torchvision("torchvision.datasets")
    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def download(
    name: str, folder: Path, say: Callable[[str], None] = print
) -> dict[str, NDArray[np.uint8]]:
    """Download the official archive into `folder` unless it is there, and read it.

    Raises
    ------
    HarnessError
        If it could not be had whole, with the right md5 sum, in three attempts.
    """
    official = official_class(name)
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            official(str(folder), download=True)
            return read_folder(name, folder)
        # torchvision and urllib raise RuntimeError, URLError, timeouts, tar errors
        except (RuntimeError, OSError, EOFError, tarfile.TarError, HTTPException) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            say(f"{name}: download attempt {attempt} of {ATTEMPTS} failed: {reason}")
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
    archive, lies = folder / official.filename, ""
    if archive.is_file():
        try:
            _check_md5(archive, official.tgz_md5, official.filename)
        except HarnessError as error:
            lies = f"; {error}"
    raise HarnessError(
        f"{name} could not be downloaded from {official.url} ({reason}){lies}; "
        f"put {official.filename} into {folder}, or set data.{name} to a copy you have"
    )


def read_archive(name: str, archive: Path, folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Check the md5 sum of an official archive, unpack it into `folder` and read it.

    Raises
    ------
    HarnessError
        If the archive is cut short or not the official one.
    """
    official = official_class(name)
    _check_md5(archive, official.tgz_md5, official.filename)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return read_folder(name, folder)


def read_folder(name: str, folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Read an official folder after checking the md5 sum of each of its files.

    Parameters
    ----------
    folder : Path
        The folder with the batch files, or the one that holds it.

    Raises
    ------
    HarnessError
        If a file is missing or does not have the official md5 sum.
    """
    official = official_class(name)
    root = folder.parent if folder.name == official.base_folder else folder
    batches = root / official.base_folder
    if not batches.is_dir():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:_MOST_NAMES]) or "nothing"
        raise HarnessError(
            f"{folder} holds no {official.base_folder}, the folder of the official files in their "
            f"python version, but {found}; data.{name} names that folder or the one around it"
        )
    meta = (official.meta["filename"], official.meta["md5"])
    for file, md5 in [*official.train_list, *official.test_list, meta]:
        _check_md5(batches / file, md5, file)
    # the files are pickles: they are opened only after their md5 sums were found right
    splits = {"train": official(str(root), train=True), "test": official(str(root), train=False)}
    arrays = {}
    for split, data in splits.items():
        arrays[f"{split}_images"] = np.asarray(data.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(data.targets, dtype=np.uint8)
    return arrays


def _check_md5(path: Path, md5: str, name: str) -> None:
    if not path.is_file():
        raise HarnessError(f"{path} does not exist")
    utils = torchvision("torchvision.datasets.utils")
    found = utils.calculate_md5(str(path))
    if found != md5:
        other = other_kind(path)
        known = other and "gzip" not in other  # as the archive is
        reason = f"it is {other}" if known else f"its md5 is {found}, {name}'s {md5}"
        raise HarnessError(f"{path} is cut short or not the official file: {reason}")


def read_digits() -> dict[str, NDArray[np.uint8]]:
    """Return the digits as uint8 arrays, every fifth image of a class in the test split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    # takes longer to import than many a job to run, and only this one needs it
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.uint8)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        in_test[np.flatnonzero(labels == label)[4::5]] = True
    return {
        "train_images": images[~in_test],
        "train_labels": labels[~in_test],
        "test_images": images[in_test],
        "test_labels": labels[in_test],
    }


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


def prepare(data: Data, dataset: str, path: Path, say: Callable[[str], None] = print) -> None:
    """Read a data set from its configured source and write it to `path`.

    Parameters
    ----------
    data : Data
        The configuration's data section.
    dataset : str
        Name of the data set, or of extra images such as ``cifar10-extra``.
    path : Path
        The .npz to write, of a folder its index; a manifest with the checksum is put
        beside it.
    say : callable
        Told about downloads that are tried again, and what takes long.

    Raises
    ------
    HarnessError
        If the source is missing, damaged or of another form.
    """
    if dataset in EXTRA:
        prepare_extra(dataset, extra_source(data, dataset), path)
        return
    facts = dataset_facts(dataset)
    if facts.storage == "folder":
        prepare_folder(getattr(data, dataset), facts, path, say)
        return
    arrays, source, official = _read(data, dataset, say)
    save_prepared(path, facts, arrays, source, official)


def _read(
    data: Data, dataset: str, say: Callable[[str], None]
) -> tuple[dict[str, NDArray[np.uint8]], str, bool]:
    """Return the arrays, where they came from, and whether md5 sums say they are official."""
    if dataset == "digits":
        return read_digits(), "scikit-learn's digits", True
    where = {"cifar10": data.cifar10, "cifar100": data.cifar100}[dataset]
    downloads = data.folder / "official"
    if where == "download":
        return download(dataset, downloads, say), "official archive, md5 checked", True
    path = Path(where)
    if not path.exists():
        raise HarnessError(
            f"data.{dataset}: {path} does not exist; give an official folder, its archive "
            'or an .npz file, or "download"'
        )
    if path.is_dir():
        return read_folder(dataset, path), "official files, md5 checked", True
    if path.suffix == ".npz":
        return read_npz(path, KEYS), f"{path.name}, an .npz given by the user", False
    return read_archive(dataset, path, downloads), "official archive, md5 checked", True


def load_prepared(path: Path) -> Dataset:
    """Read a prepared data set and check it.

    Parameters
    ----------
    path : Path
        The .npz that `reproduce prepare` wrote; its name is the data set's.

    Raises
    ------
    HarnessError
        If it is missing, damaged or does not match its manifest.
    """
    facts = dataset_facts(path.stem)
    if not path.exists():
        raise HarnessError(f"{path} is missing; run `reproduce prepare {facts.name}` first")
    manifest = read_json(path.with_suffix(".json"))
    if facts.storage == "folder":
        return load_folder(path, facts, manifest)
    return load_arrays(path, facts, manifest)
