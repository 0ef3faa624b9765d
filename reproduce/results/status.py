"""How far experiments are, from their files, locks and logs alone, and what is left of them."""

import os
import re
import time
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
from reproduce.experiments.grids import PublishedEvaluation, find_experiment
from reproduce.experiments.runs import SavedTrace, find_run
from reproduce.experiments.spec import training_spec
from reproduce.results.plan import epoch_hours, evaluation_hours, load_speeds
from reproduce.results.reader import Item, find_record, record_path

# enough for the last words of a job
_TAIL = 8192
# what the command prints last, or what Python does
_ENDS = re.compile(r"^(reproduce: .+|[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b(: .*)?)$")
# iterations that the shown loss is the mean of, as in the log of a run
_RECENT = 50
_TEXTS = ["kind", "model", "name", "state", "text", "reason"]
_LOSS = ["natural_risk", "robust_regularization"]
_NUMBERS = ["hours", "hours_done", "seconds", "epoch", "epochs", "epochs_done", "saved_at"]
_NUMBERS += [f"test_{name}" for name in METRICS] + _LOSS


def status_frame(config: Config, names: Sequence[str]) -> pd.DataFrame:
    """Return a row for every training run and every evaluation of some experiments.

    Returns
    -------
    pandas.DataFrame
        kind (run or evaluation), model (cell id, or name of a published checkpoint), name,
        state (done, running, saved, failed, waiting, damaged or unavailable), text and reason;
        planned device hours and those of what is done, seconds worked, imported; and of runs
        epoch (from 1; 0 before the first state is saved), epochs, epochs_done, saved_at (seconds
        since 1970), the last metrics in percent, and the loss of the last iterations.

    Raises
    ------
    HarnessError
        If there is no experiment of a name, or the measured speeds are damaged.
    """
    speeds = load_speeds(config)
    cells: dict[Cell, None] = {}
    items: dict[Item, None] = {}
    for experiment in (find_experiment(config, name) for name in names):
        cells |= dict.fromkeys(experiment.cells)
        items |= dict.fromkeys([*experiment.evaluations, *experiment.published])
    rows = [_run_row(config, cell) for cell in cells]
    for cell, row in zip(cells, rows, strict=True):
        planned, done = epoch_hours(training_spec(config, cell), speeds), row["epochs_done"]
        row["hours"], row["hours_done"] = sum(planned), _first_hours(planned, done or 0.0)
    for item in items:
        row = _evaluation_row(config, item)
        hours = evaluation_hours(config, item, speeds)
        rows.append(row | {"hours": hours, "hours_done": hours * (row["state"] == "done")})
    frame = pd.DataFrame(rows, columns=[*_TEXTS, "imported", *_NUMBERS])
    return frame.astype(dict.fromkeys(_NUMBERS, "float64") | {"imported": "bool"})


def _first_hours(planned: Sequence[float], epochs: float) -> float:
    """Return the planned hours of the first so many epochs, the last one in part."""
    whole = int(epochs)
    return sum(planned[:whole]) + sum(planned[whole : whole + 1]) * (epochs - whole)


def _run_row(config: Config, cell: Cell) -> dict[str, Any]:
    """Say how far a training run is; its hours are added by the caller."""
    spec = training_spec(config, cell)
    found, epochs = find_run(config, spec, _RECENT), spec.train.epochs
    row: dict[str, Any] = {
        "kind": "run",
        "model": cell.id,
        "name": cell.id,
        "imported": found.run is not None and found.run.published is not None,
        "epoch": 0,
        "epochs": epochs,
        "epochs_done": 0.0,
    }
    if found.damage is not None:
        text = "damaged; `reproduce train` says what"
        return row | {"state": "damaged", "text": text, "reason": found.damage}
    if (run := found.finished) is not None:
        text = "trained" if run.published is None else f"imported from {run.published.name}"
        done = {"epoch": epochs, "epochs_done": epochs, "seconds": run.seconds}
        return row | {"state": "done", "text": text} | done
    if found.saved is not None:
        row |= _progress(found.saved, epochs)
        text = f"saved in epoch {row['epoch']} of {epochs}"
    else:
        text = "not begun" if found.run is None else str(found.problem)
    lock = paths.training_lock(paths.cell_folder(config, cell))
    log = paths.log_file(config, "train", cell.id)
    idle = "waiting" if found.saved is None else "saved"
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
        # after the last epoch the state stands at one that there is not
        "epoch": min(epoch, epochs),
        "epochs_done": None if part is None else epoch - 1 + part,
        "seconds": float(sum(segment.get("seconds", 0.0) for segment in progress["pieces"])),
        "saved_at": saved.written,
    }


def _evaluation_row(config: Config, item: Item) -> dict[str, Any]:
    """Say how far an evaluation is; its hours are added by the caller."""
    found, path = find_record(config, item), record_path(config, item)
    label = f"{config.eval.label(item.attack)}-seed{item.seed}"
    if isinstance(item, PublishedEvaluation):
        model, name = item.name, f"{item.name} {label}"
        job, folder = "evaluate-published", f"{item.dataset}/{item.name}"
    else:
        checkpoint = "" if item.checkpoint == "best-test" else f" ({item.checkpoint})"
        model, name = item.cell.id, f"{item.cell}{checkpoint} {label}"
        job, folder = f"evaluate{path.parent.name.removeprefix('records')}", item.cell.id
    row: dict[str, Any] = {
        "kind": "evaluation",
        "model": model,
        "name": name,
        "imported": found.run is not None and found.run.published is not None,
    }
    if found.record is not None:
        return row | {"state": "done", "seconds": found.record.info.get("seconds")}
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
    that was written before `since`, when something was saved (seconds since 1970), says nothing;
    a time that is yet to come does not count, the clock was set back.
    """
    try:
        with log.open("rb") as handle:
            about = os.fstat(handle.fileno())
            handle.seek(max(0, about.st_size - _TAIL))
            text = handle.read().decode(errors="replace")
    except OSError:
        return None
    if about.st_mtime < since <= time.time():
        return None
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
