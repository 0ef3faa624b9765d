"""Importing runs that somebody published into one's own results."""

import re
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import exclusive, read_json, sha256_of_file, write_atomically
from reproduce.evaluation.records import is_current, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, planned_evaluations
from reproduce.experiments.runs import RunInfo, damaged_file, problem_with, read_run, state_file
from reproduce.experiments.spec import TrainingSpec, evaluation_spec, training_spec
from reproduce.experiments.superseded import how_to_restore, move_run_aside


class Imported(NamedTuple):
    """What came of importing one run.

    Attributes
    ----------
    cell : str
        The run.
    outcome : str
        imported; kept: one's own results have it already; refused.
    reason : str
        What came with it, or why not.
    """

    cell: str
    outcome: Literal["imported", "kept", "refused"]
    reason: str


def import_runs(config: Config, folder: Path, cells: Iterable[Cell] = ()) -> Iterator[Imported]:
    """Copy published runs and their records to where runs of the configuration lie.

    A run is imported if its settings are the configuration's, its images those that are prepared
    here, if any are, and its files what their checksums say.  A finished run with the same
    settings, and one that is begun, stays; a finished one of other settings is moved aside.

    Parameters
    ----------
    config : Config
        The configuration.
    folder : Path
        A published results folder, such as results/reference/cpu/mini, or the one above it.
    cells : iterable of Cell
        The runs; all that the folder holds if none.

    Yields
    ------
    Imported
        What came of each run, as soon as it is done.

    Raises
    ------
    HarnessError
        If the folder holds no results of the preset, the disk is full, or a process trains a cell.
    """
    source = _results_folder(config, folder)
    for name in [cell.id for cell in cells] or _runs(source):
        yield _import(config, source, name)


def without(
    config: Config, run: RunInfo, source: Path, evaluations: Iterable[Evaluation]
) -> list[str]:
    """Name the attacks on a run that have no record in a folder, nor the weights to make one."""
    return [
        paths.record_file(source, e.checkpoint, config.eval.label(e.attack), e.seed).stem
        for e in evaluations
        if e.checkpoint not in run.kept and not _has_record(config, run, source, e)
    ]


def _results_folder(config: Config, folder: Path) -> Path:
    for place in (folder, folder / config.preset):
        if (place / "cells").is_dir():
            if place.resolve() == paths.root(config).resolve():
                raise HarnessError(f"{place} are your own results: there is nothing to import")
            return place
    raise HarnessError(
        f"{folder} holds no results of preset {config.preset}; give a published results folder, "
        "such as results/reference/cpu/mini"
    )


def _runs(source: Path) -> list[str]:
    found = (source / "cells").glob("*/*/*/*/*/run.json")
    return sorted(str(path.parent.relative_to(source / "cells")) for path in found)


def _import(config: Config, results: Path, name: str) -> Imported:
    source = results / "cells" / name
    try:
        cell = parse_cell(name)
        spec, run = training_spec(config, cell), read_run(source)
        problem = _problem(config, spec, run, source)
    except (HarnessError, OSError) as error:
        return Imported(name, "refused", f"cannot be used: {error}")
    if run is None or problem is not None:
        return Imported(name, "refused", str(problem))
    folder = paths.cell_folder(config, cell)
    with exclusive(paths.training_lock(folder), f"cell {cell}"):
        if state_file(folder, spec.digest).exists():
            return Imported(name, "kept", "is begun here; `reproduce train` continues it")
        here = _finished(config, spec, folder)
        if here is None:
            aside = move_run_aside(paths.root(config), folder)
            records = _copy_records(config, cell, run, source, folder)
            for file in paths.run_files(source, run.kept):
                _copy(file, folder / file.name)
            told = f"with {records}, {_weights(run)}"
            if aside is not None:
                told += f"; the run before lies in {aside}, {how_to_restore(aside)} swaps them"
            lacking = without(config, run, folder, planned_evaluations(config).get(cell, ()))
            if lacking:
                told += f"; neither record nor weights for {', '.join(lacking)}"
            return Imported(name, "imported", told)
        told = "was trained here" if here.published is None else "was imported before"
        if here.models == run.models:
            told += f", now with {_copy_records(config, cell, run, source, folder)}"
        return Imported(name, "kept", told)


def _problem(config: Config, spec: TrainingSpec, run: RunInfo | None, source: Path) -> str | None:
    """Say why a published run does not serve as the configuration's; None if it does."""
    if run is None:
        return "is not there"
    if run.published is None:
        return "was not published: `reproduce publish` writes what can be imported"
    problem = problem_with(config, spec, run, source)
    if problem is not None:
        return problem
    path = paths.run_file(source)
    if run.epochs is None:
        return "is older than the checksums that a published run needs"
    try:
        told = TrainingSpec.model_validate(read_json(path).get("spec"))
    except ValidationError:
        told = None
    if told is None or told.digest != spec.digest:
        return "says in its settings otherwise than in their digest"
    damaged = damaged_file(source, run)
    return None if damaged is None else f"has a damaged {damaged.name}"


def _finished(config: Config, spec: TrainingSpec, folder: Path) -> RunInfo | None:
    """Return the whole run with these settings that one's own results have, if they have it."""
    try:
        run = read_run(folder)
    except HarnessError:  # damaged: it goes aside
        return None
    if run is None or problem_with(config, spec, run) or damaged_file(folder, run):
        return None
    return run


def _copy_records(config: Config, cell: Cell, run: RunInfo, source: Path, folder: Path) -> str:
    """Copy the records of the configuration's attacks that are not there, and say how many are."""
    count = 0
    for item in _evaluations(config, cell, run, source):
        label = config.eval.label(item.attack)
        record, copy = (
            paths.record_file(place, item.checkpoint, label, item.seed)
            for place in (source, folder)
        )
        if _has_record(config, run, folder, item):
            count += 1
            continue
        copies = (copy, copy.with_suffix(".json"))
        # one of the two alone is left of an import that was interrupted, or of a loss
        if not all(path.is_file() for path in copies) and _has_record(config, run, source, item):
            _copy(record, copies[0])
            _copy(record.with_suffix(".json"), copies[1])
            count += 1
    return f"{count} record{'' if count == 1 else 's'}"


def _evaluations(config: Config, cell: Cell, run: RunInfo, source: Path) -> Iterator[Evaluation]:
    """Yield the attacks of the configuration, of any seed, that a run has a file of."""
    for checkpoint in run.models:
        for attack in config.eval.attacks:
            label = config.eval.label(attack)
            some = paths.record_file(source, checkpoint, label, 0)
            for path in sorted(some.parent.glob(f"{label}-seed*.npz")):
                seed = re.fullmatch(r"\d{1,6}", path.stem.removeprefix(f"{label}-seed"))
                if seed is not None:
                    yield Evaluation(cell, checkpoint, attack, int(seed[0]))


def _has_record(config: Config, run: RunInfo, folder: Path, item: Evaluation) -> bool:
    """Say whether a folder has a whole record of an evaluation, of these settings and weights."""
    spec = evaluation_spec(config, item.cell, item.attack, item.seed, item.checkpoint)
    label = config.eval.label(item.attack)
    path = paths.record_file(folder, item.checkpoint, label, item.seed)
    try:
        record = read_record(path)
    except HarnessError:
        return False
    weights, images = run.models.get(item.checkpoint), spec.images or run.data.test
    return (
        weights is not None
        and is_current(path, record.info, spec.digest, weights)
        and len(record.index) == images
    )


def _weights(run: RunInfo) -> str:
    return f"weights of {', '.join(run.kept)}" if run.kept else "without weights"


def _copy(source: Path, target: Path) -> None:
    if not (target.is_file() and sha256_of_file(target) == sha256_of_file(source)):
        write_atomically(target, partial(shutil.copyfile, source))
