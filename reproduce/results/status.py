"""What the log of a job of the workflow says of its end."""

import os
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import CONTINUES, HarnessError
from reproduce.core.files import is_held, read_json
from reproduce.evaluation.records import is_current
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, PublishedEvaluation, find_experiment
from reproduce.experiments.runs import RunInfo, SavedTrace, find_run, state_file
from reproduce.experiments.spec import TrainingSpec, evaluation_spec, training_spec
from reproduce.results.plan import epoch_hours, evaluation_hours, is_evaluated, load_speeds
from reproduce.zoo.checkpoints import PublishedAttack

# enough for the last words of a job, whatever stood before them
_TAIL = 8192
# what the command prints last, or what Python does
_ENDS = re.compile(r"^(reproduce: .+|[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt)\b(: .*)?)$")


def failure(log: Path, since: float = 0.0) -> str | None:
    """Return the error that a job's log ends with; None if it has none, or was only stopped.

    Snakemake begins the log of a job anew, so an error in it is that of the last try.

    Parameters
    ----------
    log : Path
        The log; it need not be there.
    since : float
        Time in seconds since 1970 of what has been saved after; an older log is not
        about that.  A time that is yet to come says nothing: the clock was set back.
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


AttackState = Literal["done", "running", "failed", "waiting", "unavailable"]


@dataclass(frozen=True)
class AttackWork:
    """One evaluation and where its files lie; it stays the same while the evaluation goes on.

    Attributes
    ----------
    item : Evaluation or PublishedEvaluation
        What is attacked, and how.
    digest : str
        Fingerprint of its settings.
    record, log : Path
        Its result, and the log of its job in the workflow.
    hours : float
        Its planned device hours.
    """

    item: Evaluation | PublishedEvaluation
    digest: str
    record: Path
    log: Path
    hours: float

    @property
    def name(self) -> str:
        """What is attacked, and how, in words."""
        item = self.item
        if isinstance(item, PublishedEvaluation):
            return f"{item.name} {self.record.stem}"
        choice = "" if item.checkpoint == "best-test" else f" ({item.checkpoint})"
        return f"{item.cell}{choice} {self.record.stem}"


@dataclass(frozen=True)
class AttackStatus:
    """How far one evaluation is.

    Attributes
    ----------
    work : AttackWork
        The evaluation.
    state : str
        done, running, failed or waiting, as of a training run; unavailable: of a
        published checkpoint that could not be had.
    seconds : float or None
        Time worked on it, where its record says.
    error : str or None
        Why it failed, or why the checkpoint is not there.
    """

    work: AttackWork
    state: AttackState
    seconds: float | None = None
    error: str | None = None


def attack_work(config: Config, item: Evaluation | PublishedEvaluation, hours: float) -> AttackWork:
    """Say what an evaluation is."""
    label = config.eval.label(item.attack)
    if isinstance(item, PublishedEvaluation):
        theirs = PublishedAttack(config, item.dataset, item.name, item.attack, item.seed)
        name = f"{item.dataset}/{item.name}/{label}-seed{item.seed}"
        log = paths.log_file(config, "evaluate-published", name)
        return AttackWork(item, theirs.spec.digest, theirs.record, log, hours)
    folder = paths.cell_folder(config, item.cell)
    record = paths.record_file(folder, item.checkpoint, label, item.seed)
    suffix = record.parent.name.removeprefix("records")
    log = paths.log_file(config, f"evaluate{suffix}", f"{item.cell}/{label}-seed{item.seed}")
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    return AttackWork(item, spec.digest, record, log, hours)


def read_attack(config: Config, work: AttackWork, run: RunInfo | None) -> AttackStatus:
    """Say how far an evaluation is, from its files and its lock alone.

    Parameters
    ----------
    config : Config
        The configuration.
    work : AttackWork
        The evaluation.
    run : RunInfo or None
        What run.json of its cell says, if it is of a cell and there is one.
    """
    seconds = _seconds(config, work, run)
    if seconds is not None:
        return AttackStatus(work, "done", seconds or None)
    if is_held(paths.evaluation_lock(work.record)):
        return AttackStatus(work, "running")
    error = failure(work.log)
    if error is not None:
        return AttackStatus(work, "failed", error=error)
    reason = _unavailable(config, work.item)
    if reason is not None:
        return AttackStatus(work, "unavailable", error=reason)
    return AttackStatus(work, "waiting")


def _seconds(config: Config, work: AttackWork, run: RunInfo | None) -> float | None:
    """Return how long an evaluation took, 0 if its record does not say; None if it is not done."""
    if not work.record.is_file():
        return None
    try:
        info = read_json(work.record.with_suffix(".json"))
    except HarnessError:  # damaged: `table` says so
        return None
    item = work.item
    if isinstance(item, PublishedEvaluation):
        done = is_evaluated(config, item)
    else:
        weights = None if run is None else run.models.get(item.checkpoint)
        done = weights is not None and is_current(work.record, info, work.digest, weights)
    seconds = info.get("seconds", 0.0)
    if not done:
        return None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _unavailable(config: Config, item: Evaluation | PublishedEvaluation) -> str | None:
    """Return why a published checkpoint could not be had, if it was tried."""
    if not isinstance(item, PublishedEvaluation):
        return None
    theirs = PublishedAttack(config, item.dataset, item.name, item.attack, item.seed)
    try:
        reason = theirs.read().get("reason")
    except HarnessError:  # damaged: `table` says so
        return None
    return None if reason is None else str(reason)


@dataclass(frozen=True)
class Campaign:
    """All work of some experiments, each part once: what does not change while it is done.

    Attributes
    ----------
    config : Config
        The configuration.
    names : tuple of str
        The experiments.
    runs : tuple of RunWork
        Their training runs.
    attacks : tuple of AttackWork
        Their evaluations.
    speed : str
        The hardware that the planned hours are of, in words.
    """

    config: Config
    names: tuple[str, ...]
    runs: tuple[RunWork, ...]
    attacks: tuple[AttackWork, ...]
    speed: str


@dataclass(frozen=True)
class Pace:
    """How long the work done so far took, as a multiple of what was planned for it.

    Attributes
    ----------
    training, attacks : float or None
        None while nothing of the kind is done.
    """

    training: float | None
    attacks: float | None


@dataclass(frozen=True)
class Survey:
    """How far a campaign is.

    Attributes
    ----------
    at : float
        When it was looked at, in seconds since 1970.
    runs : tuple of RunStatus
        Its training runs.
    attacks : tuple of AttackStatus
        Its evaluations.
    pace : Pace
        The hours measured so far over those planned.
    epochs_an_hour : float or None
        Of all running training runs together, each by its own time so far; None while
        none of them has finished a part that can be timed.
    hours_left : float
        Device hours that are left: those planned, times `pace` (attacks go by that of
        training until one is done, and both as planned until anything is).
    """

    at: float
    runs: tuple[RunStatus, ...]
    attacks: tuple[AttackStatus, ...]
    pace: Pace
    epochs_an_hour: float | None
    hours_left: float

    @property
    def jobs(self) -> int:
        """Number of jobs at work."""
        return self.count_runs()["running"] + self.count_attacks()["running"]

    @property
    def time_left(self) -> float | None:
        """Hours until the end if as many jobs as now stay at work; None if none is."""
        return self.hours_left / self.jobs if self.jobs else None

    @property
    def finished(self) -> bool:
        """Whether nothing is left that can be done."""
        return all(run.state == "done" for run in self.runs) and all(
            attack.state in ("done", "unavailable") for attack in self.attacks
        )

    def count_runs(self) -> Counter[str]:
        """Return the number of training runs in each state."""
        return Counter(run.state for run in self.runs)

    def count_attacks(self) -> Counter[str]:
        """Return the number of evaluations in each state."""
        return Counter(attack.state for attack in self.attacks)


def find_campaign(config: Config, names: Sequence[str]) -> Campaign:
    """Return all work of some experiments with its planned hours.

    Raises
    ------
    HarnessError
        If there is no experiment of a name, or the measured speeds are damaged.
    """
    speeds = load_speeds(config)
    cells: dict[Cell, None] = {}
    items: dict[Evaluation | PublishedEvaluation, None] = {}
    for name in names:
        experiment = find_experiment(config, name)
        cells |= dict.fromkeys(experiment.cells)
        items |= dict.fromkeys((*experiment.evaluations, *experiment.published))
    works = [run_work(config, cell) for cell in cells]
    runs = [replace(work, epoch_hours=epoch_hours(work.spec, speeds)) for work in works]
    attacks = [attack_work(config, item, evaluation_hours(config, item, speeds)) for item in items]
    return Campaign(config, tuple(names), tuple(runs), tuple(attacks), speeds.stated)


def survey(campaign: Campaign, now: float) -> Survey:
    """Look how far a campaign is; it reads files and locks, and changes neither.

    Parameters
    ----------
    campaign : Campaign
        The work.
    now : float
        The time, in seconds since 1970.
    """
    runs = tuple(read_status(campaign.config, work) for work in campaign.runs)
    trained = {status.work.cell: status.run for status in runs}
    attacks = tuple(
        read_attack(
            campaign.config,
            work,
            trained.get(work.item.cell) if isinstance(work.item, Evaluation) else None,
        )
        for work in campaign.attacks
    )
    pace = _pace(runs, attacks)
    return Survey(now, runs, attacks, pace, _rate(runs), _hours_left(runs, attacks, pace))


def _timed(run: RunStatus) -> bool:
    """Say whether what is done of a run is known, and how long it took here."""
    return bool(run.epochs_done) and run.seconds > 0 and not _is_imported(run)


def _is_imported(run: RunStatus) -> bool:
    """Say whether a run was published by somebody, and so trained on other hardware."""
    return run.run is not None and run.run.published is not None


def _planned(run: RunStatus) -> float:
    """Return the planned hours of what is done of a run."""
    return run.work.hours_of(run.epochs_done or 0.0)


def _pace(runs: Sequence[RunStatus], attacks: Sequence[AttackStatus]) -> Pace:
    timed = [run for run in runs if _timed(run)]
    imported = {run.work.cell for run in runs if _is_imported(run)}
    here = [a for a in attacks if getattr(a.work.item, "cell", None) not in imported]
    done = [(a.seconds, a.work.hours) for a in here if a.seconds is not None and a.work.hours]
    return Pace(
        _ratio(sum(run.seconds for run in timed), sum(map(_planned, timed))),
        _ratio(sum(seconds for seconds, _ in done), sum(hours for _, hours in done)),
    )


def _ratio(seconds: float, hours: float) -> float | None:
    return seconds / 3600 / hours if hours else None


def _rate(runs: Sequence[RunStatus]) -> float | None:
    rates = [
        3600 * (run.epochs_done or 0.0) / run.seconds
        for run in runs
        if run.state == "running" and _timed(run)
    ]
    return sum(rates) if rates else None


def _hours_left(runs: Sequence[RunStatus], attacks: Sequence[AttackStatus], pace: Pace) -> float:
    """Scale what is planned of the rest by what was measured of the kind so far."""
    training = 1.0 if pace.training is None else pace.training
    attacking = training if pace.attacks is None else pace.attacks
    return training * sum(run.work.hours - _planned(run) for run in runs) + attacking * sum(
        attack.work.hours for attack in attacks if attack.state not in ("done", "unavailable")
    )
