"""How fast this machine trains: one network's step, on made-up images."""

import statistics
import time

import torch

from reproduce.compute.compilation import Graphs, wants_graphs
from reproduce.compute.device import default_dtype
from reproduce.config.schema import Machine
from reproduce.core.rng import generator
from reproduce.experiments.cost import step_passes
from reproduce.experiments.spec import TrainingSpec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts
from reproduce.training.step import build_recipe, train_step

# on a processor the batch is cut so that a step takes about this long
_STEP_SECONDS = 4.0
_STEPS = 3


def seconds_per_pass(machine: Machine, spec: TrainingSpec, device: torch.device) -> float:
    """Time uncompiled training steps and divide by their forward-pass equivalents.

    Returns
    -------
    float
        Seconds of one forward pass of one image, as the median of three steps
        after one that warms up.
    """
    with default_dtype(spec.train.precision):
        return _seconds_per_pass(machine, spec, device)


def _seconds_per_pass(machine: Machine, spec: TrainingSpec, device: torch.device) -> float:
    cell, facts = spec.parsed, dataset_facts(spec.parsed.dataset)
    passes = step_passes(spec, spec.train.epochs)
    model = build_model(cell.architecture, facts)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=spec.train.momentum)
    # any zeta: what a step costs does not depend on it
    recipe = build_recipe(spec, zeta=1.0)
    lam = torch.tensor(cell.lam, dtype=torch.float64, device=device)

    def step(batch: int) -> float:
        stream = generator(0, "measure", device=device)
        shape = (batch, facts.channels, facts.size, facts.size)
        images = torch.rand(shape, generator=stream, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, dtype=torch.int64, device=device)
        began = time.perf_counter()
        result = train_step(model, optimizer, recipe, images, labels, lam, stream, graphs=graphs)
        result.natural.item()  # waits for the device
        return time.perf_counter() - began

    batch = spec.train.phases[-1].batch_size if spec.train.phases else spec.train.batch_size
    graphs = Graphs(model, {batch}) if wants_graphs(machine, device) else None
    if device.type == "cpu":
        few = min(batch, 4)
        step(few)
        batch = max(few, min(batch, int(few * _STEP_SECONDS / step(few))))
    step(batch)
    return statistics.median(step(batch) for _ in range(_STEPS)) / (batch * passes)
