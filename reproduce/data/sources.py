"""Where images come from: one reader a data set, into the prepared form that all runs use.

To add a data set, add its row to `reproduce.registry.DATASETS`, a reader to `_READERS` below, and
a setting to `reproduce.config.schema.Data` if the user is to say where it is.
"""

import codecs
import pickle
import re
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from http.client import HTTPException
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.config.schema import Data
from reproduce.core.errors import HarnessError
from reproduce.core.files import md5_of_file, other_kind, read_npz
from reproduce.core.vision import torchvision
from reproduce.data.dataset import Dataset, Split, read_prepared, write_prepared
from reproduce.data.imagenet import open_image
from reproduce.experiments.paths import extra_source
from reproduce.registry import EXTRA, DatasetFacts, dataset_facts, extra_facts

Say = Callable[[str], None]
Arrays = dict[str, NDArray[Any]]
# what a reader returns: arrays by name, and their origin: source, for a reader, official, whether
# checksums or names and numbers say that they are the official images, and of files their folder
Source = tuple[Arrays, dict[str, str | bool]]

ATTEMPTS = 3
PAUSE_SECONDS = 5.0
_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
# of a folder: its splits (what ImageNet calls val is the test split), and the arrays of its index
_SPLITS = {"train": "train", "test": "val"}
_INDEX = ("classes", *(f"{s}_{key}" for s in _SPLITS for key in ("files", "sizes", "labels")))
_ENDINGS = (".jpeg", ".jpg", ".png")
# threads that read headers
_HEADER_READERS = 16
# of the published file of extra images
_PUBLISHED = ("data", "extrapolated_targets")


def prepare(data: Data, dataset: str, path: Path, say: Say = print) -> None:
    """Read a data set, or extra images, and write the prepared form (.npz and manifest)."""
    if dataset in EXTRA:
        arrays, md5 = _read_extra(dataset, extra_source(data, dataset))
        images = len(arrays["labels"])
        write_prepared(path, arrays, {"extra": dataset, "images": images, "source_md5": md5}, {})
        return
    facts = dataset_facts(dataset)
    if dataset not in _READERS:
        raise HarnessError(f"{dataset} has no reader in reproduce/data/sources.py; add one")
    arrays, origin = _READERS[dataset](facts, data, say)
    if facts.storage == "arrays":
        for split in _SPLITS:
            keys = f"{split}_images", f"{split}_labels"
            _check_images(facts, arrays, keys, str(origin["source"]))
            # what numpy makes of a list of labels is int64
            arrays[keys[1]] = arrays[keys[1]].astype(np.uint8)
    train, test = (len(arrays[f"{split}_labels"]) for split in _SPLITS)
    if origin["official"] and (train, test) != (facts.train, facts.test):
        raise HarnessError(
            f"{dataset} has {train} training and {test} test images, its row in "
            f"reproduce/registry.py says {facts.train} and {facts.test}"
        )
    manifest: dict[str, str | int] = {
        "dataset": dataset,
        "train_images": train,
        "test_images": test,
    }
    write_prepared(path, arrays, manifest, origin)


def load_prepared(path: Path) -> Dataset:
    """Read a prepared data set, called as the file is, and check it."""
    facts, folder = dataset_facts(path.stem), None
    if facts.storage == "folder":
        arrays, manifest = read_prepared(path, _INDEX, ("source", "official", "folder"))
        folder = Path(str(arrays["folder"]))
        if not folder.is_dir():
            raise HarnessError(
                f"the images of {path} are gone: {folder} does not exist; set data.{facts.name} to "
                f"where they are and run `reproduce prepare {facts.name}`"
            )
        facts = replace(facts, classes=len(arrays["classes"]))
    else:
        arrays, manifest = read_prepared(path, _KEYS, ("source", "official"))
    train, test = (
        Split(
            arrays[f"{split}_images" if folder is None else f"{split}_files"],
            arrays[f"{split}_labels"],
            np.arange(len(arrays[f"{split}_labels"])),
            None if folder is None else folder / name,
        )
        for split, name in _SPLITS.items()
    )
    source, official = str(arrays["source"]), bool(arrays["official"])
    return Dataset(facts, train, test, manifest["sha256"], source, official)


def load_extra(path: Path) -> tuple[Split, dict[str, Any]]:
    """Read and check prepared extra images, called as the file is; also what run.json says."""
    arrays, manifest = read_prepared(path, ("images", "labels"), ())
    images, labels = arrays["images"], arrays["labels"]
    about = {key: manifest[key] for key in ("images", "sha256", "source_md5")}
    return Split(images, labels, np.arange(len(labels))), {"name": path.stem, **about}


def _check_images(facts: DatasetFacts, arrays: Arrays, keys: tuple[str, str], where: str) -> None:
    """Refuse arrays, of the names `keys`, that are not images of this data set and their labels."""
    images, labels = (arrays[key] for key in keys)
    shape = (facts.size, facts.size, facts.channels)
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise HarnessError(
            f"{where}: {keys[0]} is {images.dtype} of shape {images.shape}, expected uint8 of "
            f"shape (N, {', '.join(map(str, shape))})"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise HarnessError(
            f"{where}: {keys[1]} is {labels.dtype} of shape {labels.shape}, expected whole numbers "
            f"of shape ({len(images)},)"
        )
    if labels.min() < 0 or labels.max() >= facts.classes:
        raise HarnessError(
            f"{where}: {keys[1]} holds {labels.min()} to {labels.max()}, {facts.title} has labels "
            f"0 to {facts.classes - 1}"
        )


def _read_digits(_facts: DatasetFacts, _data: Data, _say: Say) -> Source:
    """Read scikit-learn's 8 x 8 digits; every fifth image of a class is in the test split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    from sklearn.datasets import load_digits  # slow to import

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    in_test = pd.Series(bunch.target).groupby(bunch.target).cumcount().to_numpy() % 5 == 4
    parts = (images[~in_test], bunch.target[~in_test], images[in_test], bunch.target[in_test])
    arrays = dict(zip(_KEYS, parts, strict=True))
    return arrays, {"source": "scikit-learn's digits", "official": True}


def _read_cifar(facts: DatasetFacts, data: Data, say: Say) -> Source:
    """Read CIFAR-10 or CIFAR-100: downloaded, or from an official archive or folder or an .npz."""
    name, downloads = facts.name, data.folder / "official"
    where = getattr(data, name)
    path = downloads if where == "download" else Path(where)
    if path.suffix == ".npz":
        arrays = read_npz(path, _KEYS)
        if missing := [key for key in _KEYS if key not in arrays]:
            raise HarnessError(f"{path} has no {missing[0]}; needed are {', '.join(_KEYS)}")
        title = f"{path.name}, an .npz given by the user"
        return arrays, {"source": title, "official": False}
    official = official_class(name)
    if where == "download":
        _download(name, official, downloads, say)
    elif path.is_file():
        _check_md5(path, official.tgz_md5)
        with tarfile.open(path) as tar:
            # Python before 3.11.4, as in Debian 12, has no filters; the md5 says what is in it
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(downloads)  # noqa: S202
        path = downloads
    elif not path.is_dir():
        raise HarnessError(
            f"data.{name}: {path} does not exist; give an official folder, its archive "
            'or an .npz file, or "download"'
        )
    root = path.parent if path.name == official.base_folder else path
    meta = (official.meta["filename"], official.meta["md5"])
    for file, md5 in [*official.train_list, *official.test_list, meta]:
        _check_md5(root / official.base_folder / file, md5)
    # the files are pickles: they are opened only after their md5 sums were found right
    splits = [official(str(root), train=train) for train in (True, False)]
    parts = [np.asarray(part) for split in splits for part in (split.data, split.targets)]
    arrays = dict(zip(_KEYS, parts, strict=True))
    return arrays, {"source": "official files, md5 checked", "official": True}


def official_class(name: str) -> Any:
    """Return torchvision's class for CIFAR: it knows address, files and md5 sums."""
    datasets = torchvision("torchvision.datasets")
    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _download(name: str, official: Any, folder: Path, say: Say) -> None:
    """Download the official archive into `folder` unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            official(str(folder), download=True)
        # torchvision and urllib raise RuntimeError, URLError, timeouts, tar errors
        except (RuntimeError, OSError, EOFError, tarfile.TarError, HTTPException) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            say(f"{name}: download attempt {attempt} of {ATTEMPTS} failed: {reason}")
            if attempt < ATTEMPTS:
                time.sleep(PAUSE_SECONDS)
        else:
            return
    raise HarnessError(
        f"{name} could not be downloaded from {official.url} ({reason}); put {official.filename} "
        f"into {folder}, or set data.{name} to a copy you have"
    )


def _check_md5(path: Path, md5: str) -> None:
    """Refuse an official file that is missing, or has another md5 sum."""
    if not path.is_file():
        raise HarnessError(
            f"{path} does not exist; give the folder of the official python version, or the one "
            "around it"
        )
    found = md5_of_file(path)
    if found != md5:
        reason = other_kind(path) or f"of md5 {found}, not {md5}"
        raise HarnessError(f"{path} is cut short or not the official file: it is {reason}")


def _read_folder(facts: DatasetFacts, data: Data, say: Say) -> Source:
    """Read an index of ``train/CLASS/*.JPEG`` and ``val/CLASS/*.JPEG``, and every file's header."""
    place = getattr(data, facts.name)
    expected = f"data.{facts.name} must name a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG"
    if place is None:
        raise HarnessError(f"{expected}; {facts.title} cannot be downloaded")
    reader = torchvision("torchvision.datasets.folder")
    root = Path(place).absolute()
    classes: dict[str, list[str]] = {}
    arrays: Arrays = {}
    for split, name in _SPLITS.items():
        try:
            classes[split], numbers = reader.find_classes(root / name)
            samples = reader.make_dataset(root / name, numbers, _ENDINGS)
        except OSError as error:
            raise HarnessError(f"{expected}: {error}") from error
        files = [Path(path).relative_to(root / name).as_posix() for path, _ in samples]
        say(f"{facts.name}: checking {len(files)} images in {root / name}")
        arrays["classes"] = np.char.encode(np.array(classes[split]), "utf-8")
        arrays[f"{split}_files"] = np.char.encode(np.array(files), "utf-8")
        arrays[f"{split}_sizes"] = _check_headers(root / name, files)
        arrays[f"{split}_labels"] = np.array([number for _, number in samples], np.uint16)
    if apart := sorted(set(classes["train"]) ^ set(classes["test"])):
        raise HarnessError(f"only one of train and val in {root} has class {apart[0]!r}")
    official = (
        all(re.fullmatch(r"n\d{8}", name) for name in classes["train"])
        and (len(classes["train"]), len(arrays["train_labels"])) == (facts.classes, facts.train)
        and bool((np.bincount(arrays["test_labels"]) == facts.test // facts.classes).all())
    )
    source = "ILSVRC2012 by names and numbers" if official else "a folder given by the user"
    return arrays, {"source": source, "official": official, "folder": str(root)}


def _check_headers(folder: Path, files: list[str]) -> NDArray[np.int64]:
    """Read the header of every image and return the sizes of the files in bytes."""

    def size(file: str) -> int:
        with open_image(folder / file):
            return (folder / file).stat().st_size

    with ThreadPool(_HEADER_READERS) as pool:
        # a task for each of a million files would take a gigabyte
        return np.array(pool.map(size, files, chunksize=1000), dtype=np.int64)


_READERS: dict[str, Callable[[DatasetFacts, Data, Say], Source]] = {
    "digits": _read_digits,
    "cifar10": _read_cifar,
    "cifar100": _read_cifar,
    "imagenet": _read_folder,
}


def _read_extra(name: str, path: Path) -> tuple[Arrays, str]:
    """Read the published pickle of extra images; also its MD5."""
    extra = extra_facts(name)
    if not path.is_file():
        raise HarnessError(
            f"{name}: there is no file {path}; {extra.title} are not downloaded: get {extra.file} "
            f"from {extra.address} (linked at {extra.home}), and put it there or name it in "
            f"data.{extra.setting}"
        )
    content = read_pickled_arrays(path)
    if missing := [key for key in _PUBLISHED if key not in content]:
        raise HarnessError(f"{path} has no array {missing[0]!r}; its arrays: {', '.join(content)}")
    _check_images(dataset_facts(extra.dataset), content, _PUBLISHED, str(path))
    images, labels = (content[key] for key in _PUBLISHED)
    return {"images": images, "labels": labels.astype(np.uint8)}, md5_of_file(path)


class _Named:
    """Takes the place of whatever a pickle names of numpy; keeps what it was to be made of."""

    state: Any = ()

    def __init__(self, *given: object) -> None:
        self.given = given

    def __setstate__(self, state: object) -> None:
        self.state = state


class _ArrayUnpickler(pickle.Unpickler):  # noqa: S301, it imports nothing
    """Reads plain values, and parts of numpy's; nothing that a pickle names is imported or run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of numpy, refuse any other."""
        if (module, name) == ("_codecs", "encode"):  # bytes of old protocols
            return codecs.encode
        if module.partition(".")[0] == "numpy":
            return _Named
        raise HarnessError(f"it asks for {module}.{name}, only numpy arrays are read")


def read_pickled_arrays(path: Path) -> Arrays:
    """Read the arrays of numbers in a pickled mapping; nothing that the file names is run."""
    arrays = {}
    try:
        with path.open("rb") as handle:
            content = _ArrayUnpickler(handle).load()
        for key, value in content.items():
            # version, shape, type, whether in the order of Fortran, bytes
            if isinstance(value, _Named) and len(value.state) == 5:
                _, shape, kind, fortran, raw = value.state
                dtype = np.dtype(kind.given[0]).newbyteorder(kind.state[1])
                array = np.frombuffer(raw, dtype)
                arrays[str(key)] = array.reshape(shape, order="F" if fortran else "C")
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}; nothing was run") from None
    except Exception as error:  # of damaged pickles there are many
        reason = f"it is {other}" if (other := other_kind(path)) else repr(error)
        raise HarnessError(f"{path} is cut short or no pickle of arrays: {reason}") from error
    return arrays
