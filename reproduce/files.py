"""Files that are either whole or absent: atomic writes, checksums, locks."""

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from reproduce.errors import HarnessError

# what zipfile, zlib and numpy's header reader raise on bytes that are not theirs
DAMAGED_FILE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
# the system tells it only while setting it
_UMASK = os.umask(0)
os.umask(_UMASK)
# seconds that a lock is waited for: who looks whether it is held has it for microseconds
_LOOK = 0.4
# a member of an archive above the first may not be larger than its compressed form by the second
_LARGE = 64 * 2**20
_MOST_COMPRESSED = 100
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# the last key of a JSON file of ours: a SHA-256 of all its others
SEAL = "json_sha256"
# of the temporary folders of files that are being written, and of the lock in each
_PART, _ALIVE = ".part", "alive"
_TRIES = 10


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a temporary file and put it in the place of `path` in one step.

    A reader sees the old file or the new one, never a part; whatever goes wrong
    (full disk, kill, exception) the old file stays as it was.

    Parameters
    ----------
    path : Path
        The file to write; missing folders are made.
    write : callable
        Called with the temporary path, of the same name in a folder beside `path`.

    Raises
    ------
    HarnessError
        If the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        with _workplace(path.parent) as folder:
            temporary = folder / path.name
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            # safetensors makes its files readable by their owner alone
            temporary.chmod(0o666 & ~_UMASK)
            temporary.replace(path)
    except Exception as error:
        explained = _explain(error, path)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """Give a temporary folder in `parent` that tells by a lock whether its process lives.

    A folder, because safetensors writes to a temporary file of its own beside the one it is
    given, which a kill would leave there by a name that says nothing.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=".", suffix=_PART, dir=parent))
        lock = FileLock(folder / _ALIVE)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):
            # between the two lines another process took it for abandoned, and removes it
            continue
        except OSError:
            # a disk without locks: nobody can take the folder for abandoned either
            pass
        try:
            yield folder
        finally:
            # what stopped the write may stop this too, and must not hide it
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
        return
    raise OSError(errno.EAGAIN, "temporary folders vanish", str(parent))


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed while they wrote into `folder` left there.

    Every write into a folder does so first.  What a living process is writing stays: it
    holds a lock, which the operating system drops when the process ends, however it ends.
    """
    for left in folder.glob(f".*{_PART}"):
        with suppress(Timeout, OSError), FileLock(left / _ALIVE, timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def _explain(error: Exception, path: Path) -> HarnessError | None:
    """Turn what the operating system says of a failed write into one clear line."""
    code = error.errno if isinstance(error, OSError) else None
    # safetensors and pyarrow wrap the system's error; its text is all that is left of it
    if code in _NO_ROOM or "No space left" in str(error) or "File too large" in str(error):
        return HarnessError(
            f"the disk is full: {path} could not be written, what was there before is untouched; "
            "free some room and run the same command again"
        )
    if isinstance(error, OSError):
        return HarnessError(f"{path} could not be written: {error.strerror or error}")
    return None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: dict[str, Any], *, sealed: bool = True) -> None:
    """Write an object as indented JSON, atomically; NaN and infinity are refused.

    Parameters
    ----------
    path : Path
        The file.
    value : dict
        What it says.
    sealed : bool
        Whether a checksum of all that stands in it comes last, as `SEAL`.  Not where others
        say what the file holds.
    """
    if sealed:
        # of what will be read back: a tuple comes back as a list, a number as a key as a text
        plain = json.loads(json.dumps(value, allow_nan=False))
        value = {**value, SEAL: digest(plain, 64)}
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, and hold it against its checksum if it has one.

    Files written before there were such checksums, and those of others, have none.

    Returns
    -------
    dict
        The object without its checksum.

    Raises
    ------
    HarnessError
        If the file is missing, unreadable, no JSON object or not what was written.
    """
    value = _json_object(path)
    seal = value.pop(SEAL, None)
    if seal is not None and seal != _sealed(value):
        raise HarnessError(f"{path} is damaged, it is not what its checksum is of; delete it")
    return value


def is_sealed(path: Path) -> bool:
    """Say whether a JSON file holds a checksum of its own.

    Raises
    ------
    HarnessError
        If it is missing, unreadable or no JSON object.
    """
    return SEAL in _json_object(path)


def _sealed(value: dict[str, Any]) -> str | None:
    """Return the checksum of an object; None of one that `write_json` cannot have written."""
    try:
        return digest(value, 64)
    except (ValueError, RecursionError):
        return None


def _json_object(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        if "\\ud" in text.lower():
            # half a character, which could be written nowhere
            json.dumps(value, ensure_ascii=False).encode()
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{path} is damaged, it is not JSON; delete it") from error
    if not isinstance(value, dict):
        raise HarnessError(f"{path} is damaged, it holds no JSON object; delete it")
    return value


def _no_number(text: str) -> float:
    """Refuse NaN and infinity, which JSON has not and `write_json` does not write."""
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def read_npz(path: Path, keys: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read arrays of an .npz that is not trusted: no pickled objects.

    Parameters
    ----------
    path : Path
        The file.
    keys : iterable of str
        The arrays wanted; those that the file lacks are left out.

    Raises
    ------
    HarnessError
        If the file is missing, cut short or not an .npz of plain arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_bombs(archive)
            return {key: _member(archive, f"{key}.npy") for key in keys if _has(archive, key)}
    except FileNotFoundError:
        raise HarnessError(f"{path} does not exist") from None
    except DAMAGED_FILE as error:
        raise HarnessError(f"{path} is not a whole .npz file of plain arrays: {error}") from error


def _has(archive: zipfile.ZipFile, key: str) -> bool:
    return f"{key}.npy" in archive.NameToInfo


def refuse_bombs(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that is small itself and would fill the memory when it is read.

    Raises
    ------
    ValueError
        If a large member says that it was compressed to less than a hundredth.
    """
    for member in archive.infolist():
        if member.file_size > max(_LARGE, _MOST_COMPRESSED * member.compress_size):
            raise ValueError(
                f"{member.filename!r} would grow from {member.compress_size} to "
                f"{member.file_size} bytes"
            )


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array after comparing the size its head tells with that of the member."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        head = {(1, 0): np.lib.format.read_array_header_1_0}
        head[2, 0] = np.lib.format.read_array_header_2_0
        if version not in head:
            raise ValueError(f"{name!r} is of version {version} of numpy's format")
        with warnings.catch_warnings():
            # of what is written in the header, and of headers of Python 2: damaged ones have it
            warnings.simplefilter("ignore")
            shape, _, kind = head[version](member)
        told, found = math.prod(shape) * kind.itemsize, archive.getinfo(name).file_size
        if kind.hasobject or min(shape, default=0) < 0 or told != found - member.tell():
            raise ValueError(f"{name!r} has {found} bytes, not an array {shape} of {kind}")
    with archive.open(name) as member, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def md5_of_file(path: Path) -> str:
    """Return the MD5 of a file's bytes, in hexadecimal: published files are known by it."""
    with path.open("rb") as handle:
        # no defence against anybody, and systems that forbid MD5 allow it for that
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def digest(value: Any, length: int = 12) -> str:
    """Return a short fingerprint of a JSON-like value, the same on every machine."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock file `path`; nothing is made or changed.

    It asks for a shared lock and drops it again, so that several may ask at once, and
    whoever wants the lock in that moment waits for it (see `exclusive`).  Unlike a list
    of locks (/proc/locks) that works across containers, and across machines where the
    disk carries locks between them.  Where it does not, and where the file may not be
    read, the answer is no.
    """
    try:
        handle = path.open("rb")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            # what filelock takes for a lock that another holds
            return error.errno in {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
    return False


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, or fail if another process holds it for longer than a moment.

    The operating system drops the lock when the holder ends, however it ends.

    Raises
    ------
    HarnessError
        If another process holds the lock; the message names `what`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_LOOK, poll_interval=_LOOK / 20)
    except Timeout:
        raise HarnessError(
            f"{what} is being worked on by another process (it holds {path}); "
            "wait for it or stop it, nothing was changed"
        ) from None
    except OSError as error:
        raise HarnessError(f"{path} cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
