"""An attack on one block of images: what it needs, and how its parts follow each other."""

import time
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from reproduce.attacks.parts import Batch, Part, attack_parts
from reproduce.attacks.target import AttackedNetwork, Passes, frozen
from reproduce.compute.device import conv_precision, default_dtype, describe, images_at_once
from reproduce.config.schema import Machine
from reproduce.core.errors import HarnessError
from reproduce.core.provenance import provenance
from reproduce.core.rng import derive, own_random_numbers
from reproduce.data.dataset import stratified_subset
from reproduce.data.imagenet import open_store
from reproduce.data.sources import load_prepared
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.records import Record, as_stored
from reproduce.experiments.spec import AttackSpec
from reproduce.models.load import ModelSource

# rounding that the packaged attacks' projections may leave
_SLACK = 1e-6


@dataclass(frozen=True)
class Job:
    """One evaluation, as every process that works on it gets it."""

    spec: AttackSpec
    source: ModelSource
    model_sha256: str
    prepared: Path
    """The images."""
    shard: int
    """Number of images a shard: those attacked together."""
    machine: Machine


class Worker:
    """Attacks shards of one job on one device."""

    def __init__(self, job: Job, device: torch.device, compiled: bool = False) -> None:
        self.job, self.device, spec, source = job, device, job.spec, job.source
        dataset = load_prepared(job.prepared)
        size = spec.crop or dataset.facts.size
        self.facts = replace(dataset.facts, size=size)
        test = stratified_subset(dataset.test, spec.images, "test")
        self.store = open_store(test, self.facts, device, job.machine.loaders)
        if source.fingerprint() != job.model_sha256:
            raise HarnessError(
                f"{source.name}: the source gives another network each time; save its weights and "
                "have it load them"
            )
        with default_dtype(spec.precision):
            self.model = source.load(self.facts).to(device)
        if spec.precision == "float64":
            self.model.double()  # code from elsewhere may choose its own
        self.eval_batch = images_at_once(job.machine, device, size)
        self.network = AttackedNetwork(
            self.model,
            self.facts.classes,
            self.eval_batch,
            # code from elsewhere may take views that this layout does not have
            channels_last=source.ours,
            compiled=compiled,
        )
        self.parts = attack_parts(spec, self.network, self.facts.classes, device, self.eval_batch)

    def run(self, number: int) -> Record:
        """Attack one shard; `info` of the record says how that was done."""
        job, spec, began = self.job, self.job.spec, time.monotonic()
        first, last = number * job.shard, (number + 1) * job.shard
        with default_dtype(spec.precision), frozen(self.model):
            images, labels = self.store.plain(first, last)
            batch = Batch(images, labels, self.store.indices[first:last].tolist())
            if not job.source.ours:
                self.network.check_gradient(images[:2])
            warnings = []
            if number == 0:
                warnings = list(check_network(self.network, batch, spec, self.facts))
            self.network.passes = passes = Passes()
            arrays = attack_batch(
                self.network,
                batch,
                self.parts,
                spec.epsilon,
                derive(spec.seed, f"{spec.name}/shard", number),
                precision=spec.precision,
                top5=self.facts.top5,
            )
        packages: dict[str, str] = {}
        for name in filter(None, (spec.package, "robustbench" if job.source.zoo else None)):
            try:
                packages[name] = version(name)
            except PackageNotFoundError:  # a copy on the path, not an installed release
                packages[name] = "unknown"
        about = {
            "seconds": round(time.monotonic() - began, 3),
            "forward": passes.forward,
            "backward": passes.backward,
            "warnings": warnings,
            "piece": {
                **describe(self.device),
                "compiled": self.network.compiled,
                "eval_batch": self.eval_batch,
                **provenance(),
                **packages,
            },
        }
        stored = as_stored({key: value.cpu().numpy() for key, value in arrays.items()})
        return Record(**stored, info=about)


def attack_batch(
    network: AttackedNetwork,
    batch: Batch,
    parts: list[Part],
    epsilon: float,
    seed: int,
    *,
    precision: str = "float32",
    top5: bool = False,
) -> dict[str, Tensor]:
    """Run the parts of an attack one after the other, each on the images that still hold.

    `seed` is that of all random numbers but the starts of PGD, which are each image's own.  With
    `precision` "tf32" the parts search with products of ten bits; verdicts keep all.  Returns the
    arrays of a `Record`; HarnessError if a part leaves the ball of radius `epsilon`.
    """
    labels = batch.labels
    # the packaged attacks draw from the global generators, and so may a network
    with own_random_numbers(labels.device, seed):
        logits = network.logits(batch.images)
        clean = logits.argmax(1)
        adversarial = clean.clone()
        broken_by = torch.full_like(labels, -1)
        for position, part in enumerate(parts):
            alive = (clean == labels) & (broken_by < 0)
            rows = torch.arange(len(labels), device=labels.device)
            rows = rows if part.every_image else rows[alive]
            if not len(rows):
                continue
            members = batch.take(rows)
            with conv_precision(precision):
                found = part.run(members, seed)
            check_ball(part.name, members.images, found, epsilon)
            predicted = network.predict(found)
            wrong = predicted != members.labels
            broken_by[rows[wrong & alive[rows]]] = position
            moved = torch.ones_like(wrong) if part.every_image else wrong
            adversarial[rows[moved]] = predicted[moved]
    arrays = {
        "index": torch.tensor(batch.indices),
        "label": labels,
        "clean": clean,
        "adversarial": adversarial,
        "broken_by": broken_by,
    }
    return {**arrays, "top5": in_top5(logits, labels)} if top5 else arrays


def in_top5(logits: Tensor, labels: Tensor) -> Tensor:
    """Say which true classes are among the five most likely ones, bool of shape (B,)."""
    best = logits.topk(min(5, logits.shape[1])).indices
    return (best == labels[:, None]).any(1)


def check_ball(name: str, images: Tensor, found: Tensor, epsilon: float) -> None:
    """Refuse x' outside the l_inf ball around x or outside [0, 1]: it would count as an attack."""
    far = (found - images).abs().max().item()
    if not far <= epsilon + _SLACK or found.min() < 0 or found.max() > 1:
        raise HarnessError(
            f"{name} left the ball: perturbation up to {far:.6g} at epsilon {epsilon:.6g}, pixels "
            f"{found.min():.6g} to {found.max():.6g}"
        )
