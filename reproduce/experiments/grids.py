"""What a table or a figure needs: training runs, and attacks on their checkpoints."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

from reproduce.cell import Cell, parse_cell
from reproduce.config.attacks import PGDAttack
from reproduce.config.fields import Checkpoint
from reproduce.config.grids import AttackTable, ComparisonTable, Curves, Grid, TuningTable
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments.spec import (
    AttackSpec,
    EvaluationSpec,
    attack_spec,
    evaluation_spec,
    zeta_source,
)
from reproduce.paper.published import published, published_models
from reproduce.registry import parse_architecture


@dataclass(frozen=True)
class Evaluation:
    """One attack on one checkpoint."""

    cell: Cell
    checkpoint: Checkpoint
    attack: str
    seed: int

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.cell.id

    @property
    def dataset(self) -> str:
        """The data set that is attacked."""
        return self.cell.dataset

    @property
    def architecture(self) -> str | None:
        """The network's architecture."""
        return self.cell.architecture

    def spec(self, config: Config) -> EvaluationSpec:
        """Resolve how the network is attacked."""
        return evaluation_spec(config, self.cell, self.attack, self.seed, self.checkpoint)


@dataclass(frozen=True)
class PublishedEvaluation:
    """One attack on a published checkpoint of RobustBench's zoo."""

    name: str
    dataset: str
    attack: str
    seed: int

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.name

    @property
    def architecture(self) -> str | None:
        """The network's architecture; None for one of another family."""
        card = published_models().get(self.name)
        return None if card is None else card.network

    def spec(self, config: Config) -> AttackSpec:
        """Resolve how the network is attacked."""
        return attack_spec(config, self.attack, self.seed, self.dataset)


Item = Evaluation | PublishedEvaluation


@dataclass(frozen=True)
class Experiment:
    """A table or figure: its name and heading, a table's metrics, and what it is made from.

    `cells` are all training runs behind it, those first that others need; `published` are the
    attacks on checkpoints from elsewhere.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    evaluations: tuple[Evaluation, ...]
    cells: tuple[Cell, ...]
    published: tuple[PublishedEvaluation, ...] = ()

    @property
    def items(self) -> list[Item]:
        """All evaluations, those of published checkpoints last."""
        return [*self.evaluations, *self.published]


_THREE = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
_IMAGENET = ("robust_accuracy", "top5_natural_accuracy", "perturbation_stability")
# heading and metrics
TABLES = {
    "table1": ("The three metrics by lambda and width", _THREE),
    "table2": ("Robust accuracy under different attacks", _THREE[:1]),
    "table3": ("Strategies of tuning lambda", _THREE[:1]),
    "table4": ("Comparison under AutoAttack", _THREE[:1]),
    "table5": ("Fast adversarial training on ImageNet", _IMAGENET),
    "table6": ("Adversarial weight perturbation by lambda", _THREE),
}
_BOTH = "Natural risk and robust regularisation during training"
FIGURES = {
    "figure1": _BOTH,
    "figure2": "Robust images are the correct and stable ones",
    "figure3": "The three metrics over epochs, and at the best epoch by width",
    "figure4": "Local Lipschitz constant during training",
    "figure6": "Natural accuracy and stability of trained networks",
    **dict.fromkeys(("figure7", "figure8", "figure9"), f"{_BOTH}, by lambda"),
}


def experiment_names(config: Config) -> tuple[str, ...]:
    """Name the experiments of a configuration: its tables, then its figures."""
    return tuple(name for name, grid in config.experiments if grid is not None)


def table_names(config: Config) -> tuple[str, ...]:
    """Name the tables of a configuration."""
    return tuple(name for name in experiment_names(config) if name in TABLES)


def figure_names(config: Config) -> tuple[str, ...]:
    """Name the figures of a configuration that are made of runs."""
    return tuple(name for name in experiment_names(config) if name in FIGURES)


def find_experiment(config: Config, name: str) -> Experiment:
    """Return an experiment by name; HarnessError if the configuration has none of that name."""
    return _find(config, name, "experiment", experiment_names(config))


def find_table(config: Config, name: str) -> Experiment:
    """Return a table by name; HarnessError if the configuration has none of that name."""
    return _find(config, name, "table", table_names(config))


def _find(config: Config, name: str, kind: str, known: tuple[str, ...]) -> Experiment:
    if name not in known:
        left_out = f"{name} is left out (experiments.{name} is null)"
        what = left_out if name in {**TABLES, **FIGURES} else f"unknown {kind} {name!r}"
        raise HarnessError(f"{what}; the configuration has: {', '.join(known)}")
    grid = getattr(config.experiments, name)
    title, metrics = TABLES[name] if name in TABLES else (FIGURES[name], ())
    cells, evaluations = _runs_and_attacks(config, name, grid)
    published = [
        PublishedEvaluation(each, grid.dataset, grid.attack, seed=0)
        for each in getattr(grid, "published", ())
    ]
    return Experiment(
        name,
        title,
        metrics,
        tuple(dict.fromkeys(evaluations)),
        training_runs(config, cells),
        tuple(published),
    )


def _runs_and_attacks(config: Config, name: str, grid: Any) -> tuple[list[Cell], list[Evaluation]]:
    """Return the training runs of a grid, and the attacks on them, row by row."""
    checkpoint = config.eval.checkpoint
    attacks, seeds = ["pgd20"], [0]
    match grid:
        case ComparisonTable():
            evaluations = [
                Evaluation(parse_cell(cell), choice, grid.attack, seed=0)
                for cell, choice in grid.trained.items()
            ]
            return [item.cell for item in evaluations], evaluations
        case Grid():
            checkpoint, attacks = grid.checkpoint or checkpoint, [grid.attack]
            cells = [
                cell
                for method, lams in grid.methods.items()
                for cell in _cells(grid.dataset, method, lams, grid.architectures, grid.seeds)
            ]
        case AttackTable():
            cells, attacks, seeds = attack_table_cells(grid), grid.attacks, grid.attack_seeds
        case TuningTable():
            cells = [
                cell
                for architecture in grid.architectures
                for cell in (
                    *untuned_cells(grid, architecture),
                    *(c for lam in grid.lambdas for c in searched_cells(grid, architecture, lam)),
                    *war_cells(grid, architecture),
                )
            ]
            # narrow networks that zeta is measured from are in the table: tuning them is a cost
            cells = list(training_runs(config, cells))
        case _:
            cells = curve_cells(grid)
            # Figure 2 shows which images are right, the others follow training
            attacks = attacks if name == "figure2" else []
    return cells, [
        Evaluation(cell, checkpoint, attack, seed)
        for cell in cells
        for attack in attacks
        for seed in seeds
    ]


def _cells(
    dataset: str,
    method: str,
    lambdas: Iterable[float],
    architectures: Iterable[str],
    seeds: Iterable[int],
) -> list[Cell]:
    """Return every combination, by lambda, then network, then seed."""
    axes = product(lambdas, architectures, seeds)
    return [Cell(dataset, architecture, method, lam, seed) for lam, architecture, seed in axes]


def training_runs(config: Config, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells and the runs they need trained first, each once, those first."""
    runs = [run for cell in cells for run in (zeta_source(config, cell), cell) if run is not None]
    return tuple(dict.fromkeys(runs))


def attack_table_cells(grid: AttackTable) -> list[Cell]:
    """Return every training run of Table 2, row by row."""
    return [
        Cell(dataset, architecture, grid.method, lam, grid.training_seed)
        for dataset, architectures in grid.architectures.items()
        for architecture in architectures
        for lam in grid.lambdas
    ]


def untuned_cells(grid: TuningTable, architecture: str) -> list[Cell]:
    """Return the runs of one network with the lambda that was tuned for the narrow one."""
    return searched_cells(grid, architecture, grid.untuned)


def searched_cells(grid: TuningTable, architecture: str, lam: float) -> list[Cell]:
    """Return the runs of one network with one lambda of the search by hand."""
    return _cells(grid.dataset, "trades", [lam], [architecture], grid.seeds)


def war_cells(grid: TuningTable, architecture: str) -> list[Cell]:
    """Return the runs of one network whose lambda WAR chooses, from 0 on."""
    return _cells(grid.dataset, "war", [0.0], [architecture], grid.seeds)


def traced_cells(grid: TuningTable) -> list[Cell]:
    """Return the runs whose traces show what WAR does: WAR's, and those they are compared with."""
    return [
        cell
        for architecture in grid.architectures
        for cell in (*war_cells(grid, architecture), *untuned_cells(grid, architecture))
    ]


def curve_cells(grid: Curves) -> list[Cell]:
    """Return every training run of a figure that follows training, by lambda, width and seed."""
    return _cells(grid.dataset, grid.method, grid.lambdas, grid.architectures, grid.seeds)


def example_evaluations(config: Config) -> tuple[Evaluation, Evaluation] | None:
    """Return the attacks that adversarial examples are shown of: a narrow and a wide network's.

    The narrowest and the widest network of the first grid that has several widths and is attacked
    by our own PGD, with the grid's first method, lambda and seed.  None if there is no such grid.
    """
    for name, grid in config.experiments:
        if isinstance(grid, Grid) and isinstance(config.eval.attacks[grid.attack], PGDAttack):
            shapes = [parse_architecture(each) for each in grid.architectures]
            alike = [shape for shape in shapes if shape.model == shapes[0].model]
            narrow, wide = (pick(alike, key=lambda shape: shape.width) for pick in (min, max))
            if narrow != wide:
                # those of the first method, its first lambda and the first seed come first
                items = reversed(find_experiment(config, name).evaluations)
                first = {item.architecture: item for item in items}
                return first[str(narrow)], first[str(wide)]
    return None


def repeated_evaluations(config: Config, name: str) -> tuple[Evaluation, ...]:
    """Return Table 1's evaluations of what Table 2 attacks: one for each training seed.

    Only those of which the paper's Table 1 has a number too; none for other tables.
    """
    grids = config.experiments
    if grids.table1 is None or not isinstance(getattr(grids, name), AttackTable):
        return ()

    def number(item: Evaluation) -> tuple[object, ...]:
        cell = item.cell
        return cell.dataset, cell.architecture, cell.method, cell.lam, item.attack

    columns = ["dataset", "architecture", "method", "lambda", "attack"]
    printed = set(published("table1")[columns].itertuples(index=False, name=None))
    shown = {(*number(item), item.checkpoint) for item in find_experiment(config, name).evaluations}
    return tuple(
        item
        for item in find_experiment(config, "table1").evaluations
        if number(item) in printed and (*number(item), item.checkpoint) in shown
    )


def planned_runs(config: Config) -> tuple[Cell, ...]:
    """Return every training run of a configuration, each once."""
    experiments = [find_experiment(config, name) for name in experiment_names(config)]
    return tuple(dict.fromkeys(cell for e in experiments for cell in e.cells))


def planned_methods(config: Config) -> tuple[str, ...]:
    """Return the training methods of a configuration's runs, each once."""
    return tuple(dict.fromkeys(cell.method for cell in planned_runs(config)))


def planned_evaluations(config: Config) -> dict[Cell, list[Evaluation]]:
    """Return every attack of a configuration on a run's checkpoint, each once, by run."""
    found: dict[Cell, dict[Evaluation, None]] = {}
    for name in experiment_names(config):
        for item in find_experiment(config, name).evaluations:
            found.setdefault(item.cell, {})[item] = None
    return {cell: list(items) for cell, items in found.items()}
