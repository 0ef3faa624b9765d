"""How fast a network trains here, and whether compiling it pays."""

import math
import statistics
import time

import torch

from reproduce.compute.compilation import Graphs, wants_compiling, wants_graphs
from reproduce.compute.device import default_dtype
from reproduce.compute.distributed import Group
from reproduce.config.schema import Machine
from reproduce.core.errors import HarnessError
from reproduce.core.rng import generator
from reproduce.experiments.cost import step_passes
from reproduce.experiments.spec import TrainingSpec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts
from reproduce.training.step import build_algorithm, train_step

# on a processor the batch is reduced so that a step takes about this long
_STEP_SECONDS = 4.0


def seconds_per_pass(machine: Machine, spec: TrainingSpec, device: torch.device) -> float:
    """Time uncompiled training steps on random images, in seconds a forward pass of one image."""
    cell, facts = spec.parsed, dataset_facts(spec.parsed.dataset)
    with default_dtype(spec.train.precision):
        model = build_model(cell.architecture, facts)
        model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=spec.train.momentum)
        # any zeta: what a step costs does not depend on it
        algorithm = build_algorithm(spec, zeta=1.0)
        lam = torch.tensor(cell.lam, dtype=torch.float64, device=device)
        size = spec.train.phases[-1].batch_size if spec.train.phases else spec.train.batch_size
        graphs = Graphs(model, {size}) if wants_graphs(machine, device) else None

        def step(batch: int) -> float:
            stream = generator(0, "measure", device=device)
            shape = (batch, facts.channels, facts.size, facts.size)
            images = torch.rand(shape, generator=stream, device=device)
            images = images.contiguous(memory_format=torch.channels_last)
            labels = torch.zeros(batch, dtype=torch.int64, device=device)
            began = time.perf_counter()
            result = train_step(
                model, optimizer, algorithm, images, labels, lam, stream, graphs=graphs
            )
            result.natural.item()  # waits for the device
            return time.perf_counter() - began

        if device.type == "cpu":
            few = min(size, 4)
            step(few)
            size = max(few, min(size, int(few * _STEP_SECONDS / step(few))))
        step(size)
        seconds = statistics.median(step(size) for _ in range(3))
    return seconds / (size * step_passes(spec, spec.train.epochs))


def training_compiles(
    machine: Machine, spec: TrainingSpec, passes: float, device: torch.device, group: Group
) -> bool:
    """Return whether a run that has so many forward passes left goes on compiled."""
    if group.count > 1:
        if machine.compile == "always":
            raise HarnessError(
                f"machine.compile is 'always', but {group.count} processes train {spec.cell} "
                "together, which is not done compiled; set auto or never"
            )
        return False
    seconds = 0.0
    if machine.compile == "auto" and device.type == "cuda":
        seconds = passes * seconds_per_pass(machine, spec, device)
        seconds = min(seconds, 60 * (machine.max_minutes or math.inf))
    return wants_compiling(machine, passes, seconds)
