"""Publishing a results folder: its finished runs, and everything that is made of them."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import yaml

from reproduce import paths
from reproduce.analysis import build_diff, collect, write_checkpoints, write_diff, write_table
from reproduce.cells import Cell
from reproduce.claims import judge_claims, write_claims
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import find_table, planned_runs, table_names
from reproduce.figures import available_figures, make
from reproduce.figures.style import save
from reproduce.files import write_text
from reproduce.publication.about import About, describe
from reproduce.publication.runs import publish_run, unpublishable
from reproduce.settings import resolved

# where images lie is of a machine, not of results
_PLACES = ("folder", "cifar10", "cifar100", "cifar10_extra", "imagenet", "zoo")


def publish(
    config: Config,
    folder: Path,
    weights: Collection[Cell],
    every: int,
    say: Callable[[str], None],
) -> tuple[str, ...]:
    """Write the finished runs of a configuration where others can take them from.

    Into ``<folder>/<preset>`` go run.json, epochs, thinned trace and records of every run
    that was trained to its end; tables, comparisons, figures and claims, made from what is
    published; the configuration; and a README.md that says of all that what it is.

    Parameters
    ----------
    config : Config
        The configuration.
    folder : Path
        A folder of the reference results, such as results/reference/h200.
    weights : collection of Cell
        Runs whose best-test checkpoint is published too.
    every : int
        How many iterations there are to one in a published trace; the last epoch stays whole.
    say : callable
        Told of every run.

    Returns
    -------
    tuple of str
        Why planned runs were left out.

    Raises
    ------
    HarnessError
        If no run is finished, one of `weights` is none of them, the folder holds results of
        this preset, or the disk is full.
    """
    cells = planned_runs(config)
    left_out = {cell: reason for cell in cells if (reason := unpublishable(config, cell))}
    for cell in weights:
        if cell not in cells or cell in left_out:
            raise HarnessError(f"weights: {left_out.get(cell, f'no run {cell} is planned')}")
    if len(left_out) == len(cells):
        raise HarnessError(f"nothing to publish: {next(iter(left_out.values()), 'no run')}")
    there = config.model_copy(update={"results": folder, "reference": folder.parent})
    root = paths.root(there)
    if root.is_dir() and any(root.iterdir()):
        raise HarnessError(f"{root} is not empty; publish into a new folder, or remove it first")
    runs = {}
    for cell in (cell for cell in cells if cell not in left_out):
        source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
        runs[cell] = publish_run(
            source, target, cell, ["best-test"] if cell in weights else [], every, folder.name
        )
        say(f"{cell}: published")
    made = tuple(_derive(there))
    write_text(root / "config.yaml", _settings(config))
    write_text(root / "README.md", describe(there, About(runs, left_out, made)))
    return tuple(left_out.values())


def _derive(config: Config) -> Iterator[str]:
    """Make tables, comparisons, figures and claims, and name those there was something for."""
    for name in table_names(config):
        chosen = find_table(config, name)
        results = collect(config, chosen)
        if results.missing < results.planned:
            write_table(config, chosen, results)
            write_diff(config, chosen, build_diff(config, chosen, results))
            yield name
    write_checkpoints(config)
    for name in available_figures(config):
        drawing = make(config, name)
        # of a figure that needs no run nothing was measured here
        if name not in ("figure5", "lemma") and len(drawing.numbers):
            save(config, name, drawing)
            yield name
    write_claims(config, judge_claims(config))


def _settings(config: Config) -> str:
    """Return the configuration as a file that gives the same settings again."""
    tree = resolved(config)
    tree.pop("results")
    for key in _PLACES:
        tree["data"].pop(key)
    head = "# The settings of these results; images come from where data.* says.\n"
    return head + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
