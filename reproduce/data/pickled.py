"""Arrays out of a pickle that nobody vouches for, without running anything it holds.

The unpickler is given no object of numpy's.  What a pickle calls to make arrays are
stand-ins that keep plain values; numpy's own could be told by the pickle to take bytes
for addresses of objects.  Arrays are made when the pickle has had its say.
"""

import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from reproduce.data.unpickler import BoundedUnpickler
from reproduce.errors import HarnessError, brief
from reproduce.files import other_kind

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
