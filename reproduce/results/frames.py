"""Results as frames: a row a record, results.parquet, and how runs went by iteration and epoch.

`collect` reads what an experiment asks for, `tidy_results` every record of a preset's folder.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.cell import Cell
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically
from reproduce.evaluation.records import ALL_METRICS, Record
from reproduce.experiments import paths
from reproduce.experiments.grids import Evaluation, Experiment, Item, PublishedEvaluation
from reproduce.experiments.runs import Run, RunInfo, load_run
from reproduce.registry import METHODS, parse_architecture
from reproduce.results.reader import find_record, item_of


@dataclass(frozen=True)
class Results:
    """What an experiment has so far."""

    # a row for each record of a run, with the columns of `_WIDE`; metrics are in percent, NaN
    # where the record has none
    frame: pd.DataFrame
    # for the same evaluations the positions of their images, and whether each was robust
    held: Mapping[Evaluation, tuple[NDArray[np.integer], NDArray[np.bool_]]]
    # evaluations the experiment is made from
    planned: int
    # records that exist and could not be used, and what the checks of the evaluations found
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    # the records of published checkpoints, and of those that could not be had, the reason
    published: Mapping[PublishedEvaluation, Record] = field(default_factory=dict)
    unavailable: Mapping[PublishedEvaluation, str] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Number of evaluations without a record that counts."""
        return self.planned - len(self.frame) - len(self.published)

    def of_cell(
        self, cell: Cell
    ) -> dict[Evaluation, tuple[NDArray[np.integer], NDArray[np.bool_]]]:
        """Return the part of `held` that belongs to one training run."""
        return {item: held for item, held in self.held.items() if item.cell == cell}


def collect(config: Config, experiment: Experiment) -> Results:
    """Read the records of an experiment; those that do not count are named and left out."""
    rows, held, problems, warnings = [], {}, [], []
    published: dict[PublishedEvaluation, Record] = {}
    unavailable: dict[PublishedEvaluation, str] = {}
    for item in experiment.items:
        found = find_record(config, item)
        record = found.record
        if found.status == "unusable":
            problems.append(found.reason)
        elif isinstance(item, PublishedEvaluation):
            published |= {} if record is None else {item: record}
            unavailable |= {item: found.reason} if found.status == "unavailable" else {}
        elif record is not None:
            rows.append(_row(config, item, record, found.run))
            held[item] = (record.index, record.robust)
        if record is not None:
            warnings += [f"{item.model}: {line}" for line in record.info["warnings"]]
    return Results(
        pd.DataFrame(rows, columns=list(_WIDE)).astype(_WIDE),
        held,
        len(experiment.items),
        tuple(problems),
        tuple(dict.fromkeys(warnings)),
        published,
        unavailable,
    )


# columns of results.parquet and their pandas types; docs/results.md says what each holds
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
_WIDE = {
    **{name: kind for name, kind in COLUMNS.items() if name not in ("metric", "value")},
    # of the data set, and of the file that it was trained with
    "train_images": "int64",
    "extra_images": "int64",
    # the publication that the run is from, or ""
    "imported_from": "string",
    **dict.fromkeys(ALL_METRICS, "float64"),
}


def _row(config: Config, item: Item, record: Record, run: RunInfo | None) -> dict[str, Any]:
    """Return all that is known of a record that counts, with a column for each metric."""
    metrics, about = record.metrics.as_dict(), record.about
    row = {
        "model": item.model,
        "dataset": item.dataset,
        "attack": item.attack,
        "attack_kind": config.eval.attacks[item.attack].kind,
        "epsilon": config.eval.epsilon_of(item.attack),
        "attack_seed": item.seed,
        "images": metrics["images"],
        "recovered": metrics["recovered"],
        "evaluation_seconds": about.seconds,
        "evaluation_hardware": _joined(segment.name for segment in about.segments),
        "evaluation_commit": _joined(segment.commit for segment in about.segments),
        "evaluation_digest": about.digest,
        "model_sha256": about.model_sha256,
        **{name: math.nan if metrics.get(name) is None else metrics[name] for name in ALL_METRICS},
    }
    if isinstance(item, PublishedEvaluation):
        data = record.info["data"]
        return row | {
            # folders of others have a fingerprint at the end of their names
            "origin": "published" if about.model == item.name else "other",
            "test_images": data["test"],
            "official_data": data["official"],
        }
    return row if run is None else row | _cell_fields(item, run)


def _cell_fields(item: Evaluation, run: RunInfo) -> dict[str, Any]:
    """Return what a run of this harness is, and how it was trained."""
    cell, method = item.cell, METHODS[item.cell.method]
    return {
        "origin": "trained" if run.published is None else "imported",
        "architecture": cell.architecture,
        **asdict(parse_architecture(cell.architecture)),
        "method": cell.method,
        "objective": method.objective,
        "lambda_rule": method.lambda_rule,
        "weight_perturbation": method.weight_perturbation,
        "batches": method.batches,
        "lambda": cell.lam,
        "training_seed": cell.seed,
        "checkpoint": item.checkpoint,
        "checkpoint_epoch": run.checkpoint_epochs.get(item.checkpoint),
        "test_images": run.data.test,
        "final_lambda": run.final_lambda,
        "device_hours": run.hours,
        "training_seconds": run.seconds,
        "training_hardware": _joined(run.hardware),
        "training_precision": _joined(sorted({s.precision or "" for s in run.segments})),
        "training_commit": _joined(segment.commit for segment in run.segments),
        "training_digest": run.digest,
        "official_data": run.data.official,
        "train_images": run.data.train,
        "extra_images": 0 if run.data.extra is None else run.data.extra.images,
        "imported_from": "" if run.published is None else run.published.name,
    }


def _joined(values: Iterable[str | None]) -> str | None:
    """Join the different ones of some names; None if there are none."""
    return " and ".join(dict.fromkeys(value for value in values if value)) or None


@dataclass(frozen=True)
class Tidy:
    """All results in one table, how many records are behind it, and those that do not count."""

    # a row for each checkpoint, attack, attack seed and metric, with `COLUMNS`
    frame: pd.DataFrame
    records: int
    left_out: tuple[str, ...]


def tidy_results(config: Config) -> Tidy:
    """Read every record that counts, whether or not an experiment asks for it."""
    wide: list[dict[str, Any]] = []
    left_out: list[str] = []
    root = paths.root(config)
    for path in [
        *sorted((root / "cells").glob("*/*/*/*/*/records*/[!.]*.npz")),
        *sorted((root / "models").glob("*/*/records/[!.]*.npz")),
    ]:
        try:
            found = find_record(config, item_of(config, path))
            wide.append(_row(config, found.item, found.required(), found.run))
        except HarnessError as error:
            reason = str(error)
            left_out.append(reason if str(path) in reason else f"{path}: {reason}")
    rows = [
        {**row, "metric": metric, "value": row[metric]}
        for row in wide
        for metric in ALL_METRICS
        if not math.isnan(row[metric])
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Tidy(frame, len(wide), tuple(left_out))


def write_results(config: Config) -> Tidy:
    """Write all results as results.parquet and return them."""
    tidy = tidy_results(config)
    write_atomically(
        paths.results_file(config),
        lambda part: tidy.frame.to_parquet(part, compression="zstd", index=False),
    )
    return tidy


_RUN = ["dataset", "architecture", "method", "lambda", "seed"]
_TRACE = ["natural_risk", "robust_regularization", "lambda_t", "learning_rate", "lipschitz"]
TRACE_COLUMNS = [*_RUN, "iteration", "epoch", *_TRACE]
METRIC_COLUMNS = ["robust_accuracy", "natural_accuracy", "perturbation_stability"]
EPOCH_COLUMNS = [*_RUN, "epoch", *METRIC_COLUMNS]


@dataclass(frozen=True)
class Histories:
    """How several runs went, and what is not there: runs not finished, files damaged or lost."""

    # `TRACE_COLUMNS`, a row an iteration; `lambda` names the run, `lambda_t` is that of the step
    traces: pd.DataFrame
    # `EPOCH_COLUMNS`, a row an epoch that was measured, percent of the test images
    epochs: pd.DataFrame
    missing: tuple[str, ...]


def read_histories(config: Config, cells: Iterable[Cell]) -> Histories:
    """Read traces and epochs of runs; what is missing or damaged is named and left out."""
    traces: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    missing: list[str] = []
    for cell in dict.fromkeys(cells):
        run = load_run(config, cell)
        if run.problem is not None:
            missing.append(run.problem)
            continue
        if run.saved is not None:
            epoch, last = run.saved.progress["epoch"], run.spec.train.epochs
            missing.append(f"{cell} is in epoch {epoch} of {last}")
        for read, frames, columns in (
            (run.trace, traces, TRACE_COLUMNS),
            (run.epochs, epochs, EPOCH_COLUMNS),
        ):
            try:
                frames.append(_of_run(run, read(), columns))
            except HarnessError as error:
                missing.append(str(error))
    return Histories(
        _concatenated(traces, TRACE_COLUMNS),
        _concatenated(epochs, EPOCH_COLUMNS),
        tuple(paths.shortened(config, line) for line in missing),
    )


def _of_run(run: Run, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Name the run in front of its rows; metrics that it never measured are NaN."""
    cell = run.spec.parsed
    names = {"lambda": "lambda_t"} | {f"test_{name}": name for name in METRIC_COLUMNS}
    values: list[Any] = [cell.dataset, cell.architecture, cell.method, cell.lam, cell.seed]
    frame = frame.rename(columns=names)
    return frame.assign(**dict(zip(_RUN, values, strict=True))).reindex(columns=columns)


def _concatenated(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)
