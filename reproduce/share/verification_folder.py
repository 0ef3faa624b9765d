"""A results folder from somebody else: what is in it, and a checked copy that can be read.

Nothing in such a folder is trusted.  It is listed without following a link, and what is
not a plain file of a known kind and a plausible size is named and never opened.  The rest
is copied into a folder of our own, by names that only a known kind can have; all other
checks read the copy.  Checkpoints and saved states are large: the copy has links to them,
through which the sender's own files are read.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reproduce.core.errors import HarnessError
from reproduce.share.verification_finding import Finding
from reproduce.share.verification_kinds import Kind, Place, place_of

# of the paper there are about 2,500 files in folders eight deep, and 200 MB beside checkpoints
_MOST_FILES = 200_000
_DEEPEST = 12
_MOST_BYTES = 8 * 2**30
# what fails for want of something here, and says nothing of the file
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_LINKED: tuple[Kind, ...] = ("model", "state")
# what is made from the rest, and made again to compare
DERIVED: tuple[Kind, ...] = ("table", "diff", "figure", "claims", "results", "report")
_SORTS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


@dataclass(frozen=True)
class Copied:
    """A file of the folder that may be read.

    Attributes
    ----------
    name : str
        Its path from the results folder on.
    place : Place
        What it is by that.
    path : Path
        Where it may be read.
    """

    name: str
    place: Place
    path: Path


def copy_folder(folder: Path, copy: Path, derived: Path) -> tuple[list[Copied], list[Finding]]:
    """Copy what is safe to read of a results folder.

    Parameters
    ----------
    folder : Path
        The results folder; nothing in it is changed.
    copy, derived : Path
        Empty folders: for runs, records and what else is a source, and for what is made
        from those.

    Returns
    -------
    files : list of Copied
        What may be read, by name.
    findings : list of Finding
        What may not, and why, and what is no result.

    Raises
    ------
    HarnessError
        If the folder is none, or holds more than any results folder can.
    """
    if not folder.is_dir():
        raise HarnessError(f"{folder} is not a folder; give a results folder, such as results/demo")
    # the user's own word, often a link to a large disk; links inside are the sender's
    folder = folder.resolve()
    files: list[Copied] = []
    findings: list[Finding] = []
    total = 0
    for name, about in sorted(_walk(folder)):
        place, refused = place_of(name), _refused(name, about)
        if refused is not None:
            findings.append(refused)
        elif place is not None and place.kind != "aside":
            source = folder / name
            target = (derived if place.kind in DERIVED else copy) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            reason = None
            if place.kind in _LINKED:
                target.symlink_to(source.absolute())
            else:
                total = _added(total, about.st_size, folder)
                reason = _not_copied(source, target, place.most)
            if reason is None:
                files.append(Copied(name, place, target))
            else:
                findings.append(Finding("damaged", name, reason))
    if not files and all(finding.verdict == "not checked" for finding in findings):
        raise HarnessError(
            f"{folder} holds no results; give the folder of a preset, such as results/demo"
        )
    return files, findings


def _refused(name: str, about: os.stat_result) -> Finding | None:
    """Say why an entry is not looked into; None if it is, or is of no interest."""
    problem, place = _problem(name, about), place_of(name)
    if problem is not None:
        return Finding("damaged", name, f"{problem}; it was not opened")
    if place is None:
        return Finding("not checked", name, "the harness writes no such file")
    if place.kind != "aside" and about.st_size > place.most:
        sizes = f"{about.st_size} bytes, {place.most} are the most it can have"
        return Finding("damaged", name, f"it has {sizes}; it was not opened")
    return None


def _added(total: int, size: int, folder: Path) -> int:
    """Add up what is copied, as far as a results folder may have it."""
    if total + size > _MOST_BYTES:
        raise HarnessError(
            f"{folder} holds more than {_MOST_BYTES >> 30} GiB beside checkpoints; "
            "no results folder does, nothing was checked"
        )
    return total + size


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every entry that is no folder by its path, and folders that are too deep."""
    waiting, seen = [(folder, "", 0)], 0
    while waiting:
        place, above, depth = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                seen += 1
                if seen > _MOST_FILES:
                    raise HarnessError(
                        f"{folder} holds more than {_MOST_FILES} files; no results folder does, "
                        "nothing was checked"
                    )
                name = f"{above}{entry.name}"
                if entry.is_dir(follow_symlinks=False) and depth < _DEEPEST:
                    waiting.append((place / entry.name, f"{name}/", depth + 1))
                else:
                    yield name, entry.stat(follow_symlinks=False)


def _problem(name: str, about: os.stat_result) -> str | None:
    """Say why an entry is not a plain file; None if it is one."""
    for is_sort, what in _SORTS:
        if is_sort(about.st_mode):
            return f"it is {what}"
    if stat.S_ISDIR(about.st_mode):
        return f"it is a folder {name.count('/')} deep"
    return None


def _not_copied(source: Path, target: Path, most: int) -> str | None:
    """Copy a file, or say why it cannot be read."""
    try:
        _copy(source, target, most)
    except OSError as error:
        if error.errno in _OURS:
            raise HarnessError(
                f"no room to check anything: {target.parent}: {error.strerror}; "
                "set TMPDIR to a folder on a larger disk"
            ) from error
        return f"it cannot be read: {error.strerror}"
    return None


def _copy(source: Path, target: Path, most: int) -> None:
    """Copy a plain file of at most so many bytes.

    Raises
    ------
    HarnessError
        If it is not what it was when it was listed.
    """
    # never a link, and a pipe that came meanwhile does not block
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as given, target.open("xb") as kept:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > most:
            raise HarnessError(f"{source} changed while it was read; verify a folder at rest")
        shutil.copyfileobj(given, kept)
