"""Slots of GPUs while processes that take them are killed at random; no GPU is needed."""

import fcntl
import multiprocessing
import os
import random
import signal
import time
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults import FAULTS

from reproduce.compute.device import take_slots
from reproduce.core.errors import HarnessError

CARDS = [f"card-{number}" for number in range(4)]
SLOTS, JOBS = 2, 8
# taken before each kill: the case says nothing unless slots are taken many times over
TAKEN_BETWEEN = 5
# as the pause between two looks: whoever must wait at all fails
NEVER = -1.0
# so that several jobs hold each while others wait
HOLD_SECONDS = 0.004


def _job(folder: Path, seed: int, ready: "multiprocessing.Barrier | None" = None) -> None:
    """Take one to three cards again and again, and look whether somebody else has the same.

    The witness does not go by the locks that are tested: holders of a card are counted by
    byte ranges of a file of its own, one a slot, which the system frees with their process.
    """
    drawn = random.Random(seed)
    # opened before any slot is taken: the system closes files in the order of their numbers,
    # so the witness of a killed process is gone before its slots are
    witnesses = [(folder / f"{card}.witness").open("r+b") for card in CARDS]
    counted = (folder / "holds").open("ab", buffering=0)
    if ready is not None:
        ready.wait(timeout=600)
    while True:
        with ExitStack() as held:
            places = take_slots(held, folder, CARDS, drawn.randint(1, 3), SLOTS, poll=0.001)
            seen = [(place, _witness(witnesses[place])) for place in places]
            if None in [byte for _, byte in seen] or len(set(places)) < len(places):
                (folder / f"violation-{seed}").write_text(f"{seen}")
            counted.write(b".")
            time.sleep(drawn.uniform(0, HOLD_SECONDS))
            for place, byte in seen:
                if byte is not None:
                    fcntl.lockf(witnesses[place], fcntl.LOCK_UN, 1, byte)


def _witness(file) -> int | None:
    """Lock a byte of a card's file; None if as many hold it as it has slots."""
    for byte in range(SLOTS):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            continue
        return byte
    return None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for card in CARDS:
        (tmp_path / f"{card}.witness").write_bytes(bytes(SLOTS))
    (tmp_path / "holds").touch()
    return tmp_path


def _start(folder: Path, seed: int, ready: "multiprocessing.Barrier | None" = None) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_job, args=(folder, seed, ready))
    process.start()
    return process


def test_never_two_on_one_slot_though_holders_are_killed(folder: Path) -> None:
    drawn, kills = random.Random(20210), 10 * FAULTS
    jobs = [_start(folder, seed) for seed in range(JOBS)]
    try:
        for kill in range(kills):
            _wait_until_taken(folder, TAKEN_BETWEEN * (kill + 1))
            # any moment of a hold, or of the look for one
            time.sleep(drawn.uniform(0, 0.03))
            number = drawn.randrange(JOBS)
            jobs[number].kill()
            jobs[number].join()
            jobs[number] = _start(folder, JOBS + kill)
    finally:
        for job in jobs:
            job.kill()
        for job in jobs:
            job.join()
    assert [path.read_text() for path in folder.glob("violation-*")] == []
    with ExitStack() as held:
        for _ in range(SLOTS):
            assert take_slots(held, folder, CARDS, len(CARDS), SLOTS, NEVER) == [0, 1, 2, 3]


def _wait_until_taken(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 600
    while (folder / "holds").stat().st_size < count:
        assert time.monotonic() < deadline, f"slots were not taken {count} times"
        time.sleep(0.001)


def test_the_witness_sees_two_on_one_slot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With locks that lock nothing, or the test above could not fail."""

    class NoLock:
        def __init__(self, path: Path) -> None:
            pass

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

        def acquire(self, timeout: float) -> None:
            pass

        def release(self) -> None:
            pass

    monkeypatch.setattr("reproduce.compute.device.lock_file", NoLock)
    ready = multiprocessing.get_context("fork").Barrier(JOBS)
    jobs = [_start(folder, seed, ready) for seed in range(JOBS)]
    deadline = time.monotonic() + 600
    try:
        while not list(folder.glob("violation-*")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        for job in jobs:
            job.kill()
            job.join()


def test_a_dead_holders_slot_is_free_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits has it at his next look, and a process that the holder left changes nothing."""
    told, tell = os.pipe()
    holder = os.fork()
    if holder == 0:
        held = ExitStack()
        take_slots(held, folder, CARDS[:1], 1, 1)
        # as the processes are that decode images: copies of the one that holds the slot
        if os.fork() == 0:
            # not before it is a process of its own, with what it took over closed
            os.write(tell, os.getpid().to_bytes(4, "little"))
        signal.pause()
    copied = int.from_bytes(os.read(told, 4), "little")
    looks = []

    def wait(seconds: float) -> None:
        """The holder dies while somebody waits, who would fail here after a second vain look."""
        looks.append(seconds)
        assert looks == [0.01]
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)

    monkeypatch.setattr("reproduce.compute.device.time", SimpleNamespace(sleep=wait))
    try:
        with ExitStack() as held:
            assert take_slots(held, folder, CARDS[:1], 1, 1, 0.01) == [0]
        assert looks == [0.01]
    finally:
        os.kill(copied, signal.SIGKILL)


@pytest.mark.parametrize("kind", ["link", "file", "others may write", "another user's"])
def test_a_folder_of_locks_that_is_not_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Its name can be guessed, and anybody may make it."""
    place, theirs = tmp_path / "slots", tmp_path / "theirs"
    theirs.mkdir()
    if kind == "link":
        place.symlink_to(theirs)
    elif kind == "file":
        place.write_text("")
    else:
        place.mkdir()
    if kind == "others may write":
        place.chmod(0o777)
    if kind == "another user's":
        monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    with ExitStack() as held, pytest.raises(HarnessError, match="must be a folder of yours"):
        take_slots(held, place, CARDS, 1, 1)
    assert list(theirs.iterdir()) == []


def test_nobody_else_can_look_into_a_new_folder_of_locks(tmp_path: Path) -> None:
    with ExitStack() as held:
        take_slots(held, tmp_path / "slots", CARDS, 1, 1)
    assert (tmp_path / "slots").stat().st_mode & 0o777 == 0o700
