"""What each table needs: cells, attacks and attack seeds.  The one place that knows grids."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from reproduce.cells import Cell, parse_cell
from reproduce.config import (
    AttackTable,
    Checkpoint,
    ComparisonTable,
    Config,
    Grid,
    TuningTable,
)
from reproduce.errors import HarnessError
from reproduce.specs import thin_cell


@dataclass(frozen=True)
class Evaluation:
    """One attack on one checkpoint."""

    cell: Cell
    checkpoint: Checkpoint
    attack: str
    seed: int


@dataclass(frozen=True)
class PublishedEvaluation:
    """One attack on a published checkpoint of RobustBench's zoo."""

    name: str
    dataset: str
    attack: str
    seed: int


@dataclass(frozen=True)
class Experiment:
    """A table: what it is called, which metrics it shows, and what it is made from.

    Attributes
    ----------
    name, title : str
        The name of its target, and its heading.
    metrics : tuple of str
        The metrics it shows.
    evaluations : tuple of Evaluation
        The attacked checkpoints.
    cells : tuple of Cell
        Every training run behind it, those first that others are made from.
    published : tuple of PublishedEvaluation
        The attacked checkpoints that come from elsewhere.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    cells: tuple[Cell, ...]
    published: tuple[PublishedEvaluation, ...] = ()


def experiment_names(config: Config) -> tuple[str, ...]:
    """Name the experiments of a configuration."""
    return tuple(name for name, grid in config.experiments if grid is not None)


def find_experiment(config: Config, name: str) -> Experiment:
    """Return an experiment by name.

    Raises
    ------
    HarnessError
        If the configuration has none of that name.
    """
    grid = getattr(config.experiments, name, None) if name in _TABLES else None
    if grid is None:
        known = ", ".join(experiment_names(config))
        raise HarnessError(f"unknown experiment {name!r}; the configuration has: {known}")
    table = _TABLES[name]
    evaluations = tuple(dict.fromkeys(table.evaluations(config, grid)))
    cells = training_runs(config, (item.cell for item in evaluations))
    published = published_evaluations(grid) if isinstance(grid, ComparisonTable) else ()
    return Experiment(name, table.title, table.metrics, evaluations, cells, published)


def training_runs(config: Config, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells and the runs they need trained first, each once, those first."""
    found: dict[Cell, None] = {}
    for cell in cells:
        thin = thin_cell(config, cell)
        found |= {run: None for run in (thin, cell) if run is not None}
    return tuple(found)


def grid_cells(grid: Grid) -> list[Cell]:
    """Return every combination of the axes of a table of the three metrics."""
    return [
        Cell(grid.dataset, architecture, method, lam, seed)
        for method, lams in grid.methods.items()
        for lam in lams
        for architecture in grid.architectures
        for seed in grid.seeds
    ]


def attack_table_cells(grid: AttackTable) -> list[Cell]:
    """Return every training run of Table 2, row by row."""
    return [
        Cell(dataset, architecture, grid.method, lam, grid.training_seed)
        for dataset, architectures in grid.architectures.items()
        for architecture in architectures
        for lam in grid.lambdas
    ]


def untuned_cells(grid: TuningTable, architecture: str) -> list[Cell]:
    """Return the runs of one network that take lambda over from the thin one."""
    return [Cell(grid.dataset, architecture, "trades", grid.untuned, seed) for seed in grid.seeds]


def searched_cells(grid: TuningTable, architecture: str, lam: float) -> list[Cell]:
    """Return the runs of one network with one lambda of the search by hand."""
    return [Cell(grid.dataset, architecture, "trades", lam, seed) for seed in grid.seeds]


def war_cells(grid: TuningTable, architecture: str) -> list[Cell]:
    """Return the runs of one network whose lambda WAR chooses, from 0 on."""
    return [Cell(grid.dataset, architecture, "war", 0.0, seed) for seed in grid.seeds]


def traced_cells(config: Config) -> list[Cell]:
    """Return the runs whose traces show what WAR does: WAR's, and those it is held against.

    Raises
    ------
    HarnessError
        If Table 3, whose runs they are, is left out.
    """
    grid = config.experiments.table3
    if grid is None:
        raise HarnessError("figure war shows runs of table3, which this configuration leaves out")
    return [
        cell
        for architecture in grid.architectures
        for cell in (*war_cells(grid, architecture), *untuned_cells(grid, architecture))
    ]


def _grid_evaluations(config: Config, grid: Grid) -> list[Evaluation]:
    checkpoint = grid.checkpoint or config.eval.checkpoint
    return [Evaluation(cell, checkpoint, grid.attack, seed=0) for cell in grid_cells(grid)]


def _attack_evaluations(config: Config, grid: AttackTable) -> list[Evaluation]:
    return [
        Evaluation(cell, config.eval.checkpoint, attack, seed)
        for cell in attack_table_cells(grid)
        for attack in grid.attacks
        for seed in grid.attack_seeds
    ]


def _tuning_evaluations(config: Config, grid: TuningTable) -> list[Evaluation]:
    cells = [
        cell
        for architecture in grid.architectures
        for runs in (
            untuned_cells(grid, architecture),
            *(searched_cells(grid, architecture, lam) for lam in grid.lambdas),
            war_cells(grid, architecture),
        )
        for cell in runs
    ]
    # the thin networks stand in the table as well: their tuning is part of the cost
    return [
        Evaluation(cell, config.eval.checkpoint, "pgd20", seed=0)
        for cell in training_runs(config, cells)
    ]


def published_evaluations(grid: ComparisonTable) -> tuple[PublishedEvaluation, ...]:
    """Return the attacks on published checkpoints of Table 4, row by row."""
    return tuple(
        PublishedEvaluation(name, grid.dataset, grid.attack, seed=0) for name in grid.published
    )


def comparison_evaluations(_: Config, grid: ComparisonTable) -> list[Evaluation]:
    """Return the attacks on runs of this harness of Table 4, row by row."""
    return [
        Evaluation(parse_cell(cell), checkpoint, grid.attack, seed=0)
        for cell, checkpoint in grid.trained.items()
    ]


@dataclass(frozen=True)
class _Table:
    title: str
    metrics: tuple[str, ...]
    evaluations: Callable[[Config, Any], list[Evaluation]]


_THREE = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
_IMAGENET = ("robust_accuracy", "top5_natural_accuracy", "perturbation_stability")
_TABLES = {
    "table1": _Table("The three metrics by lambda and width", _THREE, _grid_evaluations),
    "table2": _Table("Robust accuracy under different attacks", _THREE[:1], _attack_evaluations),
    "table3": _Table("Strategies of tuning lambda", _THREE[:1], _tuning_evaluations),
    "table4": _Table("Comparison under AutoAttack", _THREE[:1], comparison_evaluations),
    "table5": _Table("Fast adversarial training on ImageNet", _IMAGENET, _grid_evaluations),
    "table6": _Table("Adversarial weight perturbation by lambda", _THREE, _grid_evaluations),
}
