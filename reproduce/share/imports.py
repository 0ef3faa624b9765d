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
from reproduce.experiments.grids import Evaluation, planned_evaluations
from reproduce.experiments.runs import RunInfo, problem_with, read_run, state_file
from reproduce.experiments.spec import TrainingSpec, evaluation_spec, training_spec
from reproduce.experiments.superseded import how_to_restore, move_run_aside


class Imported(NamedTuple):
    """What came of importing one run: kept means that one's own results have it already."""

    cell: str
    outcome: Literal["imported", "kept", "refused"]
    reason: str


def import_runs(config: Config, folder: Path, cells: Iterable[Cell] = ()) -> Iterator[Imported]:
    """Copy published runs and their records to where runs of the configuration lie.

    A run is imported if its settings are the configuration's, its images those that are prepared
    here, if any are, and its files what their checksums say.  A finished run with the same
    settings, and one that is begun, stays; a finished one of other settings is moved aside.

    `folder` is a published results folder, such as results/reference/cpu/mini, or the one above it;
    `cells` are the runs, all that it holds if none are given.  HarnessError if it holds no results
    of the preset, or a process trains a cell.
    """
    found = [place for place in (folder, folder / config.preset) if (place / "cells").is_dir()]
    if not found:
        raise HarnessError(
            f"{folder} holds no results of preset {config.preset}; give a published results "
            "folder, such as results/reference/cpu/mini"
        )
    source = found[0]
    if source.resolve() == paths.root(config).resolve():
        raise HarnessError(f"{source} are your own results: there is nothing to import")
    names = [cell.id for cell in cells]
    if not names:
        runs = (source / "cells").glob("*/*/*/*/*/run.json")
        names = sorted(run.parent.relative_to(source / "cells").as_posix() for run in runs)
    for name in names:
        yield Imported(name, *_import(config, source / "cells" / name, name))


def missing_records(
    config: Config, run: RunInfo, folder: Path, evaluations: Iterable[Evaluation]
) -> list[str]:
    """Name the attacks on a run that have no record in a folder, nor the weights to make one."""
    return [
        _record_file(config, folder, item).stem
        for item in evaluations
        if item.checkpoint not in run.kept and not _has_record(config, run, folder, item)
    ]


def _import(
    config: Config, source: Path, name: str
) -> tuple[Literal["imported", "kept", "refused"], str]:
    try:
        cell = parse_cell(name)
        spec, run = training_spec(config, cell), read_run(source)
        problem = _problem(config, spec, run, source)
    except (HarnessError, OSError) as error:
        return "refused", f"cannot be used: {error}"
    if run is None or problem is not None:
        return "refused", str(problem)
    folder = paths.cell_folder(config, cell)
    with exclusive(paths.training_lock(folder), f"cell {cell}"):
        if state_file(folder, spec.digest).exists():
            return "kept", "is begun here; `reproduce train` continues it"
        here = _finished(config, spec, folder)
        if here is not None:
            reason = "was trained here" if here.published is None else "was imported before"
            if here.models == run.models:
                reason += f", now with {_copy_records(config, cell, run, source, folder)}"
            return "kept", reason
        aside = move_run_aside(paths.root(config), folder)
        reason = f"with {_copy_records(config, cell, run, source, folder)}, "
        reason += f"weights of {', '.join(run.kept)}" if run.kept else "without weights"
        # run.json goes last: without it an interrupted import begins again
        for file in paths.run_files(source, run.kept):
            _copy(file, folder / file.name)
    if aside is not None:
        reason += f"; the run before lies in {aside}, {how_to_restore(aside)} swaps them"
    missing = missing_records(config, run, folder, planned_evaluations(config).get(cell, ()))
    if missing:
        reason += f"; neither record nor weights for {', '.join(missing)}"
    return "imported", reason


def _problem(config: Config, spec: TrainingSpec, run: RunInfo | None, source: Path) -> str | None:
    """Say why a published run does not serve as the configuration's; None if it does."""
    if run is None:
        return "is not there"
    if run.published is None:
        return "was not published: `reproduce publish` writes what can be imported"
    return problem_with(config, spec, run, source, checksums=True)


def _finished(config: Config, spec: TrainingSpec, folder: Path) -> RunInfo | None:
    """Return the whole run with these settings that one's own results have, if they have it."""
    try:
        run = read_run(folder)
    except HarnessError:  # damaged: it goes aside
        return None
    return None if problem_with(config, spec, run, checksums=True) else run


def _copy_records(config: Config, cell: Cell, run: RunInfo, source: Path, folder: Path) -> str:
    """Copy the records of the configuration's attacks that are not there; return their number."""
    count = 0
    for item in _evaluations(config, cell, run, source):
        theirs, ours = (_record_file(config, place, item) for place in (source, folder))
        there = _has_record(config, run, folder, item)
        # one of the two files alone is left of an import that was interrupted
        lost = not (ours.is_file() and ours.with_suffix(".json").is_file())
        if not there and lost and _has_record(config, run, source, item):
            _copy(theirs, ours)
            _copy(theirs.with_suffix(".json"), ours.with_suffix(".json"))
            there = True
        count += there
    return f"{count} record{'' if count == 1 else 's'}"


def _evaluations(config: Config, cell: Cell, run: RunInfo, source: Path) -> Iterator[Evaluation]:
    """Yield the attacks of the configuration, of any seed, that a run has a file of."""
    for checkpoint in run.models:
        for attack in config.eval.attacks:
            first = _record_file(config, source, Evaluation(cell, checkpoint, attack, 0))
            before = first.stem.removesuffix("0")
            for path in sorted(first.parent.glob(f"{before}*.npz")):
                seed = path.stem.removeprefix(before)
                if seed.isdecimal():
                    yield Evaluation(cell, checkpoint, attack, int(seed))


def _record_file(config: Config, folder: Path, item: Evaluation) -> Path:
    label = config.eval.label(item.attack)
    return paths.record_file(folder, item.checkpoint, label, item.seed)


def _has_record(config: Config, run: RunInfo, folder: Path, item: Evaluation) -> bool:
    """Say whether a folder has a whole record of an evaluation, of these settings and weights."""
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    path = _record_file(config, folder, item)
    try:
        record = read_record(path)
    except HarnessError:
        return False
    weights, images = run.models.get(item.checkpoint, ""), spec.images or run.data.test
    return record.problem_with(spec.digest, weights) is None and len(record.index) == images


def _copy(source: Path, target: Path) -> None:
    if not (target.is_file() and sha256_of_file(target) == sha256_of_file(source)):
        write_atomically(target, partial(shutil.copyfile, source))
