"""Steps that are ready to be taken: ours, and the reference's, on made-up images."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from reproduce.benchmarks.measured import Case
from reproduce.benchmarks.references import REFERENCES, Constants, make_proxy, reference_step
from reproduce.benchmarks.settings import DATASET
from reproduce.cell import Cell
from reproduce.compute.compilation import Graphs, compiling
from reproduce.compute.device import products_in
from reproduce.config.schema import Config, Train
from reproduce.core.rng import generator
from reproduce.experiments.cost import step_passes
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts
from reproduce.training.step import (
    build_algorithm,
    build_optimizer,
    compiled_modules,
    plain_modules,
    train_step,
)

EPOCH_IMAGES = dataset_facts(DATASET).train
LAM = 6.0
# so small that made-up labels do the weights no harm
_IDLE_RATE = 1e-6

# takes one step on a batch of so many images
Step = Callable[[int], object]


def spec_of(config: Config, case: Case) -> TrainingSpec:
    """Return how the harness would train a case's network with the configuration."""
    return training_spec(config, Cell(DATASET, case.architecture, case.method, LAM, 0))


def our_passes(config: Config, case: Case) -> int:
    """Return the forward-pass equivalents of our step, an image."""
    spec = spec_of(config, case)
    return step_passes(spec, spec.train.epochs)


def reference_passes(config: Config, case: Case) -> int:
    """Return the forward-pass equivalents of the reference's step, an image."""
    return REFERENCES[case.method].passes(spec_of(config, case).train.attack.steps)


def our_step(config: Config, case: Case, device: torch.device) -> Step:
    """Build a network and what trains it; return what takes a step of the harness.

    This is the only place where the benchmarks know how a step is taken.
    """
    spec = spec_of(config, case)
    algorithm = replace(build_algorithm(spec, zeta=None), precision=case.precision)
    model = build_model(case.architecture, dataset_facts(DATASET))
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(model, _idle(spec.train))
    images, labels = _batch(case, device, torch.channels_last)
    lam = torch.tensor(LAM, dtype=torch.float64, device=device)
    calls = plain_modules(model, algorithm.objective)
    if case.form.startswith("compiled"):
        calls = compiled_modules(model, algorithm.objective, {case.batch})
    graphs = Graphs(model, {case.batch}) if case.form.endswith("graph") else None

    def step(batch: int) -> object:
        stream = generator(0, "benchmark", device=device)
        some = images[:batch], labels[:batch]
        with compiling():
            return train_step(model, optimizer, algorithm, *some, lam, stream, calls, graphs=graphs)

    return step


def their_step(config: Config, case: Case, device: torch.device) -> Step:
    """Build another network; return what takes a step of the reference formulation."""
    spec, reference = spec_of(config, case), REFERENCES[case.method]
    model = build_model(case.architecture, dataset_facts(DATASET)).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=_IDLE_RATE,
        momentum=spec.train.momentum,
        weight_decay=spec.train.weight_decay,
    )
    proxy = None if reference.proxy_loss is None else make_proxy(model)
    images, labels = _batch(case, device, torch.contiguous_format)
    attack = spec.train.attack
    constants = Constants(
        attack.epsilon, attack.step_size, attack.start_sigma, attack.steps, LAM, config.awp.gamma
    )

    def step(batch: int) -> object:
        stream = generator(0, "benchmark", device=device)
        low = torch.autocast(
            device.type,
            torch.bfloat16,
            enabled=case.precision == "bf16",
            # casts are kept where no weight is moved in between, as users of the code have it
            cache_enabled=proxy is None,
        )
        with products_in(case.precision), low:
            return reference_step(
                reference,
                model,
                optimizer,
                images[:batch],
                labels[:batch],
                constants,
                stream,
                proxy,
            )

    return step


def _idle(train: Train) -> Train:
    """Return the settings with the learning rate of a benchmark."""
    return train.model_copy(update={"learning_rate": _IDLE_RATE})


def _batch(case: Case, device: torch.device, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    facts = dataset_facts(DATASET)
    stream = generator(0, "benchmark images")
    shape = (case.batch, facts.channels, facts.size, facts.size)
    images = torch.rand(shape, generator=stream)
    labels = torch.randint(facts.classes, (case.batch,), generator=stream)
    return images.to(device).contiguous(memory_format=layout), labels.to(device)
