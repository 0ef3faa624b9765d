"""Groups of processes that wait for GPUs together, on a machine that seems to have some."""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from process_groups import start_two

from reproduce.compute.device import claimed
from reproduce.compute.distributed import Group
from reproduce.config.schema import Machine

# one process of a group that has two seconds for a step, and as long as it takes for GPUs
PROCESS = """
import datetime, os, sys, time, torch, types
from reproduce import distributed
from reproduce.config import Machine
from reproduce.devices import claimed
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda index: types.SimpleNamespace(uuid=f"card-{index}")
torch.cuda.set_device = lambda device: None
distributed._STEP = datetime.timedelta(seconds=2)
group = distributed.group_here()
print("ready", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
with distributed.joined(group, "cpu"):
    print("joined", flush=True)
    with claimed(Machine(device="cuda"), group) as device:
        print(f"GPU {device.index}", flush=True)
        group.wait()
"""


def _properties(index: int) -> SimpleNamespace:
    """Number the cards as this process sees them: the last two of four where it sees two."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1,2,3").split(",")
    return SimpleNamespace(uuid=f"card-{seen[index]}")


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Four GPUs, and the folder of their locks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", _properties)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / f"reproduce-gpu-{os.getuid()}"


@pytest.fixture
def first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first process of a group take the GPUs though there are no others to tell."""
    monkeypatch.setattr(Group, "awaited", lambda _, find: find())


def _is_free(folder: Path, name: str) -> bool:
    lock = FileLock(folder / name)
    try:
        with lock.acquire(timeout=0):
            return True
    except TimeoutError:
        return False


@pytest.mark.usefixtures("first_alone")
def test_a_group_takes_all_its_gpus_or_none(locks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, group = Machine(device="cuda"), Group(0, 3)
    waits = []

    def wait(_: float) -> None:
        waits.append([_is_free(locks, f"card-{card}-0.lock") for card in range(4)])
        assert len(waits) <= 2
        if len(waits) == 2:
            held.close()

    monkeypatch.setattr("reproduce.compute.device.time.sleep", wait)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(claimed(machine))
        with claimed(machine, group) as device:
            assert device.index == 0
            taken = [not _is_free(locks, f"card-{card}-0.lock") for card in range(4)]
            assert taken == [True, True, True, False]
    # while two others are used it held neither of those that were free
    assert waits == [[False, False, True, True]] * 2
    assert all(_is_free(locks, f"card-{card}-0.lock") for card in range(4))


@pytest.mark.usefixtures("first_alone", "locks")
def test_the_gpus_of_a_group_are_different_ones() -> None:
    """A card with two free slots is one card; but a group may share cards with other jobs."""
    machine = Machine(device="cuda", jobs_per_gpu=2)
    with claimed(machine) as alone:
        assert alone.index == 0
        indices = []
        for rank in range(4):
            with claimed(machine, Group(rank, 4)) as device:
                indices.append(device.index)
        assert sorted(indices) == [0, 1, 2, 3]


def test_a_card_is_known_by_itself_and_not_by_its_number(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scheduler shows each job its own cards, numbered from 0."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with claimed(Machine(device="cuda")) as device:
        assert device.index == 0
        taken = [not _is_free(locks, f"card-{card}-0.lock") for card in range(4)]
        assert taken == [False, False, True, False]
        # by another number it is taken all the same
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,2")
        with claimed(Machine(device="cuda")) as other:
            assert other.index == 0
            assert not _is_free(locks, "card-3-0.lock")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-GPU-7/1/0,MIG-GPU-7/2/0")
    with claimed(Machine(device="cuda:1")):
        assert not _is_free(locks, "MIG-GPU-7-2-0-0.lock")


def test_waiting_for_gpus_is_no_loss_and_a_loss_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / f"reproduce-gpu-{os.getuid()}"
    folder.mkdir()
    busy = FileLock(folder / "card-1-0.lock")
    busy.acquire()
    try:
        here = {"TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
        # imports take them longer or shorter than two seconds, so they begin on a sign
        begin = tmp_path / "begin"
        waiting, lost = (start_two("-c", PROCESS, str(begin), **here) for _ in range(2))
        for word in ("ready\n", "joined\n"):
            for process in (*waiting, *lost):
                assert process.stdout is not None
                assert process.stdout.readline() == word
            begin.touch()
        time.sleep(4)
        assert all(process.poll() is None for process in (*waiting, *lost))
        assert _is_free(folder, "card-0-0.lock")
        lost[0].send_signal(signal.SIGKILL)
        said, _ = lost[1].communicate(timeout=600)
        assert "LostProcessError: another of the processes that train this network was lost" in said
        lost[0].communicate()
    finally:
        busy.release()
    said = [process.communicate(timeout=600)[0].splitlines()[-1] for process in waiting]
    assert said == ["GPU 0", "GPU 1"]
