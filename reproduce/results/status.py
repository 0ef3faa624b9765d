"""What experiments ask for, how far each part is by its files, locks and logs, and what is left."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import CONTINUES
from reproduce.core.files import is_held
from reproduce.evaluation.records import METRICS
from reproduce.experiments import paths
from reproduce.experiments.cost import (
    Speeds,
    epoch_hours,
    evaluation_bytes,
    evaluation_hours,
    load_speeds,
    training_bytes,
)
from reproduce.experiments.grids import Item, PublishedEvaluation, find_experiment
from reproduce.experiments.runs import SavedTrace, load_run
from reproduce.registry import dataset_facts
from reproduce.results.reader import find_record, record_path

# enough for the last lines of a job
_TAIL = 8192
# what the command prints last, or what Python does
_ENDS = re.compile(r"^(reproduce: .+|[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b(: .*)?)$")
# iterations that the shown loss is the mean of, as in the log of a run
_RECENT = 50
_TEXTS = ["kind", "model", "name", "state", "text", "reason"]
_LOSS = ["natural_risk", "robust_regularization"]
_NUMBERS = ["hours", "hours_done", "bytes", "seconds", "epoch", "epochs", "epochs_done"]
_NUMBERS += ["saved_at", *(f"test_{name}" for name in METRICS), *_LOSS]


def status_frame(
    config: Config, names: Sequence[str], speeds: Speeds | None = None
) -> pd.DataFrame:
    """Return a row for every training run (index `Cell`) and every evaluation of some experiments.

    A state is done, running, saved, failed, waiting, damaged or unavailable.  Of runs: the epoch,
    0 before the first state is saved, the last metrics and the loss of the last iterations.
    """
    speeds = load_speeds(config) if speeds is None else speeds
    experiments = [find_experiment(config, name) for name in names]
    cells = dict.fromkeys(cell for each in experiments for cell in each.cells)
    items = dict.fromkeys(item for each in experiments for item in each.items)
    rows: dict[Cell | Item, dict[str, Any]] = {c: _run_row(config, c, speeds) for c in cells}
    rows |= {item: _evaluation_row(config, item, speeds) for item in items}
    index, columns = pd.Index(list(rows), dtype=object), [*_TEXTS, "imported", *_NUMBERS]
    frame = pd.DataFrame(list(rows.values()), index=index, columns=columns)
    return frame.astype(dict.fromkeys(_NUMBERS, "float64") | {"imported": "bool"})


@dataclass(frozen=True)
class Plan:
    """Counts and costs of one experiment."""

    name: str
    cells: int
    trained: int
    evaluations: int
    evaluated: int
    # device hours in all and of what is not done, and bytes of the finished results
    hours: float
    hours_left: float
    size: int


def plan(config: Config, names: Sequence[str], speeds: Speeds | None = None) -> list[Plan]:
    """Plan experiments, and where there are several also their union as "all"."""
    frame = status_frame(config, names, speeds)
    experiments = [find_experiment(config, name) for name in names]
    parts = {each.name: frame.loc[[*each.cells, *each.items]] for each in experiments}
    if len(parts) > 1:
        parts["all"] = frame
    plans = []
    for name, rows in parts.items():
        done, is_run = rows["state"] == "done", rows["kind"] == "run"
        plans.append(
            Plan(
                name,
                cells=int(is_run.sum()),
                trained=int((is_run & done).sum()),
                evaluations=int((~is_run).sum()),
                evaluated=int((~is_run & done).sum()),
                hours=float(rows["hours"].sum()),
                hours_left=float(rows.loc[~done, "hours"].sum()),
                size=int(rows["bytes"].sum()),
            )
        )
    return plans


def _run_row(config: Config, cell: Cell, speeds: Speeds) -> dict[str, Any]:
    """Say how far a training run is."""
    run = load_run(config, cell, _RECENT)
    epochs, planned = run.spec.train.epochs, epoch_hours(run.spec, speeds)
    row: dict[str, Any] = {
        "kind": "run",
        "model": cell.id,
        "name": cell.id,
        "imported": run.info is not None and run.info.published is not None,
        "bytes": training_bytes(run.spec, dataset_facts(cell.dataset)),
        "hours": sum(planned),
        "hours_done": 0.0,
        "epoch": 0,
        "epochs": epochs,
        "epochs_done": 0.0,
    }
    if run.damaged:
        text = "damaged; `reproduce train` says what"
        return row | {"state": "damaged", "text": text, "reason": run.reason}
    if (info := run.finished) is not None:
        text = "trained" if info.published is None else f"imported from {info.published.name}"
        done = {"epoch": epochs, "epochs_done": epochs, "seconds": info.seconds}
        return row | {"state": "done", "text": text, "hours_done": row["hours"]} | done
    if run.saved is not None:
        row |= _progress(run.saved, epochs)
        text = f"saved in epoch {row['epoch']} of {epochs}"
        # of the last epoch a part
        whole, part = divmod(row["epochs_done"] or 0.0, 1)
        begun = planned[int(whole) : int(whole) + 1]
        row["hours_done"] = sum(planned[: int(whole)]) + part * sum(begun)
    else:
        text = "not begun" if run.info is None else str(run.reason).removeprefix(f"{cell} ")
    lock = paths.training_lock(run.folder)
    log = paths.log_file(config, "train", cell.id)
    idle = "waiting" if run.saved is None else "saved"
    return row | {"text": text} | _activity(lock, log, idle, row.get("saved_at", 0.0))


def _progress(saved: SavedTrace, epochs: int) -> dict[str, Any]:
    """Return what a saved state says of a run, as columns of its row."""
    progress = saved.progress
    epoch, step = progress["epoch"], progress["step"]
    before = saved.iterations - step
    # a part of the first epoch does not tell how long an epoch is
    part = 0.0 if step == 0 else (step * (epoch - 1) / before if before > 0 else None)
    recent = saved.rows[:, 1:3]
    return {
        **(progress["epochs"][-1] if progress["epochs"] else {}),
        **(dict(zip(_LOSS, recent.mean(axis=0), strict=True)) if len(recent) else {}),
        # after the last epoch the state is at one that there is not
        "epoch": min(epoch, epochs),
        "epochs_done": None if part is None else epoch - 1 + part,
        "seconds": float(sum(segment.get("seconds", 0.0) for segment in progress["pieces"])),
        "saved_at": saved.written,
    }


def _evaluation_row(config: Config, item: Item, speeds: Speeds) -> dict[str, Any]:
    """Say how far an evaluation is."""
    found, path = find_record(config, item), record_path(config, item)
    hours = evaluation_hours(config, item, speeds)
    label = f"{config.eval.label(item.attack)}-seed{item.seed}"
    if isinstance(item, PublishedEvaluation):
        note, job, folder = "", "evaluate-published", f"{item.dataset}/{item.name}"
    else:
        note = "" if item.checkpoint == "best-test" else f" ({item.checkpoint})"
        job, folder = f"evaluate{path.parent.name.removeprefix('records')}", item.cell.id
    row: dict[str, Any] = {
        "kind": "evaluation",
        "model": item.model,
        "name": f"{item.model}{note} {label}",
        "imported": found.run is not None and found.run.published is not None,
        "bytes": evaluation_bytes(item.spec(config), dataset_facts(item.dataset)),
        "hours": hours,
        "hours_done": 0.0,
    }
    if found.record is not None:
        return row | {"state": "done", "hours_done": hours, "seconds": found.record.about.seconds}
    log = paths.log_file(config, job, f"{folder}/{label}")
    row |= _activity(paths.evaluation_lock(path), log, "waiting")
    if row["state"] == "waiting" and found.status == "unavailable":
        row |= {"state": "unavailable", "reason": found.reason}
    return row


def _activity(lock: Path, log: Path, idle: str, since: float = 0.0) -> dict[str, Any]:
    """Say whether anybody works on what is not done, and what went wrong if not."""
    if is_held(lock):
        return {"state": "running"}
    error = failure(log, since)
    return {"state": idle} if error is None else {"state": "failed", "reason": error}


def failure(log: Path, since: float = 0.0) -> str | None:
    """Return the error that a job's log ends with; None if it has none, or was only stopped.

    Snakemake begins the log of a job anew, so an error in it is that of the last try.  A log
    that was written before `since`, when something was saved (seconds since 1970), says nothing.
    """
    if not log.is_file() or log.stat().st_mtime < since:
        return None
    text = log.read_bytes()[-_TAIL:].decode(errors="replace")
    for line in reversed(text.splitlines()):
        if _ENDS.match(line.strip()):
            found = line.strip().removeprefix("reproduce: ")
            return None if found.endswith(CONTINUES) else found
    return None


@dataclass(frozen=True)
class Forecast:
    """How long the rest of some experiments takes, by what is done of them."""

    # measured hours over planned ones, of what was done here; None while nothing is
    training: float | None
    attacks: float | None
    # of all running training runs together; None while none can be timed
    epochs_an_hour: float | None
    # planned hours of the rest, times those ratios
    hours_left: float
    # jobs at work
    jobs: int


def forecast(frame: pd.DataFrame) -> Forecast:
    """Estimate what is left of the experiments of a `status_frame`.

    Attacks go by the ratio of training until one is done, and both as planned until anything is.
    """
    running = frame["state"] == "running"
    # an imported run was timed on other hardware
    timed = (frame["seconds"] > 0) & (frame["hours_done"] > 0) & ~frame["imported"]
    totals = frame[timed].groupby("kind")[["seconds", "hours_done"]].sum()
    ratios = (totals["seconds"] / 3600 / totals["hours_done"]).to_dict()
    training, attacks = ratios.get("run"), ratios.get("evaluation")
    open_ones = frame[frame["state"] != "unavailable"]
    left = (open_ones["hours"] - open_ones["hours_done"]).groupby(open_ones["kind"]).sum()
    factor = 1.0 if training is None else training
    hours_left = factor * left.get("run", 0.0)
    hours_left += (factor if attacks is None else attacks) * left.get("evaluation", 0.0)
    at_work = frame[timed & running & (frame["kind"] == "run")]
    rate = float((3600 * at_work["epochs_done"] / at_work["seconds"]).sum())
    return Forecast(training, attacks, rate or None, float(hours_left), int(running.sum()))
