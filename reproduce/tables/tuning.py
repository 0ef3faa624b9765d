"""Strategies of tuning lambda and what they cost, by the paper's accounting (Table 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reproduce.cell import Cell
from reproduce.config.grids import TuningTable
from reproduce.config.schema import Config
from reproduce.experiments.grids import searched_cells, untuned_cells, war_cells
from reproduce.experiments.spec import thin_cell
from reproduce.results.frames import Results
from reproduce.results.statistics import Sample, sample

STRATEGIES = {"untuned": "untuned", "manual": "manual", "war": "WAR"}


@dataclass(frozen=True)
class Strategy:
    """One way to choose lambda for one network, and what came of it.

    Attributes
    ----------
    architecture : str
        The network.
    name : str
        A key of `STRATEGIES`.
    lam, robust : Sample
        The lambda it ended with (mean over the last epoch) and robust accuracy in
        percent, over training seeds.
    planned : int
        Number of seeds.
    images : int
        Test images attacked; 0 where nothing is there.
    run_hours : float
        Hours of one run of this network; for the search by hand of all its trials.
    thin_hours : float
        Hours of tuning the thin network, which this strategy also needs.
    lambdas, accuracies : dict
        The values behind `lam` and `robust`, by "seed 0" and so on.
    """

    architecture: str
    name: str
    lam: Sample
    robust: Sample
    planned: int
    images: int
    run_hours: float
    thin_hours: float
    lambdas: dict[str, float]
    accuracies: dict[str, float]

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
    frame = results.frame
    thin = _hours(frame, _thin_cells(config, grid)) * len(grid.lambdas)
    strategies = []
    for architecture in grid.architectures:
        untuned = untuned_cells(grid, architecture)
        trials = [searched_cells(grid, architecture, lam) for lam in grid.lambdas]
        war = war_cells(grid, architecture)
        searched = sum(_hours(frame, trial) for trial in trials)
        found = (
            ("untuned", untuned, _hours(frame, untuned), thin),
            ("manual", _best(frame, trials), searched, 0.0),
            ("war", war, _hours(frame, war), thin),
        )
        for name, cells, run_hours, thin_hours in found:
            rows = _of(frame, cells)
            seeds = [f"seed {seed}" for seed in rows["training_seed"]]
            lambdas, accuracies = rows["final_lambda"].tolist(), rows["robust_accuracy"].tolist()
            strategies.append(
                Strategy(
                    architecture,
                    name,
                    sample(lambdas),
                    sample(accuracies),
                    len(grid.seeds),
                    int(rows["images"].min()) if len(rows) else 0,
                    run_hours,
                    thin_hours,
                    dict(zip(seeds, lambdas, strict=True)),
                    dict(zip(seeds, accuracies, strict=True)),
                )
            )
    return strategies


def _thin_cells(config: Config, grid: TuningTable) -> list[Cell]:
    """Return the thin network that zeta is measured from; none where zeta is given."""
    thin = thin_cell(config, war_cells(grid, grid.architectures[0])[0])
    return [] if thin is None else [thin]


def _of(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the rows of some cells."""
    keys = pd.MultiIndex.from_frame(
        frame[["dataset", "architecture", "method", "lambda", "training_seed"]]
    )
    wanted = [(c.dataset, c.architecture, c.method, c.lam, c.seed) for c in cells]
    return frame[keys.isin(wanted)]


def _hours(frame: pd.DataFrame, cells: Sequence[Cell]) -> float:
    """Return the mean hours of a run; 0 for no cells, NaN where none is there yet."""
    if not cells:
        return 0.0
    hours = _of(frame, cells)["hours"]
    return float(hours.mean()) if len(hours) else math.nan


def _best(frame: pd.DataFrame, trials: Sequence[Sequence[Cell]]) -> Sequence[Cell]:
    """Return the trial of the highest mean robust accuracy; none before all are complete."""
    if any(len(_of(frame, trial)) < len(trial) for trial in trials):
        return ()
    return max(trials, key=lambda trial: _of(frame, trial)["robust_accuracy"].mean())
