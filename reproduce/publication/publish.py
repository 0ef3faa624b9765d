"""Publishing a results folder: its finished runs, and everything that is made of them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from reproduce import paths
from reproduce.analysis import build_diff, collect, write_checkpoints, write_diff, write_table
from reproduce.cells import Cell
from reproduce.claims import judge_claims, write_claims
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.experiments import find_table, planned_runs, table_names
from reproduce.figures import available_figures, make
from reproduce.figures.style import save
from reproduce.files import write_text
from reproduce.publication.about import About, describe
from reproduce.publication.runs import publish_run, unpublishable
from reproduce.reference import find_reference
from reproduce.settings import resolved

# where images lie is of a machine, not of results
_PLACES = ("folder", "cifar10", "cifar100", "cifar10_extra", "imagenet", "zoo")


def publish(
    config: Config,
    folder: Path,
    weights: Collection[Cell],
    every: int,
    say: Callable[[str], None],
) -> About:
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
    About
        What was published, and what not.

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
    root = folder / config.preset
    if root.is_dir() and any(root.iterdir()):
        raise HarnessError(f"{root} is not empty; publish into a new folder, or remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # whole or absent, also for those who take from there
        with TemporaryDirectory(prefix=".publishing-", dir=folder) as work:
            there = config.model_copy(update={"results": Path(work), "reference": folder})
            about = _write(config, there, [c for c in cells if c not in left_out], weights, every)
            about = replace(about, missing=left_out, refused=_refused(config, folder, work))
            write_text(paths.root(there) / "README.md", describe(there, folder, about))
            paths.root(there).replace(root)
    except OSError as error:
        raise HarnessError(f"{folder} cannot be written: {error.strerror or error}") from error
    for cell in about.runs:
        say(f"{cell}: published")
    return about


def _write(
    config: Config, there: Config, cells: list[Cell], weights: Collection[Cell], every: int
) -> About:
    """Write runs, and what is made of them."""
    name = paths.root(there).parent.parent.name
    runs = {}
    for cell in cells:
        source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
        kept: list[Checkpoint] = ["best-test"] if cell in weights else []
        runs[cell] = publish_run(source, target, cell, kept, every, name)
    write_text(paths.root(there) / "config.yaml", _settings(config))
    return About(runs, tuple(_derive(there)))


def _refused(config: Config, folder: Path, work: str) -> dict[Cell, str]:
    """Say which of the published runs somebody without results would not take, and why."""
    nobody = config.model_copy(update={"results": folder / "none", "reference": Path(work).parent})
    refused = find_reference(nobody).refused
    return {cell: reason.replace(work, str(folder)) for cell, reason in refused.items()}


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
