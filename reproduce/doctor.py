"""Can this machine run the configuration: what is there, what works, and what to do about it."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from packaging.requirements import Requirement
from torch import Tensor, nn

from reproduce.attacks.pgd import cross_entropy, pgd
from reproduce.attacks.target import frozen
from reproduce.cell import Cell
from reproduce.compute.compilation import Graphs, compiled, compiling, wants_graphs
from reproduce.compute.device import (
    allowed_gpus,
    autocast,
    conv_precision,
    describe,
    effective_precision,
    images_at_once,
    prepare_process,
)
from reproduce.config.schema import Config, Precision
from reproduce.core.errors import HarnessError, named
from reproduce.core.files import exclusive
from reproduce.core.rng import generator
from reproduce.data.sources import load_prepared
from reproduce.experiments import paths
from reproduce.experiments.cost import load_speeds
from reproduce.experiments.grids import experiment_names, planned_runs
from reproduce.experiments.spec import training_spec
from reproduce.models.load import build_model
from reproduce.objectives import build_objective
from reproduce.registry import dataset_facts
from reproduce.results.status import plan as make_plan
from reproduce.training.step import Algorithm, train_step

Verdict = Literal["ok", "warning", "error"]
Found = Iterator[tuple[Verdict, str]]
# a small network whose step is like those of the paper's
_ARCHITECTURE, _BATCH = "wrn-10-1", 16


@dataclass(frozen=True)
class Finding:
    """What one check found, what to do unless it is ok, and the seconds it took."""

    name: str
    verdict: Verdict
    text: str
    seconds: float = 0.0


def examine(config: Config) -> Iterator[Finding]:
    """Make every check, one after the other; one that fails of itself is an error finding."""
    for name, check in _CHECKS.items():
        began = time.monotonic()
        try:
            found = list(check(config))
        except Exception as error:  # noqa: BLE001  drivers, compilers and disks fail in their own ways
            found = [("error", str(error) if isinstance(error, HarnessError) else named(error))]
        seconds = round(time.monotonic() - began, 3)
        for verdict, text in found:
            yield Finding(name, verdict, text, seconds)


def _of(config: Config) -> torch.device:
    """Return the device of the settings, without waiting for a slot of a GPU."""
    prepare_process(config.machine)
    if config.machine.device == "cpu":
        return torch.device("cpu")
    index = allowed_gpus(config.machine, 1)[0]
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _judged(good: bool, text: str, otherwise: str, bad: Verdict = "error") -> tuple[Verdict, str]:
    return ("ok", text) if good else (bad, f"{text}; {otherwise}")


def _versions(_: Config) -> Found:
    """Compare what is installed with what the package asks for."""
    yield "ok", f"Python {platform.python_version()}, PyTorch {torch.__version__}, {sys.platform}"
    for wanted in map(Requirement, requires("reproduce") or []):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not wanted.specifier.contains(found, prereleases=True):
            yield "error", f"{wanted.name} is {found}, wanted is {wanted}; pip install '{wanted}'"


def _device(config: Config) -> Found:
    machine, device = config.machine, _of(config)
    name = describe(device)["name"]
    if device.type == "cpu":
        text = f"{name}, {machine.threads} thread(s) a job, {os.cpu_count()} cores"
        idle = torch.cuda.is_available()
        yield _judged(not idle, text, "machine.device=cuda computes on the GPU here", "warning")
        return
    free, total = torch.cuda.mem_get_info(device)
    gib = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    hint = "another process holds the rest, `nvidia-smi` names it"
    yield _judged(free >= total / 2, f"{name}, CUDA {torch.version.cuda}, {gib}", hint, "warning")
    batch = images_at_once(machine, device, 32)
    yield "ok", f"{batch} images at once in evaluation, {machine.jobs_per_gpu} job(s) a GPU"


def _precision(config: Config) -> Found:
    """Multiply in every precision, and measure how far the products are from float64."""
    device = _of(config)
    for name in sorted({training_spec(config, c).train.precision for c in planned_runs(config)}):
        error, real = product_error(name, device), effective_precision(name, device)
        # ten bits and eight, with room for a sum of 576 products
        limit = {"tf32": 2e-3, "bf16": 2e-2, "float64": 1e-12}.get(real, 1e-5)
        text = f"{name} computes in {real}, relative error of a convolution {error:.1e}"
        yield _judged(error < limit, text, f"expected below {limit:g}")


def product_error(precision: Precision, device: torch.device) -> float:
    """Return how far a convolution in a precision is from float64, as a part of its norm."""
    stream = generator(0, "doctor")
    images = torch.randn(8, 64, 16, 16, generator=stream, dtype=torch.float64)
    weight = torch.randn(64, 64, 3, 3, generator=stream, dtype=torch.float64)
    exact = torch.nn.functional.conv2d(images, weight)
    dtype = torch.float64 if precision == "float64" else torch.float32
    with conv_precision(precision), autocast(precision, device), torch.no_grad():
        found = torch.nn.functional.conv2d(images.to(device, dtype), weight.to(device, dtype))
    return float((found.double().cpu() - exact).norm() / exact.norm())


def _step(config: Config) -> Found:
    """Attack a batch and train on it in float32, and compare both with float64 on a CPU."""
    device = _of(config)
    exact, moved = _attack_and_train(config, torch.device("cpu"), torch.float64)
    for graphs in (False, True) if wants_graphs(config.machine, device) else (False,):
        found, change = _attack_and_train(config, device, torch.float32, graphs=graphs)
        part = float(((found - exact).abs() > 1e-5).double().mean())
        error = float((change - moved).norm() / moved.norm())
        form = "as one CUDA graph" if graphs else "kernel by kernel"
        text = f"PGD-10: {part:.2%} of the pixels end elsewhere than in float64"
        yield _judged(part < 0.05, text, "expected below 5%")
        text = f"training step {form}: update {error:.1e} from float64"
        # an attack takes signs, which amplify a rounding (tests/test_training_step.py)
        yield _judged(error <= 0.05, text, "expected below 5e-2, do not train here")


def _attack_and_train(
    config: Config, device: torch.device, dtype: torch.dtype, *, graphs: bool = False
) -> tuple[Tensor, Tensor]:
    """Return made-up images after PGD, and the change of a small network's weights by a step."""
    facts = dataset_facts("cifar10")
    train = training_spec(config, Cell("cifar10", _ARCHITECTURE, "at", 1.0, 0)).train
    # no noise at the start: a GPU draws other numbers from the same seed
    attack = train.attack.model_copy(update={"start_sigma": 0.0, "steps": 10})
    model = build_model(_ARCHITECTURE, facts, 0)
    model.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stream = generator(0, "doctor images")
    images = torch.rand(_BATCH, facts.channels, facts.size, facts.size, generator=stream)
    images = images.to(device, dtype).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(facts.classes, (_BATCH,), generator=stream).to(device)
    sizes = {"epsilon": attack.epsilon, "step_size": attack.step_size, "steps": attack.steps}
    with frozen(model):
        found = pgd(model, images, cross_entropy(labels), images, **sizes)  # type: ignore[arg-type]
    before = [weight.detach().double().cpu().clone() for weight in model.parameters()]
    algorithm = Algorithm(build_objective("adversarial_training", train), attack)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lam = torch.tensor(1.0, dtype=torch.float64, device=device)
    recorded = Graphs(model, {len(images)}) if graphs else None
    stream = generator(0, "doctor", device=device)
    train_step(model, optimizer, algorithm, images, labels, lam, stream, graphs=recorded)
    moves = zip(model.parameters(), before, strict=True)
    change = [(weight.detach().double().cpu() - old).flatten() for weight, old in moves]
    return found.images.double().cpu(), torch.cat(change)


def _compiler(config: Config) -> Found:
    """Compile a layer, unless the settings never compile."""
    if config.machine.compile == "never":
        yield "ok", "machine.compile=never: nothing is compiled"
        return
    device = _of(config)
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).to(device).eval()
    images = torch.rand(4, 3, 8, 8, device=device)
    try:
        with torch.no_grad(), compiling():
            far = float((compiled(layer)(images) - layer(images)).abs().max())
    except HarnessError as error:
        kind: Verdict = "error" if config.machine.compile == "always" else "warning"
        yield kind, f"{error}; training is slower uncompiled"
    else:
        text = f"a compiled layer is off by {far:.1e}"
        yield _judged(far <= 1e-4, text, "set machine.compile=never")


def _data(config: Config) -> Found:
    """Look whether the images that the experiments need are there, and whole."""
    for name in sorted({cell.dataset for cell in planned_runs(config)}):
        path = paths.prepared_file(config, name)
        if path.exists():
            held = load_prepared(path)
            yield "ok", f"{name}: {len(held.train)} training and {len(held.test)} test images"
        else:
            hint = f"`reproduce prepare {name}` makes it, and so does Snakemake"
            yield "warning", f"{name}: {path} is not there yet; {hint}"


def _disk(config: Config) -> Found:
    """Compare the free bytes with what the experiments will write; lock and move a file."""
    root = paths.root(config)
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / ".doctor.lock", "this check"), TemporaryDirectory(dir=root) as folder:
        one = Path(folder) / "one"
        one.write_bytes(bytes(4096))
        one.replace(Path(folder) / "two")
    (root / ".doctor.lock").unlink(missing_ok=True)
    # of several experiments that share runs, the largest: all of them take more
    plans = make_plan(config, experiment_names(config))
    needed, free = max((p.size for p in plans), default=0), shutil.disk_usage(root).free
    text = f"{root}: {free / 1e9:,.1f} GB free, all experiments write {needed / 1e9:,.1f} GB"
    yield _judged(free >= needed, text, "set results to a folder on a larger disk", "warning")


def _plan(config: Config) -> Found:
    """Say by what speed `reproduce plan` and the time limits of jobs are computed."""
    stated = load_speeds(config).stated
    hint = "`reproduce plan --measure` takes this machine's"
    yield _judged("measured" in stated, f"plan computes with {stated}", hint, "warning")


_CHECKS: dict[str, Callable[[Config], Found]] = {
    "versions": _versions,
    "device": _device,
    "precision": _precision,
    "step": _step,
    "compiler": _compiler,
    "data": _data,
    "disk": _disk,
    "plan": _plan,
}
