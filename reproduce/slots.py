"""Slots of GPUs: places for jobs, each held by a lock for as long as its job lives."""

import os
import stat
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path

from filelock import Timeout

from reproduce.errors import HarnessError
from reproduce.files import lock_file

_POLL_SECONDS = 1.0


def slots_folder() -> Path:
    """Return the folder of the locks of this user, the same for all jobs of a machine.

    Containers that share GPUs must share it: mount it, or set TMPDIR to a folder that is.
    """
    return Path(tempfile.gettempdir()) / f"reproduce-gpu-{os.getuid()}"


def take_slots(
    held: ExitStack,
    folder: Path,
    cards: Sequence[str],
    wanted: int,
    slots: int,
    poll: float = _POLL_SECONDS,
) -> list[int]:
    """Wait until as many cards as wanted have a free slot each, and hold those.

    The slots of a process that ends, however it ends, are free at once; who waits sees
    it at the next look.

    Parameters
    ----------
    held : ExitStack
        Lets go of the slots when it is closed.
    folder : Path
        Where the locks lie.
    cards : sequence of str
        The cards, by names that are the same in every process.
    wanted : int
        How many cards, all at once: none is held while there are fewer.
    slots : int
        How many jobs may share a card.
    poll : float
        Seconds between two looks.

    Returns
    -------
    list of int
        Places in `cards`, all different.
    """
    check_private(folder)
    said = False
    while True:
        # one job looks at a time: two that saw each other's slots as taken would both go back
        with ExitStack() as tried, lock_file(folder / "choosing"):
            found = _free_slots(tried, folder, cards, wanted, slots)
            if len(found) == wanted:
                held.enter_context(tried.pop_all())
                return found
        if not said:
            print(f"Waiting for {_free(wanted)} (locks in {folder})", flush=True)
            said = True
        time.sleep(poll)


def check_private(folder: Path) -> None:
    """Make the folder, or refuse one in which somebody else can write: anybody could have made it.

    Raises
    ------
    HarnessError
        If it is a link or no folder, another user's, or others can write into it.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or others:
        raise HarnessError(
            f"{folder} holds the locks of GPUs and must be a folder of yours that nobody else can "
            "write into; remove it, or set TMPDIR to a folder of your own"
        )


def _free_slots(
    tried: ExitStack, folder: Path, cards: Sequence[str], wanted: int, slots: int
) -> list[int]:
    """Hold a slot of each of up to `wanted` cards, second slots after the first of every one."""
    found: list[int] = []
    for slot, place in product(range(slots), range(len(cards))):
        if place in found or len(found) == wanted:
            continue
        lock = lock_file(folder / f"{cards[place]}-{slot}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            tried.callback(lock.release)
            found.append(place)
    return found


def _free(wanted: int) -> str:
    return "a free GPU" if wanted == 1 else f"{wanted} GPUs that are free at once"
