"""Experiments by their names."""

from itertools import chain

from reproduce.cells import Cell
from reproduce.config import AttackTable, ComparisonTable, Config
from reproduce.errors import HarnessError
from reproduce.experiments.experiment import Evaluation, Experiment, training_runs
from reproduce.experiments.figures import FIGURES
from reproduce.experiments.tables import TABLES, published_evaluations
from reproduce.paper import published


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
    """Return an experiment by name.

    Raises
    ------
    HarnessError
        If the configuration has none of that name.
    """
    known = experiment_names(config)
    if name not in known:
        raise _absent("experiment", name, known)
    grid = getattr(config.experiments, name)
    followed = FIGURES[name].cells(grid) if name in FIGURES else []
    kind = TABLES[name] if name in TABLES else FIGURES[name]
    evaluations = tuple(dict.fromkeys(kind.evaluations(config, grid)))
    cells = training_runs(config, chain(followed, (item.cell for item in evaluations)))
    published = published_evaluations(grid) if isinstance(grid, ComparisonTable) else ()
    metrics = TABLES[name].metrics if name in TABLES else ()
    return Experiment(name, kind.title, metrics, evaluations, cells, published)


def find_table(config: Config, name: str) -> Experiment:
    """Return a table by name.

    Raises
    ------
    HarnessError
        If the configuration has no table of that name.
    """
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
