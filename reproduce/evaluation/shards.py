"""Shards: fixed blocks of the attacked images, each computed once and kept in a file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.errors import HarnessError
from reproduce.files import read_npz, write_atomically

ARRAYS = {
    "index": np.int32,
    "label": np.int16,
    "clean": np.int16,
    "adversarial": np.int16,
    "broken_by": np.int8,
}
# only of data sets with many classes
OPTIONAL_ARRAYS = {"top5": np.bool_}


@dataclass(frozen=True)
class Shard:
    """What an attack did to one block of images.

    Attributes
    ----------
    arrays : dict
        The arrays of a `Record`, for these images.
    about : dict
        How they were computed: seconds, passes, hardware, versions, warnings.
    """

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]

    @property
    def robust(self) -> int:
        """Number of images that held."""
        label = self.arrays["label"]
        held = (self.arrays["clean"] == label) & (self.arrays["adversarial"] == label)
        return int(held.sum())


def shard_file(folder: Path, number: int) -> Path:
    """Return the file of a shard."""
    return folder / f"{number:04}.npz"


def write_shard(path: Path, shard: Shard, made_for: str) -> None:
    """Write a shard; `made_for` says what it may be used for."""
    about = json.dumps({**shard.about, "made_for": made_for}, allow_nan=False)
    kinds = ARRAYS | {k: kind for k, kind in OPTIONAL_ARRAYS.items() if k in shard.arrays}
    arrays = {key: shard.arrays[key].astype(kind) for key, kind in kinds.items()}

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, about=np.array(about), **arrays)

    write_atomically(path, write)


def read_shard(path: Path, made_for: str, images: int, say: Callable[[str], None]) -> Shard | None:
    """Read a shard; None if there is none that can be used.

    Parameters
    ----------
    path : Path
        Its file.
    made_for : str
        What it must have been made for.
    images : int
        How many images it must hold.
    say : callable
        Told why a shard that exists is computed again.
    """
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path, (*ARRAYS, *OPTIONAL_ARRAYS, "about"))
        about = json.loads(str(arrays.pop("about")))
    except (HarnessError, KeyError, ValueError, RecursionError) as error:
        say(f"shard {path} is damaged ({error}): attacking its images again")
        return None
    whole = arrays.keys() >= ARRAYS.keys() and all(a.shape == (images,) for a in arrays.values())
    if not whole or not isinstance(about, dict) or about.get("made_for") != made_for:
        say(f"shard {path} is of another network or other settings: attacking its images again")
        return None
    return Shard(arrays, about)
