"""How far runs and evaluations are, told from files, logs and locks alone, and what is left."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY_CELL
from histories import finish
from made_up import write_made_up
from small_runs import EPOCHS, STEPS, quiet, stopped

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import CONTINUES
from reproduce.core.files import exclusive, read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, find_experiment
from reproduce.experiments.runs import read_rows
from reproduce.results.reader import record_path
from reproduce.results.status import failure, forecast, plan, status_frame
from reproduce.training.train import train_cell

ERROR = f"reproduce: {TINY_CELL}: the loss is NaN\n"
STOP = f"reproduce: {TINY_CELL}: stopped by SIGINT in epoch 2 of 3; {CONTINUES}\n"


def _row(config: Config) -> pd.Series:
    return status_frame(config, ["table1"]).set_index("name").loc[TINY_CELL]


def _log(config: Config, text: str) -> Path:
    path = paths.log_file(config, "train", TINY_CELL)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@contextmanager
def _at_work(config: Config, cell: Cell) -> Iterator[None]:
    with exclusive(paths.training_lock(paths.cell_folder(config, cell)), "test"):
        yield


def _attack(config: Config, item: Evaluation, **info: object) -> None:
    write_made_up(config, item, np.arange(10), np.arange(10) < 5, **info)


def test_from_waiting_to_done(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    assert _row(config)[["state", "text"]].tolist() == ["waiting", "not begun"]
    with _at_work(config, cell):
        begun = _row(config)
    assert begun[["state", "epoch"]].tolist() == ["running", 0]
    # after one step of the second epoch
    saved = stopped(config, cell, STEPS + 3)
    found = _row(config)
    assert found[["state", "text"]].tolist() == ["saved", "saved in epoch 2 of 3"]
    progress, iterations, rows, written = read_rows(saved)
    assert iterations == STEPS + progress["step"]
    assert found["epochs_done"] == pytest.approx(1 + progress["step"] / STEPS)
    for name, value in progress["epochs"][0].items():
        assert name not in found or name == "epoch" or found[name] == value
    loss = found[["natural_risk", "robust_regularization"]].tolist()
    assert loss == pytest.approx([rows[:, 1].mean(), rows[:, 2].mean()])
    assert found["seconds"] == pytest.approx(sum(one["seconds"] for one in progress["pieces"]))
    assert found["saved_at"] == written == saved.stat().st_mtime
    with _at_work(config, cell):
        pd.testing.assert_series_equal(_row(config), found.replace("saved", "running"))
    train_cell(config, cell, quiet)
    ended = _row(config)
    assert ended[["state", "text", "epochs_done"]].tolist() == ["done", "trained", EPOCHS]
    assert ended["hours"] == ended["hours_done"]
    assert ended["seconds"] == read_json(paths.run_file(saved.parent))["seconds"]
    other = _row(tiny("train.momentum=0.5"))
    assert other[["state", "text"]].tolist() == ["waiting", "was trained with other settings"]


def test_a_failed_run_is_told_from_a_stopped_one(tiny: Callable[..., Config], cell: Cell) -> None:
    config = tiny()
    log = _log(config, f"epoch 1/3\n{ERROR}")
    found = _row(config)
    assert found[["state", "reason"]].tolist() == ["failed", f"{TINY_CELL}: the loss is NaN"]
    # somebody is at it again
    with _at_work(config, cell):
        assert _row(config)["state"] == "running"
    # and got further than the run that failed: a part of an epoch, whose length is not known
    saved = stopped(config, cell, 1)
    os.utime(log, (saved.stat().st_mtime - 1,) * 2)
    assert _row(config)[["state", "epoch", "hours_done"]].tolist() == ["saved", 1, 0]
    assert np.isnan(_row(config)["epochs_done"])
    os.utime(log, (saved.stat().st_mtime + 1,) * 2)
    assert _row(config)["state"] == "failed"
    _log(config, f"epoch 1/3\n{STOP}")
    assert _row(config)["state"] == "saved"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("epoch 1/3 robust 40\n", None),
        ("torch.OutOfMemoryError: CUDA out of memory.\n", "torch.OutOfMemoryError"),
        ("reproduce: the disk is full\n[rank0] ends\n", "the disk is full"),
        ("x" * 20_000 + "\nreproduce: late\n", "late"),
        ("/a/b.py:3: UserWarning: old\n  warn()\n", None),
    ],
)
def test_the_end_of_a_log(tmp_path: Path, text: str, found: str | None) -> None:
    log = tmp_path / "a.log"
    assert failure(log) is None
    log.write_bytes(text.encode("latin-1"))
    said = failure(log)
    assert said is found is None or found in said


def test_damaged_files_are_shown_as_such(tiny: Callable[..., Config], cell: Cell) -> None:
    saved = stopped(tiny(), cell, 1)
    run = paths.run_file(saved.parent)
    for path in (saved, run):
        path.write_bytes(b'{"cut')
        found = _row(tiny())
        assert found["state"] == "damaged"
        assert str(path) in found["reason"]
        assert found["text"] == "damaged; `reproduce train` says what"
        path.unlink()


def test_what_is_left_of_the_paper(paper: Callable[..., Config]) -> None:
    """Runs took twice the planned hours, the one attack that was made a tenth of them."""
    config = paper()
    (planned,) = plan(config, ["table1"])
    frame = status_frame(config, ["table1"])
    first = forecast(frame)
    assert first.hours_left == pytest.approx(planned.hours_left) == frame["hours"].sum()
    assert (first.training, first.attacks, first.epochs_an_hour) == (None, None, None)
    assert frame["state"].tolist() == ["waiting"] * 198
    hours = frame.groupby(["kind", "model"])["hours"].sum()
    items = find_experiment(config, "table1").evaluations[:3]
    for item in items:
        finish(config, item, seconds=2 * 3600 * hours["run", item.cell.id])
    _attack(config, items[0], seconds=360 * hours["evaluation", items[0].cell.id])
    _attack(config, items[1], digest="of other settings")
    with exclusive(paths.evaluation_lock(record_path(config, items[2])), "test"):
        seen = status_frame(config, ["table1"])
    counts = seen.groupby("kind")["state"].value_counts().to_dict()
    assert counts == {
        ("run", "done"): 3,
        ("run", "waiting"): 96,
        ("evaluation", "done"): 1,
        ("evaluation", "running"): 1,
        ("evaluation", "waiting"): 97,
    }
    rest = forecast(seen)
    assert (rest.training, rest.attacks) == (pytest.approx(2), pytest.approx(0.1))
    training = hours["run"].sum() - sum(hours["run", item.cell.id] for item in items)
    attacking = hours["evaluation"].sum() - hours["evaluation", items[0].cell.id]
    assert rest.hours_left == pytest.approx(2 * training + 0.1 * attacking)
    assert rest.jobs == 1


def test_the_rate_is_of_the_runs_at_work() -> None:
    """Of two runs with a half and a quarter of their ten hours done, in 20 and 5 hours."""
    runs = {"kind": "run", "state": "running", "hours": 10.0, "imported": False}
    frame = pd.DataFrame(
        [
            {**runs, "epochs_done": 5.0, "hours_done": 5.0, "seconds": 20 * 3600.0},
            {**runs, "epochs_done": 2.5, "hours_done": 2.5, "seconds": 5 * 3600.0},
            # timed on other hardware
            {**runs, "state": "done", "hours_done": 10.0, "seconds": 1.0, "imported": True},
            {**runs, "kind": "evaluation", "state": "waiting", "hours_done": 0.0},
        ]
    )
    rest = forecast(frame)
    assert (rest.epochs_an_hour, rest.jobs) == (5 / 20 + 2.5 / 5, 2)
    # no attack was measured, so they go by training
    assert (rest.training, rest.attacks) == (25 / 7.5, None)
    assert rest.hours_left == pytest.approx(25 / 7.5 * (5 + 7.5 + 10))
    idle = forecast(frame.assign(state="saved"))
    assert (idle.epochs_an_hour, idle.jobs) == (None, 0)


def test_evaluations_fail_and_checkpoints_cannot_be_had(paper: Callable[..., Config]) -> None:
    config = paper()
    experiment = find_experiment(config, "table4")
    failed, absent, damaged = experiment.published[:3]
    ours = next(item for item in experiment.evaluations if item.checkpoint == "last")
    for job, folder in (
        ("evaluate-published", f"{failed.dataset}/{failed.name}"),
        ("evaluate-last", ours.cell),
    ):
        log = paths.log_file(config, job, f"{folder}/autoattack-seed0")
        log.parent.mkdir(parents=True)
        log.write_text("reproduce: the disk is full\n")
    outcomes = [paths.published_outcome(record_path(config, item)) for item in (absent, damaged)]
    write_json(outcomes[0], {"evaluated": False, "reason": "the host is down"})
    outcomes[1].parent.mkdir(parents=True)
    outcomes[1].write_text("no json")
    frame = status_frame(config, ["table4"])
    frame = frame[(frame["kind"] == "evaluation") & (frame["state"] != "waiting")]
    found = dict(zip(frame["name"], zip(frame["state"], frame["reason"], strict=True), strict=True))
    assert found == {
        f"{failed.name} autoattack-seed0": ("failed", "the disk is full"),
        f"{absent.name} autoattack-seed0": ("unavailable", "the host is down"),
        f"{ours.cell} (last) autoattack-seed0": ("failed", "the disk is full"),
    }


def test_the_log_of_an_evaluation_is_where_the_workflow_writes_it() -> None:
    rules = (ROOT / "workflow" / "rules" / "evaluate.smk").read_text()
    assert '"evaluate{choice}" / "{cell}" / "{attack}-seed{seed}.log"' in rules
