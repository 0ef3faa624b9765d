"""The metrics of an experiment's evaluations, from whatever records exist."""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from reproduce import paths
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.evaluation import METRICS, Metrics, read_record
from reproduce.experiments import Evaluation, Experiment
from reproduce.runs import ImagesInfo, read_run
from reproduce.specs import evaluation_spec


@dataclass(frozen=True)
class Results:
    """What an experiment has so far.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row an evaluation that has a record: dataset, architecture, method,
        lambda, attack, training_seed, attack_seed, images (tested), train_images (of
        the data set), official (md5 checked), the three metrics.
    planned : int
        Number of evaluations the experiment is made from.
    problems : tuple of str
        Records that exist and could not be used, with the reason.
    """

    frame: pd.DataFrame
    planned: int
    problems: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Number of evaluations without a usable record."""
        return self.planned - len(self.frame)


def collect(config: Config, experiment: Experiment) -> Results:
    """Read the records of an experiment; damaged and outdated ones are named and left out."""
    rows, problems = [], []
    for evaluation in experiment.evaluations:
        try:
            found = read_metrics(config, evaluation)
        except HarnessError as error:
            problems.append(str(error))
            continue
        if found is not None:
            rows.append(_row(evaluation, *found))
    return Results(_frame(rows), len(experiment.evaluations), tuple(problems))


def read_metrics(config: Config, evaluation: Evaluation) -> tuple[Metrics, ImagesInfo] | None:
    """Return the metrics of one evaluation and its images, or None if it has no record yet.

    Raises
    ------
    HarnessError
        If the record is damaged, or was made with other settings or weights.
    """
    cell, checkpoint = evaluation.cell, evaluation.checkpoint
    folder = paths.cell_folder(config, cell)
    path = paths.record_file(folder, checkpoint, evaluation.attack, evaluation.seed)
    if not path.is_file():
        return None
    record = read_record(path)
    spec = evaluation_spec(config, cell, evaluation.attack, evaluation.seed, checkpoint)
    if record.info.get("digest") != spec.digest:
        raise HarnessError(f"{path} was made with other settings than the configuration's")
    run = read_run(folder)
    if run is None or run.models.get(checkpoint) != record.info.get("model_sha256"):
        raise HarnessError(f"{path} is of other weights than the run's")
    return record.metrics, run.data


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
    "official",
)


def _row(evaluation: Evaluation, metrics: Metrics, data: ImagesInfo) -> tuple[object, ...]:
    cell = evaluation.cell
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
        data.train,
        data.official,
        *(values[name] for name in METRICS),
    )


def _frame(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=[*_KEYS, *METRICS])
