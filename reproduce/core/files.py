"""Files that are whole or as they were: atomic writes, JSON, npz, checksums, locks."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from reproduce.core.errors import HarnessError

M = TypeVar("M", bound=BaseModel)

# --- writing

# Temporary folders are named .HOST-SPACE-PID-RANDOM.part: process numbers are of a container, and
# containers may share a name.
_SPACE = Path("/proc/self/ns/pid")
_PREFIX = f".{socket.gethostname()}-{_SPACE.stat().st_ino if _SPACE.exists() else 0}-"
_PART = ".part"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file, and put that in the place of `path` in one step.

    Readers see the old file or the new one, and whatever goes wrong, the old one stays as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        # a folder, because safetensors writes another temporary file beside the one it is given
        with tempfile.TemporaryDirectory(
            prefix=f"{_PREFIX}{os.getpid()}-",
            suffix=_PART,
            dir=path.parent,
            ignore_cleanup_errors=True,
        ) as folder:
            temporary, usual = Path(folder) / path.name, Path(folder) / "mode"
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            usual.touch()  # safetensors makes its own private
            temporary.chmod(usual.stat().st_mode)
            temporary.replace(path)
    except Exception as error:
        # safetensors wraps the system's error; its text is all that is left of it
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise HarnessError(
            f"{path} could not be written: {reason}; what was there before is untouched"
        ) from error


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that were killed while writing left in `folder`."""
    for left in folder.glob(f"{glob.escape(_PREFIX)}*{_PART}"):
        process = left.name.removeprefix(_PREFIX).partition("-")[0]
        with suppress(ValueError, PermissionError):  # of another host, of another user
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                shutil.rmtree(left, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


# --- checksums


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Of a .csv with lines that end in LF, as we write it: git on Windows gives texts other line ends.
    """
    if path.suffix == ".csv":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file's bytes, in hexadecimal: published files are known by it."""
    with path.open("rb") as handle:
        # systems that forbid MD5 allow it where it is no defence
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest(value: Any, length: int = 12) -> str:
    """Return a short fingerprint of a JSON-like value, the same on every machine."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


# --- JSON

# a checksum over the other keys, which files of version 0.1 hold, results/reference among them
_SEAL = "json_sha256"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, or say in one line what is wrong with it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise HarnessError(f"{path} is damaged, it is not JSON; delete it")
    value.pop(_SEAL, None)
    return value


def read_model(path: Path, model: type[M]) -> M:
    """Read a JSON file as a model; a HarnessError names the first key that is wrong."""
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{path} is damaged at {key!r}; delete it and run again") from error


# --- npz, and files of another kind

# what a file is that begins so, in lower case
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
        "a web page, not the file; download it in a browser",
    ),
    **dict.fromkeys(
        (b"\x1f\x8b", b"bzh", b"\xfd7zxz", b"\x28\xb5\x2f\xfd"), "compressed; unpack it"
    ),
    b"\x93numpy": "an array of NumPy (.npy)",
}


def other_kind(path: Path) -> str | None:
    """Say what a file is that nobody asks for, such as a web page in place of a download.

    None if it is not known.  Zip archives are not named: arrays and checkpoints are such.
    """
    with path.open("rb") as handle:
        begin = handle.read(512)
    if not begin:
        return "empty"
    if begin[257:262] == b"ustar":
        return "a tar archive; unpack it"
    low = begin.lstrip().lower()
    return next((kind for magic, kind in _BEGINNINGS.items() if low.startswith(magic)), None)


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz, without pickled objects; those that the file lacks are left out."""
    try:
        # opened here: of some damaged files numpy leaves its own handle open
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in keys if key in arrays}
    except FileNotFoundError:
        raise HarnessError(f"{path} does not exist") from None
    except Exception as error:  # of a damaged file zipfile and numpy raise many kinds
        other = other_kind(path) if path.is_file() else None
        reason = error if other is None else f"it is {other}"
        raise HarnessError(f"{path} is not a whole .npz file of plain arrays: {reason}") from error


# --- locks

# seconds that a lock is waited for: who looks whether it is held has it for microseconds
_LOOK = 0.4


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, or fail if another process holds it for longer than a moment.

    The operating system drops the lock when the holder ends, however it ends.
    """
    lock = lock_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LOOK, poll_interval=_LOOK / 20)
    except Timeout:
        raise HarnessError(
            f"{what} is being worked on by another process (it holds {path}); "
            "wait for it or stop it, nothing was changed"
        ) from None
    except OSError as error:
        raise HarnessError(
            f"{path} cannot be locked: {error.strerror or error}; if its disk knows no locks, set "
            "results to a folder on another disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def lock_file(path: Path) -> FileLock:
    """Return a lock on a file, not held yet."""
    # where the disk knows no locks, taking it fails: filelock's other kind outlives a killed holder
    return FileLock(path, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock file `path`, by a shared lock that is dropped again."""
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a disk without locks
        pass
    return False
