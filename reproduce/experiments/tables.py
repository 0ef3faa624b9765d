"""The grids of the tables, turned into training runs and attacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reproduce.catalogue import parse_architecture
from reproduce.cells import Cell, parse_cell
from reproduce.config import AttackTable, ComparisonTable, Config, Grid, PGDAttack, TuningTable
from reproduce.experiments.experiment import Evaluation, PublishedEvaluation, training_runs


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


def example_evaluations(config: Config) -> tuple[Evaluation, Evaluation] | None:
    """Return the attacks that adversarial examples are shown of: a narrow and a wide network's.

    The narrowest and the widest network of the first grid that has several widths and is
    attacked by our own PGD, with the grid's first method, lambda and seed.  None if no
    experiment is such a grid.
    """
    for _, grid in config.experiments:
        if isinstance(grid, Grid) and isinstance(config.eval.attacks[grid.attack], PGDAttack):
            shapes = [parse_architecture(name) for name in grid.architectures]
            alike = [shape for shape in shapes if shape.model == shapes[0].model]
            narrow, wide = (pick(alike, key=lambda shape: shape.width) for pick in (min, max))
            # those of the first method, its first lambda and the first seed come first
            first = {e.cell.architecture: e for e in reversed(_grid_evaluations(config, grid))}
            if narrow != wide:
                return first[str(narrow)], first[str(wide)]
    return None


@dataclass(frozen=True)
class Table:
    """A table's heading, its metrics, and what turns its grid into attacks."""

    title: str
    metrics: tuple[str, ...]
    evaluations: Callable[[Config, Any], list[Evaluation]]


_THREE = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
_IMAGENET = ("robust_accuracy", "top5_natural_accuracy", "perturbation_stability")
TABLES = {
    "table1": Table("The three metrics by lambda and width", _THREE, _grid_evaluations),
    "table2": Table("Robust accuracy under different attacks", _THREE[:1], _attack_evaluations),
    "table3": Table("Strategies of tuning lambda", _THREE[:1], _tuning_evaluations),
    "table4": Table("Comparison under AutoAttack", _THREE[:1], comparison_evaluations),
    "table5": Table("Fast adversarial training on ImageNet", _IMAGENET, _grid_evaluations),
    "table6": Table("Adversarial weight perturbation by lambda", _THREE, _grid_evaluations),
}
