"""What each table needs: cells, attacks and attack seeds.  The one place that knows grids."""

from dataclasses import dataclass

from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config, Grid
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
    """A table: what it is called, its grid, and every evaluation it is made from."""

    name: str
    title: str
    grid: Grid
    evaluations: tuple[Evaluation, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The training runs behind the evaluations, each once."""
        return tuple(dict.fromkeys(evaluation.cell for evaluation in self.evaluations))


def experiment_names(config: Config) -> tuple[str, ...]:
    """Name the experiments of a configuration."""
    return tuple(config.experiments)


def find_experiment(config: Config, name: str) -> Experiment:
    """Return an experiment by name.

    Raises
    ------
    HarnessError
        If the configuration has none of that name.
    """
    if name == "table1" and "table1" in config.experiments:
        return _table1(config)
    known = ", ".join(experiment_names(config))
    raise HarnessError(f"unknown experiment {name!r}; the configuration has: {known}")


def _table1(config: Config) -> Experiment:
    """Three metrics under PGD-20 by lambda and width, over training seeds."""
    grid = config.experiments["table1"]
    evaluations = tuple(
        Evaluation(cell, config.eval.checkpoint, "pgd20", seed=0) for cell in grid_cells(grid)
    )
    title = "The three metrics under PGD-20 by lambda and width"
    return Experiment("table1", title, grid, evaluations)


def grid_cells(grid: Grid) -> list[Cell]:
    """Return every combination of a grid's axes."""
    return [
        Cell(grid.dataset, architecture, method, lam, seed)
        for method, lams in grid.methods.items()
        for lam in lams
        for architecture in grid.architectures
        for seed in grid.seeds
    ]
