"""Whether a file can be read at all: what its header promises, before anything is unpacked."""

import json
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from safetensors import SafetensorError, safe_open

from reproduce.core.errors import HarnessError

# an .npz of ours has six arrays or so; the largest has the images of a few examples
_MOST_MEMBERS = 16
_MOST_UNPACKED = 512 * 2**20
# of the paper's longest run a trace has 80,000 rows
_MOST_ROWS = 10_000_000
_MOST_COLUMNS = 64
_NUMBERS_AND_TEXT = "biufU"
_MOST_TENSORS = 10_000
# of one tensor: the paper's largest has 15 million; what is checked is in memory one at a time
_MOST_ELEMENTS = 2**26
_AT_ONCE = 65_536
# of a type that numpy lacks: a KeyError or a TypeError
_NO_TENSORS = (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError)


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


def check_head(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str) -> None:
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
        told = prod(shape) * kind.itemsize
        # of elements without a byte, any number would fit
        plain = kind.kind in kinds and not kind.hasobject and kind.itemsize
        if not plain or min(shape, default=0) < 0 or told != found - content.tell():
            raise ValueError(f"{name!r} has {found} bytes, not an array {shape} of {kind}")


def check_npz(path: Path) -> None:
    """Refuse an .npz that unpacks to more than its arrays can be, or holds objects.

    Raises
    ------
    HarnessError
        Saying what its header promises.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise HarnessError(f"it has {len(members)} members, no file of ours has so many")
            size = sum(member.file_size for member in members)
            if size > _MOST_UNPACKED:
                raise HarnessError(f"it unpacks to {size} bytes, no file of ours does")
            for member in members:
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise HarnessError(f"{member.filename} is packed in a way that ours are not")
                check_head(archive, member, _NUMBERS_AND_TEXT)
    except DAMAGED_FILE as error:
        raise HarnessError(f"it is no .npz of plain arrays: {error}") from error


def read_frame(path: Path, columns: Sequence[str], *, texts: bool) -> pd.DataFrame:
    """Read a Parquet file that is not trusted, some rows after the other.

    Parameters
    ----------
    path : Path
        The file.
    columns : sequence of str
        The names of its columns.
    texts : bool
        Whether they may hold texts beside numbers.

    Raises
    ------
    HarnessError
        If it has other columns, or more in it than any file of ours.
    """
    try:
        schema = pyarrow.parquet.read_schema(path)
        # one text many times over stays one text
        once = [name for name, kind in zip(schema.names, schema.types, strict=True) if _text(kind)]
        with pyarrow.parquet.ParquetFile(path, read_dictionary=once) as file:
            about = file.metadata
            if about.num_columns > _MOST_COLUMNS or not 0 <= about.num_rows <= _MOST_ROWS:
                raise HarnessError(f"it has {about.num_rows} rows, {about.num_columns} columns")
            plain = all(_number(kind) or (texts and _text(kind)) for kind in schema.types)
            if schema.names != list(columns) or not plain:
                raise HarnessError("it has other columns than the harness writes")
            parts, size = [], 0
            for part in file.iter_batches(_AT_ONCE):
                size += part.nbytes
                if size > _MOST_UNPACKED:
                    raise HarnessError(f"it unpacks to more than {_MOST_UNPACKED} bytes")
                parts.append(part)
            # what pandas noted there is not trusted either
            schema = file.schema_arrow.remove_metadata()
            table = pyarrow.Table.from_batches(parts, schema)
            frame: pd.DataFrame = table.to_pandas()
            return frame
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        raise HarnessError(f"it is no Parquet file: {error}") from error


def _number(kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _text(kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))


def check_tensors(path: Path) -> int:
    """Refuse a checkpoint or a saved state with tensors that no network has, by its header alone.

    Nothing else of the file is read: one that is mostly a hole costs its sender nothing.

    Parameters
    ----------
    path : Path
        A .safetensors file.

    Returns
    -------
    int
        Number of elements, BatchNorm's statistics left out.

    Raises
    ------
    HarnessError
        Saying which tensor is too large.
    """
    trained = 0
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            if len(names) > _MOST_TENSORS:
                raise HarnessError(f"it has {len(names)} tensors, no network of ours has so many")
            for name in names:
                size = prod(file.get_slice(name).get_shape())
                if size > _MOST_ELEMENTS:
                    raise HarnessError(f"{name} has {size} elements, no tensor of ours has so many")
                statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
                trained += 0 if statistic else size
    except _NO_TENSORS as error:
        raise HarnessError(f"it is no file in safetensors: {error}") from error
    return trained


def check_weights(path: Path, about: Mapping[str, str]) -> None:
    """Refuse a checkpoint of something else, or with numbers that are none.

    Parameters
    ----------
    path : Path
        A .safetensors file.
    about : mapping
        What its header must say of it.

    Raises
    ------
    HarnessError
        Saying what is wrong with it.
    """
    try:
        with safe_open(path, framework="np") as weights:
            told = json.loads((weights.metadata() or {}).get("reproduce", "{}"))
            if told != dict(about):
                raise HarnessError("its header says that it is of another run")
            for name in list(weights.keys()):
                if not np.isfinite(weights.get_tensor(name)).all():
                    raise HarnessError(f"{name} holds NaN or infinity")
    except _NO_TENSORS as error:
        raise HarnessError(f"it is no checkpoint in safetensors: {error}") from error
