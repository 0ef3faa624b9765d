"""Our training step beside the published code's, timed in pairs.

    python -m benchmarks.steps --architectures wrn-34-1 --methods trades,at --pairs 5
    python -m benchmarks.steps --device cuda --forms eager,graph --precisions tf32,bf16

Both halves of a pair (A B A B) see nearly the same machine, so their ratio holds where seconds
drift.  Images are random, neither loading nor augmentation is timed, and the first steps, which
compile or choose kernels, warm up and are not counted.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.references import REFERENCES, Constants, reference_step
from reproduce.cell import Cell
from reproduce.compute.compilation import Graphs, compiling
from reproduce.compute.device import conv_precision, describe
from reproduce.config.load import load_config
from reproduce.config.schema import Config, Precision
from reproduce.core.provenance import provenance
from reproduce.core.rng import generator
from reproduce.experiments.cost import forward_operations, step_passes
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts
from reproduce.training.step import build_algorithm, build_optimizer, step_modules, train_step

_CIFAR = dataset_facts("cifar10")
_LAM = 6.0
_FORMS = ("eager", "compiled", "graph", "compiled-graph")
# so small that made-up labels do the weights no harm
_IDLE_RATE = 1e-6

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    architecture: str
    method: str
    precision: Precision
    form: str
    batch: int


@dataclass
class Timing:
    """Seconds of the steps of a case, pair by pair, and bytes of GPU memory at most."""

    case: Case
    ours: list[float]
    theirs: list[float]
    first: float
    passes: int
    their_passes: int
    gflops: float
    memory: int | None

    @property
    def ratios(self) -> list[float]:
        """The published step's seconds over ours, pair by pair."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]


def our_step(config: Config, case: Case, device: torch.device) -> Step:
    """Return a call that takes one step of ours."""
    spec = _spec(config, case)
    algorithm = replace(build_algorithm(spec, zeta=None), precision=case.precision)
    model = build_model(case.architecture, _CIFAR)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    idle = spec.train.model_copy(update={"learning_rate": _IDLE_RATE})
    optimizer = build_optimizer(model, idle)
    images, labels = _batch(case, device, torch.channels_last)
    lam = torch.tensor(_LAM, dtype=torch.float64, device=device)
    sizes = {case.batch} if case.form.startswith("compiled") else set()
    calls = step_modules(model, algorithm.objective, sizes)
    graphs = Graphs(model, {case.batch}) if case.form.endswith("graph") else None

    def step() -> object:
        stream = generator(0, "benchmark", device=device)
        with compiling():
            return train_step(
                model, optimizer, algorithm, images, labels, lam, stream, calls, graphs=graphs
            )

    return step


def their_step(config: Config, case: Case, device: torch.device) -> Step:
    """Return a call that takes one step of the published code."""
    train, reference = _spec(config, case).train, REFERENCES[case.method]
    model = build_model(case.architecture, _CIFAR).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=_IDLE_RATE, momentum=train.momentum, weight_decay=train.weight_decay
    )
    proxy = None if reference.proxy_loss is None else copy.deepcopy(model)
    images, labels = _batch(case, device, torch.contiguous_format)
    attack = train.attack
    constants = Constants(
        attack.epsilon, attack.step_size, attack.start_sigma, attack.steps, _LAM, config.awp.gamma
    )

    def step() -> object:
        stream = generator(0, "benchmark", device=device)
        low = torch.autocast(
            device.type,
            torch.bfloat16,
            enabled=case.precision == "bf16",
            # AWP moves the weights in between, so casts cannot be kept
            cache_enabled=proxy is None,
        )
        with conv_precision(case.precision), low:
            return reference_step(
                reference, model, optimizer, images, labels, constants, stream, proxy
            )

    return step


def measure(config: Config, case: Case, pairs: int, device: torch.device) -> Timing:
    """Warm both steps up, then time them in turn."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ours = our_step(config, case, device)
    first = _seconds(ours, device)
    for _ in range(2 if "compiled" in case.form else 0):
        ours()
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    theirs = their_step(config, case, device)
    theirs()
    timed = [(_seconds(ours, device), _seconds(theirs, device)) for _ in range(pairs)]
    spec = _spec(config, case)
    passes = step_passes(spec, spec.train.epochs)
    seconds = [mine for mine, _ in timed]
    operations = case.batch * passes * forward_operations(case.architecture, _CIFAR)
    return Timing(
        case,
        seconds,
        [other for _, other in timed],
        first,
        passes,
        REFERENCES[case.method].passes(spec.train.attack.steps),
        operations / statistics.median(seconds) / 1e9,
        memory,
    )


def row(timing: Timing) -> str:
    """Return the line of the table."""
    case, ratios = timing.case, timing.ratios
    what = f"{case.architecture} {case.method} {case.precision} {case.form} batch {case.batch}"
    memory = "" if timing.memory is None else f", {timing.memory / 2**30:.1f} GiB"
    return (
        f"{what}: ours {statistics.median(timing.ours):.3g} s, "
        f"theirs {statistics.median(timing.theirs):.3g} s, "
        f"theirs / ours {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}; {len(ratios)}), "
        f"by passes {timing.their_passes / timing.passes:.2f}, "
        f"{timing.gflops:.0f} GFLOP/s, first step {timing.first:.2g} s{memory}"
    )


def _spec(config: Config, case: Case) -> TrainingSpec:
    return training_spec(config, Cell("cifar10", case.architecture, case.method, _LAM, 0))


def _batch(case: Case, device: torch.device, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    stream = generator(0, "benchmark images")
    shape = (case.batch, _CIFAR.channels, _CIFAR.size, _CIFAR.size)
    images = torch.rand(shape, generator=stream)
    labels = torch.randint(_CIFAR.classes, (case.batch,), generator=stream)
    return images.to(device).contiguous(memory_format=layout), labels.to(device)


def _seconds(call: Step, device: torch.device) -> float:
    """Return the wall seconds of a call, until the device has done all of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def main(arguments: list[str] | None = None) -> None:
    """Time every combination of the options; write what was measured as JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def several(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("--methods", type=several, default=["trades", "at", "awp-trades", "mart"])
    parser.add_argument("--architectures", type=several, default=["wrn-34-1"])
    parser.add_argument("--precisions", type=several, default=["float32"])
    parser.add_argument("--forms", type=several, default=["eager"], help=", ".join(_FORMS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    for name, values, known in (
        ("--methods", chosen.methods, REFERENCES),
        ("--forms", chosen.forms, _FORMS),
    ):
        if unknown := set(values) - set(known):
            parser.error(f"{name}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    config, device = load_config("{}", "paper"), torch.device(chosen.device)
    about = describe(device)
    print(
        f"{about['name']}, torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True
    )
    timings = []
    for one in product(chosen.architectures, chosen.methods, chosen.precisions, chosen.forms):
        try:
            timings.append(measure(config, Case(*one, chosen.batch), chosen.pairs, device))
        except RuntimeError as error:  # out of memory, a kernel that the device lacks
            print(f"{' '.join(one)}: not measured, {error}", flush=True)
        else:
            print(row(timings[-1]), flush=True)
    if chosen.json is not None:
        found = {
            "device": about,
            "provenance": provenance(),
            "steps": [asdict(timing) for timing in timings],
        }
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
