"""What each table needs: cells, attacks and attack seeds.  The one place that knows grids."""

from dataclasses import dataclass

from reproduce.cells import Cell
from reproduce.config import AttackTable, Checkpoint, Config, Grid
from reproduce.errors import HarnessError


@dataclass(frozen=True)
class Evaluation:
    """One attack on one checkpoint."""

    cell: Cell
    checkpoint: Checkpoint
    attack: str
    seed: int


@dataclass(frozen=True)
class Experiment:
    """A table: what it is called, which metrics it shows, and what it is made from."""

    name: str
    title: str
    metrics: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The training runs behind the evaluations, each once."""
        return tuple(dict.fromkeys(evaluation.cell for evaluation in self.evaluations))


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
    table1, table2 = config.experiments.table1, config.experiments.table2
    if name == "table1" and table1 is not None:
        return _table1(config, table1)
    if name == "table2" and table2 is not None:
        return _table2(config, table2)
    known = ", ".join(experiment_names(config))
    raise HarnessError(f"unknown experiment {name!r}; the configuration has: {known}")


def _table1(config: Config, grid: Grid) -> Experiment:
    """Three metrics under PGD-20 by lambda and width, over training seeds."""
    return Experiment(
        "table1",
        "The three metrics under PGD-20 by lambda and width",
        ("robust_accuracy", "natural_accuracy", "perturbation_stability"),
        tuple(
            Evaluation(cell, config.eval.checkpoint, "pgd20", seed=0) for cell in grid_cells(grid)
        ),
    )


def _table2(config: Config, grid: AttackTable) -> Experiment:
    """Robust accuracy of one training run each, over attacks and their random starts."""
    return Experiment(
        "table2",
        "Robust accuracy under different attacks",
        ("robust_accuracy",),
        tuple(
            Evaluation(cell, config.eval.checkpoint, attack, seed)
            for cell in attack_table_cells(grid)
            for attack in grid.attacks
            for seed in grid.attack_seeds
        ),
    )


def grid_cells(grid: Grid) -> list[Cell]:
    """Return every combination of the axes of Table 1."""
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
