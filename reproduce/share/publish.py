"""Publishing a results folder: its finished runs, small, and everything that is made of them."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from reproduce import paths
from reproduce.analysis import build_diff, collect, write_checkpoints, write_diff, write_table
from reproduce.cells import Cell
from reproduce.claims import judge_claims, write_claims
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.experiments import find_table, planned_evaluations, planned_runs, table_names
from reproduce.figures import available_figures, make
from reproduce.figures.style import save
from reproduce.files import (
    exclusive,
    read_json,
    sha256_of_file,
    write_atomically,
    write_json,
    write_text,
)
from reproduce.records import read_record
from reproduce.runs import Published, RunInfo, damaged_file, problem_with, read_run
from reproduce.settings import resolved
from reproduce.share.imports import without
from reproduce.share.readme import About, describe
from reproduce.specs import training_spec
from reproduce.traces import read_trace, thinned, write_trace

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
        A new folder, such as results/reference/h200; the preset is added.
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
    left_out = {cell: reason for cell in cells if (reason := _unpublishable(config, cell))}
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
            there = config.model_copy(update={"results": Path(work)})
            chosen = [cell for cell in cells if cell not in left_out]
            about = _write(config, there, chosen, weights, every, folder.absolute().name)
            lacking = _lacking(config, there, about.runs)
            about = replace(about, missing=left_out, lacking=lacking)
            write_text(paths.root(there) / "README.md", describe(there, folder, about))
            paths.root(there).replace(root)
    except OSError as error:
        raise HarnessError(f"{folder} cannot be written: {error.strerror or error}") from error
    for cell in about.runs:
        say(f"{cell}: published")
    return about


def _write(
    config: Config,
    there: Config,
    cells: list[Cell],
    weights: Collection[Cell],
    every: int,
    name: str,
) -> About:
    """Write runs, and what is made of them."""
    runs = {}
    for cell in cells:
        source, target = paths.cell_folder(config, cell), paths.cell_folder(there, cell)
        kept: list[Checkpoint] = ["best-test"] if cell in weights else []
        runs[cell] = _publish_run(source, target, cell, kept, every, name)
    write_text(paths.root(there) / "config.yaml", _settings(config))
    return About(runs, tuple(_derive(there)))


def _lacking(config: Config, there: Config, runs: Mapping[Cell, RunInfo]) -> dict[Cell, list[str]]:
    """Name the attacks on published runs that others cannot make records of, nor find them."""
    asked = planned_evaluations(config)
    found = {
        cell: without(config, run, paths.cell_folder(there, cell), asked.get(cell, ()))
        for cell, run in runs.items()
    }
    return {cell: names for cell, names in found.items() if names}


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


def _unpublishable(config: Config, cell: Cell) -> str | None:
    """Say why a run is not published; None if it was trained here, to its end, and is whole."""
    folder = paths.cell_folder(config, cell)
    try:
        run = read_run(folder)
    except HarnessError as error:
        return str(error)
    problem = problem_with(config, training_spec(config, cell), run)
    if run is None or problem is not None:
        return f"{cell} {problem}"
    if run.published is not None:
        return f"{cell} was itself imported from {run.published.name}"
    damaged = damaged_file(folder, run)
    return None if damaged is None else f"{cell} has a damaged {damaged.name}"


def _publish_run(
    source: Path, target: Path, cell: Cell, weights: list[Checkpoint], every: int, name: str
) -> RunInfo:
    """Write a run that `_unpublishable` has nothing against, and its records, into `target`."""
    with exclusive(paths.training_lock(source), f"cell {cell}"):
        told = read_json(paths.run_file(source))
        run = RunInfo.model_validate(told)
        damaged = damaged_file(source, run)
        if damaged is not None:
            raise HarnessError(f"{cell} has a damaged {damaged.name}")
        for checkpoint in weights:
            _copy(paths.model_file(source, checkpoint), paths.model_file(target, checkpoint))
        for record in _records(source, run):
            for file in (record, record.with_suffix(".json")):
                _copy(file, target / file.relative_to(source))
        _copy(paths.epochs_file(source), paths.epochs_file(target))
        trace = paths.trace_file(target)
        if every == 1:
            _copy(paths.trace_file(source), trace)
        else:
            write_trace(trace, thinned(read_trace(paths.trace_file(source), cell), every))
    told["trace"] = sha256_of_file(trace)
    about = Published(name=name, weights=weights, every=every)
    told["published"] = about.model_dump(mode="json")
    write_json(paths.run_file(target), told)
    return RunInfo.model_validate(told)


def _records(folder: Path, run: RunInfo) -> Iterator[Path]:
    """Yield the whole records of a run's weights, of whatever attack."""
    for checkpoint, sha256 in run.models.items():
        some = paths.record_file(folder, checkpoint, "some", 0)
        for path in sorted(some.parent.glob("*-seed*.npz")):
            with suppress(HarnessError):  # damaged: `table` says so
                if read_record(path).info["model_sha256"] == sha256:
                    yield path


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, partial(shutil.copyfile, source))
