"""Whether a training run is whole, and says of itself what its files say."""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from reproduce.cell import Cell, parse_cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, sha256_of_file
from reproduce.experiments import paths
from reproduce.experiments.cost import parameters
from reproduce.experiments.history import read_epochs
from reproduce.experiments.paths import checkpoint_of
from reproduce.experiments.runs import RunInfo, check_state
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import TrainingSpec, checkpoints, training_spec
from reproduce.registry import dataset_facts
from reproduce.share.verification_finding import (
    OTHER_SETTINGS,
    UNEXPECTED,
    Finding,
    Verdict,
    unexpected,
)
from reproduce.share.verification_folder import Copied
from reproduce.share.verification_formats import check_tensors, check_weights
from reproduce.share.verification_trace import trace_problem
from reproduce.tables.checkpoints import chosen_among

# of numbers that were written in float32, or as decimals
_ROUNDING = 1e-5
# points of a schedule, images held out
_MOST = 1_000_000


class _Told(RunInfo):
    """What run.json says that a verification looks at."""

    cell: str
    spec: dict[str, Any]
    final_metrics: dict[str, float]


@dataclass
class CheckedRun:
    """A training run of the folder and what was found of it.

    Attributes
    ----------
    name : str
        Its folder.
    findings : list of Finding
        What was found of its files.
    cell : Cell or None
        What its folder says it is; None where that is no cell.
    run, spec : RunInfo, TrainingSpec or None
        What run.json says, where that is whole and of this cell.
    weights : dict
        Its checkpoints that are whole: where each may be read.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    cell: Cell | None = None
    run: RunInfo | None = None
    spec: TrainingSpec | None = None
    weights: dict[Checkpoint, Path] = field(default_factory=dict)

    def add(self, verdict: Verdict, file: str, reason: str) -> None:
        """Add what was found of one of its files."""
        self.findings.append(Finding(verdict, f"{self.name}/{file}", reason))


def check_run(
    config: Config, cell_id: str, files: Mapping[str, Copied], refused: Set[str]
) -> CheckedRun:
    """Check the files of one training run.

    Parameters
    ----------
    config : Config
        The configuration whose results they are said to be.
    cell_id : str
        Its folder, from cells on.
    files : mapping
        Those of its files that may be read, by their names in that folder.
    refused : set of str
        The names of those that may not, of which it was said why.
    """
    found = CheckedRun(f"cells/{cell_id}")
    try:
        found.cell = parse_cell(cell_id)
    except HarnessError as error:
        found.findings.append(Finding("damaged", found.name, str(error)))
        return found
    states = {name: file.path for name, file in files.items() if file.place.kind == "state"}
    if "run.json" in files:
        _check_finished(config, found, cell_id, files, refused)
    elif "run.json" not in refused and not states:
        found.findings.append(Finding("not checked", found.name, "it has no run.json"))
    for name, path in states.items():
        _check_state(found, name, path)
    return found


def _check_finished(
    config: Config,
    found: CheckedRun,
    cell_id: str,
    files: Mapping[str, Copied],
    refused: Set[str],
) -> None:
    """Check a run that has a run.json; a state beside it changes nothing about it."""
    try:
        _check_told(found, cell_id, files["run.json"].path)
    except HarnessError as error:
        found.add("damaged", "run.json", str(error))
        return
    except UNEXPECTED as error:
        found.add("damaged", "run.json", unexpected(error))
        return
    for name, why in _problems(found, files):
        if name not in refused:
            found.add("damaged", name, why)
    if not found.findings and not refused:
        _stands(config, found)


def _stands(config: Config, found: CheckedRun) -> None:
    run = _known(found.run)
    kept = f"{len(found.weights)} checkpoints, {run.checkpoint_epochs['last']} epochs"
    if run.published is not None:
        kept += f"; published, with {len(run.kept)} of {len(run.models)} checkpoints"
    older = "; no checksum of epochs.csv, made before there was one"
    reason = kept + (older if run.epochs is None else "")
    if _known(found.run).digest == _asked_for(config, found.cell):
        found.findings.append(Finding("stands", found.name, reason))
    else:
        reason = f"whole, but {OTHER_SETTINGS}; {reason}"
        found.findings.append(Finding("not checked", found.name, reason))


def _asked_for(config: Config, cell: Cell | None) -> str | None:
    """Return the digest of what the configuration means by a cell; None if it cannot have it."""
    try:
        return None if cell is None else training_spec(config, cell).digest
    except HarnessError:
        return None


def _known(run: RunInfo | None) -> RunInfo:
    if run is None:  # asked only of runs that have one
        raise ValueError("no run")
    return run


def _check_state(found: CheckedRun, name: str, path: Path) -> None:
    try:
        check_tensors(path)
    except HarnessError as error:
        found.add("damaged", name, str(error))
        return
    try:
        progress = check_state(path)
    except (HarnessError, *UNEXPECTED):
        found.add("damaged", name, "its tensors or its progress do not match their checksum")
        return
    of = "of a run that is not finished" if found.run is None else "and left over by a finished run"
    found.add("stands", name, f"saved in epoch {progress['epoch']} {of}")


def _check_told(found: CheckedRun, cell_id: str, path: Path) -> None:
    """Read run.json, and settings from it.

    Raises
    ------
    HarnessError
        If it is damaged, of another cell, or its digest is not of its settings.
    """
    try:
        told = _Told.model_validate(read_json(path))
        spec = TrainingSpec.model_validate(told.spec)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise HarnessError(f"it is damaged at {key!r}: {first['msg']}") from error
    if not told.cell == spec.cell == cell_id:
        raise HarnessError(f"it is of {told.cell!r} with the settings of {spec.cell!r}")
    if told.digest != spec.digest:
        raise HarnessError(f"its digest is {told.digest}, that of its settings {spec.digest}")
    train = spec.train
    if max(len(train.milestones), len(train.rates), train.holdout) > _MOST:
        raise HarnessError("its settings are no run's: more points or more held out than any has")
    if not set(told.models) == set(checkpoints(train)) == set(told.checkpoint_epochs):
        raise HarnessError("it names other checkpoints than its settings keep")
    # seconds of the pieces are rounded, and so is their sum
    seconds = math.fsum(piece.seconds for piece in told.pieces)
    if not math.isclose(seconds, told.seconds, rel_tol=_ROUNDING, abs_tol=0.01):
        raise HarnessError(f"its pieces took {seconds:g} seconds together, it says {told.seconds}")
    if set(told.hardware) != {piece.name for piece in told.pieces}:
        raise HarnessError("it names other hardware than its pieces do")
    found.run, found.spec = told, spec


def _problems(found: CheckedRun, files: Mapping[str, Copied]) -> Iterator[tuple[str, str]]:
    """Yield the files of a run that are damaged or missing, and why."""
    expected = _expected(_known(found.run))
    whole = set()
    for name, sha256 in expected.items():
        if name not in files:
            yield name, "run.json speaks of it, it is not there"
        elif sha256 is not None and sha256_of_file(files[name].path) != sha256:
            yield name, "it does not match its checksum in run.json"
        else:
            whole.add(name)
    for name, file in files.items():
        if file.place.kind == "model" and name not in expected:
            yield name, "run.json speaks of no such checkpoint"
        elif name in whole:
            problem = _problem(found, file)
            if problem is not None:
                yield name, problem


def _expected(run: RunInfo) -> dict[str, str | None]:
    """Return the files of a run and their checksums; None where run.json has none."""
    models = {paths.model_file(Path(), k).name: run.models[k] for k in run.kept}
    trace, epochs = paths.trace_file(Path()).name, paths.epochs_file(Path()).name
    return {**models, trace: run.trace, epochs: run.epochs}


def _problem(found: CheckedRun, file: Copied) -> str | None:
    """Say what a file has that its run cannot have; None if nothing."""
    try:
        if file.place.kind == "model":
            return _weights_problem(found, checkpoint_of(file.place.parts["choice"]), file.path)
        if file.place.kind == "trace":
            return trace_problem(_known(found.run), found.spec, file.path)
        return _epochs_problem(found, file.path)
    except UNEXPECTED as error:
        return unexpected(error)


def _weights_problem(found: CheckedRun, choice: Checkpoint, path: Path) -> str | None:
    if found.spec is None or found.cell is None:
        return None
    about = {"cell": found.spec.cell, "digest": found.spec.digest, "checkpoint": choice}
    facts = dataset_facts(found.cell.dataset)
    wanted = parameters(found.cell.architecture, facts)
    try:
        size = check_tensors(path)
        # how many classes there are, a folder of images decides
        if facts.storage == "arrays" and size != wanted:
            return f"it has {size} parameters, {found.cell.architecture} has {wanted}"
        check_weights(path, about)
    except HarnessError as error:
        return str(error)
    found.weights[choice] = path
    return None


def _epochs_problem(found: CheckedRun, path: Path) -> str | None:
    run, spec, cell = _known(found.run), found.spec, found.cell
    if spec is None or cell is None:
        return None
    try:
        frame = read_epochs(path, cell, measured_epochs(spec.train))
        if chosen_among(frame, spec, run.checkpoint_epochs) is None:
            return "run.json's checkpoints are of other epochs than its numbers choose"
    except HarnessError:
        return "it is no table of the epochs that the run was measured after"
    return _last_problem(frame, getattr(run, "final_metrics", {}))


def _last_problem(frame: pd.DataFrame, told: Mapping[str, float]) -> str | None:
    last = frame.iloc[-1].to_dict()
    for name, value in told.items():
        if not math.isclose(last.get(name, math.nan), value, rel_tol=_ROUNDING, abs_tol=1e-9):
            return f"its last row has {name} {last.get(name)}, run.json says {value}"
    return None
