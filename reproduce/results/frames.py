"""The metrics of an experiment's evaluations, from whatever records exist."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce.cell import Cell, parse_cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import sha256_of_file, write_atomically
from reproduce.evaluation.records import (
    ALL_METRICS,
    Record,
    check_black_box,
    read_record,
    worst_case,
)
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, Experiment, PublishedEvaluation
from reproduce.experiments.history import as_frame, evenly, read_epochs, read_trace
from reproduce.experiments.runs import Found, RunInfo, SavedTrace, find_run, problem_with, read_run
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import AttackSpec, attack_spec, evaluation_spec, training_spec
from reproduce.registry import METHODS, parse_architecture
from reproduce.zoo.checkpoints import PublishedAttack


@dataclass(frozen=True)
class Results:
    """What an experiment has so far.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row an evaluation that has a record: dataset, architecture, method,
        lambda, attack, training_seed, attack_seed, images (attacked), train_images and
        test_images (of the data set), official (md5 checked), extra_images (of the
        file it was trained with, 0 for none), final_lambda (the mean over
        the last epoch), hours (of training, `RunInfo.hours`), hardware and precision
        (what training truly computed in, "" where a run does not say), imported_from
        (the publication the run was imported from, "" for none), the three metrics
        and, NaN where there is none, top-5 natural accuracy.
    held : mapping
        For the same evaluations the positions of their images in the test set and
        whether each was robust.
    planned : int
        Number of evaluations the experiment is made from.
    problems : tuple of str
        Records that exist and could not be used, with the reason.
    warnings : tuple of str
        What the checks of the evaluations found, each once a network.
    published : mapping
        The records of published checkpoints.
    unavailable : mapping
        Of those that could not be had, the reason.
    """

    frame: pd.DataFrame
    held: Mapping[Evaluation, tuple[NDArray[np.integer], NDArray[np.bool_]]]
    planned: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    published: Mapping[PublishedEvaluation, Record] = field(default_factory=dict)
    unavailable: Mapping[PublishedEvaluation, str] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Number of evaluations without a usable record."""
        return self.planned - len(self.frame) - len(self.published)

    def attacked(self) -> list[tuple[str, str, int, int]]:
        """Return data set, attack and number of images of every record, and of its data set."""
        columns = self.frame[["dataset", "attack", "images", "test_images"]]
        ours = list(columns.itertuples(index=False, name=None))
        return ours + [
            (item.dataset, item.attack, len(record.index), record.info["data"]["test"])
            for item, record in self.published.items()
        ]

    def of_cell(
        self, cell: Cell
    ) -> dict[Evaluation, tuple[NDArray[np.integer], NDArray[np.bool_]]]:
        """Return the part of `held` that belongs to one training run."""
        return {item: held for item, held in self.held.items() if item.cell == cell}


def collect(config: Config, experiment: Experiment) -> Results:
    """Read the records of an experiment; damaged and outdated ones are named and left out."""
    rows, held, problems, warnings = [], {}, [], []
    published: dict[PublishedEvaluation, Record] = {}
    unavailable: dict[PublishedEvaluation, str] = {}
    for evaluation in experiment.evaluations:
        try:
            found = read_evaluation(config, evaluation)
        except HarnessError as error:
            problems.append(str(error))
            continue
        if found is not None:
            record, run = found
            rows.append(_row(evaluation, record, run))
            held[evaluation] = (record.index, record.robust)
            warnings += [f"{evaluation.cell}: {line}" for line in record.info["warnings"]]
    for item in experiment.published:
        try:
            theirs, reason = read_published(config, item)
        except HarnessError as error:
            problems.append(str(error))
            continue
        if theirs is not None:
            published[item] = theirs
            warnings += [f"{item.name}: {line}" for line in theirs.info["warnings"]]
        elif reason is not None:
            unavailable[item] = reason
    return Results(
        _frame(rows),
        held,
        len(experiment.evaluations) + len(experiment.published),
        tuple(problems),
        tuple(dict.fromkeys(warnings)),
        published,
        unavailable,
    )


def read_evaluation(config: Config, evaluation: Evaluation) -> tuple[Record, RunInfo] | None:
    """Return the record of one evaluation and its run, or None if there is none yet.

    Raises
    ------
    HarnessError
        If the record is damaged, or was made with other settings or weights.
    """
    cell, checkpoint = evaluation.cell, evaluation.checkpoint
    folder = paths.cell_folder(config, cell)
    label = config.eval.label(evaluation.attack)
    path = paths.record_file(folder, checkpoint, label, evaluation.seed)
    if not path.is_file():
        return None
    record = read_record(path)
    spec = evaluation_spec(config, cell, evaluation.attack, evaluation.seed, checkpoint)
    if record.info.get("digest") != spec.digest:
        raise HarnessError(f"{path} was made with other settings than the configuration's")
    run = read_run(folder)
    if run is None:
        raise HarnessError(f"{path}: the run has lost its {paths.run_file(folder).name}")
    if run.published is not None:
        problem = problem_with(config, training_spec(config, cell), run)
        if problem is not None:
            raise HarnessError(f"{cell} {problem}")
    if run.models.get(checkpoint) != record.info.get("model_sha256"):
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
        record = read_record(attack.record)
        problem = attack.problem_with(record.info)
        if problem is not None:
            raise HarnessError(f"{attack.record} {problem}")
        return record, None
    reason = attack.read().get("reason")
    return None, None if reason is None else str(reason)


_KEYS = (
    "dataset",
    "architecture",
    "method",
    "lambda",
    "attack",
    "training_seed",
    "attack_seed",
    "images",
    "train_images",
    "test_images",
    "official",
    "extra_images",
    "final_lambda",
    "hours",
    "hardware",
    "precision",
    "imported_from",
)


def _row(evaluation: Evaluation, record: Record, run: RunInfo) -> tuple[object, ...]:
    cell = evaluation.cell
    metrics = record.metrics
    values = metrics.as_dict()
    return (
        cell.dataset,
        cell.architecture,
        cell.method,
        cell.lam,
        evaluation.attack,
        cell.seed,
        evaluation.seed,
        metrics.images,
        run.data.train,
        run.data.test,
        run.data.official,
        0 if run.data.extra is None else run.data.extra.images,
        run.final_lambda,
        run.hours,
        " and ".join(run.hardware),
        " and ".join(run.precisions),
        "" if run.published is None else run.published.name,
        *(math.nan if values.get(name) is None else values[name] for name in ALL_METRICS),
    )


def _frame(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=[*_KEYS, *ALL_METRICS])


def black_box_warnings(config: Config, results: Results) -> list[str]:
    """Name the networks on which Square, without gradients, beats every white-box attack.

    Robust accuracies are means over the attacks' seeds, on the images all of them saw.
    """
    found = []
    for cell in dict.fromkeys(item.cell for item in results.held):
        items = results.of_cell(cell)
        common, _ = worst_case(list(items.values()))
        accuracy: dict[str, list[float]] = {}
        for item, (index, robust) in items.items():
            share = 100 * float(robust[np.isin(index, common)].mean())
            accuracy.setdefault(item.attack, []).append(share)
        means = {name: float(np.mean(values)) for name, values in accuracy.items()}
        black = {n: m for n, m in means.items() if config.eval.attacks[n].kind == "square"}
        white = {n: m for n, m in means.items() if n not in black}
        if black and white:
            lines = check_black_box(min(white.values()), min(black.values()))
            found += [f"{cell}: {line}" for line in lines]
    return found


@dataclass(frozen=True)
class UsableRun:
    """What of one run can be used.

    A finished run can if it has the configuration's settings, the images prepared now, and
    all its files; each of those is then read, and may be damaged, for itself.  Of another
    run with these settings it is what its saved state holds.

    Attributes
    ----------
    config : Config
        The configuration.
    cell : Cell
        The run.
    found : Found
        How far it is.
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
        """Why nothing of it can be used, in words; None if something can."""
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
        """Read its trace, a row an iteration, as `reproduce.traces.as_frame` has it.

        Of a run that was published with a part of its trace, it is every so many iterations.

        Raises
        ------
        HarnessError
            If nothing of the run can be used, or this file is damaged or not that run's.
        """
        run = self._usable()
        if isinstance(run, SavedTrace):
            return as_frame(run.rows)
        path = paths.trace_file(paths.cell_folder(self.config, self.cell))
        # before it is read: of a flipped bit the reader of such files may raise anything
        self._check(path, run.trace)
        trace = read_trace(path, self.cell)
        return trace if run.published is None else evenly(trace, run.published.every)

    def epochs(self) -> pd.DataFrame:
        """Read the metrics after the epochs it was measured after, a row each, as in epochs.csv.

        Raises
        ------
        HarnessError
            As `trace`.
        """
        run = self._usable()
        if isinstance(run, SavedTrace):
            return pd.DataFrame(run.progress["epochs"])
        path = paths.epochs_file(paths.cell_folder(self.config, self.cell))
        train = training_spec(self.config, self.cell).train
        if run.epochs is not None:
            self._check(path, run.epochs)
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


def usable_run(config: Config, cell: Cell) -> UsableRun:
    """Look what of a run can be used; its large files are read when they are asked for."""
    return UsableRun(config, cell, find_run(config, training_spec(config, cell)))


_RUN = ["dataset", "architecture", "method", "lambda", "seed"]
_TRACE = ["natural_risk", "robust_regularization", "lambda_t", "learning_rate", "lipschitz"]
TRACE_COLUMNS = [*_RUN, "iteration", "epoch", *_TRACE]
METRIC_COLUMNS = ["robust_accuracy", "natural_accuracy", "perturbation_stability"]
EPOCH_COLUMNS = [*_RUN, "epoch", *METRIC_COLUMNS]


@dataclass(frozen=True)
class Histories:
    """How several runs went.

    Attributes
    ----------
    traces : pandas.DataFrame
        Columns `TRACE_COLUMNS`: a row an iteration.  `lambda` is the one that names the
        run, `lambda_t` the one of the step.
    epochs : pandas.DataFrame
        Columns `EPOCH_COLUMNS`: a row an epoch that was measured, percent of the test images.
    missing : tuple of str
        What is not there: runs not begun or not finished, files damaged or lost.
    """

    traces: pd.DataFrame
    epochs: pd.DataFrame
    missing: tuple[str, ...]


def read_histories(config: Config, cells: Iterable[Cell]) -> Histories:
    """Read traces and epochs of runs; what is missing or damaged is named and left out.

    Of a run that is not finished it is what its saved state holds.
    """
    traces: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    missing: list[str] = []
    for cell in dict.fromkeys(cells):
        run = usable_run(config, cell)
        if run.problem is not None:
            missing.append(run.problem)
            continue
        if run.finished is None:
            missing.append(_unfinished(config, run))
        for read, frames, columns in (
            (run.trace, traces, TRACE_COLUMNS),
            (run.epochs, epochs, EPOCH_COLUMNS),
        ):
            try:
                frames.append(_of(cell, read(), columns))
            except HarnessError as error:
                missing.append(str(error))
    return Histories(
        _joined(traces, TRACE_COLUMNS),
        _joined(epochs, EPOCH_COLUMNS),
        tuple(paths.shortened(config, line) for line in missing),
    )


def _unfinished(config: Config, run: UsableRun) -> str:
    """Say how far a run is that its saved state stands for."""
    saved = run.found.saved
    epoch = "?" if saved is None else saved.progress["epoch"]
    return f"{run.cell} is in epoch {epoch} of {training_spec(config, run.cell).train.epochs}"


def _of(cell: Cell, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Name the run in front of its rows; metrics that it never measured are NaN."""
    frame = frame.rename(columns={"lambda": "lambda_t"})
    frame = frame.rename(columns={f"test_{name}": name for name in METRIC_COLUMNS})
    values: list[Any] = [cell.dataset, cell.architecture, cell.method, cell.lam, cell.seed]
    return frame.assign(**dict(zip(_RUN, values, strict=True))).reindex(columns=columns)


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)


# name and pandas type of every column; docs/results.md says what each holds
COLUMNS = {
    "model": "string",
    "origin": "string",
    "dataset": "string",
    "architecture": "string",
    "family": "string",
    "depth": "Int64",
    "width": "float64",
    "method": "string",
    "objective": "string",
    "lambda_rule": "string",
    "weight_perturbation": "string",
    "batches": "string",
    "lambda": "float64",
    "training_seed": "Int64",
    "checkpoint": "string",
    "checkpoint_epoch": "Int64",
    "attack": "string",
    "attack_kind": "string",
    "epsilon": "float64",
    "attack_seed": "int64",
    "images": "int64",
    "test_images": "int64",
    "metric": "string",
    "value": "float64",
    "recovered": "int64",
    "final_lambda": "float64",
    "device_hours": "float64",
    "training_seconds": "float64",
    "evaluation_seconds": "float64",
    "training_hardware": "string",
    "training_precision": "string",
    "evaluation_hardware": "string",
    "training_commit": "string",
    "evaluation_commit": "string",
    "training_digest": "string",
    "evaluation_digest": "string",
    "model_sha256": "string",
    "official_data": "boolean",
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Piece(_Part):
    name: str
    commit: str | None = None


T = TypeVar("T", bound=_Part)


class _Images(_Part):
    official: bool
    test: int


class _RecordCosts(_Part):
    """What a record's summary says beyond what decides whether it can be used."""

    model: str | None = None
    seconds: float | None = None
    pieces: list[_Piece] = []
    data: _Images | None = None


def rows_of_cell(
    config: Config, evaluation: Evaluation, record: Record, run: RunInfo
) -> list[dict[str, Any]]:
    """Return the rows of a record of a training run, one a metric, by `COLUMNS`.

    Raises
    ------
    HarnessError
        If the record's summary is damaged.
    """
    cell, folder = evaluation.cell, paths.cell_folder(config, evaluation.cell)
    fields = {
        **_cell_fields(cell),
        "origin": "trained" if run.published is None else "imported",
        "checkpoint": evaluation.checkpoint,
        "checkpoint_epoch": run.checkpoint_epochs.get(evaluation.checkpoint),
        "test_images": run.data.test,
        "final_lambda": run.final_lambda,
        "device_hours": run.hours,
        "training_seconds": run.seconds,
        "training_hardware": _joined_tidy_rows(run.hardware),
        "training_precision": _joined_tidy_rows(run.precisions),
        "training_commit": _joined_tidy_rows(piece.commit for piece in run.sessions),
        "training_digest": training_spec(config, cell).digest,
        "official_data": run.data.official,
    }
    spec = attack_spec(config, evaluation.attack, evaluation.seed, cell.dataset)
    label = config.eval.label(evaluation.attack)
    path = paths.record_file(folder, evaluation.checkpoint, label, evaluation.seed)
    return _rows(fields, spec, record, _checked(_RecordCosts, record.info, path))


def rows_from_elsewhere(
    config: Config, item: PublishedEvaluation, record: Record
) -> list[dict[str, Any]]:
    """Return the rows of a record of a network from elsewhere; a cell's fields are null.

    Raises
    ------
    HarnessError
        If the record's summary is damaged.
    """
    label = config.eval.label(item.attack)
    path = paths.published_record(config, item.dataset, item.name, label, item.seed)
    about = _checked(_RecordCosts, record.info, path)
    if about.data is None:
        raise HarnessError(f"the summary of {path} is damaged at 'data'; delete it")
    fields = {
        "model": item.name,
        # folders of others have a fingerprint at the end of their names
        "origin": "published" if about.model == item.name else "other",
        "dataset": item.dataset,
        "test_images": about.data.test,
        "official_data": about.data.official,
    }
    spec = attack_spec(config, item.attack, item.seed, item.dataset)
    return _rows(fields, spec, record, about)


def _cell_fields(cell: Cell) -> dict[str, Any]:
    """Return what a cell is and what its method is made of."""
    network, method = parse_architecture(cell.architecture), METHODS[cell.method]
    return {
        "model": cell.id,
        "dataset": cell.dataset,
        "architecture": cell.architecture,
        **asdict(network),
        "method": cell.method,
        "objective": method.objective,
        "lambda_rule": method.lambda_rule,
        "weight_perturbation": method.weight_perturbation,
        "batches": method.batches,
        "lambda": cell.lam,
        "training_seed": cell.seed,
    }


def _rows(
    fields: Mapping[str, Any], spec: AttackSpec, record: Record, about: _RecordCosts
) -> list[dict[str, Any]]:
    """Return a row for each metric that a record has."""
    metrics = record.metrics.as_dict()
    shared = {
        **fields,
        "attack": spec.name,
        "attack_kind": spec.attack.kind,
        "epsilon": spec.epsilon,
        "attack_seed": spec.seed,
        "images": metrics["images"],
        "recovered": metrics["recovered"],
        "evaluation_seconds": about.seconds,
        "evaluation_hardware": _joined_tidy_rows(piece.name for piece in about.pieces),
        "evaluation_commit": _joined_tidy_rows(piece.commit for piece in about.pieces),
        "evaluation_digest": record.info["digest"],
        "model_sha256": record.info["model_sha256"],
    }
    return [
        {**shared, "metric": name, "value": metrics[name]}
        for name in ALL_METRICS
        if metrics.get(name) is not None
    ]


def _joined_tidy_rows(values: Iterable[str | None]) -> str | None:
    """Join the different ones of some names; None if there are none."""
    return " and ".join(dict.fromkeys(value for value in values if value)) or None


def _checked(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    """Read the part of a file that a row needs.

    Raises
    ------
    HarnessError
        If something in it is not what it should be.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise HarnessError(f"{path} is damaged at {key!r}; delete it and run again") from error


@dataclass(frozen=True)
class Tidy:
    """All results in one table.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row for each checkpoint, attack, attack seed and metric, with `COLUMNS`.
    records : int
        Number of records behind it.
    left_out : tuple of str
        Records that exist and are damaged, outdated or of no attack of the configuration.
    """

    frame: pd.DataFrame
    records: int
    left_out: tuple[str, ...]


def tidy_results(config: Config) -> Tidy:
    """Read every record that counts, whether or not an experiment asks for it.

    One counts if an attack of the configuration made it, with the settings of the
    configuration, on the weights that lie there.
    """
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    records = 0
    for source in (_of_cells(config, left_out), _from_elsewhere(config, left_out)):
        for found in source:
            records += 1
            rows += found
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Tidy(frame, records, tuple(left_out))


def write_results(config: Config) -> Tidy:
    """Write all results as results.parquet and return them."""
    tidy = tidy_results(config)
    path = paths.results_file(config)
    write_atomically(
        path, lambda part: tidy.frame.to_parquet(part, compression="zstd", index=False)
    )
    return tidy


def _of_cells(config: Config, left_out: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of every record in the cells' folders that counts."""
    top = paths.root(config) / "cells"
    choices = {paths.record_file(top, c, "", 0).parent.name: c for c in paths.CHECKPOINTS}
    for path in _records(top, "*/*/*/*/*/records*/*.npz"):
        try:
            cell = parse_cell(path.parent.parent.relative_to(top).as_posix())
            checkpoint = choices.get(path.parent.name)
            if checkpoint is None:
                left_out.append(f"{path} is of no checkpoint of a run")
                continue
            evaluation = Evaluation(cell, checkpoint, *_attack_of(config, path))
            found = read_evaluation(config, evaluation)
            if found is not None:
                yield rows_of_cell(config, evaluation, *found)
        except HarnessError as error:
            left_out.append(_named(path, error))


def _from_elsewhere(config: Config, left_out: list[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of every record of a published or other network that counts."""
    for path in _records(paths.root(config) / "models", "*/*/records/*.npz"):
        folder = path.parent.parent
        try:
            attack, seed = _attack_of(config, path)
            item = PublishedEvaluation(folder.name, folder.parent.name, attack, seed)
            record, _ = read_published(config, item)
            if record is not None:
                yield rows_from_elsewhere(config, item, record)
        except HarnessError as error:
            left_out.append(_named(path, error))


def _records(folder: Path, pattern: str) -> list[Path]:
    """Return the records under a folder, without what a write that was cut short left."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _attack_of(config: Config, path: Path) -> tuple[str, int]:
    """Return the attack of the configuration, and its seed, whose record is called so.

    Raises
    ------
    HarnessError
        If there is none.
    """
    label, _, seed = path.stem.rpartition("-seed")
    attacks = [name for name in config.eval.attacks if config.eval.label(name) == label]
    if not attacks or not seed.isdecimal():
        raise HarnessError(f"{path} is of no attack of the configuration")
    return attacks[0], int(seed)


def _named(path: Path, error: HarnessError) -> str:
    """Say why a record is left out, with its name where the reason does not hold it."""
    return str(error) if str(path) in str(error) else f"{path}: {error}"
