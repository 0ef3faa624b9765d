"""Import runs that somebody published into one's own results."""

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, sha256_of_file, write_atomically
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import planned_evaluations
from reproduce.experiments.runs import RunInfo, problem_with, read_run, state_file
from reproduce.experiments.spec import TrainingSpec, training_spec
from reproduce.experiments.superseded import how_to_restore, move_run_aside
from reproduce.results.reader import find_record, item_of, record_path

Outcome = Literal["imported", "kept", "refused"]


class Imported(NamedTuple):
    """What came of importing one run: kept means that one's own results have it already."""

    cell: str
    outcome: Outcome
    reason: str


def import_runs(config: Config, folder: Path, cells: Iterable[Cell] = ()) -> Iterator[Imported]:
    """Copy published runs and their records to where runs of the configuration lie.

    A finished run with the same settings, and one that is begun, stays; a finished one of other
    settings is moved aside.  `folder` is that of a preset or the one above it; `cells` are the
    runs, all that it holds if none are given.
    """
    source = folder if (folder / "cells").is_dir() else folder / config.preset
    if not (source / "cells").is_dir():
        raise HarnessError(
            f"{folder} holds no results of preset {config.preset}; give a published results "
            "folder, such as results/reference/cpu/mini"
        )
    if source.resolve() == paths.root(config).resolve():
        raise HarnessError(f"{source} are your own results: there is nothing to import")
    runs = sorted((source / "cells").glob("*/*/*/*/*/run.json"))
    found = ["/".join(run.parent.parts[-5:]) for run in runs]
    for name in [cell.id for cell in cells] or found:
        yield Imported(name, *_import(config, parse_cell(name), source / "cells" / name))


def missing_records(config: Config, cell: Cell, run: RunInfo) -> list[str]:
    """Name the planned attacks on a run that have no record, nor the weights to make one."""
    return [
        record_path(config, item).stem
        for item in planned_evaluations(config).get(cell, ())
        if item.checkpoint not in run.kept and find_record(config, item).status != "ok"
    ]


def _import(config: Config, cell: Cell, source: Path) -> tuple[Outcome, str]:
    spec = training_spec(config, cell)
    run, problem = _read(config, spec, source)
    if run is None or problem is not None:
        return "refused", str(problem)
    if run.published is None:
        return "refused", "was not published: `reproduce publish` writes what can be imported"
    folder = paths.cell_folder(config, cell)
    with exclusive(paths.training_lock(folder), f"cell {cell}"):
        if state_file(folder, spec.digest).exists():
            return "kept", "is begun here; `reproduce train` continues it"
        here, damaged = _read(config, spec, folder)
        if here is not None and damaged is None:
            reason = "was trained here" if here.published is None else "was imported before"
            if here.models == run.models:
                reason += f", now with {_copy_records(config, run, source, folder)} record(s)"
            return "kept", reason
        aside = move_run_aside(paths.root(config), folder)
        count = _copy_records(config, run, source, folder)
        # run.json goes last: without it an interrupted import begins again
        for file in paths.run_files(source, run.kept):
            _copy(file, folder / file.name)
    weights = f"weights of {', '.join(run.kept)}" if run.kept else "without weights"
    reason = f"with {count} record(s), {weights}"
    if aside is not None:
        reason += f"; the run before lies in {aside}, {how_to_restore(aside)} swaps them"
    if missing := missing_records(config, cell, run):
        reason += f"; neither record nor weights for {', '.join(missing)}"
    return "imported", reason


def _read(config: Config, spec: TrainingSpec, folder: Path) -> tuple[RunInfo | None, str | None]:
    """Read a run, and say why it does not serve as the one that `spec` asks for."""
    try:
        run = read_run(folder)
    except HarnessError as error:
        return None, str(error)
    return run, problem_with(config, spec, run, folder, checksums=True)


def _copy_records(config: Config, run: RunInfo, source: Path, folder: Path) -> int:
    """Copy the records of the configuration's attacks; return how many there are now."""
    count = 0
    for theirs in sorted(source.glob("records*/[!.]*.npz")):
        ours = folder / theirs.relative_to(source)
        there = _counts(config, run, ours, ours)
        # one of the two files alone is left of an import that was interrupted
        whole = ours.is_file() and ours.with_suffix(".json").is_file()
        if not whole and (there := _counts(config, run, ours, theirs)):
            _copy(theirs, ours)
            _copy(theirs.with_suffix(".json"), ours.with_suffix(".json"))
        count += there
    return count


def _counts(config: Config, run: RunInfo, place: Path, path: Path) -> bool:
    """Say whether `path` is a whole record of the evaluation that belongs at `place`."""
    try:
        item, record = item_of(config, place), read_record(path)
        spec = item.spec(config)
    except HarnessError:
        return False
    images = spec.images or run.data.test
    found = record.info["digest"], len(record.index)
    return found == (spec.digest, images) and record.info["model_sha256"] in run.models.values()


def _copy(source: Path, target: Path) -> None:
    if not (target.is_file() and sha256_of_file(target) == sha256_of_file(source)):
        write_atomically(target, partial(shutil.copyfile, source))
