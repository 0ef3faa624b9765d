"""A reader of files from outside, and the one property that all hold.

A reader returns something, or raises `HarnessError` with a line that names the file; it
writes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reproduce.core.errors import LONGEST, HarnessError


@dataclass(frozen=True)
class Reader:
    """A reader of files.

    Attributes
    ----------
    seeds : callable
        Returns contents of whole files.
    place : callable
        Puts a content, whole or not, where the reader looks in a folder; returns the file.
    read : callable
        Reads the file that `place` returned.
    """

    seeds: Callable[[], list[bytes]]
    place: Callable[[bytes, Path], Path]
    read: Callable[[Path], object]


def holds(reader: Reader, data: bytes, folder: Path) -> bool:
    """Check the property on one content: True if it was read, False if clearly refused."""
    path = reader.place(data, folder)
    before = _listing(folder)
    try:
        reader.read(path)
        read = True
    except HarnessError as error:
        message = str(error)
        assert message.isprintable(), f"not one printable line: {message!r}"
        assert len(message) <= LONGEST, f"{len(message)} characters"
        # a setting that does not fit is named instead
        named = path.suffix == ".yaml" or path.stem in message
        assert named, f"names no file: {message}"
        read = False
    assert _listing(folder) == before, "the reader wrote something"
    return read


def _listing(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}
