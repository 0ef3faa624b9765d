"""Writes after which a file is whole, or as it was."""

import errno
import glob
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from reproduce.errors import HarnessError
from reproduce.files.locks import lock_file

# the system tells it only while setting it
_UMASK = os.umask(0)
os.umask(_UMASK)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# of the temporary folders of files that are being written, and of the lock in each
_HOST, _PART, _ALIVE = f".{socket.gethostname()}-", ".part", "alive"
_TRIES = 10


def write_atomically(
    path: Path, write: Callable[[Path], object], before: Callable[[], object] = lambda: None
) -> None:
    """Have `write` fill a temporary file and put it in the place of `path` in one step.

    A reader sees the old file or the new one, never a part; whatever goes wrong
    (full disk, kill, exception) the old file stays as it was.

    Parameters
    ----------
    path : Path
        The file to write; missing folders are made.
    write : callable
        Called with the temporary path, of the same name in a folder beside `path`.
    before : callable
        Called once the new file is on the disk, right before it takes its place.

    Raises
    ------
    HarnessError
        If the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        with _workplace(path.parent) as folder:
            temporary = folder / path.name
            write(temporary)
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            # safetensors makes its files readable by their owner alone
            temporary.chmod(0o666 & ~_UMASK)
            before()
            temporary.replace(path)
    except Exception as error:
        explained = _explain(error, path)
        if explained is None:
            raise
        raise explained from error


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """Give a temporary folder in `parent` that tells by a lock whether its process lives.

    A folder, because safetensors writes to a temporary file of its own beside the one it is
    given, which a kill would leave there by a name that says nothing.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=_HOST, suffix=_PART, dir=parent))
        lock = lock_file(folder / _ALIVE)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):
            # between the two lines another process took it for abandoned, and removes it
            continue
        except (OSError, HarnessError):
            # a disk without locks: nobody can take the folder for abandoned either
            pass
        try:
            yield folder
        finally:
            # what stopped the write may stop this too, and must not hide it
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()
        return
    raise OSError(errno.EAGAIN, "temporary folders vanish", str(parent))


def remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed while they wrote into `folder` left there.

    Every write into a folder does so first.  What a living process is writing stays: it
    holds a lock, which the operating system drops when the process ends, however it ends.
    What other machines left stays too: not every disk carries locks from one to another.
    """
    for left in folder.glob(f"{glob.escape(_HOST)}*{_PART}"):
        with suppress(Timeout, OSError, HarnessError), lock_file(left / _ALIVE).acquire(0):
            shutil.rmtree(left, ignore_errors=True)


def _explain(error: Exception, path: Path) -> HarnessError | None:
    """Turn what the operating system says of a failed write into one clear line."""
    code = error.errno if isinstance(error, OSError) else None
    # safetensors and pyarrow wrap the system's error; its text is all that is left of it
    if code in _NO_ROOM or "No space left" in str(error) or "File too large" in str(error):
        return HarnessError(
            f"the disk is full: {path} could not be written, what was there before is untouched; "
            "free some room and run the same command again"
        )
    if isinstance(error, OSError):
        return HarnessError(f"{path} could not be written: {error.strerror or error}")
    return None


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
