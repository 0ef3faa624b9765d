"""An unpickler whose memory and time are bounded by the size of the file that it reads.

It is the one that Python has written in Python.  The one in C sets aside room for the number
of a memo entry, 64 GB at a word of eleven bytes, and for the length that a text claims to have.
"""

import math
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from reproduce.core.errors import HarnessError, brief
from reproduce.core.files import (
    md5_of_file,
    other_kind,
    read_json,
    read_npz,
    write_atomically,
    write_json,
)
from reproduce.data.dataset import Split, check_images, checksum
from reproduce.registry import ExtraFacts, dataset_facts, extra_facts

# classes, ids that a program gives meaning to, numbers of a register, sets, buffers that are
# kept elsewhere: arrays are pickled without any
_REFUSED = (
    pickle.INST
    + pickle.OBJ
    + pickle.NEWOBJ
    + pickle.NEWOBJ_EX
    + pickle.PERSID
    + pickle.BINPERSID
    + pickle.EXT1
    + pickle.EXT2
    + pickle.EXT4
    + pickle.EMPTY_SET
    + pickle.ADDITEMS
    + pickle.FROZENSET
    + pickle.NEXT_BUFFER
    + pickle.READONLY_BUFFER
)
# operations that fill a mapping, and where the keys lie on the stack
_FILLING = {
    pickle.SETITEM: slice(-2, -1),
    pickle.SETITEMS: slice(None, None, 2),
    pickle.DICT: slice(None, None, 2),
}


class _Operations(dict[int, Callable[[Any], None]]):
    """What an unpickler does at each operation; there are no others than those given."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        raise pickle.UnpicklingError(f"no array needs the operation {code:#04x}")


def _plain_keys(code: bytes, keys: slice) -> Callable[[Any], None]:
    """Refuse keys that are not plain: tuples of tuples of tuples take for ever to hash."""
    fill = pickle._Unpickler.dispatch[code[0]]

    def checked(unpickler: Any) -> None:
        for key in unpickler.stack[keys]:
            if not isinstance(key, str | bytes | int | float | None):
                raise pickle.UnpicklingError(f"a mapping has a {type(key).__name__} for a key")
        fill(unpickler)

    return checked


def _bytearray(unpickler: Any) -> None:
    """Read a byte array as bytes; Python's own makes one of the length told before it reads."""
    unpickler.append(unpickler.read(int.from_bytes(unpickler.read(8), "little")))


class _Bounded:
    """A file that is asked for no more than it has left: lengths in a pickle may lie."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle, self._size = handle, os.fstat(handle.fileno()).st_size

    def read(self, size: int) -> bytes:
        """Read, if the file has as much."""
        left = self._size - self._handle.tell()
        if not 0 <= size <= left:
            raise EOFError(f"it says that {size} bytes follow, {left} do")
        return self._handle.read(size)

    def readline(self) -> bytes:
        """Read a whole line."""
        line = self._handle.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it ends within a line")
        return line


class BoundedUnpickler(pickle._Unpickler):
    """Reads plain values, and asks `find_class` for whatever else a pickle names.

    Parameters
    ----------
    handle : file
        The pickle, opened for reading bytes.
    """

    dispatch = _Operations(
        {code: do for code, do in pickle._Unpickler.dispatch.items() if code not in _REFUSED}
        | {code[0]: _plain_keys(code, keys) for code, keys in _FILLING.items()}
        | {pickle.BYTEARRAY8[0]: _bytearray}
    )

    def __init__(self, handle: BinaryIO) -> None:
        # bytes of Python 2 pickles come as text, one character a byte
        super().__init__(_Bounded(handle), encoding="latin1")


# booleans, whole and floating-point numbers, as pickles of numpy name them
_CODES = {"b1", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "f2", "f4", "f8"}


def read_pickled_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of numbers in a pickled mapping; run nothing that the file holds.

    Pickles of Python 2 and 3 and of numpy 1 and 2 are understood.  Plain values beside
    the arrays are left out.

    Parameters
    ----------
    path : Path
        The pickle.

    Returns
    -------
    dict
        The arrays by name.  They may be read-only: they share the memory that their
        bytes were read into.

    Raises
    ------
    HarnessError
        If the file is cut short, is no pickle, or asks for anything but arrays of
        numbers.
    """
    try:
        with path.open("rb") as handle:
            return _arrays(_ArrayUnpickler(handle).load())
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}") from None
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror or error}") from error
    # a damaged pickle makes the unpickler fail in any of these ways
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        MemoryError,
        OverflowError,
        RuntimeError,
        struct.error,
    ) as error:
        other = "a zip archive or .npz" if is_zipfile(path) else other_kind(path)
        reason = f"it is {other}" if other else str(error) or type(error).__name__
        raise HarnessError(f"{path} is cut short or no pickle of arrays: {reason}") from error


def _arrays(content: object) -> dict[str, NDArray[Any]]:
    if not isinstance(content, dict):
        raise HarnessError(f"it holds a {type(content).__name__}, expected a mapping of arrays")
    encoded: dict[int, bytes] = {}
    return {
        name: value.array(encoded)
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, _Array)
    }


class _Dtype:
    """Stands for a dtype: a plain code, and the byte order that the pickle sets."""

    __slots__ = ("code", "order")

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or code not in _CODES:
            raise HarnessError(
                f"the pickle has values of type {brief(code)}, only plain numbers are read; "
                "nothing was run"
            )
        self.code, self.order = code, "="

    def __setstate__(self, state: object) -> None:
        match state:
            # version; byte order; no parts, names, fields, sizes of their own, flags
            case (3, "|" | "=" | "<" | ">" as order, None, None, None, -1, -1, 0):
                self.order = order
            case _:
                raise HarnessError(
                    f"the pickle says more of values of type {self.code!r} than their byte order, "
                    "only plain numbers are read; nothing was run"
                )

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """Stands for an array: shape, type, bytes and their order, as the pickle has them."""

    __slots__ = ("kept",)

    def __init__(self, *kept: object) -> None:
        self.kept = kept

    def __setstate__(self, state: tuple[object, ...]) -> None:
        _, shape, dtype, by_columns, raw = state
        self.kept = (raw, dtype, shape, "F" if by_columns else "C", None)

    def array(self, encoded: dict[int, bytes]) -> NDArray[Any]:
        """Return the array, over the bytes that were read.

        Parameters
        ----------
        encoded : dict
            Bytes of texts by their identity, filled here: a text is turned into bytes
            once, however many arrays a pickle makes of it.

        Raises
        ------
        HarnessError
            If shape, type and number of bytes do not fit together.
        """
        match self.kept:
            case (
                bytes() | bytearray() | str() as raw,
                _Dtype() as kind,
                tuple() as shape,
                "C" | "F" | "K" as order,
                None | tuple() as axes,
            ):
                pass
            case _:
                raise HarnessError("the pickle has an array without bytes, type, shape or order")
        dtype = kind.dtype()
        sizes = all(type(size) is int and size >= 0 for size in shape)
        if not sizes or math.prod(shape) * dtype.itemsize != len(raw):
            raise HarnessError(
                f"the pickle has {len(raw)} bytes for an array of {dtype} of shape {brief(shape)}"
            )
        if isinstance(raw, str):
            # in the pickles of Python 2, and those for it, text has a character a byte
            if id(raw) not in encoded:
                encoded[id(raw)] = raw.encode("latin1")
            raw = encoded[id(raw)]
        array = np.frombuffer(raw, dtype).reshape(shape, order="F" if order == "F" else "C")
        return array if axes is None else array.transpose(axes)


def _reconstruct(*_: object) -> _Array:
    """Make an array that its state fills."""
    return _Array()


def _from_buffer(
    raw: object, dtype: object, shape: object, order: object, axes: object = None
) -> _Array:
    """Make an array as protocol 5 has it; `axes` say where those of the bytes belong."""
    return _Array(raw, dtype, shape, order, axes)


def _scalar(dtype: object, raw: object) -> object:
    """Return a single number, as Python's."""
    return _Array(raw, dtype, (), "C", None).array({}).item()


def _encode(text: str, codec: str) -> str:
    """Stand for ``_codecs.encode``, by which Python 3 writes bytes into old pickles.

    The text stays as it is until an array is made of it.
    """
    if codec not in ("latin1", "latin-1"):
        raise HarnessError(f"the pickle encodes text as {brief(codec)}, only arrays are read")
    return text


def _nothing(*_: object) -> object:
    raise HarnessError("the pickle makes an array as numpy does not write it; nothing was run")


class _Function:
    """One function for a pickle to call; unlike a function it has nothing that can be set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *given: object) -> object:
        return self._function(*given)

    def __setstate__(self, state: object) -> None:
        raise HarnessError("the pickle changes what it calls; nothing was run")


_MODULES = ("numpy.core", "numpy._core")  # numpy 1 and 2
_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    # only named, as the kind of array to make
    ("numpy", "ndarray"): _nothing,
    **{(f"{module}.multiarray", "_reconstruct"): _reconstruct for module in _MODULES},
    **{(f"{module}.multiarray", "scalar"): _scalar for module in _MODULES},
    **{(f"{module}.numeric", "_frombuffer"): _from_buffer for module in _MODULES},
}


class _ArrayUnpickler(BoundedUnpickler):
    """Knows what arrays of numbers are made of, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for what a pickle names, if it belongs to arrays."""
        if (module, name) not in _KNOWN:
            raise HarnessError(
                f"the pickle asks for {module}.{name}, only numpy arrays are read; nothing was run"
            )
        return _Function(_KNOWN[module, name])


_PUBLISHED = ("data", "extrapolated_targets")
_KEYS = ("images", "labels")


@dataclass(frozen=True)
class ExtraImages:
    """Pseudo-labelled images, prepared.

    Attributes
    ----------
    facts : ExtraFacts
        What is fixed about them.
    split : Split
        Images and pseudo-labels; indices are places in the published file.
    sha256 : str
        Checksum of images and pseudo-labels.
    source_md5 : str
        MD5 of the file they were read from.
    """

    facts: ExtraFacts
    split: Split
    sha256: str
    source_md5: str

    def about(self) -> dict[str, Any]:
        """Return what a run says of the extra images it was trained with."""
        return {
            "name": self.facts.name,
            "images": len(self.split),
            "sha256": self.sha256,
            "source_md5": self.source_md5,
        }


def prepare_extra(name: str, source: Path, path: Path) -> None:
    """Read published extra images and write their prepared form.

    Parameters
    ----------
    name : str
        Name of the extra images, such as ``cifar10-extra``.
    source : Path
        The published pickle.
    path : Path
        The .npz to write; a manifest with the checksum is put beside it.

    Raises
    ------
    HarnessError
        If the file is missing (saying where it comes from), cut short, holds anything
        but plain arrays, or other images and labels than the data set's.
    """
    extra = extra_facts(name)
    if source.is_dir():
        raise HarnessError(f"data.{extra.setting}: {source} is a folder; name {extra.file} in it")
    if not source.is_file():
        raise HarnessError(
            f"{name}: {source} does not exist; {extra.title} are not downloaded: get {extra.file} "
            f"from {extra.address} (linked at {extra.home}), and put it there or name it in "
            f"data.{extra.setting}"
        )
    content = read_pickled_arrays(source)
    for key in _PUBLISHED:
        if key not in content:
            known = ", ".join(map(repr, content)) or "none"
            raise HarnessError(f"{source} has no array {key!r}; its arrays: {known}")
    check_images(dataset_facts(extra.dataset), content, _PUBLISHED, source)
    images, labels = (content[key] for key in _PUBLISHED)
    # no copy of images that lie in one piece
    arrays = {"images": np.ascontiguousarray(images), "labels": labels.astype(np.uint8)}
    md5 = md5_of_file(source)

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays, source_md5=np.array(md5))

    write_atomically(path, write)
    manifest = {"extra": name, "images": len(labels), "sha256": checksum(arrays, _KEYS)}
    write_json(path.with_suffix(".json"), manifest)


def load_extra(path: Path) -> ExtraImages:
    """Read prepared extra images and check every byte of them.

    Parameters
    ----------
    path : Path
        The .npz written by `prepare_extra`; its name is that of the extra images.

    Raises
    ------
    HarnessError
        If it is missing, damaged or does not match its manifest.
    """
    extra = extra_facts(path.stem)
    if not path.exists():
        raise HarnessError(f"{path} is missing; run `reproduce prepare {extra.name}` first")
    manifest = read_json(path.with_suffix(".json"))
    arrays = read_npz(path, (*_KEYS, "source_md5"))
    again = f"delete it and run `reproduce prepare {extra.name}`"
    if len(arrays) < 3 or arrays["source_md5"].dtype.kind != "U":
        raise HarnessError(f"{path} is not a prepared file of extra images; {again}")
    check_images(dataset_facts(extra.dataset), arrays, _KEYS, path)
    found = checksum(arrays, _KEYS)
    if manifest.get("sha256") != found:
        raise HarnessError(f"{path} does not match its checksum; {again}")
    split = Split(arrays["images"], arrays["labels"], np.arange(len(arrays["labels"])))
    return ExtraImages(extra, split, found, str(arrays["source_md5"]))
