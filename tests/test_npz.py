"""Arrays out of an .npz that nobody vouches for: whole, plain, and no larger than they say."""

import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, read_npz


def _head(shape: str, descr: str = "'|u1'", version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text


def _written(path: Path, member: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", member)
    return path


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_head("(1000000000000,)"), "has 64 bytes|not an array \\(1000000000000,\\) of uint8"),
        (_head("(3,)") + b"12", "not an array \\(3,\\)"),
        (_head("(1,)") + b"12", "not an array \\(1,\\)"),
        (_head("(-1,)") + b"1", "not an array \\(-1,\\)"),
        (_head("(-1, -1)") + b"1", "not an array \\(-1, -1\\)"),
        (_head("(1,)", "'|O'") + b"12345678", "not an array"),
        (_head("(1,)", "'|O'", b"\x02\x00") + b"12345678", "not an array"),
        (_head("(300000000,)", "'<U0'"), "not an array \\(300000000,\\)"),
        (_head("(1,)", version=b"\x03\x00") + b"1", "version \\(3, 0\\)"),
        (_head("(" * 5000), "not a whole .npz"),
        (_head("(1,)", "'nonsense'"), "not a whole .npz"),
        (_head("(1,)", "1 is 2"), "not a whole .npz"),
        (b"", "not a whole .npz"),
    ],
)
def test_what_a_member_says_and_has(tmp_path: Path, member: bytes, message: str) -> None:
    path = _written(tmp_path / "given.npz", member)
    with pytest.raises(HarnessError, match=message):
        read_npz(path, ["a"])


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3).T, np.array("text"), np.empty((0, 3))]
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(tmp_path: Path, array: np.ndarray, save: object) -> None:
    save(tmp_path / "whole.npz", a=array, b=array)
    read = read_npz(tmp_path / "whole.npz", ["a", "c"])
    assert read.keys() == {"a"}
    assert np.array_equal(read["a"], array)


def test_a_small_archive_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    size = 300 * 2**20
    target = BytesIO()
    with (
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w") as member,
    ):
        member.write(_head(f"({size},)"))
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    path.write_bytes(target.getvalue())
    assert path.stat().st_size < 2**20
    with pytest.raises(HarnessError, match=r"bomb.npz is not .* 'a.npy' would grow from"):
        read_npz(path, ["a"])


def _damages(whole: bytes) -> Iterator[bytes]:
    yield b""
    yield whole[:100]
    yield b"PK\x03\x04" + whole[4:60]
    yield b"\x93NUMPY\x01\x00" + bytes(200)
    for place in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        yield bytes(changed)
    for place in range(1, len(whole), 5):
        changed = bytearray(whole)
        changed[-place] ^= 0xFF
        yield bytes(changed)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_files_never_end_in_a_traceback(tmp_path: Path, save: Callable) -> None:
    """Bytes changed in headers and directory: refused with a clear line, or still readable."""
    path = tmp_path / "x.npz"
    save(path, train_labels=np.arange(20, dtype=np.uint8))
    refused = 0
    for content in _damages(path.read_bytes()):
        path.write_bytes(content)
        with suppress(HarnessError):
            read_npz(path, ("train_labels",))
            continue
        refused += 1
    assert refused > 10


def test_an_npz_whose_header_claims_too_much(tmp_path: Path) -> None:
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999,), }"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_labels.npy", member)
        archive.writestr("train_images", b"raw")
    with pytest.raises(HarnessError, match="not a whole"):
        read_npz(path, ("train_labels",))
    assert read_npz(path, ("train_images",)) == {}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": %s}' % ("9" * 5000),
    ],
)
def test_json_that_could_be_written_nowhere(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(HarnessError, match=r"run.json is damaged, it is not JSON; delete it"):
        read_json(path)


@pytest.mark.parametrize("seal", [None, "", 0, "f" * 64])
def test_json_whose_checksum_is_not_its_own(tmp_path: Path, seal: object) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"a": 1, "json_sha256": seal}))
    with pytest.raises(HarnessError, match=r"run.json is damaged, it is not what its checksum is"):
        read_json(path)


def test_json_with_whole_characters(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"a": "\U0001f600", "b": 1e300}))
    assert read_json(path) == {"a": "\U0001f600", "b": 1e300}


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(HarnessError, match=r"not a whole .npz .* it is a Git LFS pointer"):
        read_npz(tmp_path / "a.npz", ["a"])
