"""A table before it is written: rows, columns, and the numbers where they meet."""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reproduce.analysis.statistics import Interval, Sample, sample, subset_interval

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
    # rows among which the best entry of a column is marked
    rivals: str


@dataclass(frozen=True)
class Column:
    """A column: its title, its name in the CSV, and how LaTeX heads it under a common head."""

    title: str
    key: str
    group: str
    member: str
    # whether the highest entry is marked as the best
    ranked: bool = True


@dataclass(frozen=True)
class Entry:
    """One number: the sample behind it, how many values were planned, what a subset leaves."""

    sample: Sample
    planned: int
    interval: Interval | None = None
    # decimals in which it is written
    digits: int = 2

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
    notes: list[str] = field(default_factory=list)

    def best(self, row: int, column: int) -> bool:
        """Say whether an entry is the highest of its column among its rivals that are complete."""
        means = [
            entries[column].sample.mean
            for other, entries in zip(self.rows, self.entries, strict=True)
            if other.rivals == self.rows[row].rivals and entries[column].complete
        ]
        known = [mean for mean in means if not math.isnan(mean)]
        entry = self.entries[row][column]
        ranked = self.columns[column].ranked and len(known) > 1
        return ranked and entry.complete and entry.sample.mean == max(known)


def metric_entry(frame: pd.DataFrame, metric: str, planned: int, total: int) -> Entry:
    """Return the entry of a metric from the evaluations of one cell of a table.

    Parameters
    ----------
    frame : pandas.DataFrame
        Rows of `Results.frame`.
    metric : str
        Name of the metric.
    planned : int
        How many evaluations there are to be.
    total : int
        Images of the whole test set.
    """
    found = sample(frame[metric].tolist())
    images = int(frame["images"].min()) if len(frame) else total
    return Entry(found, planned, subset_interval(found.mean, images, total))
