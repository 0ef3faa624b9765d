"""Writes after which a file is whole, or as it was."""

import builtins
import errno
import fcntl
import glob
import hashlib
import json
import math
import os
import pickle
import re
import shutil
import socket
import struct
import tempfile
import tokenize
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError, brief

# the system tells it only while setting it
_UMASK = os.umask(0)
os.umask(_UMASK)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# of the temporary folders of files that are being written, and of the lock in each
_HOST, _PART, _ALIVE = f".{socket.gethostname()}-", ".part", "alive"
_TRIES = 10


def write_atomically(
    path: Path, write: Callable[[Path], object], before: Callable[[], object] = lambda: None
) -> None:
    """Have `write` fill a temporary file and put it in the place of `path` in one step.

    A reader sees the old file or the new one, never a part; whatever goes wrong
    (full disk, kill, exception) the old file stays as it was.

    Parameters
    ----------
    path : Path
        The file to write; missing folders are made.
    write : callable
        Called with the temporary path, of the same name in a folder beside `path`.
    before : callable
        Called once the new file is on the disk, right before it takes its place.

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
            before()
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
        folder = Path(tempfile.mkdtemp(prefix=_HOST, suffix=_PART, dir=parent))
        lock = lock_file(folder / _ALIVE)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):
            # between the two lines another process took it for abandoned, and removes it
            continue
        except (OSError, HarnessError):
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
    What other machines left stays too: not every disk carries locks from one to another.
    """
    for left in folder.glob(f"{glob.escape(_HOST)}*{_PART}"):
        with suppress(Timeout, OSError, HarnessError), lock_file(left / _ALIVE).acquire(0):
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


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Of a .csv those with lines that end in LF, as we write it: git on Windows, and tools that
    unpack archives, give texts other line ends.
    """
    if path.suffix == ".csv":
        return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
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


# the last key of a JSON file of ours: a SHA-256 of all its others
SEAL = "json_sha256"


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
    if SEAL not in value:
        return value
    seal = value.pop(SEAL)
    # null is no checksum: with it a file would count as sealed and be held against nothing
    if seal is None or seal != _sealed(value):
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
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it",
    b"rar!": "a RAR archive; unpack it",
    b"\x89hdf": "an HDF5 file, such as Keras writes",
    b"\x93numpy": "an array of NumPy (.npy)",
}


def other_kind(path: Path) -> str | None:
    """Name what a file is that nobody asks for, and what helps; None if it is not known.

    Zip archives are not named: arrays and checkpoints are such.
    """
    with path.open("rb") as handle:
        begin = handle.read(512)
    if not begin:
        return "empty"
    if begin[257:262] == b"ustar":
        return "a tar archive; unpack it"
    low = begin.lstrip().lower()
    return next((words for magic, words in _BEGINNINGS.items() if low.startswith(magic)), None)


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
# a member of an archive above the first may not be larger than its compressed form by the second
_LARGE = 64 * 2**20
_MOST_COMPRESSED = 100
# kinds of dtype: all but objects and records
_PLAIN = "biufcmMSU"


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
        other = other_kind(path) if isinstance(error, zipfile.BadZipFile) else None
        reason = error if other is None else f"it is {other}"
        raise HarnessError(f"{path} is not a whole .npz file of plain arrays: {reason}") from error


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


def check_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str = _PLAIN) -> None:
    """Refuse an array whose size is not the one that its head tells, before it is read.

    Parameters
    ----------
    archive : ZipFile
        The archive.
    member : ZipInfo
        The array in it.
    kinds : str
        Kinds of dtype that it may have, as numpy abbreviates them.

    Raises
    ------
    ValueError
        Saying what it is.  Of what is no array at all, as of `DAMAGED_FILE`.
    """
    name, found = member.filename, member.file_size
    with archive.open(member) as content, warnings.catch_warnings():
        # of what is written in the header, and of headers of Python 2: damaged ones have it
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(content)
        head = {(1, 0): np.lib.format.read_array_header_1_0}
        head[2, 0] = np.lib.format.read_array_header_2_0
        if version not in head:
            raise ValueError(f"{name!r} is of version {version} of numpy's format")
        shape, _, kind = head[version](content)
        told = math.prod(shape) * kind.itemsize
        # of elements without a byte, any number would fit
        plain = kind.kind in kinds and not kind.hasobject and kind.itemsize
        if not plain or min(shape, default=0) < 0 or told != found - content.tell():
            raise ValueError(f"{name!r} has {found} bytes, not an array {shape} of {kind}")


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array after its head."""
    check_head(archive, archive.getinfo(name))
    with archive.open(name) as member, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
    return array


# seconds that a lock is waited for: who looks whether it is held has it for microseconds
_LOOK = 0.4
# what disks without locks answer: some in FUSE, Lustre mounted without, NFS without its lock daemon
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class _Lock(FileLock):
    """A lock that says it where the disk knows none."""

    def _acquire(self) -> None:
        try:
            super()._acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise HarnessError(
                f"{self.lock_file} cannot be locked, its disk knows no locks "
                f"({error.strerror}); set results, or TMPDIR for GPUs, to a folder on another disk"
            ) from error


def lock_file(path: Path) -> BaseFileLock:
    """Return a lock on a file, not held yet, that the operating system drops with its holder.

    Where the disk knows no locks, taking it raises HarnessError: the lock that filelock would
    take instead outlives a killed holder.
    """
    return _Lock(path, fallback_to_soft=False)


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
    lock = lock_file(path)
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


# an ONNX file begins with the version of its format, and then its producer or its graph
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x3a]")
SAVE_WEIGHTS = "save the weights alone where it was made: torch.save(model.state_dict(), 'w.pt')"
# classes and functions of one file that get a stand-in
_MOST_STAND_INS = 200


class StandIn:
    """What takes the place of an object of a class, or of what a function returns; does nothing.

    Attributes
    ----------
    name : str
        The class or function that the file names.
    kept : type or None
        Of a class of mappings or lists the plain one, which is made in its place.
    network : bool
        Whether the object is a pickled `torch.nn.Module`.
    """

    name = ""
    kept: type | None = None
    network = False

    def __new__(cls, *_: object, **__: object) -> Any:
        """Make one, whatever the object was to be made of."""
        return super().__new__(cls) if cls.kept is None else cls.kept()

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        self.network = isinstance(state, dict) and "_modules" in state


def numpy_numbers() -> AbstractContextManager[None]:
    """Let torch read numpy numbers inside, and nothing else beside tensors.

    Some published checkpoints keep an accuracy as one, beside the weights.
    """
    scalar: Any = np.float64().__reduce__()[0]
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64")]
    # numpy 1 had `scalar` in another place
    places = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    import torch  # seconds that whoever only asks where a checkpoint lies need not wait

    return torch.serialization.safe_globals([*places, np.dtype, *kinds])


def expect_file(path: Path) -> None:
    """Refuse a checkpoint that is missing or a folder.

    Raises
    ------
    HarnessError
        Saying which.
    """
    if path.is_dir():
        raise HarnessError(f"checkpoint {path} is a folder; name the file in it")
    if not path.is_file():
        raise HarnessError(f"checkpoint {path} does not exist")


def read_tensors(path: Path, *, stand_ins: bool = False) -> Any:
    """Read a checkpoint that is not trusted.

    Parameters
    ----------
    path : Path
        The file.
    stand_ins : bool
        Whether objects beside the tensors are read as a `StandIn`, and not refused.
        Their classes are never imported.

    Returns
    -------
    object
        What the file holds: mappings and lists of tensors, numbers and strings.

    Raises
    ------
    HarnessError
        If the file is missing, something else (a web page, an archive ...), cut short,
        or asks for anything that could run code; none of it is run.
    """
    import torch

    expect_file(path)
    inert: dict[str, type[StandIn]] = {}
    while True:
        try:
            other = _something_else(path)
            if other is not None:
                raise HarnessError(f"checkpoint {path} is {other}")
            with (
                nullcontext() if stand_ins else numpy_numbers(),
                torch.serialization.safe_globals([(kind, name) for name, kind in inert.items()]),
                warnings.catch_warnings(),
                path.open("rb") as handle,
            ):
                # of the protocol of plain pickles: they are refused, with a reason of ours
                warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
                return torch.load(handle, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if not stand_ins or not _stands_in(inert, str(error)):
                raise HarnessError(f"checkpoint {path} {_refusal(str(error))}") from error
        # of a damaged file torch's readers raise many things
        except (
            RuntimeError,
            EOFError,
            OSError,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            MemoryError,
            OverflowError,
            AssertionError,
            struct.error,
            zipfile.BadZipFile,
        ) as error:
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            raise HarnessError(f"checkpoint {path} {_damaged(reason)}") from error


def _something_else(path: Path) -> str | None:
    """Name a file that torch.save did not write, as far as its content tells."""
    other = other_kind(path)
    if other is not None:
        return other
    with path.open("rb") as handle:
        begin = handle.read(512)
    if _ONNX.match(begin):
        return f"an ONNX file; {SAVE_WEIGHTS}"
    if begin.startswith(b"PK\x03\x04"):
        return _other_zip(path)
    if begin.isascii() and all(c.isprintable() or c.isspace() for c in begin.decode()):
        return f"a text, not a checkpoint; it begins with {brief(begin[:60].decode())}"
    return None


def _other_zip(path: Path) -> str | None:
    """Name a zip archive that is no checkpoint."""
    with zipfile.ZipFile(path) as archive:
        refuse_bombs(archive)
        names = archive.namelist()
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        return f"a TorchScript archive, code and all; {SAVE_WEIGHTS}"
    if "data.pkl" in ends:
        return None
    if ends and all(name.endswith(".npy") for name in ends):
        return "a file of NumPy arrays (.npz); only PyTorch's files are read"
    first = brief(names[0]) if names else "nothing"
    return f"a zip archive that torch.save did not write, with {first} in it; unpack it"


def _stands_in(inert: dict[str, type[StandIn]], told: str) -> bool:
    """Add a stand-in for what torch's reader stopped at; False if there is to be none."""
    asked = re.search(r"Unsupported global: GLOBAL ([\w.]+) was not", told)
    if asked is not None:
        name, kept = asked[1], None
        if "." not in name:  # torch leaves out that it is of Python's; its functions are refused
            if name != "getattr" and not isinstance(getattr(builtins, name, None), type):
                return False
            name = f"builtins.{name}"
        if name in inert or len(inert) == _MOST_STAND_INS:
            return False
    else:
        filled = re.search(
            r"Can only (SETITEM|append|extend).*'reproduce\.core\.files\.(\S+)'", told
        )
        if filled is None:
            return False
        name, kept = filled[2], OrderedDict if filled[1] == "SETITEM" else list
    inert[name] = type(name, (StandIn,), {"name": name, "kept": kept})
    return True


def _refusal(told: str) -> str:
    """Say why torch's reader refused a file, without its advice to read it unsafely."""
    if "Only persistent_load of storage is allowed" in told:  # the code of a class, in the old form
        return f"holds a pickled network, or the class of one, which is code; {SAVE_WEIGHTS}"
    named = re.search(r"GLOBAL ([\w.]+)", told)
    if named is not None:
        asked = named[1].rstrip(".")
        return f"asks for {asked}: only tensors are read, and nothing of it was run; {SAVE_WEIGHTS}"
    # the reason stands behind the advice, often on a line of its own
    behind = told.partition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    reason = " ".join(behind.split()) or "a pickle that cannot be read"
    return f"{_damaged(reason)}; nothing was run"


def _damaged(reason: str) -> str:
    return f"is cut short or damaged, or torch.save did not write it ({reason})"
