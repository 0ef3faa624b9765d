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
