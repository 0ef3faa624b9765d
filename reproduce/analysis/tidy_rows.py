"""Rows of the tidy table: what each says of a run, an attack and a metric."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from reproduce import paths
from reproduce.catalogue import METHODS, parse_architecture
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, PublishedEvaluation
from reproduce.records import ALL_METRICS, Record
from reproduce.runs import RunInfo
from reproduce.specs import AttackSpec, attack_spec, training_spec

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
        "training_hardware": _joined(run.hardware),
        "training_precision": _joined(run.precisions),
        "training_commit": _joined(piece.commit for piece in run.pieces),
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
        "evaluation_hardware": _joined(piece.name for piece in about.pieces),
        "evaluation_commit": _joined(piece.commit for piece in about.pieces),
        "evaluation_digest": record.info["digest"],
        "model_sha256": record.info["model_sha256"],
    }
    return [
        {**shared, "metric": name, "value": metrics[name]}
        for name in ALL_METRICS
        if metrics.get(name) is not None
    ]


def _joined(values: Iterable[str | None]) -> str | None:
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
