"""An evaluation in shards: blocks of images, each attacked once and kept in a file."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reproduce.attacks.parts import Batch, attack_parts
from reproduce.attacks.target import AttackedNetwork, Passes, frozen
from reproduce.compute.compilation import wants_compiling
from reproduce.compute.device import (
    acquire_device,
    default_dtype,
    describe,
    images_at_once,
    prepare_process,
)
from reproduce.config.schema import Machine
from reproduce.core.errors import CONTINUES, HarnessError, Stopped
from reproduce.core.files import digest, read_npz
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import provenance
from reproduce.core.rng import derive
from reproduce.data.dataset import stratified_subset
from reproduce.data.imagenet import open_store
from reproduce.data.sources import load_prepared
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.predictions import attack_batch
from reproduce.evaluation.records import ARRAYS, OPTIONAL_ARRAYS, as_stored, write_arrays
from reproduce.experiments.cost import attack_passes, part_passes
from reproduce.experiments.spec import AttackSpec
from reproduce.models.load import ModelSource

# an attack's largest cost grows with the classes; of CIFAR-100
_MANY_CLASSES = 100


@dataclass(frozen=True)
class Shard:
    """What an attack did to one block of images: arrays of a `Record`, and how they were made."""

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.arrays["index"])

    @property
    def robust(self) -> int:
        """Number of images that held."""
        label = self.arrays["label"]
        held = (self.arrays["clean"] == label) & (self.arrays["adversarial"] == label)
        return int(held.sum())


def shard_file(folder: Path, number: int) -> Path:
    """Return the file of a shard."""
    return folder / f"{number:04}.npz"


def write_shard(path: Path, shard: Shard, made_for: str) -> None:
    """Write a shard; `made_for` is the fingerprint of `Job.made_for`."""
    about = json.dumps({**shard.about, "made_for": made_for}, allow_nan=False)
    write_arrays(path, {**as_stored(shard.arrays), "about": np.array(about)})


def read_shard(path: Path, made_for: str, images: int, say: Callable[[str], None]) -> Shard | None:
    """Read a shard of so many images; None, and a line of why, if there is none to use."""
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path, (*ARRAYS, *OPTIONAL_ARRAYS, "about"))
        about = json.loads(str(arrays.pop("about")))
    except (HarnessError, KeyError, ValueError) as error:
        say(f"shard {path} is damaged ({error}): attacking its images again")
        return None
    whole = arrays.keys() >= ARRAYS.keys() and all(a.shape == (images,) for a in arrays.values())
    if not whole or about.get("made_for") != made_for:
        say(f"shard {path} is of another network or other settings: attacking its images again")
        return None
    return Shard(arrays, about)


@dataclass(frozen=True)
class Job:
    """One evaluation, as every process that works on it gets it.

    `shard` is the number of images a shard, `folder` keeps shards until the record is written.
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

    @property
    def packages(self) -> dict[str, str]:
        """Releases of the packages that the attack and the network come from, if not ours."""
        names = [self.spec.package, None if self.source.zoo is None else "robustbench"]
        found = {}
        for name in filter(None, names):
            try:
                found[name] = version(name)
            except PackageNotFoundError:  # a copy on the path, not an installed release
                found[name] = "unknown"
        return found


class Worker:
    """Attacks shards of one job on one device."""

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

        `report` is called after each part of the attack with its share of the work, in images,
        and with the number of images that still hold.
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
                **job.packages,
            },
        }
        shard = Shard({key: value.cpu().numpy() for key, value in arrays.items()}, about)
        write_shard(shard_file(job.folder, number), shard, job.made_for(number))
        return shard


def run_shards(job: Job, images: int, say: Callable[[str], None]) -> list[Shard]:
    """Attack every image of a job, shard by shard, and return the shards in order.

    Whole shards in the job's folder are not computed again: after a kill at any moment
    the same call goes on.

    Raises
    ------
    Stopped
        If `machine.max_minutes` are over before all shards are done.
    HarnessError
        If the network or the images cannot be used, or a process of the pool died.
    """
    sizes = [min(job.shard, images - first) for first in range(0, images, job.shard)]
    shards: dict[int, Shard] = {}
    for number, size in enumerate(sizes):
        shard = read_shard(shard_file(job.folder, number), job.made_for(number), size, say)
        if shard is not None:
            shards[number] = shard
    missing = [number for number in range(len(sizes)) if number not in shards]
    if missing:
        done = sum(shard.images for shard in shards.values())
        if done:
            say(f"{job.title}: continuing after {done} of {images} images")
        with (
            ProgressBar(job.title, images, "images", done) as bar,
            acquire_device(job.machine) as device,
        ):
            run = _Run(job, images, device, bar)
            for shard in shards.values():
                run.count(shard)
            for number, shard in run.attack(missing, shards):
                shards[number] = shard
                run.count(shard)
                if len(sizes) > 1:
                    run.line()
    return [shards[number] for number in range(len(sizes))]


class _Run:
    """The shards that one call computes, and the robust accuracy so far beside the bar."""

    def __init__(self, job: Job, images: int, device: torch.device, bar: ProgressBar) -> None:
        self.job, self.images, self.device, self.bar = job, images, device, bar
        self.check_time = _clock(job)
        self.seen = self.robust = 0

    def count(self, shard: Shard) -> None:
        """Count a whole shard."""
        self.seen += shard.images
        self.robust += shard.robust
        self.bar.advance(0, self._note())

    def line(self) -> None:
        """Print a line that stays in a log."""
        title = self.job.title
        self.bar.line(f"{title}  {self.seen}/{self.images} images  {self._note()}")

    def _note(self) -> str:
        return f"robust {100 * self.robust / self.seen:.2f}"

    def attack(
        self, missing: list[int], shards: Mapping[int, Shard]
    ) -> Iterator[tuple[int, Shard]]:
        """Attack the missing shards; yield each, which then is in `shards`.

        The first shard runs uncompiled where compiling may pay off, and its passes decide
        for all others: so each shard is computed alike, whatever was stopped and by
        however many processes.
        """
        machine, compiled = self.job.machine, self.job.machine.compile == "always"
        at_most = self.images * attack_passes(self.job.spec.attack, _MANY_CLASSES)
        if machine.compile == "auto" and wants_compiling(machine, at_most):
            if 0 in missing:
                yield from self._here([0], compiled=False)
            first = shards[0]
            passes = first.about["forward"] + first.about["backward"]
            left = passes / first.images * (self.images - first.images)
            compiled = wants_compiling(machine, left)
            missing = [number for number in missing if number]
        in_pool = machine.processes > 1 and len(missing) > 1
        yield from (self._in_pool if in_pool else self._here)(missing, compiled)

    def _here(self, missing: list[int], compiled: bool) -> Iterator[tuple[int, Shard]]:
        """Attack shards one after the other in this process."""
        for number in missing:
            self.check_time()
            size = min(self.job.shard, self.images - number * self.job.shard)

            def report(done: float, held: int, size: int = size) -> None:
                robust = 100 * (self.robust + held) / (self.seen + size)
                self.bar.advance(done, f"robust {robust:.2f} so far")

            yield number, _worker(self.job, self.device).run(number, compiled, report)

    def _in_pool(self, missing: list[int], compiled: bool) -> Iterator[tuple[int, Shard]]:
        """Attack shards in several processes; no more wait in the pool than run."""
        machine = self.job.machine
        count = min(machine.processes, len(missing))
        context = multiprocessing.get_context("spawn")
        waiting = iter(missing)
        try:
            with ProcessPoolExecutor(count, context, _begin_process, (machine,)) as pool:

                def submit(numbers: Iterable[int]) -> set[Future[tuple[int, Shard]]]:
                    attack = partial(_attack, self.job, self.device, compiled)
                    return {pool.submit(attack, number) for number in numbers}

                running = submit(islice(waiting, count))
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        number, shard = future.result()
                        self.bar.advance(shard.images)
                        yield number, shard
                        self.check_time()
                        running |= submit(islice(waiting, 1))
        except BrokenProcessPool as error:
            raise HarnessError(
                f"{self.job.title}: a process was killed; the same command continues after the "
                "shards that are done"
            ) from error


def _begin_process(machine: Machine) -> None:
    """Let Ctrl-C end a process of the pool silently, and so the end of its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    prepare_process(machine)


def _attack(job: Job, device: torch.device, compiled: bool, number: int) -> tuple[int, Shard]:
    """Attack one shard in a process of the pool."""
    return number, _worker(job, device).run(number, compiled)


# the last worker of this process
_WORKERS: dict[Job, Worker] = {}


def _worker(job: Job, device: torch.device) -> Worker:
    """Return this process's worker for a job; the one before gives its memory back first."""
    if job not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[job] = Worker(job, device)
    return _WORKERS[job]


def _clock(job: Job) -> Callable[[], None]:
    """Return a check that raises `Stopped` once the minutes of a job are over."""
    minutes = job.machine.max_minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def check() -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise Stopped(
                f"{job.title}: stopped after {minutes:g} minutes, all finished shards are kept; "
                f"{CONTINUES}"
            )

    return check
