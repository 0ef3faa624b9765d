"""What a table or a figure needs: training runs, and attacks on their checkpoints."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint
from reproduce.config.grids import AttackTable, ComparisonTable, Curves, Grid, TuningTable
from reproduce.config.schema import Config, PGDAttack
from reproduce.core.errors import HarnessError
from reproduce.experiments.spec import zeta_source
from reproduce.paper.published import published
from reproduce.registry import parse_architecture


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


def training_runs(config: Config, cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Return cells and the runs they need trained first, each once, those first."""
    runs = [run for cell in cells for run in (zeta_source(config, cell), cell) if run is not None]
    return tuple(dict.fromkeys(runs))


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
    """Return the runs of one network with the lambda that was tuned for the narrow one."""
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
    # narrow networks that zeta is measured from are in the table too: tuning them is a cost
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


def curve_cells(grid: Curves) -> list[Cell]:
    """Return every training run of a figure that follows training, by lambda, width and seed."""
    return [
        Cell(grid.dataset, architecture, grid.method, lam, seed)
        for lam in grid.lambdas
        for architecture in grid.architectures
        for seed in grid.seeds
    ]


def traced_cells(grid: TuningTable) -> list[Cell]:
    """Return the runs whose traces show what WAR does: WAR's, and those they are compared with."""
    return [
        cell
        for architecture in grid.architectures
        for cell in (*war_cells(grid, architecture), *untuned_cells(grid, architecture))
    ]


def _set_evaluations(config: Config, grid: Curves) -> list[Evaluation]:
    """Return the attacks that tell which images are right, and which are stable."""
    checkpoint = config.eval.checkpoint
    return [Evaluation(cell, checkpoint, "pgd20", seed=0) for cell in curve_cells(grid)]


@dataclass(frozen=True)
class _Kind:
    """An experiment's heading, and what turns its grid into attacks or into training runs."""

    title: str
    evaluations: Callable[[Config, Any], list[Evaluation]] | None = None
    metrics: tuple[str, ...] = ()
    cells: Callable[[Any], list[Cell]] | None = None


_THREE = ("robust_accuracy", "natural_accuracy", "perturbation_stability")
_IMAGENET = ("robust_accuracy", "top5_natural_accuracy", "perturbation_stability")
TABLES = {
    "table1": _Kind("The three metrics by lambda and width", _grid_evaluations, _THREE),
    "table2": _Kind("Robust accuracy under different attacks", _attack_evaluations, _THREE[:1]),
    "table3": _Kind("Strategies of tuning lambda", _tuning_evaluations, _THREE[:1]),
    "table4": _Kind("Comparison under AutoAttack", comparison_evaluations, _THREE[:1]),
    "table5": _Kind("Fast adversarial training on ImageNet", _grid_evaluations, _IMAGENET),
    "table6": _Kind("Adversarial weight perturbation by lambda", _grid_evaluations, _THREE),
}
_BOTH = "Natural risk and robust regularisation during training"
FIGURES = {
    "figure1": _Kind(_BOTH, cells=curve_cells),
    "figure2": _Kind("Robust images are the correct and stable ones", _set_evaluations),
    "figure3": _Kind(
        "The three metrics over epochs, and at the best epoch by width", cells=curve_cells
    ),
    "figure4": _Kind("Local Lipschitz constant during training", cells=curve_cells),
    "figure6": _Kind("Natural accuracy and stability of trained networks", comparison_evaluations),
    "figure7": _Kind(f"{_BOTH}, by lambda", cells=curve_cells),
    "figure8": _Kind(f"{_BOTH}, by lambda", cells=curve_cells),
    "figure9": _Kind(f"{_BOTH}, by lambda", cells=curve_cells),
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
    known = experiment_names(config)
    if name not in known:
        raise _absent("experiment", name, known)
    grid, kind = getattr(config.experiments, name), {**TABLES, **FIGURES}[name]
    attacks = [] if kind.evaluations is None else kind.evaluations(config, grid)
    followed = [] if kind.cells is None else kind.cells(grid)
    cells = training_runs(config, chain(followed, (item.cell for item in attacks)))
    published = published_evaluations(grid) if isinstance(grid, ComparisonTable) else ()
    evaluations = tuple(dict.fromkeys(attacks))
    return Experiment(name, kind.title, kind.metrics, evaluations, cells, published)


def find_table(config: Config, name: str) -> Experiment:
    """Return a table by name; HarnessError if the configuration has none of that name."""
    known = table_names(config)
    if name not in known:
        raise _absent("table", name, known)
    return find_experiment(config, name)


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


def _absent(kind: str, name: str, known: tuple[str, ...]) -> HarnessError:
    """Say that there is no such thing, or none in this configuration."""
    if name in {**TABLES, **FIGURES}:
        what = f"{name} is left out (experiments.{name} is null)"
    else:
        what = f"unknown {kind} {name!r}"
    return HarnessError(f"{what}; the configuration has: {', '.join(known)}")
