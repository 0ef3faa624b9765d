"""The metrics of an experiment's evaluations, from whatever records exist."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.experiments import Evaluation, Experiment, PublishedEvaluation
from reproduce.outcomes import PublishedAttack
from reproduce.records import ALL_METRICS, Record, read_record
from reproduce.runs import RunInfo, problem_with, read_run
from reproduce.specs import evaluation_spec, training_spec


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
