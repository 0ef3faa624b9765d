"""Standard AutoAttack through our evaluation beside the plain package, on the same images.

    python -m benchmarks.autoattack --weights wrn.safetensors --architecture wrn-34-10 --images 64

Both get the same batch, seed, steps, targets and queries, and run in turn.  The verdicts must be
equal, image by image.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.attacks.parts import Batch, attack_parts
from reproduce.attacks.target import AttackedNetwork, frozen
from reproduce.config.attacks import AutoAttack
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.rng import own_random_numbers
from reproduce.data.dataset import stratified_subset
from reproduce.data.imagenet import open_store
from reproduce.data.sources import load_prepared
from reproduce.evaluation.attack import attack_batch
from reproduce.experiments.paths import prepared_file
from reproduce.experiments.spec import AttackSpec, attack_spec
from reproduce.models.load import ModelSource
from reproduce.registry import dataset_facts

_SEED = 20


class Run(NamedTuple):
    """Which images held, the seconds, and the passes in images."""

    robust: Tensor
    seconds: float
    forward: int
    backward: int


class Counted(nn.Module):
    """A network that counts its passes in images."""

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


def run_ours(model: nn.Module, batch: Batch, spec: AttackSpec, classes: int, compiled: bool) -> Run:
    """Run the parts as an evaluation does on a shard; compiling counts."""
    network = AttackedNetwork(model, classes, compiled=compiled)
    device, size = batch.images.device, len(batch.labels)
    parts = attack_parts(spec, network, classes, device, batch_size=size)
    with frozen(model):
        began = _now(device)
        found = attack_batch(network, batch, parts, spec.epsilon, _SEED)
        seconds = _now(device) - began
    robust = (found["clean"] == batch.labels) & (found["adversarial"] == batch.labels)
    return Run(robust, seconds, network.passes.forward, network.passes.backward)


def run_package(model: nn.Module, batch: Batch, spec: AttackSpec) -> Run:
    """Run the package's standard evaluation; the network is passed as its users pass it."""
    from pyautoattack import AutoAttack as Package

    counted, device, settings = Counted(model.eval()), batch.images.device, spec.attack
    attack = Package(counted, eps=spec.epsilon, seed=_SEED, version="standard", device=device)
    if isinstance(settings, AutoAttack):
        for part in (attack.apgd, attack.apgd_targeted, attack.fab):
            part.n_iter = settings.steps
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = settings.targets
        attack.square.n_queries = settings.queries
    # the package seeds the global generators and leaves them so
    with own_random_numbers(device, _SEED):
        began = _now(device)
        _, predicted = attack.run_standard_evaluation(
            batch.images, batch.labels, batch_size=len(batch.labels)
        )
        seconds = _now(device) - began
    robust = predicted.to(device) == batch.labels
    return Run(robust, seconds, counted.forward_passes, counted.backward_passes)


def compare(
    config: Config, source: ModelSource, images: int, pairs: int, device: torch.device
) -> str:
    """Run both in turn; return one line on verdicts, seconds and passes."""
    facts = dataset_facts(source.dataset)
    spec = attack_spec(config, "autoattack", 0, source.dataset)
    spec = spec.model_copy(update={"package": "pyautoattack"})
    dataset = load_prepared(prepared_file(config, source.dataset))
    split = stratified_subset(dataset.test, images, "test")
    pixels, labels = open_store(split, facts, device, config.machine.loaders).plain(0, images)
    batch = Batch(pixels.contiguous(), labels, list(range(images)))
    compiled = config.machine.compile == "always"
    ours, plain = [], []
    for _ in range(pairs):
        ours.append(run_ours(source.load().to(device), batch, spec, facts.classes, compiled))
        plain.append(run_package(source.load().to(device), batch, spec))
    ratios = [theirs.seconds / mine.seconds for mine, theirs in zip(ours, plain, strict=True)]
    mine, theirs = ours[-1], plain[-1]
    differing = int((mine.robust != theirs.robust).sum())
    return (
        f"{images} images, {int(mine.robust.sum())} robust, {differing} verdicts differ; "
        f"package / ours {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}; {pairs}), ours {mine.seconds:.3g} s; "
        f"forward passes {mine.forward} and {theirs.forward}, "
        f"backward {mine.backward} and {theirs.backward}"
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def main(arguments: list[str] | None = None) -> None:
    """Compare on one checkpoint; settings of AutoAttack are those of the configuration."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--config", type=Path, help="config.yaml, for data and settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args(arguments)
    try:
        config = load_config(chosen.config or "{}", None, chosen.set)
        source = ModelSource(chosen.dataset, chosen.architecture, chosen.weights)
        device = torch.device(chosen.device)
        print(compare(config, source, chosen.images, chosen.pairs, device))
    except HarnessError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
