"""The one reader of results: what there is of a record or a run, whether it counts, and why not.

Tables, figures, claims, status and results.parquet ask here, so all of them count the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import sha256_of_file
from reproduce.evaluation.records import Record, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, PublishedEvaluation
from reproduce.experiments.history import as_frame, evenly, read_epochs, read_trace
from reproduce.experiments.runs import Found, RunInfo, SavedTrace, find_run, problem_with, read_run
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import evaluation_spec, training_spec
from reproduce.zoo.checkpoints import PublishedAttack

Item = Evaluation | PublishedEvaluation
RecordStatus = Literal["ok", "missing", "unusable", "unavailable"]


@dataclass(frozen=True)
class FoundRecord:
    """What there is of one evaluation.

    A record is unusable if it is damaged, or of other settings or weights; it is unavailable if a
    published checkpoint could not be had.  `reason` says why.  If it is ok, `record` is there, and
    `run` unless the network is from elsewhere.
    """

    item: Item
    status: RecordStatus
    reason: str = ""
    record: Record | None = None
    run: RunInfo | None = None


def find_record(config: Config, item: Item) -> FoundRecord:
    """Look for the record of an evaluation, and say whether it counts."""
    reason: str | None = None
    try:
        if isinstance(item, PublishedEvaluation):
            record, reason = read_published(config, item)
            if record is not None:
                return FoundRecord(item, "ok", record=record)
        elif (found := read_evaluation(config, item)) is not None:
            return FoundRecord(item, "ok", "", *found)
    except HarnessError as error:
        return FoundRecord(item, "unusable", str(error))
    return FoundRecord(item, "missing" if reason is None else "unavailable", reason or "")


def record_path(config: Config, item: Item) -> Path:
    """Return where the record of an evaluation lies."""
    label = config.eval.label(item.attack)
    if isinstance(item, PublishedEvaluation):
        return paths.published_record(config, item.dataset, item.name, label, item.seed)
    return paths.record_file(
        paths.cell_folder(config, item.cell), item.checkpoint, label, item.seed
    )


def read_evaluation(config: Config, evaluation: Evaluation) -> tuple[Record, RunInfo] | None:
    """Return the record of one evaluation and its run, or None if there is none yet.

    Raises
    ------
    HarnessError
        If the record is damaged, or was made with other settings or weights.
    """
    cell, checkpoint, path = evaluation.cell, evaluation.checkpoint, record_path(config, evaluation)
    if not path.is_file():
        return None
    record = read_whole(path)
    spec = evaluation_spec(config, cell, evaluation.attack, evaluation.seed, checkpoint)
    if record.info["digest"] != spec.digest:
        raise HarnessError(f"{path} was made with other settings than the configuration's")
    folder = paths.cell_folder(config, cell)
    run = read_run(folder)
    if run is None:
        raise HarnessError(f"{path}: the run has lost its {paths.run_file(folder).name}")
    if run.published is not None:
        problem = problem_with(config, training_spec(config, cell), run)
        if problem is not None:
            raise HarnessError(f"{cell} {problem}")
    if run.models.get(checkpoint) != record.info["model_sha256"]:
        raise HarnessError(f"{path} is of other weights than the run's")
    return record, run


def read_published(config: Config, item: PublishedEvaluation) -> tuple[Record | None, str | None]:
    """Return the record of a published checkpoint, or the reason why it could not be had.

    Both are None before it was tried.

    Raises
    ------
    HarnessError
        If the record is damaged, was made with other settings or is of other weights than
        the checkpoint's.
    """
    attack = PublishedAttack(config, item.dataset, item.name, item.attack, item.seed)
    if attack.record.is_file():
        record = read_whole(attack.record)
        problem = attack.problem_with(record.info)
        if problem is not None:
            raise HarnessError(f"{attack.record} {problem}")
        if record.info.get("data") is None:
            raise HarnessError(f"the summary of {attack.record} is damaged at 'data'; delete it")
        return record, None
    outcome = attack.read()
    if outcome.get("evaluated"):
        outcome_file = attack.outcome.relative_to(paths.root(config))
        return None, f"its record is lost; delete {outcome_file} to attack it again"
    reason = outcome.get("reason")
    return None, None if reason is None else str(reason)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Segment(_Part):
    name: str
    commit: str | None = None


class _Images(_Part):
    official: bool
    train: int
    test: int


class RecordSummary(_Part):
    """What a record's summary may say about how it was made."""

    model: str | None = None
    seconds: float | None = None
    pieces: list[_Segment] = []
    data: _Images | None = None


def read_whole(path: Path) -> Record:
    """Read a record, and check what its summary says about how it was made."""
    record = read_record(path)
    try:
        RecordSummary.model_validate(record.info)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{path} is damaged at {key!r}; delete it and run again") from error
    return record


@dataclass(frozen=True)
class LoadedRun:
    """What can be used of one run; its large files are read when they are asked for.

    Of a finished run all its files are used, of one that has not ended what its saved state holds.
    """

    config: Config
    cell: Cell
    found: Found

    @property
    def finished(self) -> RunInfo | None:
        """What run.json says, of a finished run."""
        return self.found.finished

    @property
    def problem(self) -> str | None:
        """Why nothing of it can be used; None if something can."""
        if self.found.damage is not None:
            return self.found.damage
        if self.found.problem is None or self.found.saved is not None:
            return None
        return f"{self.cell} {self.found.problem}"

    @property
    def written(self) -> float:
        """When its trace was written, in seconds since 1970."""
        if self.found.saved is not None:
            return self.found.saved.written
        return paths.trace_file(paths.cell_folder(self.config, self.cell)).stat().st_mtime

    def trace(self) -> pd.DataFrame:
        """Read its trace, a row an iteration, or every so many of an imported run.

        Raises
        ------
        HarnessError
            If nothing of the run can be used, or this file is damaged or not that run's.
        """
        run = self._usable()
        if isinstance(run, SavedTrace):
            return as_frame(run.rows)
        path = paths.trace_file(paths.cell_folder(self.config, self.cell))
        self._check(path, run.trace)
        trace = read_trace(path, self.cell)
        return trace if run.published is None else evenly(trace, run.published.every)

    def epochs(self) -> pd.DataFrame:
        """Read the metrics of epochs.csv, a row for each epoch that was measured; as `trace`."""
        run = self._usable()
        if isinstance(run, SavedTrace):
            return pd.DataFrame(run.progress["epochs"])
        path = paths.epochs_file(paths.cell_folder(self.config, self.cell))
        if run.epochs is not None:
            self._check(path, run.epochs)
        train = training_spec(self.config, self.cell).train
        return read_epochs(path, self.cell, measured_epochs(train))

    def _check(self, path: Path, sha256: str) -> None:
        if sha256_of_file(path) != sha256:
            raise HarnessError(
                f"{path} is damaged or not the one of run.json; `reproduce train {self.cell}` "
                "makes it again"
            )

    def _usable(self) -> RunInfo | SavedTrace:
        usable = self.finished or self.found.saved
        if usable is None:
            raise HarnessError(str(self.problem))
        return usable


def load_run(config: Config, cell: Cell) -> LoadedRun:
    """Look what of a run can be used."""
    return LoadedRun(config, cell, find_run(config, training_spec(config, cell)))
