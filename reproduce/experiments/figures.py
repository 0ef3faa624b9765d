"""The grids of the figures, turned into training runs and attacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reproduce.cells import Cell
from reproduce.config import ComparisonTable, Config, Curves, TuningTable
from reproduce.experiments.experiment import Evaluation
from reproduce.experiments.tables import comparison_evaluations, untuned_cells, war_cells


def curve_cells(grid: Curves) -> list[Cell]:
    """Return every training run of a figure that follows training, by lambda, width and seed."""
    return [
        Cell(grid.dataset, architecture, grid.method, lam, seed)
        for lam in grid.lambdas
        for architecture in grid.architectures
        for seed in grid.seeds
    ]


def traced_cells(grid: TuningTable) -> list[Cell]:
    """Return the runs whose traces show what WAR does: WAR's, and those it is held against."""
    return [
        cell
        for architecture in grid.architectures
        for cell in (*war_cells(grid, architecture), *untuned_cells(grid, architecture))
    ]


def _no_cells(_: ComparisonTable) -> list[Cell]:
    return []


def _no_evaluations(_: Config, __: Curves) -> list[Evaluation]:
    return []


def _set_evaluations(config: Config, grid: Curves) -> list[Evaluation]:
    """Return the attacks that tell which images are right, and which are stable."""
    checkpoint = config.eval.checkpoint
    return [Evaluation(cell, checkpoint, "pgd20", seed=0) for cell in curve_cells(grid)]


@dataclass(frozen=True)
class Figure:
    """A figure's title, and what turns its grid into training runs and into attacks."""

    title: str
    cells: Callable[[Any], list[Cell]]
    evaluations: Callable[[Config, Any], list[Evaluation]]


def _curves(title: str) -> Figure:
    return Figure(title, curve_cells, _no_evaluations)


_BOTH = "Natural risk and robust regularisation during training"
FIGURES = {
    "figure1": _curves(_BOTH),
    "figure2": Figure(
        "Robust images are the correct and stable ones", curve_cells, _set_evaluations
    ),
    "figure3": _curves("The three metrics over epochs, and at the best epoch by width"),
    "figure4": _curves("Local Lipschitz constant during training"),
    "figure6": Figure(
        "Natural accuracy and stability of trained networks", _no_cells, comparison_evaluations
    ),
    "figure7": _curves(f"{_BOTH}, by lambda"),
    "figure8": _curves(f"{_BOTH}, by lambda"),
    "figure9": _curves(f"{_BOTH}, by lambda"),
}
