"""Where images come from: one reader a data set, into the prepared form that all runs use.

To add a data set, add its row to `reproduce.registry.DATASETS`, a reader to `_READERS` below, and
a setting to `reproduce.config.schema.Data` if the user is to say where it is.
"""

import tarfile
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, other_kind, read_npz
from reproduce.core.vision import torchvision
from reproduce.data.dataset import KEYS, Dataset, load_arrays, save_prepared
from reproduce.data.extra import prepare_extra
from reproduce.data.folder import load_folder, prepare_folder
from reproduce.experiments.paths import extra_source
from reproduce.registry import EXTRA, dataset_facts

ATTEMPTS = 3
PAUSE_SECONDS = 5.0


class Source(NamedTuple):
    """What a reader returns.

    Attributes
    ----------
    arrays : dict of ndarray
        train_images and test_images, uint8, shape (N, height, width, channels), and
        train_labels and test_labels, whole numbers, shape (N,).
    title : str
        Where they came from, for a reader.
    official : bool
        Whether checksums say that they are the official images.
    """

    arrays: dict[str, NDArray[Any]]
    title: str
    official: bool


Reader = Callable[[str, Data, Callable[[str], None]], Source]


def prepare(data: Data, dataset: str, path: Path, say: Callable[[str], None] = print) -> None:
    """Read a data set, or extra images such as ``cifar10-extra``, and write the prepared form.

    `path` is the .npz to write, of a folder its index; a manifest with the checksum is put
    next to it.  `say` gets a line about each download that failed, and what takes long.

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
    source = _READERS[dataset](dataset, data, say)
    save_prepared(path, facts, source.arrays, source.title, source.official)


def load_prepared(path: Path) -> Dataset:
    """Read a prepared data set, called as the file is, and check it.

    Raises
    ------
    HarnessError
        If it is missing, damaged or does not match its manifest.
    """
    facts = dataset_facts(path.stem)
    return load_folder(path, facts) if facts.storage == "folder" else load_arrays(path, facts)


def _read_digits(_name: str, _data: Data, _say: Callable[[str], None]) -> Source:
    """Read scikit-learn's 8 x 8 digits; every fifth image of a class is in the test split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.uint8)
    in_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        in_test[np.flatnonzero(labels == label)[4::5]] = True
    arrays = {
        "train_images": images[~in_test],
        "train_labels": labels[~in_test],
        "test_images": images[in_test],
        "test_labels": labels[in_test],
    }
    return Source(arrays, "scikit-learn's digits", official=True)


def _read_cifar(name: str, data: Data, say: Callable[[str], None]) -> Source:
    """Read CIFAR-10 or CIFAR-100: downloaded, or from an official archive or folder or an .npz."""
    where, downloads = getattr(data, name), data.folder / "official"
    if where == "download":
        return Source(_download(name, downloads, say), "official archive, md5 checked", True)
    path = Path(where)
    if not path.exists():
        raise HarnessError(
            f"data.{name}: {path} does not exist; give an official folder, its archive "
            'or an .npz file, or "download"'
        )
    if path.is_dir():
        return Source(_read_folder(name, path), "official files, md5 checked", True)
    if path.suffix == ".npz":
        return Source(read_npz(path, KEYS), f"{path.name}, an .npz given by the user", False)
    official = official_class(name)
    _check_md5(path, official.tgz_md5, official.filename)
    with tarfile.open(path) as tar:
        tar.extractall(downloads, filter="data")
    return Source(_read_folder(name, downloads), "official archive, md5 checked", True)


_READERS: dict[str, Reader] = {
    "digits": _read_digits,
    "cifar10": _read_cifar,
    "cifar100": _read_cifar,
}


def official_class(name: str) -> Any:
    """Return torchvision's class for CIFAR: it knows address, files and md5 sums."""
    datasets = torchvision("torchvision.datasets")
    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _download(name: str, folder: Path, say: Callable[[str], None]) -> dict[str, NDArray[np.uint8]]:
    """Download the official archive into `folder` unless it is there, and read it."""
    official = official_class(name)
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            official(str(folder), download=True)
            return _read_folder(name, folder)
        # torchvision and urllib raise RuntimeError, URLError, timeouts, tar errors
        except (RuntimeError, OSError, EOFError, tarfile.TarError, HTTPException) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            say(f"{name}: download attempt {attempt} of {ATTEMPTS} failed: {reason}")
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
    archive = folder / official.filename
    problem = _problem(archive, official.tgz_md5, official.filename) if archive.is_file() else None
    raise HarnessError(
        f"{name} could not be downloaded from {official.url} ({reason})"
        f"{f'; {problem}' if problem else ''}; "
        f"put {official.filename} into {folder}, or set data.{name} to a copy you have"
    )


def _read_folder(name: str, folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the official batch files, or the folder around them, after checking their md5 sums."""
    official = official_class(name)
    root = folder.parent if folder.name == official.base_folder else folder
    batches = root / official.base_folder
    if not batches.is_dir():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise HarnessError(
            f"{folder} holds no {official.base_folder}, the folder of the official files in their "
            f"python version, but {found}; data.{name} names that folder or the one around it"
        )
    meta = (official.meta["filename"], official.meta["md5"])
    for file, md5 in [*official.train_list, *official.test_list, meta]:
        _check_md5(batches / file, md5, file)
    # the files are pickles: they are opened only after their md5 sums were found right
    arrays = {}
    for split in ("train", "test"):
        read = official(str(root), train=split == "train")
        arrays[f"{split}_images"] = np.asarray(read.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(read.targets, dtype=np.uint8)
    return arrays


def _check_md5(path: Path, md5: str, name: str) -> None:
    if not path.is_file():
        raise HarnessError(f"{path} does not exist")
    problem = _problem(path, md5, name)
    if problem is not None:
        raise HarnessError(problem)


def _problem(path: Path, md5: str, name: str) -> str | None:
    """Say what is wrong with an official file; None if its md5 sum is right."""
    found = md5_of_file(path)
    if found == md5:
        return None
    other = other_kind(path)
    known = other and "gzip" not in other  # as the archive is
    reason = f"it is {other}" if known else f"its md5 is {found}, {name}'s {md5}"
    return f"{path} is cut short or not the official file: {reason}"
