"""One process that attacks shards: the network, the images and the parts of the attack."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from reproduce.attacks import AttackedNetwork, Batch, Passes, attack_parts, frozen
from reproduce.config import Machine
from reproduce.costs import part_passes
from reproduce.data import load_prepared, open_store, stratified_subset
from reproduce.devices import describe, images_at_once
from reproduce.errors import HarnessError
from reproduce.evaluation.batch import attack_batch
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.shards import Shard, shard_file, write_shard
from reproduce.files import digest
from reproduce.models import ModelSource
from reproduce.precision import default_dtype
from reproduce.provenance import provenance
from reproduce.rng import derive
from reproduce.specs import AttackSpec


@dataclass(frozen=True)
class Job:
    """One evaluation, as every process that works on it gets it.

    Attributes
    ----------
    title : str
        What is evaluated, in words.
    spec : AttackSpec
        The attack.
    source : ModelSource
        The network.
    model_sha256, data_sha256 : str
        Checksums of the network and of the images.
    prepared : Path
        The prepared images.
    folder : Path
        Where shards are kept until the record is written.
    shard : int
        Images a shard.
    machine : Machine
        What to run on.
    """

    title: str
    spec: AttackSpec
    source: ModelSource
    model_sha256: str
    data_sha256: str
    prepared: Path
    folder: Path
    shard: int
    machine: Machine

    def made_for(self, number: int) -> str:
        """Fingerprint everything that decides what a shard holds."""
        return digest(
            [self.spec.digest, self.model_sha256, self.data_sha256, self.shard, number], 32
        )


class Worker:
    """Attacks shards of one job on one device.

    Parameters
    ----------
    job : Job
        What to do.
    device : torch.device
        Where.

    Raises
    ------
    HarnessError
        If the network or the images cannot be loaded.
    """

    def __init__(self, job: Job, device: torch.device) -> None:
        self.job, self.device = job, device
        dataset = load_prepared(job.prepared)
        crop = job.spec.crop
        self.facts = dataset.facts if crop is None else replace(dataset.facts, size=crop)
        test = stratified_subset(dataset.test, job.spec.images, "test")
        self.store = open_store(test, self.facts, device, job.machine.loaders)
        if job.source.fingerprint() != job.model_sha256:
            raise HarnessError(
                f"{job.title}: the source gives another network each time; save its weights and "
                "have it load them"
            )
        with default_dtype(job.spec.precision):
            self.model = job.source.load(self.facts).to(device)
        if job.spec.precision == "float64":
            self.model.double()  # code from elsewhere may choose its own
        self._at_once = at_once = images_at_once(job.machine, device, self.facts.size)
        self.network = AttackedNetwork(
            self.model,
            self.facts.classes,
            at_once,
            # code from elsewhere may take views that this layout does not have
            channels_last=job.source.ours,
        )
        self.parts = attack_parts(job.spec, self.network, self.facts.classes, device, at_once)

    def run(
        self,
        number: int,
        compiled: bool = False,
        report: Callable[[float, int], object] = lambda _done, _held: None,
    ) -> Shard:
        """Attack one shard and write its file.

        Parameters
        ----------
        number : int
            Which.
        compiled : bool
            Whether the network is taken compiled.
        report : callable
            Told after each part how many images' worth of work it was, and how many
            images of the shard still hold.
        """
        job, began = self.job, time.monotonic()
        self.network.use_compiled(compiled)
        first = number * job.shard
        seed = derive(job.spec.seed, f"{job.spec.name}/shard", number)
        costs = part_passes(job.spec.attack, self.facts.classes)
        with default_dtype(job.spec.precision), frozen(self.model):
            images, labels = self.store.plain(first, first + job.shard)
            batch = Batch(images, labels, self.store.indices[first : first + job.shard].tolist())
            warnings = []
            if not job.source.ours:
                self.network.check_gradient(images[:2])
            if number == 0:
                warnings = check_network(self.network, batch, job.spec, self.facts)
            self.network.passes = Passes()
            arrays = attack_batch(
                self.network,
                batch,
                self.parts,
                job.spec.epsilon,
                seed,
                lambda part, held: report(len(labels) * costs[part] / sum(costs.values()), held),
                precision=job.spec.precision,
                top5=self.facts.top5,
            )
        passes = self.network.passes
        about = {
            "seconds": round(time.monotonic() - began, 3),
            "forward": passes.forward,
            "backward": passes.backward,
            "warnings": warnings,
            "piece": {
                **describe(self.device),
                "compiled": self.network.compiled,
                "eval_batch": self._at_once,
                **provenance(),
                **_packages(job),
            },
        }
        shard = Shard({key: value.cpu().numpy() for key, value in arrays.items()}, about)
        write_shard(shard_file(job.folder, number), shard, job.made_for(number))
        return shard


def _packages(job: Job) -> dict[str, str]:
    """Say of which release the attack and the network's code are, if they are not ours."""
    names = [job.spec.package, None if job.source.zoo is None else "robustbench"]
    found = {}
    for name in names:
        if name is not None:
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # a copy on the path, not an installed release
                found[name] = "unknown"
    return found
