"""How far a campaign is as a whole: counts, rate, and what is left."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reproduce.campaign.attacks import AttackStatus, AttackWork, attack_work, read_attack
from reproduce.campaign.runs import RunStatus, RunWork, read_status, run_work
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.experiments import Evaluation, PublishedEvaluation, find_experiment
from reproduce.planning import epoch_hours, evaluation_hours, load_speeds


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
