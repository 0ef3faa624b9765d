"""What a saved state says of a run that has not ended, read without torch and its weights."""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open

from reproduce.errors import HarnessError

T = TypeVar("T")

DAMAGED = "the saved state {} is damaged; delete it to start this run again"
# entries of the file's header: what it says in words, and the SHA-256 of that
PROGRESS, PROGRESS_SHA256 = "progress", "progress_sha256"
# of every row of the trace, after the iteration
TRACE_COLUMNS = (
    "epoch",
    "natural_risk",
    "robust_regularization",
    "lambda",
    "learning_rate",
    "lipschitz",
)


class _Piece(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    seconds: float = 0.0


class _Known(BaseModel):
    """What a saved state says in words, as far as anything reads it before it is loaded."""

    model_config = ConfigDict(extra="allow", strict=True)

    epoch: int
    step: int
    epochs: list[dict[str, float]]
    pieces: list[_Piece]


def state_file(folder: Path, digest: str) -> Path:
    """Where the state of a run with these settings lies.

    The settings' digest is part of the name: other settings never continue, and
    never overwrite, what was begun with these.
    """
    return folder / f"state-{digest}.safetensors"


def previous_file(path: Path) -> Path:
    """Where the state before the one of `path` lies: the last good one, should that be damaged."""
    return path.with_name(path.name.replace("state-", "previous-", 1))


def header(progress: dict[str, Any]) -> dict[str, str]:
    """Return the header of a saved state: its progress as JSON, and a checksum of it."""
    text = json.dumps(progress)
    return {PROGRESS: text, PROGRESS_SHA256: hashlib.sha256(text.encode()).hexdigest()}


def checksum_of_rows(rows: NDArray[np.float64]) -> int:
    """Return a CRC-32 of a saved trace: it is read without the weights beside it."""
    return zlib.crc32(np.ascontiguousarray(rows).tobytes())


def checksum_of_tensors(names: Iterable[str], take: Callable[[str], NDArray[Any]]) -> int:
    """Return a CRC-32 of all tensors of a saved state.

    It is fast, and a flipped bit on a disk does not pass it.

    Parameters
    ----------
    names : iterable of str
        What the tensors are called.
    take : callable
        Gives the tensor of a name.
    """
    value = 0
    for name in sorted(names):
        content = np.ascontiguousarray(take(name)).reshape(-1).view(np.uint8)
        value = zlib.crc32(content.data, zlib.crc32(name.encode(), value))
    return value


def check_state(path: Path) -> dict[str, Any]:
    """Hold every tensor of a saved state against its checksum, and return its progress.

    Raises
    ------
    FileNotFoundError
        If there is none.
    HarnessError
        If the file is not what was written.
    """
    progress, found = _read(path, lambda at: checksum_of_tensors(at.keys(), at.get_tensor))
    if progress.get("checksum") != found:
        raise HarnessError(DAMAGED.format(path))
    return progress


def read_progress(path: Path) -> dict[str, Any]:
    """Read only the progress of a saved state, without its tensors.

    Raises
    ------
    FileNotFoundError
        If there is none.
    HarnessError
        If the file is cut short or no saved state.
    """
    return _read(path, lambda _: None)[0]


class SavedTrace(NamedTuple):
    """Progress and trace of a run that has not ended, and when they were saved.

    Attributes
    ----------
    progress : dict
        As of `read_progress`.
    iterations : int
        Number of iterations done.
    rows : ndarray
        float64, shape (rows, columns): `TRACE_COLUMNS` of all iterations, or of the last ones.
    written : float
        Time of the file, in seconds since 1970.
    """

    progress: dict[str, Any]
    iterations: int
    rows: NDArray[np.float64]
    written: float


def read_rows(path: Path, last: int | None = None) -> SavedTrace | None:
    """Read the progress of a saved state and rows of its trace, without the weights.

    None if there is none.  A run that ends removes its state at any moment, so whether one is
    there is known only from opening it; who gets None after run.json was not there either
    looks at run.json once more (`reproduce.runs.find_run` does).

    Parameters
    ----------
    path : Path
        The file.
    last : int, optional
        Read only so many rows, from the end.

    Raises
    ------
    HarnessError
        If the file is cut short or no saved state.
    """

    def rows(handle: Any) -> tuple[int, NDArray[np.float64]]:
        part = handle.get_slice("trace")
        count, columns = part.get_shape()
        if columns != len(TRACE_COLUMNS):
            raise ValueError(columns)
        if not count:
            return 0, np.empty((0, columns))
        return count, part[0 if last is None else max(0, count - last) :]

    try:
        written = path.stat().st_mtime
        progress, (iterations, found) = _read(path, rows)
    except FileNotFoundError:
        return None
    # states saved before there was this checksum have none
    expected = progress.get("trace_checksum")
    if expected is not None and len(found) == iterations and expected != checksum_of_rows(found):
        raise HarnessError(DAMAGED.format(path))
    return SavedTrace(progress, iterations, found, written)


def _progress(about: Mapping[str, str]) -> dict[str, Any]:
    """Read the progress of a state's header, and hold it against its checksum."""
    text = about[PROGRESS]
    # states saved before there was this checksum have none
    sha256 = about.get(PROGRESS_SHA256)
    if sha256 is not None and sha256 != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError(PROGRESS_SHA256)
    progress: dict[str, Any] = json.loads(text)
    _Known.model_validate(progress)
    return progress


def _read(path: Path, take: Callable[[Any], T]) -> tuple[dict[str, Any], T]:
    try:
        with safe_open(path, framework="np") as handle:
            progress = _progress(handle.metadata() or {})
            return progress, take(handle)
    except FileNotFoundError:
        raise
    except (
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        OSError,
        RecursionError,
        ValidationError,
    ) as error:
        raise HarnessError(DAMAGED.format(path)) from error
