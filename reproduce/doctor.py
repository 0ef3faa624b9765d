"""Can this machine run the configuration: what is there, what works, and what to do about it."""

import os
import platform
import shutil
import subprocess
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
# a small network whose step is like those of the paper's
_ARCHITECTURE, _BATCH = "wrn-10-1", 16


@dataclass(frozen=True)
class Finding:
    """What one check found, what to do unless it is ok, and the seconds it took."""

    name: str
    verdict: Verdict
    text: str
    seconds: float = 0.0


Check = Callable[[Config], Iterator[tuple[Verdict, str]]]


def examine(config: Config) -> Iterator[Finding]:
    """Make every check, one after the other, and give what each found.

    A check that fails in a way of its own is an error finding; the others are made all the same.
    """
    for name, check in _CHECKS.items():
        began = time.monotonic()
        try:
            found = list(check(config))
        except HarnessError as error:
            found = [("error", str(error))]
        except Exception as error:  # noqa: BLE001  drivers, compilers and disks fail in their own ways
            found = [("error", named(error))]
        seconds = time.monotonic() - began
        for verdict, text in found:
            yield Finding(name, verdict, text, round(seconds, 3))


def _versions(_: Config) -> Iterator[tuple[Verdict, str]]:
    """Compare what is installed with what the package asks for."""
    yield "ok", f"Python {platform.python_version()}, PyTorch {torch.__version__}, {sys.platform}"
    for line in requires("reproduce") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield "error", f"{wanted.name} is not installed; pip install '{wanted}'"
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield "error", f"{wanted.name} is {found}, wanted is {wanted}; pip install '{wanted}'"


def _device(config: Config) -> Iterator[tuple[Verdict, str]]:
    device = _of(config)
    about = describe(device)
    if device.type == "cpu":
        threads = f"{config.machine.threads} thread(s) a job, {os.cpu_count()} cores"
        yield "ok", f"{about['name']}, {threads}"
        if torch.cuda.is_available():
            yield "warning", "there is a GPU here; machine.device=cuda computes on it"
        return
    free, total = torch.cuda.mem_get_info(device)
    gib = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    words = f"{about['name']}, driver {_driver()}, CUDA {torch.version.cuda}, {gib}"
    if free < total / 2:
        yield "warning", f"{words}; another process holds the rest, `nvidia-smi` names it"
    else:
        yield "ok", words
    batch = images_at_once(config.machine, device, 32)
    yield "ok", f"{batch} images at once in evaluation, {config.machine.jobs_per_gpu} job(s) a GPU"


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "unknown (no nvidia-smi)"
    return done.stdout.strip().partition("\n")[0] or "unknown"


def _precision(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Multiply in every precision, and measure how far the products are from float64."""
    device = _of(config)
    wanted = {training_spec(config, cell).train.precision for cell in planned_runs(config)}
    for name in sorted(wanted):
        error = product_error(name, device)
        real = effective_precision(name, device)
        # ten bits and eight, with room for a sum of 576 products
        limit = {"tf32": 2e-3, "bf16": 2e-2, "float64": 1e-12}.get(real, 1e-5)
        words = f"{name} computes in {real}, relative error of a convolution {error:.1e}"
        yield ("ok", words) if error < limit else ("error", f"{words}, expected below {limit:g}")


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


def _step(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Take a step of adversarial training in float32, and compare it with float64 on a CPU."""
    device = _of(config)
    exact = _taken(config, torch.device("cpu"), torch.float64, graphs=False)
    forms = {"kernel by kernel": False}
    if wants_graphs(config.machine, device):
        forms["as one CUDA graph"] = True
    for words, graphs in forms.items():
        found = _taken(config, device, torch.float32, graphs=graphs)
        error = float((found - exact).norm() / exact.norm())
        text = f"training step {words}: update {error:.1e} from float64"
        # an attack takes signs, which amplify a rounding (tests/test_training_step.py)
        if error > 0.05:
            yield "error", f"{text}, expected below 5e-2; do not train here"
        else:
            yield "ok", text


def _taken(config: Config, device: torch.device, dtype: torch.dtype, *, graphs: bool) -> Tensor:
    """Return the update of all weights by a step on made-up images."""
    algorithm, model, images, labels = _case(config, device, dtype)
    before = _flat(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lam = torch.tensor(1.0, dtype=torch.float64, device=device)
    recorded = Graphs(model, {len(images)}) if graphs else None
    stream = generator(0, "doctor", device=device)
    train_step(model, optimizer, algorithm, images, labels, lam, stream, graphs=recorded)
    return _flat(model) - before


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().cpu().flatten() for p in model.parameters()])


def _case(
    config: Config, device: torch.device, dtype: torch.dtype
) -> tuple[Algorithm, nn.Module, Tensor, Tensor]:
    """Return how a small network is trained, the network, and a batch."""
    facts = dataset_facts("cifar10")
    train = training_spec(config, Cell("cifar10", _ARCHITECTURE, "at", 1.0, 0)).train
    # no noise at the start: a GPU draws other numbers from the same seed
    attack = train.attack.model_copy(update={"start_sigma": 0.0, "steps": 10})
    algorithm = Algorithm(build_objective("adversarial_training", train), attack)
    model = build_model(_ARCHITECTURE, facts, 0)
    model.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    stream = generator(0, "doctor images")
    images = torch.rand(_BATCH, facts.channels, facts.size, facts.size, generator=stream)
    labels = torch.randint(facts.classes, (_BATCH,), generator=stream)
    images = images.to(device, dtype).contiguous(memory_format=torch.channels_last)
    return algorithm, model, images, labels.to(device)


def _attack(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Attack a batch in float32, and count the pixels that end elsewhere than in float64."""
    exact = _attacked(config, torch.device("cpu"), torch.float64)
    found = _attacked(config, _of(config), torch.float32)
    part = float(((found - exact).abs() > 1e-5).double().mean())
    text = f"PGD-10: {part:.2%} of the pixels end elsewhere than in float64"
    yield ("ok", text) if part < 0.05 else ("error", f"{text}, expected below 5%")


def _attacked(config: Config, device: torch.device, dtype: torch.dtype) -> Tensor:
    algorithm, model, images, labels = _case(config, device, dtype)
    attack = algorithm.attack
    sizes = {"epsilon": attack.epsilon, "step_size": attack.step_size, "steps": attack.steps}
    with frozen(model):
        found = pgd(model, images, cross_entropy(labels), images, **sizes)  # type: ignore[arg-type]
    return found.images.double().cpu()


def _compiler(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Compile a layer, unless the settings never compile."""
    if config.machine.compile == "never":
        yield "ok", "machine.compile=never: nothing is compiled"
        return
    device = _of(config)
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).to(device).eval()
    images = torch.rand(4, 3, 8, 8, device=device)
    began = time.monotonic()
    try:
        with torch.no_grad(), compiling():
            far = float((compiled(layer)(images) - layer(images)).abs().max())
    except HarnessError as error:
        kind: Verdict = "error" if config.machine.compile == "always" else "warning"
        yield kind, f"{error}; training is slower uncompiled"
        return
    seconds = time.monotonic() - began
    if far > 1e-4:
        yield "error", f"a compiled layer is off by {far:.1e}; set machine.compile=never"
    else:
        yield "ok", f"compiling works, {seconds:.0f} s for three layers"


def _data(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Look whether the images that the experiments need are there, and whole."""
    for name in sorted({cell.dataset for cell in planned_runs(config)}):
        path = paths.prepared_file(config, name)
        if path.exists():
            held = load_prepared(path)
            yield "ok", f"{name}: {len(held.train)} training and {len(held.test)} test images"
        else:
            hint = f"`reproduce prepare {name}` makes it, and so does Snakemake"
            yield "warning", f"{name}: {path} is not there yet; {hint}"


def _disk(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Compare the free bytes with what the experiments will write; lock and move a file."""
    root = paths.root(config)
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / ".doctor.lock", "this check"), TemporaryDirectory(dir=root) as folder:
        one = Path(folder) / "one"
        one.write_bytes(bytes(4096))
        one.replace(Path(folder) / "two")
    (root / ".doctor.lock").unlink(missing_ok=True)
    yield "ok", f"{root}: files can be written, moved and locked"
    names = experiment_names(config)
    # of several experiments that share runs, the largest: all of them take more
    needed = max((entry.size for entry in make_plan(config, names)), default=0)
    free = shutil.disk_usage(root).free
    words = f"{free / 1e9:,.1f} GB free, the largest experiment writes {needed / 1e9:,.1f} GB"
    if free < needed:
        yield "warning", f"{words}; set results to a folder on a larger disk"
    else:
        yield "ok", words


def _plan(config: Config) -> Iterator[tuple[Verdict, str]]:
    """Say by what speed `reproduce plan` and the time limits of jobs are computed."""
    stated = load_speeds(config).stated
    if "measured" in stated:
        yield "ok", f"plan computes with what was measured on {stated}"
    else:
        hint = "`reproduce plan --measure` takes this machine's"
        yield "warning", f"plan computes with {stated}; {hint}"


def _of(config: Config) -> torch.device:
    """Return the device of the settings, without waiting for a slot of a GPU."""
    prepare_process(config.machine)
    if config.machine.device == "cpu":
        return torch.device("cpu")
    index = allowed_gpus(config.machine, 1)[0]
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


_CHECKS: dict[str, Check] = {
    "versions": _versions,
    "device": _device,
    "precision": _precision,
    "step": _step,
    "attack": _attack,
    "compiler": _compiler,
    "data": _data,
    "disk": _disk,
    "plan": _plan,
}
