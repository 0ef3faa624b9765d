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
    """Hold a device for the length of a job.

    ``cuda:K`` takes a free slot of that GPU and ``cuda`` one of any visible GPU,
    `machine.jobs_per_gpu` to each, and both wait while all are taken: that is how
    several GPU jobs of one machine spread over its GPUs.  Every process of a `group`
    has a GPU of its own; they are taken together, or none is held.
    """
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
    """Set the threads of this process, and let a GPU keep all bits of a float32.

    PyTorch's default allows TF32, with ten bits, in convolutions; `conv_precision` allows it where
    the settings do.
    """
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
    allowed = list(range(count))
    if machine.device != "cuda":
        allowed = [int(machine.device.removeprefix("cuda:"))]
        if allowed[0] >= count:
            raise HarnessError(f"machine.device is {machine.device!r}, GPUs here: 0 to {count - 1}")
    if wanted > len(allowed):
        raise HarnessError(
            f"{wanted} processes were started for {len(allowed)} GPU(s), machine.device is "
            f"{machine.device!r}"
        )
    return allowed


def _card(index: int) -> str:
    """Return the name of a GPU that does not depend on what this process may see.

    Its number does: a scheduler numbers the GPUs of every job from 0, CUDA_DEVICE_ORDER
    orders them otherwise, and CUDA_VISIBLE_DEVICES may call the same one by number or UUID.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if index < len(visible) and visible[index].strip().startswith("MIG-"):
        # the card's UUID might be that of all its slices; older names have slashes
        return visible[index].strip().replace("/", "-")
    return str(torch.cuda.get_device_properties(index).uuid)


# --- slots: places for jobs on a GPU


def slots_folder() -> Path:
    """Make and return the folder of the locks of this user, the same for all jobs of a machine.

    Containers that share GPUs must share it: mount it, or set TMPDIR to a folder that is.
    """
    folder = Path(tempfile.gettempdir()) / f"reproduce-gpu-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        ours = not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    except OSError:  # a file, a link to nothing
        ours = False
    if not ours:
        raise HarnessError(
            f"{folder} holds the locks of GPUs and must be a folder of yours; remove it, or set "
            "TMPDIR to a folder of your own"
        )
    return folder


def take_slots(
    held: ExitStack, folder: Path, cards: Sequence[str], wanted: int, slots: int, poll: float = 1.0
) -> list[int]:
    """Wait until as many cards as wanted have a free slot each, and hold those until `held` closes.

    Cards go by names that are the same in every process, and have `slots` slots each.  None is
    held while there are fewer free ones than wanted.  The slots of a process that ends, however it
    ends, are free at once; whoever waits looks every `poll` seconds.  Returns places in `cards`.
    """
    waiting = False
    while True:
        # one job looks at a time: two that saw each other's slots as taken would both go back
        try:
            with ExitStack() as tried, lock_file(folder / "choosing"):
                found = _free_slots(tried, folder, cards, wanted, slots)
                if len(found) == wanted:
                    held.enter_context(tried.pop_all())
                    return found
        except OSError as error:
            raise HarnessError(
                f"{folder} cannot be locked: {error.strerror or error}; set TMPDIR to a folder on "
                "a disk that knows locks"
            ) from error
        if not waiting:
            free = "a free GPU" if wanted == 1 else f"{wanted} GPUs that are free at once"
            print(f"Waiting for {free} (locks in {folder})", flush=True)
            waiting = True
        time.sleep(poll)


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


def share_through_mps() -> None:
    """Have the jobs of this user compute on a GPU at the same time, through NVIDIA's MPS.

    Before the first use of CUDA in a process.  Whoever comes first starts the daemon; each job
    tries it in a process of its own, and where nothing can be computed through it (in some
    containers) jobs take turns as without it.  A daemon of the site is left alone, and so are
    Slurm's jobs, with whose first one it would end.  It runs until ``echo quit |
    nvidia-cuda-mps-control``, with CUDA_MPS_PIPE_DIRECTORY set to the folder mps of `slots_folder`.
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
    """Return how many images of `size` pixels go through a network at once in evaluation.

    Memory bounds it.  Networks for large images shrink them at the entrance, so what
    they keep for a gradient grows with the width of the images rather than their area:
    WideResNet-34-10 keeps 22 MiB an image of 32 pixels; ResNet-50 and Wide-ResNet-50-2
    keep 135 and 177 MiB an image of 288 pixels, of which nine times fewer go at once.
    """
    most = machine.eval_batch or _suited(machine, device)
    return max(1, most * _SIZE // max(size, _SIZE))


def _suited(machine: Machine, device: torch.device) -> int:
    if device.type == "cpu":
        return CPU_BATCH
    memory = torch.cuda.get_device_properties(device).total_memory
    fits = max(1, memory // (2 * machine.jobs_per_gpu) // KEPT_BYTES)
    # the same on cards of different size, so they round alike; 256 is a shard
    return next((size for size in _SIZES if size <= fits), fits)


# --- precision

# the first generation that has TF32, by its compute capability
_AMPERE = (8, 0)


def effective_precision(precision: Precision, device: torch.device) -> Precision:
    """Return what a device makes of a precision: where there is no TF32, it is float32."""
    has = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _AMPERE
    return "float32" if precision == "tf32" and not has else precision


@contextmanager
def conv_precision(precision: str) -> Iterator[None]:
    """Let a GPU round the factors in convolutions to TF32's ten bits, or keep it from that.

    Forward and backward.  The linear layer keeps all bits, as PyTorch has it by default.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cudnn.allow_tf32 = before


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return what a forward pass is made in: bf16 keeps activations in bfloat16.

    Weights, BatchNorm and the loss stay in float32.
    """
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=precision == "bf16",
        # weights that a perturbation has moved must be cast again
        cache_enabled=False,
    )


@contextmanager
def default_dtype(precision: str) -> Iterator[None]:
    """Let new tensors be of a precision: float64, or float32 for every other one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == "float64" else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
