"""What stands where in each table: the paper's rows and columns, filled with samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Interval, Sample, sample, subset_interval
from reproduce.catalogue import METHODS, dataset_facts, parse_architecture
from reproduce.cells import Cell
from reproduce.config import AttackTable, AutoAttack, Config, Grid, PGDAttack
from reproduce.errors import HarnessError
from reproduce.evaluation import METRICS, worst_case
from reproduce.experiments import Experiment, attack_table_cells

_LONG = {
    "robust_accuracy": "Robust accuracy (%)",
    "natural_accuracy": "Natural accuracy (%)",
    "perturbation_stability": "Perturbation stability (%)",
}
_SHORT = {
    "robust_accuracy": "Robust",
    "natural_accuracy": "Natural",
    "perturbation_stability": "Stability",
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


@dataclass(frozen=True)
class Entry:
    """One number: the sample behind it, how many values were planned, what a subset leaves."""

    sample: Sample
    planned: int
    interval: Interval | None = None

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
        return len(known) > 1 and entry.complete and entry.sample.mean == max(known)


def lay_out(config: Config, experiment: Experiment, results: Results) -> Layout:
    """Arrange an experiment's numbers as the paper's table does."""
    table1, table2 = config.experiments.table1, config.experiments.table2
    if experiment.name == "table1" and table1 is not None:
        return _table1(config, table1, results)
    if experiment.name == "table2" and table2 is not None:
        return _table2(config, table2, results)
    raise HarnessError(f"there is no layout of {experiment.name!r}")


def _table1(config: Config, grid: Grid, results: Results) -> Layout:
    """Sections by method, rows by lambda, columns by metric and width."""
    total = dataset_facts(grid.dataset).test
    mark = _mark(config, ["pgd20"])
    columns = [
        Column(
            f"{_SHORT[metric]} {width(name)}{mark}",
            f"{metric} {name}",
            _LONG[metric],
            f"{width(name)}{mark}",
        )
        for metric in METRICS
        for name in grid.architectures
    ]
    rows, entries = [], []
    for method, lams in grid.methods.items():
        title = METHODS[method].title
        for lam in lams:
            rows.append(Row(title, (f"{lam:g}",), {"method": method, "lambda": lam}, title))
            chosen = results.frame[
                (results.frame["method"] == method) & (results.frame["lambda"] == lam)
            ]
            entries.append(
                [
                    _entry(chosen[chosen["architecture"] == name], metric, len(grid.seeds), total)
                    for metric in METRICS
                    for name in grid.architectures
                ]
            )
    note = (
        f"Mean ± sample standard deviation over {len(grid.seeds)} training seed(s); bold: best "
        "of a column within its method."
    )
    return Layout(("λ",), rows, columns, entries, [note])


def _table2(config: Config, grid: AttackTable, results: Results) -> Layout:
    """Sections by data set, rows by network and lambda, columns by attack, then the worst case."""
    titles = {name: attack_title(config, name) for name in grid.attacks}
    titles["worst case"] = f"Worst case{_mark(config, grid.attacks)}"
    group = _LONG["robust_accuracy"]
    columns = [Column(title, name, group, title) for name, title in titles.items()]
    rows, entries = [], []
    for cell in attack_table_cells(grid):
        facts, shape = dataset_facts(cell.dataset), parse_architecture(cell.architecture)
        keys = {
            "dataset": cell.dataset,
            "architecture": cell.architecture,
            "method": cell.method,
            "lambda": cell.lam,
        }
        labels = (shape.title, width(cell.architecture), f"{cell.lam:g}")
        rows.append(Row(facts.title, labels, keys, f"{cell.dataset} {shape.model}"))
        frame = results.frame[
            (results.frame["dataset"] == cell.dataset)
            & (results.frame["architecture"] == cell.architecture)
            & (results.frame["lambda"] == cell.lam)
        ]
        seeds = len(grid.attack_seeds)
        line = [
            _entry(frame[frame["attack"] == name], "robust_accuracy", seeds, facts.test)
            for name in grid.attacks
        ]
        planned = seeds * len(grid.attacks)
        entries.append([*line, _worst_case(results, cell, planned, facts.test)])
    notes = [
        f"{METHODS[grid.method].title}, training seed {grid.training_seed}; mean ± sample "
        f"standard deviation over {len(grid.attack_seeds)} random start(s) of each attack; bold: "
        "best of a column within its kind of network.",
        "Worst case: images that hold under every attack and start of the row, the minimum per "
        "example, on the images that all of them saw.",
    ]
    return Layout(("Network", "width", "λ"), rows, columns, entries, notes)


def _entry(frame: pd.DataFrame, metric: str, planned: int, total: int) -> Entry:
    found = sample(frame[metric].tolist())
    images = int(frame["images"].min()) if len(frame) else total
    return Entry(found, planned, subset_interval(found.mean, images, total))


def _worst_case(results: Results, cell: Cell, planned: int, total: int) -> Entry:
    """Return the share of images that no attack broke: one number, without a deviation."""
    held = list(results.of_cell(cell).values())
    if not held:
        return Entry(Sample(math.nan, math.nan, 0), planned)
    _, robust = worst_case(held)
    mean = 100 * float(robust.mean())
    found = Sample(mean, math.nan, len(held))
    return Entry(found, planned, subset_interval(mean, len(robust), total))


def width(architecture: str) -> str:
    """Write a network's width as the paper does."""
    shape = parse_architecture(architecture)
    return f"{'w' if shape.family == 'wrn' else 'k'}={shape.width:g}"


def attack_title(config: Config, name: str) -> str:
    """Head a column with an attack; partial evaluations are marked."""
    attack = config.eval.attacks[name]
    if isinstance(attack, PGDAttack):
        title = "C&W" if attack.loss == "margin" else f"PGD-{attack.steps}"
    else:
        title = {"fab": "FAB", "square": "Square", "autoattack": "AutoAttack"}[attack.kind]
    return title + _mark(config, [name])


def _mark(config: Config, names: Sequence[str]) -> str:
    """Return what marks numbers that some attack of several makes partial."""
    attacks = [config.eval.attacks[name] for name in names]
    preview = any(isinstance(a, AutoAttack) and a.version == "preview" for a in attacks)
    images = min((a.images for a in attacks if a.images is not None), default=None)
    marks = ["preview"] * preview + ([] if images is None else [f"n={images}"])
    return f" ({', '.join(marks)})" if marks else ""


def partial_notes(config: Config, attacks: Sequence[str], results: Results) -> list[str]:
    """Say which attacks ran in part, or saw a part of the images, and what that leaves."""
    notes = []
    for name in attacks:
        attack = config.eval.attacks[name]
        if isinstance(attack, AutoAttack) and attack.version == "preview":
            notes.append(f"{name} is a preview: the two APGD attacks, an upper bound.")
    seen: dict[tuple[int, int], tuple[dict[str, None], dict[str, None]]] = {}
    columns = results.frame[["dataset", "attack", "images"]]
    for dataset, attack_name, images in columns.itertuples(index=False, name=None):
        facts = dataset_facts(dataset)
        names, titles = seen.setdefault((images, facts.test), ({}, {}))
        names[attack_name] = titles[facts.title] = None
    for (images, total), (names, titles) in seen.items():
        interval = subset_interval(50.0, images, total)
        if interval is not None:
            notes.append(
                f"{', '.join(names)} on {', '.join(titles)}: {images} of {total} test images, "
                "every class in its proportion; the 95 % interval of a number for all is up to "
                f"± {(interval.high - interval.low) / 2:.1f} points (each in the csv)."
            )
    return notes
