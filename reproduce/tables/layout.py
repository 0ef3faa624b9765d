"""What a table is before it is written: rows, columns, and the numbers where they meet."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reproduce.config.schema import AutoAttack, Config
from reproduce.results.statistics import Interval, Sample, sample, subset_interval

LONG = {
    "robust_accuracy": "Robust accuracy (%)",
    "natural_accuracy": "Natural accuracy (%)",
    "perturbation_stability": "Perturbation stability (%)",
    "top5_natural_accuracy": "Top-5 natural accuracy (%)",
}
SHORT = {
    "robust_accuracy": "Robust",
    "natural_accuracy": "Natural",
    "perturbation_stability": "Stability",
    "top5_natural_accuracy": "Natural top-5",
}


@dataclass(frozen=True)
class Row:
    """A row: the section it stands in, how it is labelled, and its columns in the CSV."""

    section: str
    labels: tuple[str, ...]
    keys: dict[str, Any]
    # the best entry of a column is marked among the rows of a rank group
    rank_group: str


@dataclass(frozen=True)
class Column:
    """A column: its title, its name in the CSV, and how LaTeX heads it under a common head."""

    title: str
    key: str
    group: str
    member: str
    # whether the highest entry is marked as the best
    ranked: bool = True


# data set, architecture, method, lambda, attack and metric of a row of `tables.diff`
DiffKey = tuple[str, str, str, float | None, str, str]


@dataclass(frozen=True)
class Entry:
    """One number: the sample behind it, how many values were planned, what a subset leaves."""

    sample: Sample
    planned: int
    interval: Interval | None = None
    # decimals in which it is written
    digits: int = 2
    # which row of the comparison with the paper it is; None for what is only ours
    key: DiffKey | None = None
    # the single values behind a mean: "seed 0" or "start 0" and the value
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all values that were planned are there."""
        return self.sample.n == self.planned


@dataclass(frozen=True)
class Layout:
    """A table before it is written; `entries` has a list of entries for every row."""

    labels: tuple[str, ...]
    rows: list[Row]
    columns: list[Column]
    entries: list[list[Entry]]
    notes: list[str]

    def best(self, row: int, column: int) -> bool:
        """Say whether an entry is the highest complete one of its column and rank group."""
        means = [
            entries[column].sample.mean
            for other, entries in zip(self.rows, self.entries, strict=True)
            if other.rank_group == self.rows[row].rank_group and entries[column].complete
        ]
        known = [mean for mean in means if not math.isnan(mean)]
        entry = self.entries[row][column]
        ranked = self.columns[column].ranked and len(known) > 1
        return ranked and entry.complete and entry.sample.mean == max(known)


def rows_with(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Return the rows of `Results.frame` with these values; `lam` stands for lambda."""
    for name, value in wanted.items():
        frame = frame[frame["lambda" if name == "lam" else name] == value]
    return frame


def entry_of(values: Mapping[str, float], planned: int, digits: int = 2) -> Entry:
    """Return the entry of the mean of single values."""
    return Entry(sample([*values.values()]), planned, digits=digits, values=values)


def single(value: float, key: DiffKey | None = None, digits: int = 2) -> Entry:
    """Return the entry of one number, empty for NaN."""
    found = Sample(math.nan, math.nan, 0) if math.isnan(value) else sample([value])
    return Entry(found, 1, digits=digits, key=key)


def by_seed(frame: pd.DataFrame, metric: str, by: str = "training_seed") -> dict[str, float]:
    """Return the values of a metric by "seed 0", or "start 0" of an attack, and so on."""
    word = "seed" if by == "training_seed" else "start"
    return {f"{word} {s}": v for s, v in zip(frame[by], frame[metric].tolist(), strict=True)}


def metric_entry(
    frame: pd.DataFrame, planned: int, total: int, key: DiffKey, by: str = "training_seed"
) -> Entry:
    """Return the entry of the metric that `key` ends with from rows of `Results.frame`.

    `planned` is how many there are to be, `total` the images of the whole test set, `by` the
    column of the seed that the mean is over.
    """
    values = by_seed(frame, key[-1], by)
    found = sample([*values.values()])
    images = int(frame["images"].min()) if len(frame) else total
    return Entry(found, planned, subset_interval(found.mean, images, total), 2, key, values)


def attack_title(config: Config, name: str) -> str:
    """Head a column with an attack; partial evaluations are marked."""
    return config.eval.attacks[name].title + mark(config, [name])


def mark(config: Config, names: Iterable[str]) -> str:
    """Return what marks numbers that some attack of several makes partial."""
    attacks = [config.eval.attacks[name] for name in names]
    marks = []
    if any(isinstance(attack, AutoAttack) and attack.version == "preview" for attack in attacks):
        marks.append("preview")
    if images := [attack.images for attack in attacks if attack.images is not None]:
        marks.append(f"n={min(images)}")
    return f" ({', '.join(marks)})" if marks else ""
