"""Work that goes on under other circumstances: a clock set back, other threads or software."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faulty_work import SETS
from small_runs import never, quiet, record_of, results, stop_at, stopped

from reproduce.cell import Cell
from reproduce.compute.device import describe
from reproduce.config.schema import Config
from reproduce.core.provenance import provenance
from reproduce.evaluation.evaluate import evaluate_model
from reproduce.evaluation.shards import Worker
from reproduce.experiments import paths
from reproduce.experiments.runs import read_run
from reproduce.models.load import ModelSource
from reproduce.report.build import build_report
from reproduce.results.status import read_status, run_work
from reproduce.training.train import train_cell

OTHER = {"versions": {**provenance()["versions"], "torch": "9.9.0"}, "commit": "f" * 40}


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Compute with two threads, another PyTorch and another commit, as far as records can tell."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("training.pieces", "evaluation.worker"):
            patch.setattr(f"reproduce.{module}.provenance", lambda: OTHER)
            patch.setattr(
                f"reproduce.{module}.describe", lambda device: {**describe(device), "threads": 2}
            )
        yield


def test_a_run_continued_otherwise_says_and_records_it(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    """Other threads, more jobs on a GPU (so smaller batches in evaluation), other software."""
    config = tiny()
    with _elsewhere():
        stopped(tiny("machine.eval_batch=7"), cell, 4)
    said: list[str] = []
    train_cell(config, cell, said.append, never)
    ours, bits = provenance(), "the last bits round otherwise from here on"
    assert said[1:] == [
        f"{cell}: begun with 2 thread(s), now with 1 thread(s): {bits}",
        f"{cell}: begun with 7 images at once in evaluation, now with 500 images at once in "
        f"evaluation: {bits}",
        f"{cell}: begun with torch 9.9.0, now torch {ours['versions']['torch']}: {bits}",
        f"{cell}: begun by the code of commit {'f' * 40}, now of commit {ours['commit']}",
    ]
    run = json.loads(paths.run_file(paths.cell_folder(config, cell)).read_text())
    first, second = run["pieces"]
    assert [piece["threads"] for piece in (first, second)] == [2, 1]
    assert [piece["eval_batch"] for piece in (first, second)] == [7, 500]
    assert first["versions"]["torch"] == "9.9.0"
    assert (first["commit"], second["commit"]) == ("f" * 40, ours["commit"])


def test_a_run_continued_alike_says_nothing(tiny: Callable[..., Config], cell: Cell) -> None:
    stopped(tiny(), cell, 4)
    said: list[str] = []
    train_cell(tiny(), cell, said.append, never)
    assert len(said) == 1


def test_an_evaluation_continued_otherwise_says_and_records_it(
    tiny: Callable[..., Config], source: ModelSource
) -> None:
    config, run = tiny(*SETS), Worker.run

    def twice(worker: Worker, number: int, *rest: object) -> object:
        if number == 2:
            raise KeyboardInterrupt
        return run(worker, number, *rest)

    with _elsewhere(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "run", twice)
        with pytest.raises(KeyboardInterrupt):
            record_of(tiny(*SETS, "machine.eval_batch=9"), source, "square")
    said: list[str] = []
    record = evaluate_model(config, source, "square", 0, said.append)
    assert "continuing after 16 of 40 images" in said[0]
    assert [line.split(":")[1].split(",")[0] for line in said[1:5]] == [
        " begun with 2 thread(s)",
        " begun with 9 images at once in evaluation",
        " begun with torch 9.9.0",
        f" begun by the code of commit {'f' * 40}",
    ]
    assert [piece["threads"] for piece in record.info["pieces"]] == [2, 1]
    assert [piece["eval_batch"] for piece in record.info["pieces"]] == [9, 500]
    assert record.info["pieces"][0]["commit"] == "f" * 40


class _Clock:
    """A clock that is set back by a year each time it is looked at."""

    looks = 0

    @classmethod
    def now(cls, zone: object) -> datetime:
        cls.looks += 1
        return datetime.now(zone) - timedelta(days=365 * cls.looks)


def test_a_clock_that_is_set_back_changes_nothing(
    tiny: Callable[..., Config], cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces began in the wrong order; how long they took does not go by that clock."""
    config, whole = tiny(), tiny(f"results={tmp_path / 'whole'}")
    train_cell(whole, cell, quiet, never)
    real, back = time.time, iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: real() - 3600 * next(back))
    monkeypatch.setattr("reproduce.training.train.datetime", _Clock)
    for steps in (4, 3):
        state = stopped(config, cell, steps)
        # saved by a machine whose clock is a day ahead
        os.utime(state, (real() + 86400, real() + 86400))
    train_cell(config, cell, quiet, never)
    assert results(config, cell) == results(whole, cell)
    run = read_run(paths.cell_folder(config, cell))
    assert run is not None
    began = [datetime.fromisoformat(piece.began) for piece in run.pieces]
    assert len(began) == 3
    assert began == sorted(began, reverse=True)
    assert began[-1] < datetime.now(UTC) - timedelta(days=1000)
    assert all(0 <= piece.seconds < 60 for piece in run.pieces)
    assert run.seconds == pytest.approx(sum(piece.seconds for piece in run.pieces), abs=1e-3)
    # first and last by date, whatever their order
    build_report(config)


def test_a_failure_is_shown_though_the_clock_was_set_back(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    """An error in a log older than the saved state is of the past, unless that is to come."""
    config = tiny()
    state, work = stopped(config, cell, 4), run_work(config, cell)
    work.log.parent.mkdir(parents=True)
    work.log.write_text("reproduce: it went wrong\n")
    now = time.time()
    os.utime(work.log, (now - 60, now - 60))
    assert read_status(config, work).state == "saved"
    os.utime(state, (now + 3600, now + 3600))
    status = read_status(config, work)
    assert (status.state, status.error) == ("failed", "it went wrong")
    # a run that is stopped once more is as it was
    with pytest.raises(Exception, match="everything is saved"):
        train_cell(config, cell, quiet, stop_at(1))
    assert read_status(config, work).state == "saved"
