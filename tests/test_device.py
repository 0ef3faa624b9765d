"""GPUs that jobs share: slots, groups of processes, MPS; no GPU is needed."""

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
import torch
from filelock import FileLock, Timeout

from reproduce.compute import device as devices
from reproduce.compute.device import acquire_device, describe, take_slots
from reproduce.compute.distributed import Group
from reproduce.config.schema import Machine
from reproduce.core.errors import HarnessError

CARDS = ["card-0", "card-1"]
JOBS, KILLS = 4, 20


# --- slots, while processes that take them are killed


def _job(folder: Path, seed: int) -> None:
    """Take one or two cards again and again, and look whether somebody else has the same.

    The witness does not go by the locks that are tested: a lock of another kind on a file a card,
    which the system frees with its process.
    """
    drawn = random.Random(seed)
    # opened before any slot is taken: the system closes files in the order of their numbers,
    # so the witness of a killed process is gone before its slots are
    witnesses = [(folder / f"{card}.witness").open("r+b") for card in CARDS]
    counted = (folder / "holds").open("ab", buffering=0)
    while True:
        with ExitStack() as held:
            places = take_slots(held, folder, CARDS, drawn.randint(1, 2), 1, poll=0.001)
            for place in places:
                try:
                    fcntl.lockf(witnesses[place], fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    (folder / f"violation-{seed}").touch()
            counted.write(b".")
            time.sleep(drawn.uniform(0, 0.004))
            for place in places:
                fcntl.lockf(witnesses[place], fcntl.LOCK_UN)


def _start(folder: Path, seed: int) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=_job, args=(folder, seed))
    process.start()
    return process


@pytest.mark.slow
def test_never_two_on_one_slot_though_holders_are_killed(tmp_path: Path) -> None:
    for name in [*(f"{card}.witness" for card in CARDS), "holds"]:
        (tmp_path / name).touch()
    drawn = random.Random(20210)
    jobs = [_start(tmp_path, seed) for seed in range(JOBS)]
    try:
        for kill in range(KILLS):
            # the case says nothing unless slots are taken many times over
            while (tmp_path / "holds").stat().st_size < 5 * (kill + 1):
                time.sleep(0.001)
            time.sleep(drawn.uniform(0, 0.03))
            number = drawn.randrange(JOBS)
            jobs[number].kill()
            jobs[number].join()
            jobs[number] = _start(tmp_path, JOBS + kill)
    finally:
        for job in jobs:
            job.kill()
            job.join()
    assert list(tmp_path.glob("violation-*")) == []
    with ExitStack() as held:
        # whoever must wait fails: time.sleep takes no negative pause
        assert take_slots(held, tmp_path, CARDS, 2, 1, -1.0) == [0, 1]


def test_a_dead_holders_slot_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a copy of the holder lives on, as the processes do that decode images."""
    reading, writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        held = ExitStack()
        take_slots(held, tmp_path, CARDS[:1], 1, 1)
        if os.fork() == 0:
            # not before it is a process of its own, with what it took over closed
            os.write(writing, os.getpid().to_bytes(4, "little"))
        signal.pause()
    copied = int.from_bytes(os.read(reading, 4), "little")
    looks = []

    def wait(seconds: float) -> None:
        """The holder dies while somebody waits, who would fail here after a second vain look."""
        looks.append(seconds)
        assert looks == [0.01]
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)

    monkeypatch.setattr(devices, "time", SimpleNamespace(sleep=wait))
    try:
        with ExitStack() as held:
            assert take_slots(held, tmp_path, CARDS[:1], 1, 1, 0.01) == [0]
    finally:
        os.kill(copied, signal.SIGKILL)


# --- devices, on a machine that seems to have four GPUs


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Four GPUs, and the folder of their locks."""

    def properties(index: int) -> SimpleNamespace:
        """Number the cards as this process sees them: the last two of four where it sees two."""
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3").split(",")
        return SimpleNamespace(uuid=f"card-{seen[index]}")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / f"reproduce-gpu-{os.getuid()}"


def _is_free(folder: Path, name: str) -> bool:
    try:
        with FileLock(folder / name).acquire(timeout=0):
            return True
    except Timeout:
        return False


def _busy(folder: Path) -> list[int]:
    return [card for card in range(4) if not _is_free(folder, f"card-{card}-0.lock")]


@pytest.mark.usefixtures("locks")
def test_jobs_spread_over_gpus_and_then_share_them() -> None:
    machine = Machine(device="cuda", jobs_per_gpu=2, mps="never")
    with ExitStack() as held:
        indices = [held.enter_context(acquire_device(machine)).index for _ in range(6)]
        assert indices == [0, 1, 2, 3, 0, 1]
    with acquire_device(machine) as again:
        assert again.index == 0


@pytest.mark.usefixtures("locks")
@pytest.mark.parametrize(
    ("device", "processes", "message"),
    [
        ("cuda", 5, r"machine.device is 'cuda', that is 4 of 4 GPU\(s\) here, for 5"),
        ("cuda:4", 1, r"machine.device is 'cuda:4', that is 0 of 4 GPU\(s\) here, for 1"),
    ],
)
def test_gpus_that_are_not_there(device: str, processes: int, message: str) -> None:
    group = Group(0, processes)
    with pytest.raises(HarnessError, match=message), acquire_device(Machine(device=device), group):
        pass


@pytest.mark.usefixtures("locks")
def test_a_named_gpu_computes_in_full_float32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    with acquire_device(Machine(device="cuda:1")) as device:
        assert device == torch.device("cuda", 1)
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


def test_a_group_takes_all_its_gpus_or_none(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # there are no others to share with
    monkeypatch.setattr(Group, "from_first", lambda _, value: value)
    waits = []

    def wait(_: float) -> None:
        waits.append(_busy(locks))
        assert len(waits) <= 2
        if len(waits) == 2:
            held.close()

    monkeypatch.setattr(devices, "time", SimpleNamespace(sleep=wait))
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(acquire_device(Machine(device="cuda")))
        with acquire_device(Machine(device="cuda"), Group(0, 3)) as device:
            assert device.index == 0
            assert _busy(locks) == [0, 1, 2]
    # while two others are used it held neither of those that were free
    assert waits == [[0, 1]] * 2
    assert _busy(locks) == []


def test_the_gpus_of_a_group_are_different_ones(tmp_path: Path) -> None:
    """A card with two free slots is one card; but a group may share cards with other jobs."""
    with ExitStack() as held:
        assert take_slots(held, tmp_path, CARDS, 1, 2) == [0]
        assert sorted(take_slots(held, tmp_path, CARDS, 2, 2)) == [0, 1]


def test_a_card_is_known_by_itself_and_not_by_its_number(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler shows each job its own cards, numbered from 0."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with acquire_device(Machine(device="cuda")) as device:
        assert device.index == 0
        assert _busy(locks) == [2]
        # by another number it is held all the same
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
        with acquire_device(Machine(device="cuda")) as other:
            assert other.index == 0
            assert _busy(locks) == [2, 3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-7/1/0,MIG-GPU-7/2/0")
    with acquire_device(Machine(device="cuda:1")):
        assert not _is_free(locks, "MIG-GPU-7-2-0-0.lock")


def test_threads_are_the_configured() -> None:
    with acquire_device(Machine(device="cpu", threads=1)) as device:
        about = describe(device)
    assert (about["device"], about["threads"]) == ("cpu", 1)
    assert about["name"]


# --- MPS: a made-up daemon notes what is asked of it


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A control program that notes its start; the second one fails, as the real one's."""
    note = tmp_path / "note"
    program = tmp_path / "nvidia-cuda-mps-control"
    program.write_text(
        f'#!/bin/sh\n[ -e {note} ] && exit 1\necho "sees ${{CUDA_VISIBLE_DEVICES:-all}}" > {note}\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    for name in ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    return note


@pytest.mark.parametrize("works", [True, False])
def test_the_first_job_starts_the_daemon(
    daemon: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, works: bool
) -> None:
    """For all GPUs, whichever the job may see; where it does not work jobs take turns."""
    run = devices.subprocess.run

    def instead(command: list[str], **options: object) -> object:
        """Compute something else through the daemon: there is no GPU to compute on."""
        code = "" if works else "raise SystemExit(1)"
        return run([*command[:2], code] if "-c" in command else command, **options)

    monkeypatch.setattr(devices.subprocess, "run", instead)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for _ in range(2):
        devices.share_through_mps()
        expected = str(devices.slots_folder() / "mps") if works else None
        assert os.environ.pop("CUDA_MPS_PIPE_DIRECTORY", None) == expected
    assert daemon.read_text() == "sees all\n"
    assert ("does not work here, jobs take turns" in capsys.readouterr().out) is not works


@pytest.mark.parametrize("name", ["CUDA_MPS_PIPE_DIRECTORY", "SLURM_JOB_ID"])
def test_a_daemon_of_the_site_is_left_alone(
    daemon: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    devices.share_through_mps()
    assert not daemon.exists()
    assert os.environ[name] == "7"
