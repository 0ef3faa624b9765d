"""All shards of one evaluation: in this process or in several, each shard once."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice

import torch

from reproduce.config import Machine
from reproduce.costs import attack_passes
from reproduce.devices import claimed, prepare_process
from reproduce.errors import CONTINUES, HarnessError, Stopped
from reproduce.evaluation.shards import Shard, read_shard, shard_file
from reproduce.evaluation.worker import Job, Worker
from reproduce.models import wants_compiling
from reproduce.progress import ProgressBar

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
