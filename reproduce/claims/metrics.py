"""The numbers that claims compare: of a record's images, of a run, its trace and its epochs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.config.schema import Train
from reproduce.evaluation.records import Record
from reproduce.experiments.schedules import learning_rate, measured_epochs
from reproduce.results.frames import METRIC_COLUMNS

# untrained networks of any width have a large natural risk: this part of training is left out
_BEGINNING = 0.25
# epochs that a slope takes: a line through two leaves nothing to doubt it by
FEWEST = 3

Windows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Metric:
    """A number of a run: what it is called and counted in, what it is read from, and how.

    `take` is given a record, of which it says which images count (None where the record cannot
    tell); or what run.json says; or the trace or the epochs of a run, and its settings.
    """

    title: str
    unit: str
    source: Literal["record", "run", "traces", "epochs"]
    take: Callable[..., Any]


def _stable(record: Record) -> NDArray[np.bool_] | None:
    every_image = record.info["every_image"]
    return np.asarray(record.clean == record.adversarial) if every_image else None


def _late_mean(column: str) -> Callable[[pd.DataFrame, Train], float]:
    """Return what takes the mean of a trace over the last three quarters of training."""

    def mean(trace: pd.DataFrame, _: Train) -> float:
        late = trace["epoch"] > _BEGINNING * trace["epoch"].max()
        # a NaN, of a run that diverged say, is no number to leave out
        return float(trace.loc[late, column].mean(skipna=False))

    return mean


def _log_ratio(trace: pd.DataFrame, _: Train) -> float:
    """Return the logarithm of natural risk over robust regularisation in the last epoch."""
    last = trace[trace["epoch"] == trace["epoch"].max()]
    natural, robust = (float(last[c].mean()) for c in ("natural_risk", "robust_regularization"))
    return math.log(natural / robust) if natural > 0 and robust > 0 else math.nan


def _phases(train: Train) -> list[list[int]]:
    """Return the epochs of equal learning rate; all in one where a schedule falls all along."""
    epochs = range(1, train.epochs + 1)
    if train.schedule in ("linear", "cosine"):
        return [list(epochs)]
    return [list(phase) for _, phase in groupby(epochs, lambda epoch: learning_rate(train, epoch))]


def before_drop(train: Train) -> list[list[int]]:
    """Return the epochs measured before the first drop; all where a schedule falls all along."""
    first = _phases(train)[0]
    return [[epoch for epoch in measured_epochs(train) if epoch in first]]


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


def _trend(title: str, windows: Callable[[Train], Windows], **weights: int) -> Metric:
    """Return the metric of a weighted sum of slopes; NaN where an epoch lacks a metric."""

    def take(epochs: pd.DataFrame, train: Train) -> float:
        if epochs[METRIC_COLUMNS].isna().to_numpy().any():
            return math.nan
        found = windows(train)
        return sum(weight * slope(epochs, name, found) for name, weight in weights.items())

    return Metric(title, "points an epoch", "epochs", take)


def late_fall(epochs: pd.DataFrame, train: Train) -> float:
    """Return how fast robust accuracy falls in the later half of the epochs after the first drop.

    There the rate of the exp schedule is all but zero, so its epochs share a level; under
    others those of one rate do.
    """
    drop = _phases(train)[0][-1] + 1
    late = [epoch for epoch in measured_epochs(train) if epoch > (drop + train.epochs) // 2]
    windows = [late]
    if train.schedule != "exp":
        windows = [[epoch for epoch in phase if epoch in late] for phase in after_drops(train)]
    return -slope(epochs, "robust_accuracy", [part for part in windows if len(part) > 1])


# a row a metric
# fmt: off
METRICS = {
    "robust_accuracy": Metric("Robust accuracy", "points", "record", attrgetter("robust")),
    "natural_accuracy": Metric("Natural accuracy", "points", "record",
                               lambda record: record.clean == record.label),
    "perturbation_stability": Metric("Perturbation stability", "points", "record", _stable),
    "top5_natural_accuracy": Metric("Top-5 natural accuracy", "points", "record",
                                    attrgetter("top5")),
    "final_lambda": Metric("λ", "λ", "run", attrgetter("final_lambda")),
    "hours": Metric("Hours", "hours", "run", attrgetter("hours")),
    "natural_risk": Metric("Natural risk", "nats", "traces", _late_mean("natural_risk")),
    "robust_regularization": Metric("Robust regularisation", "nats", "traces",
                                    _late_mean("robust_regularization")),
    "lipschitz": Metric("Local Lipschitz estimate", "nats per unit of epsilon", "traces",
                        _late_mean("lipschitz")),
    "log_ratio": Metric("Logarithm of the ratio of the two terms", "", "traces", _log_ratio),
    "best_robust_accuracy": Metric("Robust accuracy at the best epoch", "points", "epochs",
                                   lambda epochs, _: epochs["robust_accuracy"].max()),
    "late_fall": Metric("Fall of robust accuracy long after the rate drops", "points an epoch",
                        "epochs", late_fall),
    # before the first drop of the learning rate
    "stability_fall_before": _trend("Fall of perturbation stability", before_drop,
                                    perturbation_stability=-1),
    "robust_rise_before": _trend("Rise of robust accuracy", before_drop, robust_accuracy=1),
    "natural_rise_before": _trend("Rise of natural accuracy", before_drop, natural_accuracy=1),
    # after it
    "robust_fall_after": _trend("Fall of robust accuracy", after_drops, robust_accuracy=-1),
    "stability_fall_after": _trend("Fall of perturbation stability", after_drops,
                                   perturbation_stability=-1),
    "faster_fall_after": _trend("Fall of stability − fall of natural accuracy", after_drops,
                                natural_accuracy=1, perturbation_stability=-1),
}
# fmt: on
