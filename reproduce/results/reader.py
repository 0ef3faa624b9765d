"""The one reader of records: what there is of one, whether it counts, and why not.

Tables, figures, claims, status and results.parquet ask here, so all of them count the same.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce.cell import parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json
from reproduce.evaluation.records import Record, read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, Item, PublishedEvaluation
from reproduce.experiments.runs import RunInfo, problem_with, read_run
from reproduce.experiments.spec import training_spec
from reproduce.zoo.checkpoints import ZooCheckpoint


@dataclass(frozen=True)
class FoundRecord:
    """What there is of one evaluation.

    A record is unusable if it is damaged, or of other settings or weights; it is unavailable if a
    published checkpoint could not be had.  `reason` says why.  If it is ok, `record` is there, and
    `run` unless the network is from elsewhere.
    """

    item: Item
    status: Literal["ok", "missing", "unusable", "unavailable"]
    reason: str = ""
    record: Record | None = None
    run: RunInfo | None = None

    def required(self) -> Record:
        """Return the record; HarnessError if there is none that counts."""
        if self.record is None:
            nothing = f"{self.item.model} has no record of {self.item.attack} yet"
            raise HarnessError(self.reason or nothing)
        return self.record


def find_record(config: Config, item: Item) -> FoundRecord:
    """Look for the record of an evaluation, and say whether it counts."""
    path = record_path(config, item)
    try:
        if isinstance(item, PublishedEvaluation):
            return _find_published(config, item, path)
        return _find_evaluation(config, item, path)
    except HarnessError as error:
        return FoundRecord(item, "unusable", str(error))


def is_evaluated(config: Config, item: Item) -> bool:
    """Say whether an evaluation has a record of these settings and the run's weights."""
    return find_record(config, item).status == "ok"


def record_path(config: Config, item: Item) -> Path:
    """Return where the record of an evaluation lies."""
    label = config.eval.label(item.attack)
    if isinstance(item, PublishedEvaluation):
        return paths.published_record(config, item.dataset, item.name, label, item.seed)
    folder = paths.cell_folder(config, item.cell)
    return paths.record_file(folder, item.checkpoint, label, item.seed)


def item_of(config: Config, path: Path) -> Item:
    """Return the evaluation that a record file is of; HarnessError if of none that there is."""
    label, _, seed = path.stem.rpartition("-seed")
    folder, cells = path.parent.parent, paths.root(config) / "cells"
    cell = parse_cell(folder.relative_to(cells).as_posix()) if cells in path.parents else None
    attack = next((name for name in config.eval.attacks if config.eval.label(name) == label), None)
    if attack is None or not seed.isdecimal():
        raise HarnessError(f"{path} is of no attack of the configuration")
    if cell is None:
        return PublishedEvaluation(folder.name, folder.parent.name, attack, int(seed))
    for checkpoint in paths.CHECKPOINTS:
        item = Evaluation(cell, checkpoint, attack, int(seed))
        if record_path(config, item) == path:
            return item
    raise HarnessError(f"{path} is of no checkpoint of a run")


def _find_evaluation(config: Config, item: Evaluation, path: Path) -> FoundRecord:
    if not path.is_file():
        return FoundRecord(item, "missing")
    record, run = read_record(path), read_run(paths.cell_folder(config, item.cell))
    if run is None:
        raise HarnessError(f"{path}: the run has lost its run.json")
    if problem := record.problem_with(item.spec(config).digest, run.models.get(item.checkpoint)):
        raise HarnessError(f"{path} {problem}")
    if run.published is not None:
        problem = problem_with(config, training_spec(config, item.cell), run)
        if problem is not None:
            raise HarnessError(f"{item.cell} {problem}")
    return FoundRecord(item, "ok", record=record, run=run)


def _find_published(config: Config, item: PublishedEvaluation, path: Path) -> FoundRecord:
    if path.is_file():
        record, zoo = read_record(path), paths.zoo_folder(config.data)
        weights = record.info["model_sha256"]
        # of the checkpoint only files that are newer than the record are read; a copy may keep its
        # old time of modification, not that of its change here
        stats = [file.stat() for file in paths.zoo_files(zoo, item.dataset, item.name)]
        if any(max(s.st_mtime, s.st_ctime) >= path.stat().st_mtime for s in stats):
            weights = ZooCheckpoint(item.name, item.dataset, zoo).fingerprint()
        if problem := record.problem_with(item.spec(config).digest, weights):
            raise HarnessError(f"{path} {problem}")
        return FoundRecord(item, "ok", record=record)
    file = paths.published_outcome(path)
    outcome = read_json(file) if file.is_file() else {}
    reason = outcome.get("reason")
    if outcome.get("evaluated"):
        reason = f"its record is lost; delete {file} to attack it again"
    return FoundRecord(item, "unavailable" if reason else "missing", reason or "")
