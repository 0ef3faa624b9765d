"""Strategies of tuning lambda and what they cost, by the paper's accounting (Table 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.grids import TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import searched_cells, untuned_cells, war_cells
from reproduce.experiments.spec import zeta_source
from reproduce.results.frames import Results
from reproduce.tables.layout import by_seed

STRATEGIES = {"untuned": "untuned", "manual": "manual", "war": "WAR"}


@dataclass(frozen=True)
class Strategy:
    """One way to choose lambda for one network, and what came of it."""

    architecture: str
    # a key of `STRATEGIES`
    name: str
    # the lambda it ended with (mean over the last epoch) and robust accuracy in percent, by seed
    lambdas: dict[str, float]
    accuracies: dict[str, float]
    # test images attacked; 0 where nothing is there
    images: int
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

    Hours are counted as the paper prints them.  Untuned and WAR cost one run, and the
    tuning of the thin network; the search by hand costs one run for each lambda.  A run
    costs the mean over its seeds.  Of the thin network only the run that was best is
    trained here, so its tuning counts as that run once for each lambda of the search.
    The search chooses the lambda with the highest mean, once all of its runs are there.
    """
    frame, strategies = results.frame, []
    # the thin network that zeta is measured from; there is none where zeta is given
    thin = zeta_source(config, war_cells(grid, grid.architectures[0])[0])
    thin_hours = 0.0 if thin is None else _hours(frame, [thin]) * len(grid.lambdas)
    for architecture in grid.architectures:
        untuned, war = untuned_cells(grid, architecture), war_cells(grid, architecture)
        trials = [searched_cells(grid, architecture, lam) for lam in grid.lambdas]
        searched = sum(_hours(frame, trial) for trial in trials)
        for name, cells, run_hours, shared_hours in (
            ("untuned", untuned, _hours(frame, untuned), thin_hours),
            ("manual", _best(frame, trials), searched, 0.0),
            ("war", war, _hours(frame, war), thin_hours),
        ):
            rows = _of(frame, cells)
            strategies.append(
                Strategy(
                    architecture,
                    name,
                    by_seed(rows, "final_lambda"),
                    by_seed(rows, "robust_accuracy"),
                    int(rows["images"].min()) if len(rows) else 0,
                    run_hours,
                    shared_hours,
                )
            )
    return strategies


def _of(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the rows of some cells."""
    return frame[frame["model"].isin([cell.id for cell in cells])]


def _hours(frame: pd.DataFrame, cells: Sequence[Cell]) -> float:
    """Return the mean hours of a run; NaN where none is there yet."""
    return float(_of(frame, cells)["device_hours"].mean())


def _best(frame: pd.DataFrame, trials: Sequence[Sequence[Cell]]) -> Sequence[Cell]:
    """Return the trial of the highest mean robust accuracy; none before all are complete."""
    means = [_of(frame, trial)["robust_accuracy"].mean() for trial in trials]
    if any(len(_of(frame, trial)) < len(trial) for trial in trials):
        return ()
    return trials[means.index(max(means))]


def saved_hours(
    grid: TuningTable, strategies: Sequence[Strategy]
) -> dict[str, tuple[float, float]]:
    """Return how many times WAR's hours the search by hand costs, by network.

    The second number leaves out the thin network's tuning, which all widths share.
    """
    hours = {(found.architecture, found.name): found for found in strategies}
    found = {}
    for name in grid.architectures:
        manual, war = hours[name, "manual"].hours, hours[name, "war"]
        if not math.isnan(manual / (war.hours or math.nan)):
            found[name] = manual / war.hours, manual / war.run_hours
    return found
