"""What claims are judged on: a number of every run, by what the run is; and what comes of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from reproduce.cell import Cell
from reproduce.claims.metrics import OF_EPOCHS, OF_IMAGES, OF_RUNS, OF_TRACES
from reproduce.config.grids import Curves, TuningTable
from reproduce.config.schema import Config
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
from reproduce.registry import METHODS
from reproduce.results.frames import read_histories
from reproduce.results.reader import find_record
from reproduce.results.statistics import ImageMask, Sample, sample

Verdict = Literal["holds", "fails", "too little data"]
Unit = Literal["seeds", "images"]


@dataclass(frozen=True)
class Effect:
    """One number behind a claim, named so that the claim says it lies above `threshold`.

    Attributes
    ----------
    value, low, high : float
        The number and its 95 % interval; NaN where there is none.
    threshold : float or None
        What the claim holds it against; None for what is shown and not judged.
    seeds, images : int
        Training seeds behind each side (the fewest), and images that all its records
        have; 0 where they play no part.
    p_value : float or None
        Of the two-sided test that the number is `threshold`: t over seeds, McNemar's
        over images.
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

    summary: str
    verdict: Verdict = "too little data"
    unit: Unit = "seeds"
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, tested.

    Attributes
    ----------
    name, statement, source : str
        What it goes by; what the paper says, in other words, and where.
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
    """What networks share that differ in their training seed alone, and their attack."""

    dataset: str
    architecture: str
    method: str
    lam: float
    attack: str = ""


@dataclass(frozen=True)
class Group:
    """The networks of one key: a number of each, and the images behind it, by training seed."""

    by_seed: Mapping[int, float]
    images: Mapping[int, ImageMask] = field(default_factory=dict)
    planned: int = 0
    missing: tuple[str, ...] = ()

    @property
    def sample(self) -> Sample:
        """Mean and standard deviation over seeds."""
        return sample(list(self.by_seed.values()))


def missing_of(groups: Iterable[Group]) -> tuple[str, ...]:
    """Return what is missing in several groups, each line once."""
    return tuple(dict.fromkeys(line for group in groups for line in group.missing))


# what a number is read from: a run's histories, or a record of our or a published network
Source = Cell | Evaluation | PublishedEvaluation


def key_of(source: Source) -> Key:
    """Return the key of a run or an evaluation."""
    if isinstance(source, PublishedEvaluation):
        return Key(source.dataset, source.architecture or "", source.name, 0.0, source.attack)
    cell, attack = (source, "") if isinstance(source, Cell) else (source.cell, source.attack)
    return Key(cell.dataset, cell.architecture, cell.method, cell.lam, attack)


def seed_of(source: Source) -> int:
    """Return the training seed; 0 for a published network, of which there is one."""
    if isinstance(source, PublishedEvaluation):
        return 0
    return source.seed if isinstance(source, Cell) else source.cell.seed


class Evidence:
    """The records and histories of a configuration, each read once, when it is asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.groups = cache(self._groups)
        self.record = cache(self._read)
        self._histories = cache(lambda cell: read_histories(config, [cell]))

    def grid(self, experiment: str) -> Any:
        """Return the grid of a table or figure; None if the configuration leaves it out."""
        return getattr(self.config.experiments, experiment)

    def _groups(self, experiment: str, metric: str) -> dict[Key, Group]:
        """Return a metric of everything that a table or figure plans, by what it is of.

        In percent where it is a share of images; where an attack has several starts, of
        those that survive them all.  Of Table 3 the untuned networks, and those of the
        best lambda of the search, are there by the names of these strategies too.
        """
        planned: dict[Key, dict[int, list[Source]]] = {}
        for source in self._sources(experiment, metric):
            planned.setdefault(key_of(source), {}).setdefault(seed_of(source), []).append(source)
        groups = {key: self._group(by_seed, metric) for key, by_seed in planned.items()}
        published = {key for key in groups if key.method not in METHODS}
        seeds = {seed for key in planned.keys() - published for seed in planned[key]}
        for key in published:
            # the one network is compared with ours of every training seed
            images = {seed: mask for seed in seeds for mask in groups[key].images.values()}
            groups[key] = replace(groups[key], images=images)
        if isinstance(self.grid(experiment), TuningTable):
            groups |= self._strategies(experiment, metric, groups)
        return groups

    def _sources(self, experiment: str, metric: str) -> Sequence[Source]:
        """Return what a metric of a table or figure is read from."""
        plan, grid = find_experiment(self.config, experiment), self.grid(experiment)
        if metric in OF_IMAGES or metric in OF_RUNS:
            return [*plan.evaluations, *plan.published]
        if not isinstance(grid, Curves):
            return list(dict.fromkeys(item.cell for item in plan.evaluations))
        cells = curve_cells(grid)
        if metric == "late_fall" and self.config.train_of("trades").schedule == "exp":
            # beside Figure 3's runs those of the exp schedule
            planned = set(planned_runs(self.config))
            others = [replace(cell, method="trades") for cell in cells]
            cells += [cell for cell in others if cell in planned and cell not in cells]
        return cells

    def _group(self, sources: Mapping[int, Sequence[Source]], metric: str) -> Group:
        values: dict[int, float] = {}
        images: dict[int, ImageMask] = {}
        missing: list[str] = []
        for seed, starts in sources.items():
            numbers: list[float] = []
            masks: list[ImageMask] = []
            for source in starts:
                try:
                    found = self.measure(source, metric)
                except HarnessError as error:
                    missing.append(str(error))
                    continue
                if isinstance(found, ImageMask):
                    masks.append(found)
                else:
                    numbers.append(found)
            if len(masks) == len(starts):
                images[seed] = _survivors(masks)
                values[seed] = float(100 * images[seed].mask.mean())
            elif len(numbers) == len(starts):
                values[seed] = numbers[0]
        return Group(values, images, len(sources), tuple(missing))

    def measure(self, source: Source, metric: str) -> float | ImageMask:
        """Return a metric of a run, or the images that count for it in a record.

        Raises
        ------
        HarnessError
            If there is no such number, or none that is finite.
        """
        if not isinstance(source, Cell):
            record, run = self.record(source)
            if metric in OF_RUNS:
                return float(getattr(run, metric))
            mask = OF_IMAGES[metric](record)
            name = f"the record of {source.attack} on {_network(source)}"
            if mask is None:
                raise HarnessError(f"{name} tells no {metric}")
            return ImageMask(name, key_of(source).dataset, record.index, record.label, mask)
        if metric in OF_TRACES:
            number = OF_TRACES[metric](self.history(source, "traces"))
        else:
            train = self.config.train_of(source.method)
            number = OF_EPOCHS[metric](self.history(source, "epochs"), train)
        if not math.isfinite(number):
            why = "too few measured epochs" if metric == "late_fall" else f"it is {number}"
            raise HarnessError(f"{source} has no finite {metric.replace('_', ' ')}: {why}")
        return number

    def _read(self, item: Evaluation | PublishedEvaluation) -> tuple[Record, RunInfo | None]:
        """Return the record of an evaluation and its run, if it is ours."""
        found = find_record(self.config, item)
        return found.required(), found.run

    def history(self, cell: Cell, kind: Literal["traces", "epochs"]) -> pd.DataFrame:
        """Return the trace or the epochs of a run that came to its last epoch.

        Raises
        ------
        HarnessError
            If it did not, or what there is cannot be used.
        """
        found = self._histories(cell)
        frame: pd.DataFrame = getattr(found, kind)
        if len(frame) and frame["epoch"].max() == self.config.train_of(cell.method).epochs:
            return frame
        reason = "; ".join(found.missing)
        raise HarnessError(reason or f"{cell} has no {kind} to its last epoch")

    def full_records(self) -> tuple[dict[str, Metrics], tuple[str, ...]]:
        """Return the metrics of every record of an attack on all images, and what is missing."""
        plans = [find_experiment(self.config, name) for name in experiment_names(self.config)]
        items: list[Evaluation | PublishedEvaluation] = []
        items += [item for plan in plans for item in plan.evaluations]
        items += [item for plan in plans for item in plan.published]
        found, missing = {}, []
        for item in dict.fromkeys(items):
            try:
                record, _ = self.record(item)
            except HarnessError as error:
                missing.append(str(error))
                continue
            if record.info["every_image"]:
                at = f", {item.checkpoint}" if isinstance(item, Evaluation) else ""
                name = f"{item.attack} with seed {item.seed} on {_network(item)}{at}"
                found[name] = record.metrics
        return found, tuple(missing)

    def _strategies(
        self, experiment: str, metric: str, groups: Mapping[Key, Group]
    ) -> dict[Key, Group]:
        """Return the untuned networks of Table 3, and those of the best lambda of the search.

        Best is that of the highest mean robust accuracy.  There is none, and no number, before
        all of the search is there: the best of a part may be another.
        """
        grid: TuningTable = self.grid(experiment)
        robust = groups
        if metric != "robust_accuracy":
            robust = self.groups(experiment, "robust_accuracy")
        found = {}
        for war in [key for key in groups if key.method == "war"]:
            own = war._replace(method="trades")
            found[own._replace(method="untuned", lam=grid.untuned)] = groups[
                own._replace(lam=grid.untuned)
            ]
            tried = {key.lam: group for key, group in robust.items() if key[1:3] == own[1:3]}
            tried = {lam: tried[lam] for lam in grid.lambdas}
            if all(len(group.by_seed) == group.planned for group in tried.values()):
                best = max(tried, key=lambda lam: tried[lam].sample.mean)
                found[own._replace(method="manual", lam=best)] = groups[own._replace(lam=best)]
            else:
                missing = missing_of(groups[own._replace(lam=lam)] for lam in tried)
                found[own._replace(method="manual", lam=0.0)] = Group({}, {}, 0, missing)
        return found


def _network(item: Evaluation | PublishedEvaluation) -> str:
    return item.name if isinstance(item, PublishedEvaluation) else str(item.cell)


def _survivors(starts: Sequence[ImageMask]) -> ImageMask:
    """Return the images of one network that survive an attack from all its starts."""
    first = starts[0]
    if len(starts) == 1:
        return first
    index, robust = worst_case([(start.index, start.mask) for start in starts])
    label = first.label[np.isin(first.index, index)]
    return replace(first, index=index, label=label, mask=robust)
