"""Prepared data sets, whatever their form."""

from pathlib import Path

from reproduce.catalogue import dataset_facts
from reproduce.data.folder import load_folder
from reproduce.data.prepared import load_arrays
from reproduce.data.splits import Dataset
from reproduce.errors import HarnessError
from reproduce.files import read_json


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
