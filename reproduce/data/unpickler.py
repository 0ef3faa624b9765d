"""An unpickler whose memory and time are bounded by the size of the file that it reads.

It is the one that Python has written in Python.  The one in C sets aside room for the number
of a memo entry, 64 GB at a word of eleven bytes, and for the length that a text claims to have.
"""

import os
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

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
