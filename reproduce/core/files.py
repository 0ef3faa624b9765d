"""Files that are whole or as they were: atomic writes, JSON, npz, checksums, locks."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from reproduce.core.errors import HarnessError

M = TypeVar("M", bound=BaseModel)

# --- writing

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# temporary folders are named .HOST-SPACE-PID-RANDOM.part
_PART = ".part"


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file, and put that in the place of `path` in one step.

    A reader sees the old file or the new one, never a part; whatever goes wrong (full disk,
    kill, exception), the old file stays as it was.  `write` gets the temporary path, of the same
    name in a folder beside `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        # a folder, because safetensors writes another temporary file beside the one it is given
        with tempfile.TemporaryDirectory(
            prefix=f"{_prefix()}{os.getpid()}-",
            suffix=_PART,
            dir=path.parent,
            ignore_cleanup_errors=True,
        ) as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            _give_usual_mode(temporary)
            temporary.replace(path)
    except Exception as error:
        # safetensors and pyarrow wrap the system's error; its text is all that is left of it
        full = getattr(error, "errno", None) in _NO_ROOM or any(
            words in str(error) for words in ("No space left", "File too large")
        )
        if full:
            raise HarnessError(
                f"the disk is full: {path} could not be written, what was there before is "
                "untouched; free some room and run the same command again"
            ) from error
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise HarnessError(f"{path} could not be written: {reason}") from error
        raise


def _give_usual_mode(path: Path) -> None:
    """Give a file the mode of new files here; safetensors makes its own private."""
    usual = path.with_name("mode")
    usual.touch()
    path.chmod(usual.stat().st_mode)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that were killed while writing left in `folder`."""
    prefix = _prefix()
    for left in folder.glob(f"{glob.escape(prefix)}*{_PART}"):
        process = left.name.removeprefix(prefix).partition("-")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            shutil.rmtree(left, ignore_errors=True)


@cache
def _prefix() -> str:
    """Begin names by what process numbers are of: this host since it started, or a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        boot, space = "", 0
    return f".{socket.gethostname()}-{digest([boot, space], 8)}-"


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


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
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{path} is damaged, it is not JSON; delete it") from error
    if not isinstance(value, dict):
        raise HarnessError(f"{path} is damaged, it holds no JSON object; delete it")
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

# in lower case
_BEGINNINGS = {
    b"version https://git-lfs": "a Git LFS pointer, not the file it stands for; run git lfs pull",
    **dict.fromkeys(
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
        "a web page, not the file: the file host answered with a text; download it in a browser",
    ),
    b"\x1f\x8b": "compressed with gzip; unpack it",
    b"bzh": "compressed with bzip2; unpack it",
    b"\xfd7zxz": "compressed with xz; unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with Zstandard; unpack it",
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
    return next((words for magic, words in _BEGINNINGS.items() if low.startswith(magic)), None)


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
    """Return a lock on a file, not held yet.

    Where the disk knows no locks, taking it fails: the lock that filelock would take instead
    outlives a killed holder.
    """
    return FileLock(path, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock file `path`; nothing is made or changed.

    It asks for a shared lock and drops it again, which works across containers too.  Whoever
    wants the lock in that moment waits for it (see `exclusive`).
    """
    try:
        handle = path.open("rb")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a disk without locks
            return False
    return False
