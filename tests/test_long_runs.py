"""Many epochs: memory, open files and threads stay as they are."""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_runs import quiet

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.training.train import train_cell

EPOCHS, FROM = 150, 50
# a row of the trace is a list of six numbers, a measured epoch a dictionary of seven
ROW = sys.getsizeof([0.0] * 6) + 6 * sys.getsizeof(0.5) + 8
MEASURED = sys.getsizeof(dict.fromkeys("abcdefg", 0.5)) + 7 * sys.getsizeof(0.5) + 8
# what an allocator keeps for itself
SLACK = 4 * 2**20


def _held() -> tuple[int, int, tuple[int, int, int]]:
    """Count objects of Python and bytes of memory; and bytes of a GPU, open files and threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    gc.collect()
    device = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    files, threads = (len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task"))
    return len(gc.get_objects()), pages * os.sysconf("SC_PAGE_SIZE"), (device, files, threads)


@pytest.mark.slow
def test_many_epochs_hold_no_more_than_fifty(tiny: Callable[..., Config], cell: Cell) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # a step an epoch; every one is measured, and the state is saved after it
    sets = (f"train.epochs={EPOCHS}", "train.batch_size=80", f"machine.device={device}")
    # what compiles keeps logs
    config = tiny(*sets, "machine.compile=never")
    samples, asked = {}, 0

    def look() -> None:
        """Be asked before the step of every epoch, and in its validation, for a reason to stop."""
        nonlocal asked
        asked += 1
        if asked % (3 * FROM) == 0:
            samples[asked // 3] = _held()

    train_cell(config, cell, quiet, look)
    (objects, host, others), (more, larger, same) = samples[FROM], samples[EPOCHS]
    # a row of the trace, and one of metrics
    assert more - objects < 2.5 * (EPOCHS - FROM)
    assert larger - host < (EPOCHS - FROM) * (ROW + MEASURED) + SLACK
    assert same == others
