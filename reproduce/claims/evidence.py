"""What claims are judged on: a number of every run, by what the run is; and what comes of it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from reproduce.cell import Cell
from reproduce.claims.metrics import METRICS
from reproduce.config.grids import Curves, TuningTable
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import Metrics, worst_case
from reproduce.experiments.grids import (
    Evaluation,
    Item,
    PublishedEvaluation,
    curve_cells,
    experiment_names,
    find_experiment,
    planned_runs,
    searched_cells,
)
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.frames import read_histories
from reproduce.results.reader import find_record
from reproduce.results.statistics import ImageMask, Sample, sample
from reproduce.tables.tuning import best_trial

Verdict = Literal["holds", "fails", "too little data"]
Unit = Literal["seeds", "images"]
SIGNIFICANCE = 0.05
_OTHERS = {"manual": "search by hand", "untuned": "untuned λ"}
_OVER_IMAGES = (
    "This is over images: it speaks of these very networks, not of another training seed."
)


@dataclass(frozen=True)
class Effect:
    """One number behind a claim, named so that the claim says it lies above `threshold`.

    `low` and `high` are its 95 % interval, NaN where there is none; `threshold` is None where it
    is shown and not judged.  It rests on `seeds` training seeds a side (the fewest) and `images`
    that all records have, 0 where they play no part.  `p_value` is of the two-sided test that it
    is the threshold: t over seeds, McNemar's over images.
    """

    what: str
    value: float
    low: float = math.nan
    high: float = math.nan
    unit: str = "points"
    threshold: float | None = 0.0
    seeds: int = 0
    images: int = 0
    detail: str = ""
    p_value: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the number lies above its threshold."""
        # of images McNemar's exact test may be less sure than the interval
        if self.threshold is None or (self.p_value or 0.0) >= SIGNIFICANCE:
            return "too little data"
        if self.low > self.threshold:
            return "holds"
        return "fails" if self.high < self.threshold else "too little data"

    @property
    def numbers(self) -> str:
        """The value, and in brackets its interval, its threshold and what it rests on."""
        digits = ".2f" if self.unit == "points" else ".3g"
        numbers = (self.value, self.low, self.high, self.threshold or 0.0)
        value, low, high, threshold = (f"{one:{digits}}".replace("-", "−") for one in numbers)
        parts = {
            f"95 % interval {low} to {high}": not math.isnan(self.low),
            f"threshold {threshold}": self.threshold,
            f"training seeds: {self.seeds}": self.seeds,
            f"images: {self.images:,}": self.images,
            self.detail: self.detail,
        }
        behind = "; ".join(part for part, said in parts.items() if said)
        return f"{value} {self.unit} ({behind})"

    def __str__(self) -> str:
        return f"{self.what}: {self.numbers}"


@dataclass(frozen=True)
class Finding:
    """What a test of a claim found: a verdict, and the effects behind it, the decisive one first.

    Intervals are over other training seeds, or over other images for these very networks.
    `missing` are runs and records that belong to it and are not there, or cannot be used.
    """

    summary: str
    verdict: Verdict = "too little data"
    unit: Unit = "seeds"
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, tested: its name, what it says and where, and the finding."""

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

    @property
    def width(self) -> float:
        """The width of the network."""
        return parse_architecture(self.architecture).width

    @property
    def titles(self) -> dict[str, str]:
        """What it is, thing by thing, in words."""
        shape, method = parse_architecture(self.architecture), METHODS.get(self.method)
        return {
            "dataset": dataset_facts(self.dataset).title,
            "method": _OTHERS.get(self.method, self.method) if method is None else method.title,
            "lambda": f"λ={self.lam:g}",
            "kind": shape.title,
            "width": width_label(self.architecture),
            "attack": self.attack,
        }


@dataclass(frozen=True)
class Group:
    """The networks of one key: a number of each, and the images behind it, by training seed."""

    by_seed: Mapping[int, float] = field(default_factory=dict)
    images: Mapping[int, ImageMask] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def sample(self) -> Sample:
        """Mean and standard deviation over seeds."""
        return sample(list(self.by_seed.values()))


def missing_of(groups: Iterable[Group]) -> tuple[str, ...]:
    """Return what is missing in several groups, each line once."""
    return tuple(dict.fromkeys(line for group in groups for line in group.missing))


def conclude(
    effects: Sequence[Effect],
    verdicts: Sequence[Verdict],
    judged: int,
    planned: int,
    missing: tuple[str, ...],
    unit: Unit = "seeds",
    *sentences: str,
) -> Finding:
    """Put together what was found: a claim fails if one part does, and holds if all is there."""
    if not effects:
        return Finding("Too few of its runs or measured epochs are there yet.", missing=missing)
    verdict: Verdict = "fails" if "fails" in verdicts else "too little data"
    if judged == planned and set(verdicts) == {"holds"}:
        verdict = "holds"
    part = [f"So far judged on {judged} of {planned}."] if judged < planned else []
    shown = sentences or [f"{effect}." for effect in effects if effect.threshold is not None]
    over = [_OVER_IMAGES] if unit == "images" else []
    return Finding(" ".join([*part, *shown, *over]), verdict, unit, tuple(effects), missing)


def where(key: Key, groups: Iterable[Key], things: Sequence[str]) -> str:
    """Name some things of a key: data set, kind and attack where others have another."""
    several = {title for one in groups for title in one.titles.items()} - set(key.titles.items())
    others = {thing for thing, _ in several} | {"method", "lambda", "width"}
    return ", ".join(key.titles[thing] for thing in things if thing in others)


# what a number is read from: a run's histories, or a record of our or a published network
Source = Cell | Item


def key_of(source: Source) -> tuple[Key, int]:
    """Return the key of a run or an evaluation, and its training seed; 0 of a published network."""
    if isinstance(source, PublishedEvaluation):
        network = source.architecture or ""
        return Key(source.dataset, network, source.name, 0.0, source.attack), 0
    cell, attack = (source, "") if isinstance(source, Cell) else (source.cell, source.attack)
    return Key(cell.dataset, cell.architecture, cell.method, cell.lam, attack), cell.seed


class Evidence:
    """The records and histories of a configuration, each read once, when it is asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.groups = cache(self._groups)
        self._find = cache(partial(find_record, config))
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
            key, seed = key_of(source)
            planned.setdefault(key, {}).setdefault(seed, []).append(source)
        groups = {key: self._group(by_seed, metric) for key, by_seed in planned.items()}
        seeds = {seed for by_seed in planned.values() for seed in by_seed}
        for key, group in groups.items():
            if key.method not in METHODS:
                # the one published network is compared with ours of every training seed
                images = {seed: mask for seed in seeds for mask in group.images.values()}
                groups[key] = replace(group, images=images)
        if isinstance(self.grid(experiment), TuningTable):
            groups |= self._strategies(experiment, metric, groups)
        return groups

    def _sources(self, experiment: str, metric: str) -> Sequence[Source]:
        """Return what a metric of a table or figure is read from."""
        plan, grid = find_experiment(self.config, experiment), self.grid(experiment)
        if METRICS[metric].source in ("record", "run"):
            # networks of other families are none that ours are compared with
            others = [item for item in plan.published if item.architecture]
            return [*plan.evaluations, *others]
        if not isinstance(grid, Curves):
            return plan.cells
        cells = curve_cells(grid)
        if metric == "late_fall" and self.config.train_of("trades").schedule == "exp":
            # with Figure 3's runs those of the exp schedule
            planned = planned_runs(self.config)
            exp = [replace(cell, method="trades") for cell in cells]
            cells += [cell for cell in exp if cell in planned]
        return list(dict.fromkeys(cells))

    def _group(self, sources: Mapping[int, Sequence[Source]], metric: str) -> Group:
        values: dict[int, float] = {}
        images: dict[int, ImageMask] = {}
        missing: list[str] = []
        for seed, starts in sources.items():
            masks: list[ImageMask] = []
            for source in starts:
                try:
                    found = self.measure(source, metric)
                except HarnessError as error:
                    missing.append(str(error))
                    continue
                if isinstance(found, ImageMask):
                    masks.append(found)
                else:  # of a run, whatever is started anew
                    values[seed] = found
            if len(masks) == len(starts):
                # the images of one network that survive the attack from all its starts
                first = masks[0]
                index, mask = worst_case([(one.index, one.mask) for one in masks])
                label = first.label[np.isin(first.index, index)]
                images[seed] = replace(first, index=index, label=label, mask=mask)
                values[seed] = float(100 * images[seed].mask.mean())
        return Group(values, images, tuple(missing))

    def measure(self, source: Source, metric: str) -> float | ImageMask:
        """Return a metric of a run, or the images that count for it; HarnessError without one."""
        rule = METRICS[metric]
        if isinstance(source, Cell):
            train, histories = self.config.train_of(source.method), self._histories(source)
            frame = getattr(histories, rule.source)
            if frame.empty or frame["epoch"].max() < train.epochs:
                lost = f"{source} has no {rule.source} to its last epoch"
                raise HarnessError("; ".join(histories.missing) or lost)
            number = float(rule.take(frame, train))
            if math.isfinite(number):
                return number
            raise HarnessError(
                f"{source}: the numbers in its {rule.source} are too few or not finite"
            )
        found = self._find(source)
        record = found.required()
        if rule.source == "run":
            return float(rule.take(found.run))
        mask = rule.take(record)
        if mask is None:
            raise HarnessError(f"the record of {_title(source)} tells no {metric}")
        return ImageMask(_title(source), source.dataset, record.index, record.label, mask)

    def full_records(self) -> tuple[dict[str, Metrics], tuple[str, ...]]:
        """Return the metrics of every record of an attack on all images, and what is missing."""
        items: dict[Item, None] = {}
        for name in experiment_names(self.config):
            plan = find_experiment(self.config, name)
            items |= dict.fromkeys([*plan.evaluations, *plan.published])
        found, missing = {}, []
        for item in items:
            try:
                record = self._find(item).required()
            except HarnessError as error:
                missing.append(str(error))
                continue
            if record.info["every_image"]:
                found[_title(item)] = record.metrics
        return found, tuple(missing)

    def _strategies(
        self, experiment: str, metric: str, groups: Mapping[Key, Group]
    ) -> dict[Key, Group]:
        """Return the untuned networks of Table 3, and those of the best lambda of the search."""
        grid: TuningTable = self.grid(experiment)
        robust = groups
        if metric != "robust_accuracy":
            robust = self.groups(experiment, "robust_accuracy")
        runs = [
            (Cell(*key[:4], seed).id, value)
            for key, group in robust.items()
            for seed, value in group.by_seed.items()
            if key.method == "trades"
        ]
        frame = pd.DataFrame(runs, columns=["model", "robust_accuracy"])
        found = {}
        for war in [key for key in groups if key.method == "war"]:
            own = war._replace(method="trades")
            untuned = own._replace(lam=grid.untuned)
            found[untuned._replace(method="untuned")] = groups[untuned]
            trials = [searched_cells(grid, war.architecture, lam) for lam in grid.lambdas]
            if best := best_trial(frame, trials):
                chosen = own._replace(lam=best[0].lam)
                found[chosen._replace(method="manual")] = groups[chosen]
            else:
                # what Table 3 is measured under; histories have no attack
                tried = [robust[own._replace(lam=lam, attack="pgd20")] for lam in grid.lambdas]
                found[own._replace(method="manual", lam=0.0)] = Group(missing=missing_of(tried))
        return found


def _title(item: Item) -> str:
    """Name a record."""
    checkpoint = item.checkpoint if isinstance(item, Evaluation) else "published"
    return f"{item.attack} with seed {item.seed} on {item.model}, {checkpoint}"
