"""How far one training run is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reproduce import paths
from reproduce.campaign.logs import failure
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.files import is_held
from reproduce.runs import RunInfo, find_run
from reproduce.saved import SavedTrace, state_file
from reproduce.specs import TrainingSpec, training_spec

RunState = Literal["done", "running", "saved", "failed", "waiting", "damaged"]

# iterations that the shown loss is the mean of, as in the log of a run
_RECENT = 50


@dataclass(frozen=True)
class RunWork:
    """One training run and where its files lie; it stays the same while the run goes on.

    Attributes
    ----------
    spec : TrainingSpec
        What is trained.
    folder, log : Path
        Its results, and the log of its job in the workflow.
    epoch_hours : tuple of float
        The planned device hours of each epoch: some are measured, later ones may cost more.
    """

    spec: TrainingSpec
    folder: Path
    log: Path
    epoch_hours: tuple[float, ...] = ()

    @cached_property
    def cell(self) -> Cell:
        """The cell that is trained."""
        return self.spec.parsed

    @cached_property
    def saved(self) -> Path:
        """Where its state lies while it is not finished."""
        return state_file(self.folder, self.spec.digest)

    @property
    def epochs(self) -> int:
        """Number of epochs in all."""
        return self.spec.train.epochs

    @cached_property
    def hours(self) -> float:
        """Its planned device hours."""
        return self.hours_of(self.epochs)

    def hours_of(self, epochs: float) -> float:
        """Return the planned device hours of the first so many epochs, the last one in part."""
        whole = int(epochs)
        part = sum(self.epoch_hours[whole : whole + 1]) * (epochs - whole)
        return sum(self.epoch_hours[:whole]) + part


@dataclass(frozen=True)
class RunStatus:
    """How far one training run is.

    Attributes
    ----------
    work : RunWork
        The run.
    state : str
        done; running: a process here, or on a machine whose locks the disk shows, holds
        its lock; saved: begun, and nobody is seen at work; failed: the log of its job
        ends with an error, and nobody is at work; damaged; waiting.
    text : str
        The same in a line, as `reproduce status` prints it.
    run : RunInfo or None
        What run.json says, of whatever settings it is.
    epoch : int
        The epoch it is in, from 1; 0 before the first state is saved.
    epochs_done : float or None
        Epochs done, also in part; None where it is not known.
    seconds : float
        Time worked on it until it was saved.
    saved_at : float or None
        When its state was saved, in seconds since 1970.
    metrics : mapping
        Those of the last measured epoch in percent, by their names in epochs.csv.
    loss : tuple of float, or None
        Natural risk and robust regularisation, means over the last iterations.
    error : str or None
        Why it failed, or what is damaged.
    """

    work: RunWork
    state: RunState
    text: str
    run: RunInfo | None = None
    epoch: int = 0
    epochs_done: float | None = 0.0
    seconds: float = 0.0
    saved_at: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    loss: tuple[float, float] | None = None
    error: str | None = None


def run_work(config: Config, cell: Cell) -> RunWork:
    """Say what training a cell is, without its planned hours."""
    log = paths.log_file(config, "train", cell.id)
    return RunWork(training_spec(config, cell), paths.cell_folder(config, cell), log)


def read_status(config: Config, work: RunWork) -> RunStatus:
    """Say how far a run is, from its files and its lock alone."""
    found = find_run(config, work.spec, _RECENT)
    run, saved = found.run, found.saved
    if found.damage is not None:
        text = "damaged; `reproduce train` says what"
        return RunStatus(work, "damaged", text, run, epochs_done=None, error=found.damage)
    if found.finished is not None:
        done = float(work.epochs)
        seconds = found.finished.seconds
        published = found.finished.published
        text = "trained" if published is None else f"imported from {published.name}"
        return RunStatus(work, "done", text, run, work.epochs, done, seconds)
    progress = {} if saved is None else _progress(work, saved)
    text = "not begun" if run is None else str(found.problem)
    if saved is not None:
        text = f"saved in epoch {progress['epoch']} of {work.epochs}"
    state, reason = _state(work, progress.get("saved_at"))
    return RunStatus(work, state, text, run, error=reason, **progress)


def _state(work: RunWork, saved_at: float | None) -> tuple[RunState, str | None]:
    """Say whether anybody works on a run that is not done, and what went wrong if not."""
    if is_held(paths.training_lock(work.folder)):
        return "running", None
    error = failure(work.log, saved_at or 0.0)
    if error is not None:
        return "failed", error
    return ("waiting" if saved_at is None else "saved"), None


def _progress(work: RunWork, saved: SavedTrace) -> dict[str, Any]:
    """Return what a saved state tells of a run, as fields of its status."""
    told = saved.progress
    epoch, step = told["epoch"], told["step"]
    before = saved.iterations - step
    # a part of the first epoch says nothing of its length
    part = 0.0 if step == 0 else (step * (epoch - 1) / before if before > 0 else None)
    rows = saved.rows[:, 1:3]
    return {
        # after the last epoch the state stands at one that there is not
        "epoch": min(epoch, work.epochs),
        "epochs_done": None if part is None else epoch - 1 + part,
        "seconds": float(sum(piece.get("seconds", 0.0) for piece in told["pieces"])),
        "saved_at": saved.written,
        "metrics": told["epochs"][-1] if told["epochs"] else {},
        "loss": None if not len(rows) else tuple(float(mean) for mean in rows.mean(axis=0)),
    }
