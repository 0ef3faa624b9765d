"""Records: what one attack did to one checkpoint, image by image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.errors import HarnessError
from reproduce.files import read_json, read_npz, sha256_of_file, write_atomically, write_json
from reproduce.records.metrics import Metrics, compute_metrics

_KEYS = ("index", "label", "clean", "adversarial", "broken_by")
_OPTIONAL = ("top5",)


class _Known(BaseModel):
    """What every summary says, as far as anything reads it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    digest: str
    model_sha256: str
    parts: list[str]
    every_image: bool
    warnings: list[str]


@dataclass(frozen=True)
class Record:
    """One attack's outcome per image, and what it was.

    Attributes
    ----------
    index : ndarray
        int32, shape (N,): positions of the images in the official test split.
    label, clean, adversarial : ndarray
        int16, shape (N,): true class, prediction on x, prediction on x'.
    broken_by : ndarray
        int8, shape (N,): which of ``info["parts"]`` turned a right prediction into a
        wrong one, -1 where none did.
    info : dict
        Summary: the resolved spec and its digest, checksums, hardware, seconds.
    top5 : ndarray, optional
        bool, shape (N,): whether the true class is among the five most likely ones of
        x; only of data sets with many classes.
    """

    index: NDArray[np.integer]
    label: NDArray[np.integer]
    clean: NDArray[np.integer]
    adversarial: NDArray[np.integer]
    broken_by: NDArray[np.integer]
    info: dict[str, Any]
    top5: NDArray[np.bool_] | None = None

    @property
    def metrics(self) -> Metrics:
        """The metrics over all images of the record."""
        return compute_metrics(
            self.label,
            self.clean,
            self.adversarial,
            every_image=self.info["every_image"],
            top5=self.top5,
        )

    @property
    def robust(self) -> NDArray[np.bool_]:
        """Whether each image is right on x and on x', shape (N,)."""
        held: NDArray[np.bool_] = (self.clean == self.label) & (self.adversarial == self.label)
        return held


def write_record(path: Path, record: Record) -> None:
    """Write the arrays as `path` (.npz), then the summary with their checksum as .json."""
    arrays: dict[str, NDArray[Any]] = {
        "index": record.index.astype(np.int32),
        "label": record.label.astype(np.int16),
        "clean": record.clean.astype(np.int16),
        "adversarial": record.adversarial.astype(np.int16),
        "broken_by": record.broken_by.astype(np.int8),
    }
    if record.top5 is not None:
        arrays["top5"] = record.top5.astype(np.bool_)

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, **arrays)

    write_atomically(path, write)
    summary = {
        **record.info,
        "metrics": record.metrics.as_dict(),
        "record_sha256": sha256_of_file(path),
    }
    write_json(path.with_suffix(".json"), summary)


def read_record(path: Path) -> Record:
    """Read a record and check it against its summary.

    Raises
    ------
    HarnessError
        If a file is missing, damaged, or the two do not belong together.
    """
    if not path.is_file():
        raise HarnessError(f"record {path} does not exist")
    info = read_json(path.with_suffix(".json"))
    if info.get("record_sha256") != sha256_of_file(path):
        raise HarnessError(f"record {path} does not match its checksum; delete it and run again")
    arrays = read_npz(path, (*_KEYS, *_OPTIONAL))
    missing = [key for key in _KEYS if key not in arrays]
    if missing:
        raise HarnessError(f"record {path} lacks {', '.join(missing)}")
    if len({array.shape for array in arrays.values()}) != 1 or arrays["index"].ndim != 1:
        raise HarnessError(f"record {path} holds arrays of different lengths")
    if any(arrays[key].dtype.kind not in "iu" for key in _KEYS) or (
        "top5" in arrays and arrays["top5"].dtype != np.bool_
    ):
        raise HarnessError(f"record {path} holds other values than whole numbers; delete it")
    try:
        _Known.model_validate(info)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"the summary of {path} is damaged at {key!r}; delete it") from error
    return Record(**arrays, info=info)


def is_current(record: Path, info: Mapping[str, Any], digest: str, weights: str) -> bool:
    """Say whether a record is whole, and of these settings and weights, by its summary."""
    return (
        info.get("digest") == digest
        and info.get("model_sha256") == weights
        and info.get("record_sha256") == sha256_of_file(record)
    )
