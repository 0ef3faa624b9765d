"""A thousand epochs: memory, open files and threads stay as they are, and logs are bounded.

Minutes long, so `python -m pytest -m slow` runs it, and nothing else does.
"""

import gc
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_runs import quiet

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.experiments import paths
from reproduce.experiments.history import read_epochs, read_trace
from reproduce.training.train import train_cell

EPOCHS, FROM = 1000, 100
# of a row of the trace: a list of six numbers, and its place among the rows
ROW = sys.getsizeof([0.0] * 6) + 6 * sys.getsizeof(0.5) + 8
# of a measured epoch: a dictionary of seven numbers, and its place
MEASURED = sys.getsizeof(dict.fromkeys("abcdefg", 0.5)) + 7 * sys.getsizeof(0.5) + 8
# what an allocator keeps for itself: no more after a thousand epochs than after a hundred
SLACK = 8 * 2**20


@dataclass(frozen=True)
class Held:
    """What this process holds: objects of Python, bytes of host and device, files, threads."""

    objects: int
    host: int
    device: int
    files: int
    threads: int


def _held() -> Held:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    gc.collect()
    return Held(
        len(gc.get_objects()),
        pages * os.sysconf("SC_PAGE_SIZE"),
        torch.cuda.memory_allocated() if torch.cuda.is_available() else 0,
        len(list(Path("/proc/self/fd").iterdir())),
        len(list(Path("/proc/self/task").iterdir())),
    )


@pytest.mark.slow
def test_a_thousand_epochs_hold_no_more_than_a_hundred(
    tiny: Callable[..., Config], cell: Cell, capfd: pytest.CaptureFixture[str]
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # a step an epoch; every one is measured, and the state is saved after it
    config = tiny(
        f"train.epochs={EPOCHS}",
        "train.batch_size=80",
        f"machine.device={device}",
        # what compiles keeps logs, and pytest those
        "machine.compile=never",
    )
    samples: dict[int, Held] = {}
    asked: list[None] = []

    def look() -> None:
        """Be asked before the step of every epoch, and in its validation, for a reason to stop."""
        asked.append(None)
        epochs = len(asked) // 3
        if epochs % FROM == 0 and epochs not in samples:
            samples[epochs] = _held()

    train_cell(config, cell, quiet, look)
    assert len(asked) == 3 * EPOCHS
    said = capfd.readouterr().err.splitlines()
    with capfd.disabled():
        print()
        for epochs, held in samples.items():
            print(f"after {epochs} epochs: {held.host / 2**20:.2f} MiB, {held}")
    first, last = samples[FROM], samples[EPOCHS]
    grown = (EPOCHS - FROM) * (ROW + MEASURED)
    # a row of the trace, and one of metrics
    assert last.objects - first.objects < 2.5 * (EPOCHS - FROM)
    assert last.host - first.host < grown + SLACK
    assert (last.device, last.files, last.threads) == (first.device, first.files, first.threads)
    assert threading.active_count() == 1
    # a line an epoch, whose length does not grow
    lines = [line for line in said if re.search(r"epoch \d+/1000", line)]
    assert len(lines) == len(said) == EPOCHS
    assert max(map(len, lines)) < 140
    folder = paths.cell_folder(config, cell)
    assert len(read_trace(paths.trace_file(folder), cell)) == EPOCHS
    assert len(read_epochs(paths.epochs_file(folder), cell, range(1, EPOCHS + 1))) == EPOCHS
