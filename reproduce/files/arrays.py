"""Archives of arrays (.npz) that are not trusted."""

import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reproduce.errors import HarnessError
from reproduce.files.contents import other_kind

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
