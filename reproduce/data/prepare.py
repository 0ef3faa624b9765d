"""From whatever source the configuration names to the prepared form."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reproduce.catalogue import EXTRA, dataset_facts
from reproduce.config import Data
from reproduce.data import cifar
from reproduce.data.digits import read_digits
from reproduce.data.extra import prepare_extra
from reproduce.data.folder import prepare_folder
from reproduce.data.prepared import KEYS, save_prepared
from reproduce.errors import HarnessError
from reproduce.files import read_npz
from reproduce.paths import extra_source


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
        return cifar.download(dataset, downloads, say), "official archive, md5 checked", True
    path = Path(where)
    if not path.exists():
        raise HarnessError(
            f"data.{dataset}: {path} does not exist; give an official folder, its archive "
            'or an .npz file, or "download"'
        )
    if path.is_dir():
        return cifar.read_folder(dataset, path), "official files, md5 checked", True
    if path.suffix == ".npz":
        return read_npz(path, KEYS), f"{path.name}, an .npz given by the user", False
    return cifar.read_archive(dataset, path, downloads), "official archive, md5 checked", True
