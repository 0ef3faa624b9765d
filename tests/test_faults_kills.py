"""Work that is killed or broken off at any moment ends as if undisturbed.

REPRODUCE_FAULTS=50 sends fifty signals to each kind of work; unless set, a few are enough to see
that it holds.
"""

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import FAULTS, Command, kill_at_random, start
from faulty_work import SETS, WORK, Work, contents, leftovers, same
from small_runs import never, quiet, record_of, stopped

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.files import read_json
from reproduce.evaluation.attack import Worker
from reproduce.evaluation.evaluate import evaluate_model
from reproduce.experiments import paths
from reproduce.models.load import ModelSource
from reproduce.training.train import train_cell


@pytest.mark.slow
@pytest.mark.parametrize("name", WORK)
def test_work_is_killed(work: Callable[..., Work], tmp_path: Path, name: str) -> None:
    # also within epochs
    done = work(name, "machine.save_minutes=0.001")
    expected = done.undisturbed(tmp_path / "log")

    def job() -> Callable[[], Command]:
        done.lay_out()
        return lambda: start(done.config, *done.words, log=tmp_path / "log")

    def check() -> None:
        same(contents(paths.root(done.config)), expected)
        assert leftovers(done.config) == []
        for path in paths.root(done.config).rglob("run.json"):
            about = read_json(path)
            seconds = [segment["seconds"] for segment in about["pieces"]]
            assert about["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
            assert min(seconds) >= 0

    count = FAULTS if name in ("train", "evaluate") else FAULTS // 3
    kill_at_random(job, check, count, seed=zlib.crc32(name.encode()))


def test_the_next_process_clears_what_a_killed_one_left(
    tiny: Callable[..., Config], cell: Cell
) -> None:
    """Killed when all was written, before its state was removed."""
    config = tiny()
    state = stopped(config, cell, 4)
    saved = state.read_bytes()
    train_cell(config, cell, quiet, never)
    state.write_bytes(saved)
    said: list[str] = []
    train_cell(config, cell, said.append, never)
    assert "already trained" in said[-1]
    assert leftovers(config) == []


def test_an_evaluation_continued_otherwise_says_and_records_it(
    tiny: Callable[..., Config], source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As test_training_faults.py for training."""
    run = Worker.run

    def twice(worker: Worker, number: int, *rest: object) -> object:
        if number == 2:
            raise KeyboardInterrupt
        return run(worker, number, *rest)

    monkeypatch.setattr(Worker, "run", twice)
    with pytest.raises(KeyboardInterrupt):
        record_of(tiny(*SETS, "machine.eval_batch=9"), source, "square")
    monkeypatch.undo()
    said: list[str] = []
    record = evaluate_model(tiny(*SETS), source, "square", 0, said.append)
    assert "continuing after 16 of 40 images" in said[0]
    assert "begun with eval_batch 9, now 500" in said[1]
    assert [segment["eval_batch"] for segment in record.info["pieces"]] == [9, 500]
