"""A table before it is written: rows, columns, and the numbers where they meet."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reproduce.config.attacks import AutoAttack
from reproduce.config.schema import Config
from reproduce.paper.published import published
from reproduce.registry import dataset_facts
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
MISSING = "–"
# what identifies a number of the paper, with its metric
KEYS = ("dataset", "architecture", "method", "lambda", "attack")
DiffKey = tuple[str, str, str, float | None, str, str]


@dataclass(frozen=True)
class Entry:
    """One number: the sample behind it, and how many values were planned."""

    sample: Sample
    planned: int = 1
    # the single values behind a mean: "seed 0" or "start 0" and the value
    values: Mapping[str, float] = field(default_factory=dict)
    # the row of the comparison with the paper: `KEYS` and the metric; None for what is only ours
    key: DiffKey | None = None
    # test images behind it, and in the whole test set where only some may have been attacked
    images: int = 0
    total: int = 0
    # decimals in which it is written
    digits: int = 2

    @property
    def complete(self) -> bool:
        """Whether all values that were planned are there."""
        return self.sample.n == self.planned

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the number for all images, where some were attacked."""
        return subset_interval(self.sample.mean, self.images, self.total)

    def text(self, plus_minus: str) -> str:
        """Write the number: 47.81 ± 0.09, with the count of values where some are missing."""
        mean, std, n = self.sample
        if not n:
            return MISSING
        text = f"{mean:.{self.digits}f}"
        if not math.isnan(std):
            text += f" {plus_minus} {std:.{self.digits}f}"
        return text if self.complete else f"{text} ({n}/{self.planned})"


@dataclass(frozen=True)
class Row:
    """A row: its section, its labels, its columns in the CSV, and an entry for each column."""

    section: str
    labels: tuple[str, ...]
    keys: dict[str, Any]
    entries: list[Entry]
    # the best entry of a column is marked among the rows of a rank group; the section if none
    rank_group: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, its name in the CSV, and how it is headed below a common head."""

    title: str
    key: str
    group: str
    member: str
    # whether the highest entry is marked as the best
    ranked: bool = True


@dataclass(frozen=True)
class Layout:
    """A table before it is written."""

    labels: tuple[str, ...]
    columns: list[Column]
    rows: list[Row]

    def best(self, row: Row, column: int) -> bool:
        """Say whether an entry is the highest complete one of its column and rank group."""
        group = [
            other.entries[column].sample.mean
            for other in self.rows
            if (other.rank_group or other.section) == (row.rank_group or row.section)
            and other.entries[column].complete
        ]
        entry = row.entries[column]
        ranked = self.columns[column].ranked and entry.complete and len(group) > 1
        return ranked and entry.sample.mean == max(group)


def entry_of(values: Mapping[str, float], planned: int, **about: Any) -> Entry:
    """Return the entry of the mean of single values; `about` are fields of `Entry`."""
    return Entry(sample([*values.values()]), planned, values, **about)


def single(value: float, **about: Any) -> Entry:
    """Return the entry of one number, empty for NaN; `about` are fields of `Entry`."""
    return Entry(sample([] if math.isnan(value) else [value]), **about)


def metric_entries(
    frame: pd.DataFrame, keys: Iterable[DiffKey], planned: int, by: str = "training_seed"
) -> list[Entry]:
    """Return the entries of `keys` from `Results.frame`, means over the seeds in column `by`."""
    groups = dict(iter(frame.groupby(list(KEYS), sort=False)))
    entries = []
    for key in keys:
        rows = groups.get(key[:-1], frame.iloc[:0])
        about = {"images": fewest_images(rows), "total": dataset_facts(key[0]).test}
        entries.append(entry_of(by_seed(rows, key[-1], by), planned, key=key, **about))
    return entries


def fewest_images(rows: pd.DataFrame) -> int:
    """Return how many images all records of a frame have; 0 without one."""
    return int(rows["images"].min()) if len(rows) else 0


def rows_with(frame: pd.DataFrame, wanted: Mapping[str, object]) -> pd.DataFrame:
    """Return the rows of a frame with these values."""
    alike = pd.Series(data=True, index=frame.index)
    for name, value in wanted.items():
        alike &= frame[name] == value
    return frame[alike]


def paper_number(table: str, **wanted: object) -> float:
    """Return the number of a table of the paper in the row with these values; NaN if none has."""
    rows = rows_with(published(table), wanted)
    return float(rows["mean"].iloc[0]) if len(rows) else math.nan


def by_seed(frame: pd.DataFrame, column: str, by: str = "training_seed") -> dict[str, float]:
    """Return the numbers of a column by "seed 0", or "start 0" of an attack, and so on."""
    word = "seed" if by == "training_seed" else "start"
    numbers = zip(frame[by], frame[column].astype(float), strict=True)
    return {f"{word} {seed}": value for seed, value in numbers if not math.isnan(value)}


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
