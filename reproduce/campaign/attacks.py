"""How far one evaluation is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce import paths
from reproduce.campaign.logs import failure
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, PublishedEvaluation
from reproduce.files import is_held, read_json
from reproduce.outcomes import PublishedAttack
from reproduce.planning import is_evaluated
from reproduce.records import is_current
from reproduce.runs import RunInfo
from reproduce.specs import evaluation_spec

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
