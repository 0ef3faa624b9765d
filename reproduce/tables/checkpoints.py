"""What the choice of checkpoint is worth: a run's metrics at each of its checkpoints.

Whatever epoch may be chosen is measured on the test images, and so is the last: what a
run's other checkpoints would have scored is known without another attack.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd
from scipy import stats

from reproduce.cell import Cell
from reproduce.config.fields import Checkpoint
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.evaluation.records import METRICS
from reproduce.experiments import paths
from reproduce.experiments.grids import planned_runs
from reproduce.experiments.runs import RunInfo
from reproduce.experiments.spec import TrainingSpec, checkpoints, training_spec
from reproduce.registry import METHODS
from reproduce.results.reader import LoadedRun, load_run
from reproduce.results.statistics import Interval, sample

# what an epoch is measured by, first the one that chooses
_MEASURED = {
    "attack": METRICS,
    "natural": ("natural_accuracy", "top5_natural_accuracy"),
}
# data set, network, method and lambda of a run: all of its name but the seed
Kind = tuple[str, str, str, float]
_COLUMNS = (
    "dataset",
    "architecture",
    "method",
    "lambda",
    "seed",
    "metric",
    "checkpoint",
    "epoch",
    "percent",
)


@dataclass(frozen=True)
class Choices:
    """What is known of the checkpoints of a configuration's runs.

    Attributes
    ----------
    frame : pandas.DataFrame
        A row for every run, metric and checkpoint: dataset, architecture, method, lambda,
        seed, metric, checkpoint, epoch (from 1) and percent, the metric on the test images
        after that epoch.
    cells : tuple of Cell
        Every run of the configuration, whether it is there or not.
    problems : tuple of str
        Runs that exist and could not be used, with the reason.
    """

    frame: pd.DataFrame
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]

    @property
    def found(self) -> int:
        """Number of runs in `frame`."""
        return len(self.frame[list(_COLUMNS[:5])].drop_duplicates())

    def of(self, cell: Cell, metric: str) -> pd.DataFrame:
        """Return percent and epoch of a metric for all seeds of a kind of run.

        A row a seed that is there, columns (percent or epoch, checkpoint); the seed of
        `cell` plays no part.
        """
        return self._tables.get((*_names(cell), metric), pd.DataFrame())

    @cached_property
    def _tables(self) -> dict[Hashable, pd.DataFrame]:
        """The same for every kind and metric: a table asks for each of them many times."""
        if not len(self.frame):
            return {}
        keys: list[Hashable] = [*_COLUMNS[:4], "metric"]
        wide = self.frame.pivot(  # noqa: PD010, every entry is there once
            index=[*keys, "seed"], columns="checkpoint", values=["percent", "epoch"]
        )
        return {
            key: part.droplevel(keys).dropna(axis="columns", how="all")
            for key, part in wide.groupby(level=keys, sort=False)
        }


class Optimism(NamedTuple):
    """By how many points one way to choose is above another, over kinds of run.

    Attributes
    ----------
    mean : float
        Mean over the kinds, each the mean over its seeds.
    interval : Interval or None
        Student's 95 % interval of that mean; None if there are too few kinds, or all are
        alike.
    n : int
        Number of kinds.
    """

    mean: float
    interval: Interval | None
    n: int


def measured_metrics(method: str) -> tuple[str, ...]:
    """Return the metrics that a method's epochs are measured by, first the one that chooses."""
    return _MEASURED[METHODS[method].validation]


def read_choices(config: Config) -> Choices:
    """Read what every finished run scored at its checkpoints; what is damaged is named."""
    cells, frames, problems = planned_runs(config), [], []
    for cell in cells:
        try:
            frame = _read_run(config, cell)
        except HarnessError as error:
            problems.append(str(error))
            continue
        if frame is not None:
            frames.append(frame)
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(_COLUMNS))
    return Choices(frame, cells, tuple(problems))


def paired_differences(choices: Choices, cell: Cell, metric: str, other: Checkpoint) -> list[float]:
    """Return best-test minus another checkpoint in points, one a run that is there."""
    found = choices.of(cell, metric)
    if not len(found):
        return []
    differences = found["percent"]["best-test"] - found["percent"][other]
    return [float(value) for value in differences]


def optimism(choices: Choices, metric: str, other: Checkpoint) -> Optimism:
    """Average over kinds of run by how much best-test is above another checkpoint.

    A kind is a data set, network, method and lambda, and counts once however many seeds
    it has: seeds of a kind are more alike than kinds are.  Student's interval takes the
    kinds as independent; they share their test images.
    """
    kinds = dict.fromkeys(
        Cell(c.dataset, c.architecture, c.method, c.lam, 0) for c in choices.cells
    )
    means = [
        sample(found).mean
        for kind in kinds
        if (found := paired_differences(choices, kind, metric, other))
    ]
    mean, std, n = sample(means)
    if math.isnan(std) or std == 0:
        return Optimism(mean, None, n)
    half = float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)
    return Optimism(mean, Interval(mean - half, mean + half), n)


def _read_run(config: Config, cell: Cell) -> pd.DataFrame | None:
    """Return a run's rows, None if it is not trained yet.

    Raises
    ------
    HarnessError
        If the run, or its epochs.csv, cannot be used.
    """
    run = load_run(config, cell)
    finished = run.finished
    if finished is None:
        if run.found.run is None and run.found.damage is None:
            return None
        raise HarnessError(run.problem or f"{cell} {run.found.problem}")
    epochs = _measured_epochs(run, finished)
    rows = [
        (*_names(cell), cell.seed, metric, choice, epoch, epochs.loc[epoch, f"test_{metric}"])
        for metric in measured_metrics(cell.method)
        for choice in checkpoints(training_spec(config, cell).train)
        for epoch in (finished.checkpoint_epochs[choice],)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _names(cell: Cell) -> Kind:
    return cell.dataset, cell.architecture, cell.method, cell.lam


def _measured_epochs(run: LoadedRun, finished: RunInfo) -> pd.DataFrame:
    """Return the metrics of a finished run by measured epoch, held against what was chosen by them.

    Raises
    ------
    HarnessError
        If the file is damaged, or not that run's.
    """
    spec = training_spec(run.config, run.cell)
    whole = chosen_among(run.epochs(), spec, finished.checkpoint_epochs)
    if whole is None:
        path = paths.epochs_file(paths.cell_folder(run.config, run.cell))
        raise HarnessError(
            f"{path} is damaged or not of this run; delete it, and `reproduce train {run.cell}` "
            "makes it again"
        )
    return whole


def chosen_among(
    epochs: pd.DataFrame, spec: TrainingSpec, chosen: Mapping[Checkpoint, int]
) -> pd.DataFrame | None:
    """Return a run's metrics by measured epoch, if its checkpoints are those they choose.

    Parameters
    ----------
    epochs : pandas.DataFrame
        The metrics of its epochs.csv.
    spec : TrainingSpec
        What was trained.
    chosen : mapping
        The epochs that run.json says its checkpoints are of.

    Returns
    -------
    pandas.DataFrame or None
        The metrics by epoch; None if a number is no percentage, one is missing, or
        another epoch is the best.
    """
    metrics, frame = measured_metrics(spec.parsed.method), epochs.set_index("epoch")
    needed: dict[Checkpoint, str] = {"best-test": f"test_{metrics[0]}"}
    if "best-val" in checkpoints(spec.train):
        needed["best-val"] = f"val_{metrics[0]}"
    columns = dict.fromkeys([*(f"test_{name}" for name in metrics), *needed.values()])
    try:
        whole = frame[list(columns)]
        right = (
            bool(whole.ge(0).all(axis=None) and whole.le(100).all(axis=None))
            # as training chooses: the earlier of equals
            and all(whole[column].idxmax() == chosen[key] for key, column in needed.items())
            and chosen["last"] == spec.train.epochs
        )
    except LookupError:
        return None
    return whole if right else None
