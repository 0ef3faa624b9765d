"""What claims are judged on: a number of every run, by what the run is; and what comes of it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.cell import Cell
from reproduce.claims.slopes import late_fall
from reproduce.config.grids import Curves, TuningTable
from reproduce.config.schema import Config, Train
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import Metrics, Record, worst_case
from reproduce.experiments.grids import (
    Evaluation,
    PublishedEvaluation,
    curve_cells,
    experiment_names,
    find_experiment,
    planned_runs,
)
from reproduce.experiments.runs import RunInfo
from reproduce.results.frames import Histories, read_evaluation, read_histories, read_published
from reproduce.results.plan import published_architecture
from reproduce.results.statistics import Flags, Sample, sample

Verdict = Literal["holds", "fails", "too little data"]
Unit = Literal["seeds", "images"]

# what belongs to the beginning of training: a network that has learnt nothing is no width
_BEGINNING = 0.25


@dataclass(frozen=True)
class Effect:
    """One number behind a claim.

    Attributes
    ----------
    what : str
        What it is, so that the claim says it lies above `threshold`.
    value, low, high : float
        The number and its 95 % interval; NaN where there is none.
    unit : str
        Of the number: "points" of percent, "nats" ...
    threshold : float or None
        What the claim holds it against; None for what is shown and not judged.
    seeds, images : int
        Training seeds behind each side (the fewest), and images that all its records
        have; 0 where they play no part.
    p_value : float or None
        Of the two-sided test that the number is `threshold`: t over seeds, McNemar's
        over images.
    detail : str
        What else there is to say.
    """

    what: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = "points"
    threshold: float | None = 0.0
    seeds: int = 0
    images: int = 0
    p_value: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """What a test of a claim found; the attributes are those of `Claim`."""

    verdict: Verdict
    summary: str
    unit: Unit = "seeds"
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, tested.

    Attributes
    ----------
    name : str
        What it goes by.
    statement, source : str
        What the paper says, in other words, and where.
    verdict : {"holds", "fails", "too little data"}
        Whether the results show what the claim says.
    summary : str
        The effect in numbers, in a sentence or two.
    unit : {"seeds", "images"}
        What the intervals speak of: other training seeds, or other images for these
        very networks.
    effects : tuple of Effect
        The numbers behind it, the one that decides first.
    missing : tuple of str
        Runs and records that belong to it and are not there, or cannot be used.
    """

    name: str
    statement: str
    source: str
    verdict: Verdict
    summary: str
    unit: Unit
    effects: tuple[Effect, ...]
    missing: tuple[str, ...]


class Key(NamedTuple):
    """What networks are that differ in nothing but their training seed, and their attack."""

    dataset: str
    architecture: str
    method: str
    lam: float
    attack: str = ""


@dataclass(frozen=True)
class Group:
    """The networks of one key, and a number of each.

    Attributes
    ----------
    by_seed : mapping
        The number by training seed.
    images : mapping
        The images behind it, by training seed; empty where it is not of images.
    planned : int
        Number of training seeds.
    missing : tuple of str
        Planned networks that have no number, and why.
    """

    by_seed: Mapping[int, float]
    images: Mapping[int, Flags] = field(default_factory=dict)
    planned: int = 0
    missing: tuple[str, ...] = ()

    @property
    def sample(self) -> Sample:
        """Mean and standard deviation over seeds."""
        return sample(list(self.by_seed.values()))


def missing_of(groups: Iterable[Group]) -> tuple[str, ...]:
    """Return what is missing in several groups, each line once."""
    return tuple(dict.fromkeys(line for group in groups for line in group.missing))


def _stable(record: Record) -> NDArray[np.bool_] | None:
    every_image = record.info["every_image"]
    return np.asarray(record.clean == record.adversarial) if every_image else None


# which images count for a metric; None where a record cannot tell
_OF_IMAGES: dict[str, Callable[[Record], NDArray[np.bool_] | None]] = {
    "robust_accuracy": lambda record: record.robust,
    "natural_accuracy": lambda record: record.clean == record.label,
    "perturbation_stability": _stable,
    "top5_natural_accuracy": lambda record: record.top5,
}


def _late_mean(column: str) -> Callable[[pd.DataFrame], float]:
    """Return what takes the mean of a trace over the last three quarters of training."""

    def mean(trace: pd.DataFrame) -> float:
        late = trace["epoch"] > _BEGINNING * trace["epoch"].max()
        # a NaN, of a run that diverged say, is no number to leave out
        return float(trace.loc[late, column].mean(skipna=False))

    return mean


def _last_ratio(trace: pd.DataFrame) -> float:
    """Return natural risk over robust regularisation in the last epoch, as WAR's zeta."""
    last = trace[trace["epoch"] == trace["epoch"].max()]
    natural, robust = (float(last[c].mean()) for c in ("natural_risk", "robust_regularization"))
    return natural / robust if natural > 0 and robust > 0 else math.nan


# number of a run's trace, or of its epochs
_OF_TRACES = {
    **{name: _late_mean(name) for name in ("natural_risk", "robust_regularization", "lipschitz")},
    "ratio": _last_ratio,
}
_OF_EPOCHS: dict[str, Callable[[pd.DataFrame, Train], float]] = {
    "best_robust_accuracy": lambda epochs, _: float(epochs["robust_accuracy"].max()),
    "late_fall": late_fall,
}
_OF_RUNS = {"final_lambda", "hours"}


class Evidence:
    """The records and histories of a configuration, each read once, when it is asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._records: dict[Evaluation, tuple[Record, RunInfo] | str] = {}
        self._histories: dict[Cell, Histories] = {}

    def grid(self, experiment: str) -> Any:
        """Return the grid of a table or figure; None if the configuration leaves it out."""
        return getattr(self.config.experiments, experiment)

    def groups(self, experiment: str, metric: str) -> dict[Key, Group]:
        """Return a metric of everything that a table or figure plans, by what it is of.

        In percent where it is a share of images; where an attack has several starts, of
        those that survive them all.  Of Table 3 the untuned networks, and those of the
        best lambda of the search, are there by the names of these strategies too.
        """
        grid = self.grid(experiment)
        found: dict[Key, Group] = {}
        if metric in _OF_IMAGES or metric in _OF_RUNS:
            plan = find_experiment(self.config, experiment)
            by_key: dict[Key, dict[int, list[Evaluation]]] = {}
            for item in plan.evaluations:
                key = key_of(item.cell, item.attack)
                by_key.setdefault(key, {}).setdefault(item.cell.seed, []).append(item)
            found = {key: self._of_records(seeds, metric) for key, seeds in by_key.items()}
            seeds = {item.cell.seed for item in plan.evaluations}
            for theirs in plan.published:
                network = published_architecture(theirs.name) or ""
                key = Key(theirs.dataset, network, theirs.name, 0.0, theirs.attack)
                found[key] = self._of_published(theirs, metric, seeds)
        else:
            cells = self._followed(experiment, metric)
            for key in dict.fromkeys(map(key_of, cells)):
                found[key] = self._of_histories([c for c in cells if key_of(c) == key], metric)
        if isinstance(grid, TuningTable):
            found |= self._strategies(experiment, metric, found)
        return found

    def record(self, item: Evaluation) -> tuple[Record, RunInfo] | str:
        """Return the record of an evaluation and its run, or why there is none."""
        if item not in self._records:
            try:
                found = read_evaluation(self.config, item)
            except HarnessError as error:
                self._records[item] = str(error)
            else:
                reason = f"{item.cell} has no record of {item.attack} with seed {item.seed} yet"
                self._records[item] = found or reason
        return self._records[item]

    def every_record(self) -> dict[str, tuple[Metrics, bool] | str]:
        """Return the metrics of every record and whether every image was attacked, or why not."""
        plans = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        found: dict[str, tuple[Metrics, bool] | str] = {}
        for item in dict.fromkeys(item for plan in plans for item in plan.evaluations):
            name = f"{item.attack} with seed {item.seed} on {item.cell}, {item.checkpoint}"
            ours = self.record(item)
            record = ours if isinstance(ours, str) else ours[0]
            found[name] = _counted(record)
        for theirs in dict.fromkeys(item for plan in plans for item in plan.published):
            name = f"{theirs.attack} with seed {theirs.seed} on {theirs.name}"
            found[name] = _counted(self._published(theirs))
        return found

    def history(self, cell: Cell, kind: Literal["traces", "epochs"]) -> pd.DataFrame | str:
        """Return the trace or the epochs of a run that came to its last epoch, or why not."""
        if cell not in self._histories:
            self._histories[cell] = read_histories(self.config, [cell])
        found = self._histories[cell]
        frame: pd.DataFrame = getattr(found, kind)
        if len(frame) and frame["epoch"].max() == self.config.train_of(cell.method).epochs:
            return frame
        return "; ".join(found.missing) or f"{cell} has no {kind} to its last epoch"

    def _followed(self, experiment: str, metric: str) -> list[Cell]:
        """Return the runs of a figure or table; beside Figure 3's those of the exp schedule."""
        grid = self.grid(experiment)
        if not isinstance(grid, Curves):
            plan = find_experiment(self.config, experiment)
            return list(dict.fromkeys(item.cell for item in plan.evaluations))
        cells = curve_cells(grid)
        if metric == "late_fall" and self.config.train_of("trades").schedule == "exp":
            others = [replace(cell, method="trades") for cell in cells]
            planned = set(planned_runs(self.config))
            cells += [cell for cell in others if cell in planned and cell not in cells]
        return cells

    def _of_records(self, seeds: Mapping[int, Sequence[Evaluation]], metric: str) -> Group:
        values, images, missing = {}, {}, []
        for seed, items in seeds.items():
            pairs = [(item, self.record(item)) for item in items]
            missing += [found for _, found in pairs if isinstance(found, str)]
            there = [(item, found) for item, found in pairs if not isinstance(found, str)]
            if len(there) < len(pairs):
                continue
            if metric in _OF_RUNS:
                values[seed] = float(getattr(there[0][1][1], metric))
                continue
            starts = [
                _flags(
                    f"the record of {item.attack} on {item.cell}", item.cell.dataset, record, metric
                )
                for item, (record, _) in there
            ]
            missing += [start for start in starts if isinstance(start, str)]
            known = [start for start in starts if isinstance(start, Flags)]
            if len(known) == len(starts):
                images[seed] = _survivors(known)
                values[seed] = float(100 * images[seed].true.mean())
        return Group(values, images, len(seeds), tuple(missing))

    def _published(self, item: PublishedEvaluation) -> Record | str:
        try:
            record, reason = read_published(self.config, item)
        except HarnessError as error:
            return str(error)
        return record or reason or f"{item.name} has no record of {item.attack} yet"

    def _of_published(self, item: PublishedEvaluation, metric: str, seeds: set[int]) -> Group:
        """Return one network, which stands beside those of every training seed."""
        record = self._published(item)
        if isinstance(record, str):
            return Group({}, {}, 1, (record,))
        flags = _flags(f"the record of {item.attack} on {item.name}", item.dataset, record, metric)
        if isinstance(flags, str):
            return Group({}, {}, 1, (flags,))
        return Group({0: float(100 * flags.true.mean())}, dict.fromkeys(seeds, flags), 1)

    def _of_histories(self, cells: Sequence[Cell], metric: str) -> Group:
        values, missing = {}, []
        for cell in cells:
            followed = metric in _OF_TRACES
            frame = self.history(cell, "traces" if followed else "epochs")
            if isinstance(frame, str):
                missing.append(frame)
                continue
            train = self.config.train_of(cell.method)
            number = _OF_TRACES[metric](frame) if followed else _OF_EPOCHS[metric](frame, train)
            if math.isfinite(number):
                values[cell.seed] = number
            else:
                what = metric.replace("_", " ")
                why = "too few measured epochs" if metric == "late_fall" else f"it is {number}"
                missing.append(f"{cell} has no finite {what}: {why}")
        return Group(values, {}, len(cells), tuple(missing))

    def _strategies(
        self, experiment: str, metric: str, groups: Mapping[Key, Group]
    ) -> dict[Key, Group]:
        grid: TuningTable = self.grid(experiment)
        robust = groups
        if metric != "robust_accuracy":
            robust = self.groups(experiment, "robust_accuracy")
        found = {}
        for war in [key for key in groups if key.method == "war"]:
            own = war._replace(method="trades", lam=grid.untuned)
            found[own._replace(method="untuned")] = groups[own]
            tried = [own._replace(lam=lam) for lam in grid.lambdas]
            best = best_searched(robust, grid, war)
            waiting = Group({}, {}, len(grid.seeds), missing_of(groups[key] for key in tried))
            manual = own._replace(method="manual", lam=0.0 if best is None else best.lam)
            found[manual] = waiting if best is None else groups[own._replace(lam=best.lam)]
        return found


def best_searched(groups: Mapping[Key, Group], grid: TuningTable, like: Key) -> Key | None:
    """Return the lambda of Table 3's search with the highest mean robust accuracy.

    For the network of `like`.  None before all of the search is there: the best of a part may be
    another.
    """
    search = {(like.architecture, "trades", lam) for lam in grid.lambdas}
    tried = [key for key in groups if key[1:4] in search]
    if any(len(groups[key].by_seed) < groups[key].planned for key in tried):
        return None
    return max(tried, key=lambda key: groups[key].sample.mean)


def key_of(cell: Cell, attack: str = "") -> Key:
    """Return the key of a cell; the configuration keeps lambdas to four decimals, as cell ids."""
    return Key(cell.dataset, cell.architecture, cell.method, cell.lam, attack)


def _counted(record: Record | str) -> tuple[Metrics, bool] | str:
    return record if isinstance(record, str) else (record.metrics, record.info["every_image"])


def _flags(name: str, dataset: str, record: Record, metric: str) -> Flags | str:
    true = _OF_IMAGES[metric](record)
    if true is None:
        return f"{name} tells no {metric}"
    return Flags(name, dataset, record.index, record.label, true)


def _survivors(starts: Sequence[Flags]) -> Flags:
    """Return the images of one network that survive an attack from all its starts."""
    first = starts[0]
    if len(starts) == 1:
        return first
    index, robust = worst_case([(flags.index, flags.true) for flags in starts])
    label = first.label[np.isin(first.index, index)]
    return replace(first, index=index, label=label, true=robust)
