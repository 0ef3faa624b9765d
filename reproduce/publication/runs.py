"""A finished run as it is published: without most weights, with a thinned trace."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.files import read_json, sha256_of_file, write_atomically, write_json
from reproduce.records import is_current
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
        return f"{cell} was itself taken from reference results"
    damaged = damaged_file(folder, run)
    return None if damaged is None else f"{cell} has a damaged {damaged.name}"


def publish_run(
    source: Path, target: Path, cell: Cell, weights: list[Checkpoint], every: int
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

    Raises
    ------
    HarnessError
        If the disk is full.
    """
    run = read_run(source)
    if run is None:
        raise HarnessError(f"{source} holds no finished run")
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
    told = read_json(paths.run_file(source))
    told["trace"] = sha256_of_file(trace)
    told["published"] = Published(weights=weights, every=every).model_dump(mode="json")
    write_json(paths.run_file(target), told)
    return run


def _records(folder: Path, run: RunInfo) -> Iterator[Path]:
    """Yield the whole records of a run's weights, of whatever attack."""
    for checkpoint in run.models:
        some = paths.record_file(folder, checkpoint, "some", 0)
        for record in sorted(some.parent.glob("*-seed*.npz")):
            info = read_json(record.with_suffix(".json"))
            if is_current(record, info, info.get("digest", ""), run.models[checkpoint]):
                yield record


def _copy(source: Path, target: Path) -> None:
    write_atomically(target, partial(shutil.copyfile, source))
