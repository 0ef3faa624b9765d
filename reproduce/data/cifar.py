"""The official CIFAR files: download with retries, md5 of every file, arrays."""

import tarfile
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.errors import HarnessError
from reproduce.files import other_kind
from reproduce.vision import torchvision

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
