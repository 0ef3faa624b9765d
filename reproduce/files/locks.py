"""Locks that the operating system drops when their holder ends."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from reproduce.errors import HarnessError

# seconds that a lock is waited for: who looks whether it is held has it for microseconds
_LOOK = 0.4
# what disks without locks answer: some in FUSE, Lustre mounted without, NFS without its lock daemon
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


class _Lock(FileLock):
    """A lock that says it where the disk knows none."""

    def _acquire(self) -> None:
        try:
            super()._acquire()
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise HarnessError(
                f"{self.lock_file} cannot be locked, its disk knows no locks "
                f"({error.strerror}); set results, or TMPDIR for GPUs, to a folder on another disk"
            ) from error


def lock_file(path: Path) -> BaseFileLock:
    """Return a lock on a file, not held yet, that the operating system drops with its holder.

    Where the disk knows no locks, taking it raises HarnessError: the lock that filelock would
    take instead outlives a killed holder.
    """
    return _Lock(path, fallback_to_soft=False)


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock file `path`; nothing is made or changed.

    It asks for a shared lock and drops it again, so that several may ask at once, and
    whoever wants the lock in that moment waits for it (see `exclusive`).  Unlike a list
    of locks (/proc/locks) that works across containers, and across machines where the
    disk carries locks between them.  Where it does not, and where the file may not be
    read, the answer is no.
    """
    try:
        handle = path.open("rb")
    except OSError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            # what filelock takes for a lock that another holds
            return error.errno in {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK}
    return False


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`, or fail if another process holds it for longer than a moment.

    The operating system drops the lock when the holder ends, however it ends.

    Raises
    ------
    HarnessError
        If another process holds the lock; the message names `what`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_file(path)
    try:
        lock.acquire(timeout=_LOOK, poll_interval=_LOOK / 20)
    except Timeout:
        raise HarnessError(
            f"{what} is being worked on by another process (it holds {path}); "
            "wait for it or stop it, nothing was changed"
        ) from None
    except OSError as error:
        raise HarnessError(f"{path} cannot be locked: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
