"""Standard AutoAttack through the runner's parts against the plain package, on the same images."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks.parts import Batch, attack_parts
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.measured import spread
from reproduce.benchmarks.result import AutoAttackTime
from reproduce.benchmarks.timing import Pair, ratios, seconds_of
from reproduce.config.schema import AutoAttack, Config
from reproduce.core.errors import HarnessError
from reproduce.core.rng import own_random_numbers
from reproduce.data.dataset import stratified_subset
from reproduce.data.imagenet import open_store
from reproduce.data.sources import load_prepared
from reproduce.evaluation.predictions import attack_batch
from reproduce.experiments.paths import prepared_file
from reproduce.experiments.spec import AttackSpec, attack_spec
from reproduce.models.load import ModelSource
from reproduce.registry import dataset_facts

_ATTACK = "autoattack"
_SEED = 20


class AutoAttackOf(NamedTuple):
    """What to attack: a checkpoint, and how many images of a balanced subset."""

    weights: Path
    architecture: str
    dataset: str
    images: int


class _Run(NamedTuple):
    robust: Tensor
    seconds: float
    forward: int
    backward: int


class Counted(nn.Module):
    """A network as it is, with its passes counted in images.

    Parameters
    ----------
    model : torch.nn.Module
        Maps images to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, shape (B, classes)."""
        logits: Tensor = self.model(images)
        self.forward_passes += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


class Attacked(NamedTuple):
    """A checkpoint that can be read, and what it is attacked with."""

    source: ModelSource
    spec: AttackSpec
    batch: Batch


def open_attacked(config: Config, what: AutoAttackOf, device: torch.device) -> Attacked:
    """Read checkpoint, images and attack, before minutes are spent on anything else.

    Raises
    ------
    HarnessError
        If checkpoint or images cannot be read, or the configuration's attack is no
        standard AutoAttack.
    """
    source = ModelSource(what.dataset, what.architecture, what.weights)
    spec = _spec(config, what.dataset)
    source.load()
    return Attacked(source, spec, _batch(config, what, device))


def measure_autoattack(
    config: Config, what: Attacked, pairs: int, device: torch.device, budget: Budget
) -> AutoAttackTime:
    """Run both in turn, with the same batch, seed, and numbers of steps and queries.

    The plain package gets the network as its users pass it: in eval mode, its parameters
    as they are.  One pair runs whatever the budget says: it was asked for by name.
    """
    source, spec, batch = what
    facts = dataset_facts(source.dataset)
    # one batch is over before it is known whether it pays
    compiled = config.machine.compile == "always"
    runs: list[tuple[_Run, _Run]] = []
    while len(runs) < pairs:
        ours = _ours(source.load().to(device), batch, spec, facts.classes, compiled)
        runs.append((ours, _plain(source.load().to(device), batch, spec)))
        if len(runs) < pairs and sum(run.seconds for run in runs[-1]) > budget.left:
            budget.run_out(f"AutoAttack: {pairs - len(runs)} of {pairs} pairs")
            break
    ours, plain = runs[-1]
    return AutoAttackTime(
        images=len(batch.labels),
        compiled=compiled,
        robust=int(ours.robust.sum()),
        plain_robust=int(plain.robust.sum()),
        differing=int((ours.robust != plain.robust).sum()),
        ratio=ratios([Pair(mine.seconds, theirs.seconds) for mine, theirs in runs]),
        seconds=spread([mine.seconds for mine, _ in runs]),
        plain_seconds=spread([theirs.seconds for _, theirs in runs]),
        forward=ours.forward,
        backward=ours.backward,
        plain_forward=plain.forward,
        plain_backward=plain.backward,
    )


def _spec(config: Config, dataset: str) -> AttackSpec:
    spec = attack_spec(config, _ATTACK, 0, dataset)
    if not isinstance(spec.attack, AutoAttack) or spec.attack.version != "standard":
        raise HarnessError(f"eval.attacks.{_ATTACK} is {spec.attack.kind}, no standard AutoAttack")
    return spec.model_copy(update={"package": "pyautoattack"})


def _batch(config: Config, what: AutoAttackOf, device: torch.device) -> Batch:
    dataset = load_prepared(prepared_file(config, what.dataset))
    if not 1 <= what.images <= len(dataset.test):
        raise HarnessError(f"--images is {what.images}, there are 1 to {len(dataset.test)}")
    split = stratified_subset(dataset.test, what.images, "test")
    store = open_store(split, dataset.facts, device, config.machine.loaders)
    images, labels = store.plain(0, what.images)
    return Batch(images.contiguous(), labels, list(range(what.images)))


def _plain(model: nn.Module, batch: Batch, spec: AttackSpec) -> _Run:
    """Run the package's own standard evaluation."""
    from pyautoattack import AutoAttack as Package

    counted, device = Counted(model.eval()), batch.images.device
    attack = Package(counted, eps=spec.epsilon, seed=_SEED, version="standard", device=device)
    _limit(attack, spec)
    found: list[Tensor] = []

    def run() -> None:
        _, predicted = attack.run_standard_evaluation(
            batch.images, batch.labels, batch_size=len(batch.labels)
        )
        found.append(predicted)

    # the package seeds the global generators and leaves them so
    with own_random_numbers(device, _SEED):
        seconds = seconds_of(run, device)
    robust = found[0].to(device) == batch.labels
    return _Run(robust, seconds, counted.forward_passes, counted.backward_passes)


def _limit(attack: Any, spec: AttackSpec) -> None:
    """Give the package's runner the steps, targets and queries of the configuration."""
    settings = spec.attack
    if isinstance(settings, AutoAttack):
        for part in (attack.apgd, attack.apgd_targeted, attack.fab):
            part.n_iter = settings.steps
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = settings.targets
        attack.square.n_queries = settings.queries


def _ours(model: nn.Module, batch: Batch, spec: AttackSpec, classes: int, compiled: bool) -> _Run:
    """Run the parts as the runner does on a shard; compiling is a part of the seconds."""
    network = AttackedNetwork(model, classes, compiled=compiled)
    device, size = batch.images.device, len(batch.labels)
    parts = attack_parts(spec, network, classes, device, batch_size=size)
    found: dict[str, Tensor] = {}

    def run() -> None:
        found.update(attack_batch(network, batch, parts, spec.epsilon, _SEED))

    with frozen(model):
        seconds = seconds_of(run, device)
    robust = (found["clean"] == batch.labels) & (found["adversarial"] == batch.labels)
    return _Run(robust, seconds, network.passes.forward, network.passes.backward)
