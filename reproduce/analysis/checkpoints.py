"""What the choice of checkpoint is worth: a run's metrics at each of its checkpoints.

Every epoch is measured on the test images, so what a run's other checkpoints would
have scored is known without another attack.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from scipy import stats

from reproduce import paths
from reproduce.analysis.statistics import Interval, sample
from reproduce.catalogue import METHODS
from reproduce.cells import Cell
from reproduce.config import Checkpoint, Config
from reproduce.errors import HarnessError
from reproduce.experiments import planned_runs
from reproduce.records import METRICS
from reproduce.runs import RunInfo, read_run
from reproduce.specs import TrainingSpec, checkpoints, training_spec
from reproduce.traces import read_epochs

# what an epoch is measured by, first the one that chooses
_MEASURED = {
    "attack": METRICS,
    "natural": ("natural_accuracy", "top5_natural_accuracy"),
}
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
        chosen = self.frame["metric"] == metric
        for column, value in zip(_COLUMNS, _names(cell), strict=False):
            chosen &= self.frame[column] == value
        wanted = self.frame[chosen]
        return wanted.pivot_table(["percent", "epoch"], index="seed", columns="checkpoint")


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
    """Return the metrics of every epoch of a method's runs, first the one that chooses."""
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
    """Return a run's rows, None if it is not trained yet."""
    folder, spec = paths.cell_folder(config, cell), training_spec(config, cell)
    run = read_run(folder)
    if run is None:
        return None
    if run.digest != spec.digest:
        raise HarnessError(f"{cell} was trained with other settings")
    epochs = _read_epochs(config, cell, spec, run)
    rows = [
        (*_names(cell), cell.seed, metric, choice, epoch, epochs.loc[epoch, f"test_{metric}"])
        for metric in measured_metrics(cell.method)
        for choice in checkpoints(spec.train)
        for epoch in (run.checkpoint_epochs[choice],)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _names(cell: Cell) -> tuple[str, str, str, float]:
    return cell.dataset, cell.architecture, cell.method, cell.lam


def _read_epochs(config: Config, cell: Cell, spec: TrainingSpec, run: RunInfo) -> pd.DataFrame:
    """Return the metrics of a run by epoch, checked against what run.json says was chosen.

    Raises
    ------
    HarnessError
        If the file is lost or damaged, or not that run's.
    """
    path, mend = paths.epochs_file(paths.cell_folder(config, cell)), f"`reproduce train {cell}`"
    if not path.is_file():
        raise HarnessError(f"{cell} has lost its {path.name}; {mend} makes it again")
    metrics = measured_metrics(cell.method)
    needed: dict[Checkpoint, str] = {"best-test": f"test_{metrics[0]}"}
    if "best-val" in checkpoints(spec.train):
        needed["best-val"] = f"val_{metrics[0]}"
    columns = dict.fromkeys([*(f"test_{name}" for name in metrics), *needed.values()])
    frame = read_epochs(path, cell, spec.train.epochs).set_index("epoch")
    try:
        whole = frame[list(columns)]
        right = (
            bool(whole.ge(0).all(axis=None) and whole.le(100).all(axis=None))
            # as training chooses: the earlier of equals
            and all(whole[c].idxmax() == run.checkpoint_epochs[k] for k, c in needed.items())
            and run.checkpoint_epochs["last"] == spec.train.epochs
        )
    except LookupError as error:
        raise HarnessError(f"{path} is damaged; delete it, and {mend} makes it again") from error
    if not right:
        raise HarnessError(
            f"{path} is damaged or not of this run; delete it, and {mend} makes it again"
        )
    return whole
