"""Which device a job computes on, and what is recorded about it."""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from reproduce.config import Machine
from reproduce.distributed import ALONE, Group
from reproduce.errors import HarnessError

_POLL_SECONDS = 1.0


@contextmanager
def claimed(machine: Machine, group: Group = ALONE) -> Iterator[torch.device]:
    """Hold a device for the length of a job.

    ``cuda:K`` takes a free slot of that GPU and ``cuda`` one of any visible GPU,
    `machine.jobs_per_gpu` to each, and both wait while all are taken: that is how
    several GPU jobs of one machine spread over its GPUs.  Every process of a `group`
    takes a GPU of its own.

    Raises
    ------
    HarnessError
        If a GPU is asked for where there is none, or a group for more than there are.
    """
    prepare_process(machine)
    if machine.device == "cpu":
        yield torch.device("cpu")
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise HarnessError(
            f"machine.device is {machine.device!r}, but PyTorch {torch.__version__} finds no GPU "
            "here; set machine.device=cpu to compute on the processor"
        )
    if machine.device != "cuda":
        named = int(machine.device.removeprefix("cuda:"))
        if named >= count:
            raise HarnessError(f"machine.device is {machine.device!r}, GPUs here: 0 to {count - 1}")
        allowed = [named]
    else:
        allowed = list(range(count))
    if group.count > len(allowed):
        raise HarnessError(
            f"{group.count} processes were started for {len(allowed)} GPU(s), machine.device is "
            f"{machine.device!r}"
        )
    slots = machine.jobs_per_gpu if group.count == 1 else 1
    index, lock = _free_slot(allowed, count, slots)
    try:
        yield torch.device("cuda", index)
    finally:
        lock.release()


def prepare_process(machine: Machine) -> None:
    """Set the threads of this process, and let a GPU keep all bits of a float32.

    PyTorch's default allows TF32, with ten bits, in convolutions.
    """
    torch.set_num_threads(machine.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def _free_slot(allowed: list[int], count: int, slots: int) -> tuple[int, FileLock]:
    """Wait for a free slot; slots of one card are tried after the first of every card."""
    # cards by the names that do not depend on what this process may see
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    cards = visible.split(",") if visible else [str(index) for index in range(count)]
    folder = Path(tempfile.gettempdir()) / f"reproduce-gpu-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for slot in range(slots):
            for index in allowed:
                card = cards[index].strip().replace("/", "-")  # a MIG slice has slashes
                lock = FileLock(folder / f"{card}-{slot}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                return index, lock
        if not said:
            print(f"Waiting for a free GPU (locks in {folder})", flush=True)
            said = True
        time.sleep(_POLL_SECONDS)


def describe(device: torch.device) -> dict[str, str | int]:
    """Say what a device is, for run.json and progress lines."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = round(properties.total_memory / 2**30)
        return {"device": "cuda", "name": properties.name, "memory_gib": memory}
    return {"device": "cpu", "name": _processor(), "threads": torch.get_num_threads()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
