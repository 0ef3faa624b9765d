"""Whether a trace is the one that a run with these settings leaves."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reproduce.config.schema import Train
from reproduce.core.errors import HarnessError
from reproduce.experiments.runs import TRACE_COLUMNS, RunInfo
from reproduce.experiments.schedules import learning_rate
from reproduce.experiments.spec import TrainingSpec
from reproduce.share.verification_formats import read_frame

# of numbers that were written in float32, or as decimals
_ROUNDING = 1e-5


def trace_problem(run: RunInfo, spec: TrainingSpec | None, path: Path) -> str | None:
    """Say what a trace has that its run cannot have; None if nothing.

    Parameters
    ----------
    run : RunInfo
        What run.json says.
    spec : TrainingSpec or None
        Its settings; None for whether the file is a trace at all.
    path : Path
        The trace.
    """
    try:
        frame = read_frame(path, ("iteration", *TRACE_COLUMNS), texts=False)
        values = frame.to_numpy("float64")
    except (HarnessError, ValueError, TypeError) as error:
        return str(error)
    if spec is None:
        return None
    steps = np.asarray(_steps(spec, run))
    every = 1 if run.published is None else run.published.every
    # of the last epoch all are kept
    before = int(steps[:-1].sum())
    count = -(-before // every) + int(steps[-1])
    if values.shape[0] != count:
        what = "iterations" if every == 1 else "iterations that are kept"
        return f"it has {values.shape[0]} rows, the run had {count} {what}"
    columns = dict(zip(frame.columns, values.T, strict=True))
    iterations = np.r_[np.arange(1, before + 1, every), before + np.arange(1, steps[-1] + 1)]
    ends = steps.cumsum()
    epochs = np.asarray(np.searchsorted(ends, iterations) + 1, np.int64)
    for name, wanted in (("iteration", iterations), ("epoch", epochs)):
        if not np.array_equal(columns[name], wanted):
            return f"its column {name} does not count the run's iterations"
    for name in ("natural_risk", "robust_regularization", "lambda"):
        if not np.isfinite(columns[name]).all():
            return f"its column {name} holds NaN or infinity"
    within = 1 - (ends[epochs - 1] - iterations) / steps[epochs - 1]
    rates = learning_rates(spec.train, epochs, within)
    if not np.allclose(columns["learning_rate"], rates, rtol=_ROUNDING, atol=1e-12):
        return "its learning rates are not those of the run's schedule"
    final = columns["lambda"][columns["epoch"] == spec.train.epochs].mean()
    if not math.isclose(final, run.final_lambda, rel_tol=_ROUNDING, abs_tol=1e-6):
        return f"its last epoch has a mean lambda of {final:g}, run.json says {run.final_lambda:g}"
    return None


def learning_rates(
    train: Train, epochs: NDArray[np.integer], within: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the learning rate of iterations, from an array and not a call for each.

    Parameters
    ----------
    train : Train
        The schedule.
    epochs : ndarray
        Shape (N,): the epoch of each iteration, from 1.
    within : ndarray
        Shape (N,): the part of that epoch that is over at its end, above 0 and up to 1.
    """
    if train.schedule != "linear":
        each = [learning_rate(train, epoch) for epoch in range(1, int(epochs[-1]) + 1)]
        rates: NDArray[np.float64] = np.asarray(each, np.float64)[epochs - 1]
        return rates
    # a step has the rate of its end, as of `reproduce.schedules.piecewise_rate`
    points = np.asarray(train.rates, np.float64)
    return np.asarray(np.interp(epochs - 1 + within, points[:, 0], points[:, 1]), np.float64)


def _steps(spec: TrainingSpec, run: RunInfo) -> list[int]:
    """Return the number of iterations of every epoch."""
    train = spec.train
    images = (spec.train_images or run.data.train) - train.holdout
    sizes = [phase.batch_size for phase in train.phases for _ in range(phase.epochs)]
    return [-(-images // size) for size in sizes or [train.batch_size] * train.epochs]
