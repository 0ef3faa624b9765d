"""A finished run as it is published: without most weights, with a thinned trace."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.files import exclusive, read_json, sha256_of_file, write_atomically, write_json
from reproduce.records import read_record
from reproduce.runs import Published, RunInfo, damaged_file, problem_with, read_run
from reproduce.specs import training_spec
from reproduce.traces import read_trace, thinned, write_trace


def unpublishable(config: Config, cell: Cell) -> str | None:
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
        return f"{cell} was itself taken from the reference results {run.published.name}"
    damaged = damaged_file(folder, run)
    return None if damaged is None else f"{cell} has a damaged {damaged.name}"


def publish_run(
    source: Path, target: Path, cell: Cell, weights: list[Checkpoint], every: int, name: str
) -> RunInfo:
    """Write a run that `unpublishable` has nothing against, and its records, into another folder.

    Parameters
    ----------
    source, target : Path
        Its folder, and the one that its files go to.
    cell : Cell
        The run.
    weights : list of str
        Checkpoints that are published too.
    every : int
        How many iterations there are to one in the published trace; the last epoch stays whole.
    name : str
        The publication.

    Returns
    -------
    RunInfo
        What the published run.json says.

    Raises
    ------
    HarnessError
        If the run changed meanwhile, or the disk is full.
    """
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
