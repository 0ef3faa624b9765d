"""The numbers that claims compare: of a record's images, of a run, its trace and its epochs."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.config.schema import Train
from reproduce.evaluation.records import Record
from reproduce.experiments.schedules import learning_rate, measured_epochs

# a network that has learnt nothing is no width: this part of training is left out
_BEGINNING = 0.25
# epochs that a slope takes: a line through two leaves nothing to doubt it by
FEWEST = 3

Windows = Sequence[Sequence[int]]


def _stable(record: Record) -> NDArray[np.bool_] | None:
    every_image = record.info["every_image"]
    return np.asarray(record.clean == record.adversarial) if every_image else None


# which images count, in percent of all; None where a record cannot tell
OF_IMAGES: dict[str, Callable[[Record], NDArray[np.bool_] | None]] = {
    "robust_accuracy": lambda record: record.robust,
    "natural_accuracy": lambda record: record.clean == record.label,
    "perturbation_stability": _stable,
    "top5_natural_accuracy": lambda record: record.top5,
}
# attributes of `RunInfo`
OF_RUNS = ("final_lambda", "hours")


def _late_mean(column: str) -> Callable[[pd.DataFrame], float]:
    """Return what takes the mean of a trace over the last three quarters of training."""

    def mean(trace: pd.DataFrame) -> float:
        late = trace["epoch"] > _BEGINNING * trace["epoch"].max()
        # a NaN, of a run that diverged say, is no number to leave out
        return float(trace.loc[late, column].mean(skipna=False))

    return mean


def _last_ratio(trace: pd.DataFrame) -> float:
    """Return natural risk over robust regularisation in the last epoch, as WAR's zeta."""
    last = trace[trace["epoch"] == trace["epoch"].max()]
    natural, robust = (float(last[c].mean()) for c in ("natural_risk", "robust_regularization"))
    return natural / robust if natural > 0 and robust > 0 else math.nan


OF_TRACES: dict[str, Callable[[pd.DataFrame], float]] = {
    **{name: _late_mean(name) for name in ("natural_risk", "robust_regularization", "lipschitz")},
    "ratio": _last_ratio,
}


def _phases(train: Train) -> list[list[int]]:
    """Return the epochs of equal learning rate; all in one where a schedule falls all along."""
    epochs = range(1, train.epochs + 1)
    if train.schedule in ("linear", "cosine"):
        return [list(epochs)]
    return [list(phase) for _, phase in groupby(epochs, lambda epoch: learning_rate(train, epoch))]


def first_drop(train: Train) -> int | None:
    """Return the first epoch of a lower learning rate, None where a schedule falls all along."""
    found = _phases(train)
    return found[1][0] if len(found) > 1 else None


def after_drops(train: Train) -> list[list[int]]:
    """Return the epochs measured after the first drop, those of one learning rate together.

    The first epoch of each is left out where two others remain: the metrics jump in it,
    which is no trend.  Where a rate holds for a single epoch, nothing is left to compare.
    """
    found = [phase[1:] if len(phase) > 2 else phase for phase in _phases(train)[1:]]
    measured = measured_epochs(train)
    seen = [[epoch for epoch in phase if epoch in measured] for phase in found]
    return [phase for phase in seen if len(phase) > 1]


def slope(epochs: pd.DataFrame, metric: str, windows: Windows) -> float:
    """Return the slope of a metric by least squares, in points an epoch.

    It is one slope in all windows of epochs, each with a level of its own, so what happens
    between two of them plays no part.  NaN of fewer than `FEWEST` epochs.

    Not the best epoch minus the last: the best epoch is chosen by the numbers that would be
    judged, so even noise falls after it.
    """
    parts = [epochs[epochs["epoch"].isin(window)] for window in windows]
    if sum(map(len, parts)) < FEWEST:
        return math.nan
    x = np.concatenate([part["epoch"] - part["epoch"].mean() for part in parts])
    y = np.concatenate([part[metric] - part[metric].mean() for part in parts])
    squares = float(x @ x)
    return float(x @ y) / squares if squares else math.nan


def late_fall(epochs: pd.DataFrame, train: Train) -> float:
    """Return how fast robust accuracy falls in the later half of the epochs after the first drop.

    There the rate of the exp schedule is all but zero, so its epochs share a level; under
    others those of one rate do.
    """
    drop = first_drop(train)
    if drop is None:
        return math.nan
    late = [epoch for epoch in measured_epochs(train) if epoch > (drop + train.epochs) // 2]
    windows = [late]
    if train.schedule != "exp":
        windows = [[epoch for epoch in phase if epoch in late] for phase in after_drops(train)]
    return -slope(epochs, "robust_accuracy", [part for part in windows if len(part) > 1])


OF_EPOCHS: dict[str, Callable[[pd.DataFrame, Train], float]] = {
    "best_robust_accuracy": lambda epochs, _: float(epochs["robust_accuracy"].max()),
    "late_fall": late_fall,
}
