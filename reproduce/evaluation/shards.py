"""Shards: fixed blocks of the attacked images, each computed once and kept in a file."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
    claimed,
    default_dtype,
    describe,
    images_at_once,
    prepare_process,
)
from reproduce.config.schema import Machine
from reproduce.core.errors import CONTINUES, HarnessError, Stopped
from reproduce.core.files import digest, read_npz, write_atomically
from reproduce.core.progress import ProgressBar
from reproduce.core.provenance import provenance
from reproduce.core.rng import derive
from reproduce.data.dataset import stratified_subset
from reproduce.data.imagenet import open_store
from reproduce.data.sources import load_prepared
from reproduce.evaluation.checks import check_network
from reproduce.evaluation.predictions import attack_batch
from reproduce.experiments.cost import attack_passes, part_passes
from reproduce.experiments.spec import AttackSpec
from reproduce.models.load import ModelSource

ARRAYS = {
    "index": np.int32,
    "label": np.int16,
    "clean": np.int16,
    "adversarial": np.int16,
    "broken_by": np.int8,
}
# only of data sets with many classes
OPTIONAL_ARRAYS = {"top5": np.bool_}


@dataclass(frozen=True)
class Shard:
    """What an attack did to one block of images.

    Attributes
    ----------
    arrays : dict
        The arrays of a `Record`, for these images.
    about : dict
        How they were computed: seconds, passes, hardware, versions, warnings.
    """

    arrays: dict[str, NDArray[Any]]
    about: dict[str, Any]

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
    """Write a shard; `made_for` says what it may be used for."""
    about = json.dumps({**shard.about, "made_for": made_for}, allow_nan=False)
    kinds = ARRAYS | {k: kind for k, kind in OPTIONAL_ARRAYS.items() if k in shard.arrays}
    arrays = {key: shard.arrays[key].astype(kind) for key, kind in kinds.items()}

    def write(part: Path) -> None:
        with part.open("wb") as handle:
            np.savez_compressed(handle, allow_pickle=False, about=np.array(about), **arrays)

    write_atomically(path, write)


def read_shard(path: Path, made_for: str, images: int, say: Callable[[str], None]) -> Shard | None:
    """Read a shard; None if there is none that can be used.

    Parameters
    ----------
    path : Path
        Its file.
    made_for : str
        What it must have been made for.
    images : int
        How many images it must hold.
    say : callable
        Told why a shard that exists is computed again.
    """
    if not path.is_file():
        return None
    try:
        arrays = read_npz(path, (*ARRAYS, *OPTIONAL_ARRAYS, "about"))
        about = json.loads(str(arrays.pop("about")))
    except (HarnessError, KeyError, ValueError, RecursionError) as error:
        say(f"shard {path} is damaged ({error}): attacking its images again")
        return None
    whole = arrays.keys() >= ARRAYS.keys() and all(a.shape == (images,) for a in arrays.values())
    if not whole or not isinstance(about, dict) or about.get("made_for") != made_for:
        say(f"shard {path} is of another network or other settings: attacking its images again")
        return None
    return Shard(arrays, about)


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


# of CIFAR-100: what an attack may take at most grows with them
_MANY_CLASSES = 100
# the network and the images of the job that this process works on
_WORKERS: dict[Job, Worker] = {}


def run_shards(job: Job, images: int, say: Callable[[str], None]) -> list[Shard]:
    """Attack every image of a job, shard by shard, and return the shards in order.

    Shards that lie in the job's folder are taken as they are.  The process may be
    killed at any moment: called again, it goes on after the last whole shard.

    Parameters
    ----------
    job : Job
        What to do.
    images : int
        Number of images.
    say : callable
        Told what was found of an earlier run.

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
        path = shard_file(job.folder, number)
        shard = read_shard(path, job.made_for(number), size, say)
        if shard is not None:
            shards[number] = shard
    missing = [number for number in range(len(sizes)) if number not in shards]
    if missing:
        done = sum(sizes[number] for number in shards)
        if done:
            say(f"{job.title}: continuing after {done} of {images} images")
        with ProgressBar(job.title, images, "images", done) as bar, claimed(job.machine) as device:
            tally = _Tally(bar, job.title, images)
            for shard in shards.values():
                tally.add(shard)
            for number, shard in _attacked(job, missing, device, tally, shards):
                shards[number] = shard
                tally.add(shard)
                if len(sizes) > 1:
                    tally.line()
    return [shards[number] for number in range(len(sizes))]


class _Tally:
    """Robust accuracy so far, beside the progress bar."""

    def __init__(self, bar: ProgressBar, title: str, images: int) -> None:
        self.bar, self.title, self.images = bar, title, images
        self.seen = self.robust = 0

    def add(self, shard: Shard) -> None:
        """Count a whole shard."""
        self.seen += len(shard.arrays["index"])
        self.robust += shard.robust
        self.bar.advance(0, self._note())

    def part(self, done: float, held: int, size: int) -> None:
        """Count a part of an attack on a shard of which `held` of `size` images still hold."""
        robust = 100 * (self.robust + held) / (self.seen + size)
        self.bar.advance(done, f"robust {robust:.2f} so far")

    def line(self) -> None:
        """Print a line that stays in a log."""
        self.bar.line(f"{self.title}  {self.seen}/{self.images} images  {self._note()}")

    def _note(self) -> str:
        return f"robust {100 * self.robust / self.seen:.2f}"


def _attacked(
    job: Job,
    missing: list[int],
    device: torch.device,
    tally: _Tally,
    shards: Mapping[int, Shard],
) -> Iterator[tuple[int, Shard]]:
    """Attack the missing shards; give each, which then is in `shards`.

    How many images an attack leaves is not known before.  So where it may be worth to compile the
    network, the first shard is attacked uncompiled, and its passes decide for all others: each is
    computed in the same way whatever was stopped, and by however many processes.
    """
    machine, compiled, check_time = job.machine, job.machine.compile == "always", _clock(job)
    at_most = tally.images * attack_passes(job.spec.attack, _MANY_CLASSES)
    if machine.compile == "auto" and wants_compiling(machine, at_most):
        if 0 in missing:
            yield from _here(job, [0], device, tally, False, check_time)
        first = shards[0]
        size = len(first.arrays["index"])
        passes = first.about["forward"] + first.about["backward"]
        compiled = wants_compiling(machine, passes / size * (tally.images - size))
        missing = [number for number in missing if number]
    in_pool = machine.processes > 1 and len(missing) > 1
    yield from (_in_pool if in_pool else _here)(job, missing, device, tally, compiled, check_time)


def _here(
    job: Job,
    missing: list[int],
    device: torch.device,
    tally: _Tally,
    compiled: bool,
    check_time: Callable[[], None],
) -> Iterator[tuple[int, Shard]]:
    for number in missing:
        check_time()
        size = min(job.shard, tally.images - number * job.shard)
        report = partial(tally.part, size=size)
        yield number, _worker(job, device).run(number, compiled, report)


def _in_pool(
    job: Job,
    missing: list[int],
    device: torch.device,
    tally: _Tally,
    compiled: bool,
    check_time: Callable[[], None],
) -> Iterator[tuple[int, Shard]]:
    count = min(job.machine.processes, len(missing))
    context = multiprocessing.get_context("spawn")
    waiting, running = iter(missing), dict[Future[Shard], int]()
    try:
        with ProcessPoolExecutor(count, context, _begin_process, (job.machine,)) as pool:
            for number in islice(waiting, count):
                running[pool.submit(_attack, job, device, number, compiled)] = number
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    number, shard = running.pop(future), future.result()
                    tally.bar.advance(len(shard.arrays["index"]))
                    yield number, shard
                    check_time()
                    for following in islice(waiting, 1):
                        running[pool.submit(_attack, job, device, following, compiled)] = following
    except BrokenProcessPool as error:
        raise HarnessError(
            f"{job.title}: a process was killed; the same command continues after the shards that "
            "are done"
        ) from error


def _begin_process(machine: Machine) -> None:
    """Let Ctrl-C end a process of the pool without a word, and so the end of its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    prepare_process(machine)


def _attack(job: Job, device: torch.device, number: int, compiled: bool) -> Shard:
    """Attack one shard in a process of the pool."""
    return _worker(job, device).run(number, compiled)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _worker(job: Job, device: torch.device) -> Worker:
    """Return this process's worker for a job; only one is kept."""
    if job not in _WORKERS:
        _WORKERS.clear()
        _WORKERS[job] = Worker(job, device)
    return _WORKERS[job]


def _clock(job: Job) -> Callable[[], None]:
    """Return what raises `Stopped` once the minutes of a job are over."""
    minutes = job.machine.max_minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    def check() -> None:
        if deadline is not None and time.monotonic() >= deadline:
            raise Stopped(
                f"{job.title}: stopped after {minutes:g} minutes, all finished shards are kept; "
                f"{CONTINUES}"
            )

    return check
