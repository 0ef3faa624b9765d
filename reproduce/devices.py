"""Which device a job computes on, and what is recorded about it."""

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from reproduce.config import Machine
from reproduce.distributed import ALONE, Group
from reproduce.errors import HarnessError

_POLL_SECONDS = 1.0
# pixels of the images that machine.eval_batch counts, CIFAR's, and the bytes that
# WideResNet-34-10 keeps of one for a gradient
_SIZE, _KEPT = 32, 22 * 2**20
_CPU_BATCH = 500


@contextmanager
def claimed(machine: Machine, group: Group = ALONE) -> Iterator[torch.device]:
    """Hold a device for the length of a job.

    ``cuda:K`` takes a free slot of that GPU and ``cuda`` one of any visible GPU,
    `machine.jobs_per_gpu` to each, and both wait while all are taken: that is how
    several GPU jobs of one machine spread over its GPUs.  Every process of a `group`
    has a GPU of its own; they are taken together, or none is held.

    Raises
    ------
    HarnessError
        If a GPU is asked for where there is none, or a group for more than there are.
    """
    prepare_process(machine)
    if machine.device == "cpu":
        yield torch.device("cpu")
        return
    allowed = _allowed(machine, group.count)
    with ExitStack() as held:
        # The first process takes the GPUs of all: processes that take one each, when they can,
        # may hold half of what two groups need and wait for the other half for ever.
        indices = group.awaited(lambda: _take(held, allowed, group.count, machine.jobs_per_gpu))
        device = torch.device("cuda", indices[group.rank])
        # events and pinned memory belong to the current one, whatever a tensor lies on
        torch.cuda.set_device(device)
        yield device


def _allowed(machine: Machine, wanted: int) -> list[int]:
    """Return the GPUs that `machine.device` names, by their numbers for this process."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise HarnessError(
            f"machine.device is {machine.device!r}, but PyTorch {torch.__version__} finds no GPU "
            "here; set machine.device=cpu to compute on the processor"
        )
    allowed = list(range(count))
    if machine.device != "cuda":
        named = int(machine.device.removeprefix("cuda:"))
        if named >= count:
            raise HarnessError(f"machine.device is {machine.device!r}, GPUs here: 0 to {count - 1}")
        allowed = [named]
    if wanted > len(allowed):
        raise HarnessError(
            f"{wanted} processes were started for {len(allowed)} GPU(s), machine.device is "
            f"{machine.device!r}"
        )
    return allowed


def prepare_process(machine: Machine) -> None:
    """Set the threads of this process, and let a GPU keep all bits of a float32.

    PyTorch's default allows TF32, with ten bits, in convolutions.
    """
    torch.set_num_threads(machine.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def _take(held: ExitStack, allowed: list[int], wanted: int, slots: int) -> list[int]:
    """Wait until as many GPUs as wanted have a free slot, hold those, and return the GPUs."""
    # Slurm gives each of its jobs cards of its own, and may number them from 0 in every one
    job = os.environ.get("SLURM_JOB_ID")
    name = f"reproduce-gpu-{os.getuid()}" + (f"-job-{job}" if job else "")
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        # one job looks at a time: two that saw each other's slots as taken would both go back
        with ExitStack() as tried, FileLock(folder / "choosing"):
            found = _free_slots(tried, folder, allowed, wanted, slots)
            if len(found) == wanted:
                held.enter_context(tried.pop_all())
                return found
        if not said:
            print(f"Waiting for {_free(wanted)} (locks in {folder})", flush=True)
            said = True
        time.sleep(_POLL_SECONDS)


def _free_slots(
    tried: ExitStack, folder: Path, allowed: list[int], wanted: int, slots: int
) -> list[int]:
    """Hold a slot of each of up to `wanted` GPUs, second slots after the first of every one."""
    # cards by the names that do not depend on what this process may see
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    cards = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    found: list[int] = []
    for slot, index in product(range(slots), allowed):
        if index in found or len(found) == wanted:
            continue
        card = cards[index].strip().replace("/", "-")  # a MIG slice has slashes
        lock = FileLock(folder / f"{card}-{slot}.lock")
        with suppress(Timeout):
            lock.acquire(timeout=0)
            tried.callback(lock.release)
            found.append(index)
    return found


def _free(wanted: int) -> str:
    return "a free GPU" if wanted == 1 else f"{wanted} GPUs that are free at once"


def describe(device: torch.device) -> dict[str, str | int]:
    """Say what a device is, for run.json and progress lines."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = round(properties.total_memory / 2**30)
        return {"device": "cuda", "name": properties.name, "memory_gib": memory}
    return {"device": "cpu", "name": _processor(), "threads": torch.get_num_threads()}


def images_at_once(machine: Machine, device: torch.device, size: int) -> int:
    """Return how many images go through a network at once in evaluation.

    Memory bounds it.  Networks for large images shrink them at the entrance, so what
    they keep for a gradient grows with the width of the images rather than their area:
    WideResNet-34-10 keeps 22 MiB an image of 32 pixels; ResNet-50 and Wide-ResNet-50-2
    keep 135 and 177 MiB an image of 288 pixels, of which nine times fewer go at once.

    Parameters
    ----------
    machine : Machine
        Its `eval_batch`, or null for what suits the device.
    device : torch.device
        Where the network is.
    size : int
        Height and width of the images, in pixels.

    Examples
    --------
    >>> machine, cpu = Machine(eval_batch=500), torch.device("cpu")
    >>> [images_at_once(machine, cpu, size) for size in (8, 32, 288)]
    [500, 500, 55]
    """
    most = machine.eval_batch or _suited(machine, device)
    return max(1, most * _SIZE // max(size, _SIZE))


def _suited(machine: Machine, device: torch.device) -> int:
    if device.type == "cpu":
        return _CPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    return max(1, memory // (2 * machine.jobs_per_gpu) // _KEPT)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
