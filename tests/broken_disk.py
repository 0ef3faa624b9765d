"""Writes that fail, as a process's own audit hook sees them coming.

Python announces whatever it does to files before it does it, and what the hook raises is
raised in its place.  Writes of compiled libraries (safetensors, Parquet) are not announced;
they are made to fail by the system, which is told to write no file of more than a few bytes.
"""

import errno
import os
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Fault = Literal["full", "read-only", "short", "killed"]
FAULTS: tuple[Fault, ...] = ("full", "read-only", "short", "killed")

_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")
# what a full disk still does
_NEEDS_NO_ROOM = ("os.rename", "os.remove", "os.rmdir", "os.chmod")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# less than any file of results has
_BYTES = 16


@dataclass(frozen=True)
class BrokenDisk:
    """Breaks a process's writes into its results.

    Attributes
    ----------
    fault : str or None
        full, read-only: every change from the one of that number on fails so.  short: the
        file of that number cannot grow.  killed: the process ends before that change.
        None counts them.
    at : int
        Number of the change, or file, from 0.
    count : Path
        Gets a byte for each change.
    """

    fault: Fault | None
    at: int
    count: Path

    def __call__(self, results: Path) -> None:
        """Install the hook; `results` is what is watched."""
        seen = 0
        # opened before: what the hook does itself must not come to it
        count = os.open(self.count, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

        def hook(event: str, given: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "shutil.rmtree":
                # the file is given up, and its folder goes
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            if not _changes(event, given, str(results)) or not self._counts(event, given):
                return
            seen += 1
            os.write(count, b".")
            if self.fault is not None and seen > self.at:
                self._break(given, first=seen == self.at + 1)

        sys.addaudithook(hook)

    def _counts(self, event: str, given: tuple[Any, ...]) -> bool:
        if self.fault == "full":
            return event not in _NEEDS_NO_ROOM
        if self.fault == "short":
            return event == "os.mkdir" and str(given[0]).endswith(".part")
        return True

    def _break(self, given: tuple[Any, ...], *, first: bool) -> None:
        if self.fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "short":
            if first:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (_BYTES, hard))
            return
        code = errno.ENOSPC if self.fault == "full" else errno.EROFS
        raise OSError(code, os.strerror(code), str(given[0]))


def _changes(event: str, given: tuple[Any, ...], results: str) -> bool:
    """Say whether an event is a change below the folder of results."""
    if event == "open":
        path, _, flags = given
        if not flags & _WRITES:
            return False
    elif event in _CHANGES:
        path = given[0]
    else:
        return False
    if not isinstance(path, str | bytes | os.PathLike):
        return False
    name = os.fsdecode(path)
    # folders are emptied by names inside them
    return name.startswith(results) or (not Path(name).is_absolute() and event in _CHANGES)
