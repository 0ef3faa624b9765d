"""An evaluation in shards: blocks of images, each attacked once and kept in a file."""

import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reproduce.compute.compilation import wants_compiling
from reproduce.compute.device import acquire_device, prepare_process
from reproduce.config.schema import Machine
from reproduce.core.errors import CONTINUES, HarnessError, Stopped
from reproduce.core.files import digest, read_npz
from reproduce.core.progress import ProgressBar
from reproduce.evaluation.attack import Job, Worker
from reproduce.evaluation.records import ARRAYS, Record, as_stored, has_arrays, write_arrays
from reproduce.experiments.cost import attack_passes
from reproduce.registry import dataset_facts


def write_shard(path: Path, shard: Record, made_for: str) -> None:
    """Write a shard; `made_for` is the fingerprint of everything that decides what it holds."""
    about = json.dumps({**shard.info, "made_for": made_for}, allow_nan=False)
    write_arrays(path, {**as_stored(vars(shard)), "about": np.array(about)})


def read_shard(path: Path, made_for: str, images: int, say: Callable[[str], None]) -> Record | None:
    """Read a shard of so many images; None, and a line, if there is none to use."""
    if not path.is_file():
        return None
    with suppress(HarnessError, KeyError, ValueError):
        arrays = read_npz(path, (*ARRAYS, "about"))
        about = json.loads(str(arrays.pop("about")))
        if has_arrays(arrays, images) and about.pop("made_for", None) == made_for:
            return Record(**arrays, info=about)
    say(f"shard {path} is damaged, or of another network or other settings: attacking again")
    return None


class _Shard(NamedTuple):
    number: int
    images: int
    path: Path
    made_for: str


def run_shards(
    job: Job, title: str, folder: Path, images: int, data: str, say: Callable[[str], None]
) -> list[Record]:
    """Attack the images of a job (of checksum `data`) by shards; whole ones in `folder` stay."""
    machine = job.machine
    deadline = time.monotonic() + 60 * (machine.max_minutes or math.inf)
    key = [job.spec.digest, job.model_sha256, data, job.shard]
    shards = [
        _Shard(n, min(job.shard, images - first), folder / f"{n:04}.npz", digest([*key, n], 32))
        for n, first in enumerate(range(0, images, job.shard))
    ]
    found: dict[int, Record] = {}
    for shard in shards:
        record = read_shard(shard.path, shard.made_for, shard.images, say)
        if record is not None:
            found[shard.number] = record
    missing = [shard for shard in shards if shard.number not in found]
    if not missing:
        return [found[shard.number] for shard in shards]
    done = images - sum(shard.images for shard in missing)
    if done:
        say(f"{title}: continuing after {done} of {images} images")
    # what is planned decides, so each shard is computed alike, whatever was stopped
    planned = images * attack_passes(job.spec.attack, dataset_facts(job.source.dataset).classes)
    compiled = wants_compiling(machine, planned)

    def keep(number: int, record: Record) -> None:
        found[number] = record
        held = np.concatenate([one.robust for one in found.values()])
        note = f"robust {100 * held.mean():.2f}"
        bar.advance(len(record.index), note)
        if len(shards) > 1:
            bar.line(f"{title}  {len(held)}/{images} images  {note}")
        if len(held) < images and time.monotonic() >= deadline:
            raise Stopped(
                f"{title}: stopped after {machine.max_minutes:g} minutes, all finished shards are "
                f"kept; {CONTINUES}"
            )

    with ProgressBar(title, images, "images", done) as bar, acquire_device(machine) as device:
        if min(machine.processes, len(missing)) == 1:
            worker = Worker(job, device, compiled)
            for shard in missing:
                keep(shard.number, _attack(worker, shard))
        else:
            _attack_in_pool(job, title, device, compiled, missing, keep)
    return [found[shard.number] for shard in shards]


def _attack(worker: Worker, shard: _Shard) -> Record:
    record = worker.run(shard.number)
    write_shard(shard.path, record, shard.made_for)
    return record


def _attack_in_pool(
    job: Job,
    title: str,
    device: torch.device,
    compiled: bool,
    missing: list[_Shard],
    keep: Callable[[int, Record], None],
) -> None:
    """Attack shards in several processes, and `keep` each as it is done."""
    count = min(job.machine.processes, len(missing))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _begin_process, (job.machine,))
    try:
        running = {
            pool.submit(_attack_in_process, job, device, compiled, shard): shard.number
            for shard in missing
        }
        for future in as_completed(running):
            keep(running[future], future.result())
    except BrokenProcessPool as error:
        raise HarnessError(
            f"{title}: a process was killed; the same command continues after the shards that are "
            "done"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# a process of the pool has one
_worker = cache(Worker)


def _attack_in_process(job: Job, device: torch.device, compiled: bool, shard: _Shard) -> Record:
    return _attack(_worker(job, device, compiled), shard)


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
