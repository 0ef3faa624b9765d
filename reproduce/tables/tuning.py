"""Table 3: strategies of tuning lambda and what they cost, by the paper's accounting."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.grids import TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import searched_cells, untuned_cells, war_cells
from reproduce.experiments.spec import zeta_source
from reproduce.registry import dataset_facts, parse_architecture, width_label
from reproduce.results.frames import Results
from reproduce.tables.layout import (
    Column,
    Entry,
    Layout,
    Row,
    attack_title,
    by_seed,
    entry_of,
    fewest_images,
    paper_number,
    single,
)

STRATEGIES = {"untuned": "untuned", "manual": "manual", "war": "WAR"}
_METRICS = ("lambda", "robust_accuracy", "gpu_hours")


@dataclass(frozen=True)
class Strategy:
    """One way to choose lambda for one network, and what came of it."""

    architecture: str
    # a key of `STRATEGIES`
    name: str
    # the rows of `Results.frame` of the lambda it ended with
    rows: pd.DataFrame
    # of one run of this network; for the search by hand of all its trials
    run_hours: float
    # of tuning the thin network, which this strategy also needs
    thin_hours: float

    @property
    def hours(self) -> float:
        """Hours in all; NaN while a part of them is missing."""
        return self.run_hours + self.thin_hours


def compare_strategies(config: Config, grid: TuningTable, results: Results) -> list[Strategy]:
    """Return every strategy for every network, in the order of the paper's rows.

    A run costs the mean over its seeds.  Of the thin network only the run that was best is trained
    here: its tuning counts as that run once for each lambda of the search.
    """

    def rows(cells: Sequence[Cell]) -> pd.DataFrame:
        return results.frame[results.frame["model"].isin([cell.id for cell in cells])]

    def hours(cells: Sequence[Cell]) -> float:
        return float(rows(cells)["device_hours"].mean())

    # the thin network that zeta is measured from; there is none where zeta is given
    thin = zeta_source(config, war_cells(grid, grid.architectures[0])[0])
    thin_hours = 0.0 if thin is None else hours([thin]) * len(grid.lambdas)
    strategies = []
    for name in grid.architectures:
        untuned, war = untuned_cells(grid, name), war_cells(grid, name)
        trials = [searched_cells(grid, name, lam) for lam in grid.lambdas]
        best, searched = best_trial(results.frame, trials), sum(map(hours, trials))
        strategies += [
            Strategy(name, "untuned", rows(untuned), hours(untuned), thin_hours),
            Strategy(name, "manual", rows(best), searched, 0.0),
            Strategy(name, "war", rows(war), hours(war), thin_hours),
        ]
    return strategies


def best_trial(frame: pd.DataFrame, trials: Sequence[Sequence[Cell]]) -> Sequence[Cell]:
    """Return the runs of the highest mean robust accuracy; none before all are complete."""
    accuracies = frame.set_index("model")["robust_accuracy"]
    if any(cell.id not in accuracies.index for trial in trials for cell in trial):
        return ()
    return max(trials, key=lambda trial: accuracies[[cell.id for cell in trial]].mean())


def tuning_layout(config: Config, grid: TuningTable, results: Results) -> Layout:
    """Rows by network and strategy; ours and the paper's lambda, accuracy and hours."""
    attack = attack_title(config, "pgd20")
    columns = [
        Column("λ", "lambda", "Ours", "λ", ranked=False),
        Column(attack, "robust_accuracy", "Ours", attack),
        Column("Runs (h)", "run_hours", "Ours", "Runs (h)", ranked=False),
        Column("Thin net (h)", "thin_hours", "Ours", "Thin net (h)", ranked=False),
        Column("Hours", "hours", "Ours", "Hours", ranked=False),
        Column("λ (paper)", "paper lambda", "Paper", "λ", ranked=False),
        Column(f"{attack} (paper)", "paper robust_accuracy", "Paper", attack),
        Column("GPU-hours (paper)", "paper gpu_hours", "Paper", "GPU-hours", ranked=False),
    ]
    strategies = compare_strategies(config, grid, results)
    # the hours of small networks need more decimals
    longest = max((s.hours for s in strategies if not math.isnan(s.hours)), default=1.0)
    digits = 2 if longest >= 1 else 4
    rows = []
    for found in strategies:
        keys = {"architecture": found.architecture, "tuning": found.name}
        labels = (width_label(found.architecture), STRATEGIES[found.name])
        title = parse_architecture(found.architecture).title
        entries = _entries(grid, found, digits)
        rows.append(Row(title, labels, keys, entries, found.architecture))
    if not any(entry.sample.n for row in rows for entry in row.entries[5:]):
        # the paper has no such networks
        columns = columns[:5]
        for row in rows:
            del row.entries[5:]
    return Layout(("width", "Tuning"), columns, rows)


def _entries(grid: TuningTable, found: Strategy, digits: int) -> list[Entry]:
    """Return the numbers of one strategy: ours, then the paper's."""
    seeds, images = len(grid.seeds), fewest_images(found.rows)
    named = {"dataset": grid.dataset, "architecture": found.architecture, "method": found.name}
    lam, robust, hours = (
        {"key": (*named.values(), None, "pgd20", metric), "images": images} for metric in _METRICS
    )
    accuracies = by_seed(found.rows, "robust_accuracy")
    return [
        entry_of(by_seed(found.rows, "final_lambda"), seeds, **lam),
        entry_of(accuracies, seeds, total=dataset_facts(grid.dataset).test, **robust),
        single(found.run_hours, digits=digits),
        single(found.thin_hours, digits=digits),
        single(found.hours, digits=digits, **hours),
        *(single(paper_number("table3", **named, metric=metric)) for metric in _METRICS),
    ]
