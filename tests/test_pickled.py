"""Arrays out of a pickle: those of every numpy and Python, and nothing else."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from pickles import made_up_images, write_pickle

from reproduce.core.errors import HarnessError
from reproduce.data.extra import read_pickled_arrays

BLOCK = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        BLOCK,
        BLOCK.T,  # by columns
        BLOCK.transpose(1, 2, 0),  # in neither order
        BLOCK[:, ::2],  # not in one piece
        BLOCK.astype(">i8"),
        BLOCK.astype(np.uint8),
        BLOCK / 7,
        BLOCK.astype(np.float16),
        BLOCK > 5,
        np.array(3),
    ],
)
def test_arrays_of_every_kind(tmp_path: Path, array: np.ndarray, protocol: int) -> None:
    beside = {"one": np.float64(3.5), "count": 200, "words": ["vanilla"], 7: array}
    read = read_pickled_arrays(write_pickle(tmp_path, {"array": array, **beside}, protocol))
    assert read.keys() == {"array"}
    assert np.array_equal(read["array"], array)
    assert read["array"].dtype == array.dtype


def _of_python_2(array: np.ndarray) -> bytes:
    """An array as Python 2 and numpy 1 pickle it: protocol 0, bytes as a quoted string."""
    shape = "(" + "".join(f"I{size}\n" for size in array.shape) + "t"
    raw = "".join(f"\\x{byte:02x}" for byte in array.tobytes())
    kind = array.dtype.str.strip("<|")
    order = "|" if array.dtype.itemsize == 1 else "<"
    return (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        f"(I1\n{shape}cnumpy\ndtype\n(S'{kind}'\nI0\nI1\ntR(I3\nS'{order}'\nNNNI-1\nI-1\nI0\ntb"
        f"I00\nS'{raw}'\ntb"
    ).encode()


def test_pickles_of_python_2_and_numpy_1(tmp_path: Path) -> None:
    content = made_up_images(3)
    path = tmp_path / "old.pickle"
    items = b"".join(b"S'%s'\n%ss" % (k.encode(), _of_python_2(v)) for k, v in content.items())
    path.write_bytes(b"(d" + items + b".")
    read = read_pickled_arrays(path)
    assert all(np.array_equal(read[key], content[key]) for key in content)


class _Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_foreign_classes_are_refused_and_nothing_runs(tmp_path: Path, protocol: int) -> None:
    touched = tmp_path / "touched"
    # an array of objects is known by its type, before the objects come
    asks, holds = r"asks for (posix|nt)\.system", "has values of type 'O8'"
    for content in (
        {**made_up_images(), "more": _Runs(touched)},
        {"data": np.array([_Runs(touched)], dtype=object)},
        _Runs(touched),
    ):
        source = write_pickle(tmp_path, content, protocol)
        with pytest.raises(HarnessError, match=f"({asks}|{holds}), only .*; nothing was run"):
            read_pickled_arrays(source)
        assert not touched.exists()
        # the same file does run where nothing holds it back
        pickle.loads(source.read_bytes())
        touched.unlink()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "asks for builtins.eval"),
        (
            b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
            "asks for numpy.core.multiarray.fromfile",
        ),
        (b"cnumpy\nload\n(S'x'\ntR.", "asks for numpy.load"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encodes text as 'zip'"),
        (b"c_codecs\nencode\n}S'codecs'\nI1\nsb.", "changes what it calls"),
        (b"cnumpy\nndarray\n(tR.", "as numpy does not write it"),
        (b"Pnumber\n.", "cut short or no pickle"),
        (b"<!DOCTYPE html><html>", "cut short or no pickle of arrays: it is a web page"),
        (b"", "cut short or no pickle of arrays: it is empty"),
        (b"(lp0\n.", "holds a list, expected a mapping"),
    ],
)
def test_other_pickles_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "file.pickle"
    path.write_bytes(text)
    with pytest.raises(HarnessError, match=message):
        read_pickled_arrays(path)


def _named(module: str, name: str) -> bytes:
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


def _plain(value: object) -> bytes:
    """Return the operations that make a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def _dtype(code: str, *state: bytes) -> bytes:
    """Return the operations that make a dtype, and set its state if there is one."""
    made = _named("numpy", "dtype") + _plain((code, False, True)) + pickle.REDUCE
    return made + (pickle.MARK + b"".join(state) + pickle.TUPLE + pickle.BUILD if state else b"")


def _array(dtype: bytes, shape: tuple[int, ...], raw: bytes) -> bytes:
    """Return the operations that make an array."""
    made = _named("numpy.core.multiarray", "_reconstruct") + _named("numpy", "ndarray")
    made += _plain((0,)) + _plain("b") + pickle.TUPLE3 + pickle.REDUCE
    text = pickle.BINUNICODE + struct.pack("<I", len(raw)) + raw
    state = _plain(1) + _plain(shape) + dtype + _plain(False) + text
    return made + pickle.MARK + state + pickle.TUPLE + pickle.BUILD


def _pickled(array: bytes) -> bytes:
    return b"\x80\x02" + pickle.EMPTY_DICT + _plain("data") + array + pickle.SETITEM + pickle.STOP


def _with_pointers(code: str) -> bytes:
    """Return a dtype whose field holds objects, told by its flags that it holds none."""
    field = _dtype("O8") + _plain(0) + pickle.TUPLE2
    fields = pickle.EMPTY_DICT + _plain("a") + field + pickle.SETITEM
    first = (_plain(3), _plain("|"), pickle.NONE, _plain(("a",)), fields)
    return _dtype(code, *first, _plain(8), _plain(1), _plain(0))


def test_bytes_do_not_become_pointers(tmp_path: Path) -> None:
    """With numpy's own dtype, this writes through an address that the file chooses."""
    # setting an element lets go of the object that was there, at 0x4141414141414141
    stored = _array(_with_pointers("V8"), (1,), b"A" * 8) + _plain("a") + _plain(1) + pickle.SETITEM
    path = tmp_path / "file.pickle"
    path.write_bytes(_pickled(stored))
    with pytest.raises(HarnessError, match="values of type 'V8', only plain numbers"):
        read_pickled_arrays(path)


PLAIN = tuple(map(_plain, (3, "<", None, None, None, -1, -1, 0)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (_array(_dtype("V8"), (1,), b"A" * 8), "values of type 'V8'"),
        (_array(_dtype("U2"), (1,), b"A" * 8), "values of type 'U2'"),
        (_array(_dtype("M8"), (1,), b"A" * 8), "values of type 'M8'"),
        (_array(_dtype("i8", *PLAIN[:-1], _plain(63)), (1,), b"A" * 8), "says more of .*'i8'"),
        (_array(_dtype("i8", *PLAIN[:3], _plain(("a",)), *PLAIN[4:]), (1,), b"A" * 8), "says more"),
        (_array(_dtype("i8", *PLAIN[:5], _plain(4), *PLAIN[6:]), (1,), b"A" * 8), "says more"),
        (_array(_dtype("i8", *PLAIN[:1], _plain("O"), *PLAIN[2:]), (1,), b"A" * 8), "says more"),
        (_array(_dtype("i8", *PLAIN), (2,), b"A" * 8), r"8 bytes for an array of int64 .*\(2,\)"),
        (_array(_dtype("i8", *PLAIN), (-1,), b"A" * 8), r"of shape \(-1,\)"),
        (_array(_dtype("i8", *PLAIN), (2**62, 4), b""), "0 bytes for an array"),
        (_array(_plain("i8"), (1,), b"A" * 8), "without bytes, type, shape or order"),
        (
            _array(_dtype("u1"), (1,), b"A") + _plain(0) + _plain(1) + pickle.SETITEM,
            "cut short or no pickle",
        ),
    ],
)
def test_arrays_that_numpy_does_notwrite_pickle(tmp_path: Path, array: bytes, message: str) -> None:
    path = tmp_path / "file.pickle"
    path.write_bytes(_pickled(array))
    with pytest.raises(HarnessError, match=message):
        read_pickled_arrays(path)


def test_a_file_cut_short_at_any_place(tmp_path: Path) -> None:
    whole = write_pickle(tmp_path, made_up_images(4)).read_bytes()
    path = tmp_path / "cut.pickle"
    for size in [*range(1, 200), *range(200, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(HarnessError, match="cut short or no pickle"):
            read_pickled_arrays(path)


_TUPLES = b"N" + pickle.TUPLE1 * 200_000  # hashing it takes all of the stack
_DOUBLED = b"N" + (pickle.DUP + pickle.TUPLE2) * 100  # and this one 2^100 steps


@pytest.mark.parametrize(
    ("operations", "message"),
    [
        # Python's unpickler in C fills 16 bytes for each of these memo entries
        (b"N" + pickle.LONG_BINPUT + b"\xff\xff\xff\xff", "holds a NoneType"),
        (b"Np99999999999999999999\n", "holds a NoneType"),
        (pickle.BINBYTES8 + (10**12).to_bytes(8, "little"), "says that 1000000000000 bytes follow"),
        (pickle.BINUNICODE8 + b"\xff" * 8, "maximum size of"),
        (pickle.BYTEARRAY8 + (10**12).to_bytes(8, "little"), "bytes follow"),
        (pickle.FRAME + (10**12).to_bytes(8, "little"), "bytes follow"),
        (pickle.LONG4 + b"\xff\xff\xff\x7f", "bytes follow"),
        (b"}" + _TUPLES + b"Ns", "a tuple for a key"),
        (b"}(" + _DOUBLED + b"Nu", "a tuple for a key"),
        (b"(" + _DOUBLED + b"Nd", "a tuple for a key"),
        (b"(" + _DOUBLED + pickle.FROZENSET, "no array needs the operation 0x91"),
        (b"}}Ns", "a dict for a key"),
        (b"cnumpy\ndtype\n" + _DOUBLED + b"\x85R", "values of type"),
        (b"cnumpy\nx\x1b\x00\n", "asks for numpy.x.x1b.x00"),
        (b"(ios\nsystem\n", "operation 0x69"),
        (b"\x82\x01", "operation 0x82"),
    ],
)
def test_small_files_that_ask_for_much(tmp_path: Path, operations: bytes, message: str) -> None:
    path = tmp_path / "file.pickle"
    path.write_bytes(b"\x80\x05" + operations + b".")
    with pytest.raises(HarnessError, match=message):
        read_pickled_arrays(path)


def test_a_text_becomes_bytes_once(tmp_path: Path) -> None:
    """Or a file of a megabyte would have ten thousand arrays of half a megabyte each."""
    array = _array(_dtype("u1"), (4,), b"abcd")
    one, other = array.rsplit(pickle.BINUNICODE, 1)
    size = 4 + 4
    text, end = pickle.BINUNICODE + other[:size], other[size:]
    again = pickle.EMPTY_DICT + _plain("a") + one + text + pickle.BINPUT + b"\x07" + end
    again += pickle.SETITEM + _plain("b") + one + pickle.BINGET + b"\x07" + end + pickle.SETITEM
    path = tmp_path / "file.pickle"
    path.write_bytes(b"\x80\x02" + again + pickle.STOP)
    read = read_pickled_arrays(path)
    assert read["a"].tobytes() == read["b"].tobytes() == b"abcd"
    assert np.shares_memory(read["a"], read["b"])
