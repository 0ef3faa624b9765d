"""What a job computes on: a GPU, held by a lock for as long as the job lives, or the CPU."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path

import torch
from filelock import Timeout

from reproduce.compute.distributed import ALONE, Group
from reproduce.config.schema import Machine, Precision
from reproduce.core.errors import HarnessError
from reproduce.core.files import lock_file
from reproduce.experiments.cost import CPU_BATCH, KEPT_BYTES


@contextmanager
def acquire_device(machine: Machine, group: Group = ALONE) -> Iterator[torch.device]:
    """Hold a device for the length of a job, and wait for one while all are taken."""
    prepare_process(machine)
    if machine.device == "cpu":
        yield torch.device("cpu")
        return
    if machine.jobs_per_gpu > 1 and machine.mps == "auto":
        share_through_mps()
    allowed = allowed_gpus(machine, group.count)
    with ExitStack() as held:
        # The first process takes the GPUs of all: processes that take one each, when they can,
        # may hold half of what two groups need and wait for the other half for ever.
        taken: list[int] = []
        if group.first:
            cards = [_card(index) for index in allowed]
            taken = take_slots(held, slots_folder(), cards, group.count, machine.jobs_per_gpu)
        device = torch.device("cuda", allowed[group.from_first(taken)[group.rank]])
        # events and pinned memory belong to the current one, whatever a tensor lies on
        torch.cuda.set_device(device)
        yield device


def prepare_process(machine: Machine) -> None:
    """Set the threads of this process, and turn off TF32, which PyTorch allows in convolutions."""
    torch.set_num_threads(machine.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def allowed_gpus(machine: Machine, wanted: int) -> list[int]:
    """Return the GPUs that `machine.device` names, by their numbers for this process."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise HarnessError(
            f"machine.device is {machine.device!r}, but PyTorch {torch.__version__} finds no GPU "
            "here; set machine.device=cpu to compute on the processor"
        )
    _, named, number = machine.device.partition(":")
    allowed = [index for index in range(count) if not named or index == int(number)]
    if wanted > len(allowed):
        raise HarnessError(
            f"machine.device is {machine.device!r}, that is {len(allowed)} of {count} GPU(s) here, "
            f"for {wanted} process(es)"
        )
    return allowed


def _card(index: int) -> str:
    """Return the name of a GPU, which unlike its number is the same for every process."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if index < len(visible) and visible[index].strip().startswith("MIG-"):
        # the card's UUID might be that of all its slices; older names have slashes
        return visible[index].strip().replace("/", "-")
    return str(torch.cuda.get_device_properties(index).uuid)


# --- slots: places for jobs on a GPU


def slots_folder() -> Path:
    """Make and return the folder of this user's locks; containers that share GPUs must share it."""
    folder = Path(tempfile.gettempdir()) / f"reproduce-gpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise HarnessError(f"{folder} holds the locks of GPUs and is another user's; set TMPDIR")
    return folder


def take_slots(
    held: ExitStack, folder: Path, cards: Sequence[str], wanted: int, slots: int, poll: float = 1.0
) -> list[int]:
    """Wait for a free slot on each of as many cards as wanted; hold them until `held` closes.

    None is held while there are fewer than wanted.  Returns places in `cards`.
    """
    waiting = False
    while True:
        # one job looks at a time: two that saw each other's slots as taken would both go back
        with ExitStack() as tried, lock_file(folder / "choosing"):
            found: list[int] = []
            # second slots after the first of every card
            for slot, place in product(range(slots), range(len(cards))):
                if place not in found and len(found) < wanted:
                    lock = lock_file(folder / f"{cards[place]}-{slot}.lock")
                    with suppress(Timeout):
                        lock.acquire(timeout=0)
                        tried.callback(lock.release)
                        found.append(place)
            if len(found) == wanted:
                held.enter_context(tried.pop_all())
                return found
        if not waiting:
            print(f"Waiting for {wanted} free GPU(s), locks in {folder}", flush=True)
            waiting = True
        time.sleep(poll)


def share_through_mps() -> None:
    """Have jobs compute on a GPU at the same time, through NVIDIA's MPS, if that works here.

    Before the first use of CUDA in a process.  A daemon of the site is left alone, and so are
    Slurm's jobs, with whose first one it would end.
    """
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or {"CUDA_MPS_PIPE_DIRECTORY", "SLURM_JOB_ID"} & os.environ.keys():
        return
    folder = slots_folder() / "mps"
    folder.mkdir(mode=0o700, exist_ok=True)
    places = {"CUDA_MPS_PIPE_DIRECTORY": str(folder), "CUDA_MPS_LOG_DIRECTORY": str(folder)}
    # the daemon serves all GPUs, whichever this job may see
    every = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"} | places
    run = partial(subprocess.run, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    trial = "import torch; torch.ones(1, device='cuda').sum().item()"
    try:
        with lock_file(folder / "starting"):
            # of one that runs already it says so, with a status of its own
            run([control, "-d"], env=every)
            run([sys.executable, "-c", trial], env=os.environ | places, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"MPS in {folder} does not work here, jobs take turns on a GPU: {error}", flush=True)
        return
    os.environ.update(places)


# --- what a device is


def describe(device: torch.device) -> dict[str, str | int]:
    """Say what a device is, for run.json and progress lines."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = round(properties.total_memory / 2**30)
        return {"device": "cuda", "name": properties.name, "memory_gib": memory}
    return {"device": "cpu", "name": _processor(), "threads": torch.get_num_threads()}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# pixels of the images that machine.eval_batch counts, CIFAR's
_SIZE = 32
# images at once on a GPU, the first that fits: more make a step no faster
_SIZES = (1000, 500, 256, 128)


def images_at_once(machine: Machine, device: torch.device, size: int) -> int:
    """Return how many images of `size` pixels go through a network at once in evaluation."""
    if machine.eval_batch is not None:
        most = machine.eval_batch
    elif device.type == "cpu":
        most = CPU_BATCH
    else:
        memory = torch.cuda.get_device_properties(device).total_memory
        fits = max(1, memory // (2 * machine.jobs_per_gpu) // KEPT_BYTES)
        # the same on cards of different size, so they round alike; 256 is a shard
        most = next((one for one in _SIZES if one <= fits), fits)
    # networks for large images shrink them at the entrance, so what they keep for a gradient grows
    # with the width of the images rather than their area
    return max(1, most * _SIZE // max(size, _SIZE))


# --- precision

# the first generation that has TF32, by its compute capability
_AMPERE = (8, 0)


def effective_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what a device makes of a precision: where there is no TF32, it is float32."""
    has = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return "float32" if precision == "tf32" and not has else precision


@contextmanager
def conv_precision(precision: str) -> Iterator[None]:
    """Let a GPU round the factors in convolutions to TF32's ten bits, or keep it from that."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return what a forward pass is made in; bf16 leaves weights, BatchNorm and loss in float32."""
    # no cache: weights that a perturbation has moved must be cast again
    wanted = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted, cache_enabled=False)


@contextmanager
def default_dtype(precision: str) -> Iterator[None]:
    """Let new tensors be of a precision: float64, or float32 for every other one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
