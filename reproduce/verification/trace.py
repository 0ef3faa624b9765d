"""Whether a trace is the one that a run with these settings leaves."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reproduce.config import Train
from reproduce.errors import HarnessError
from reproduce.runs import RunInfo
from reproduce.saved import TRACE_COLUMNS
from reproduce.schedules import learning_rate
from reproduce.specs import TrainingSpec
from reproduce.traces import thinned
from reproduce.verification.formats import read_frame

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
    steps = _steps(spec, run)
    whole = pd.DataFrame(
        {
            "iteration": np.arange(1, sum(steps) + 1),
            "epoch": np.repeat(np.arange(1, len(steps) + 1), steps),
            "learning_rate": learning_rates(spec.train, steps),
        }
    )
    exact = whole if run.published is None else thinned(whole, run.published.every)
    if len(frame) != len(exact):
        what = "iterations" if run.published is None else "iterations that are kept"
        return f"it has {len(frame)} rows, the run had {len(exact)} {what}"
    columns = dict(zip(frame.columns, values.T, strict=True))
    for name in ("iteration", "epoch"):
        if not np.array_equal(columns[name], exact[name]):
            return f"its column {name} does not count the run's iterations"
    for name in ("natural_risk", "robust_regularization", "lambda"):
        if not np.isfinite(columns[name]).all():
            return f"its column {name} holds NaN or infinity"
    if not np.allclose(
        columns["learning_rate"], exact["learning_rate"], rtol=_ROUNDING, atol=1e-12
    ):
        return "its learning rates are not those of the run's schedule"
    final = columns["lambda"][columns["epoch"] == spec.train.epochs].mean()
    if not math.isclose(final, run.final_lambda, rel_tol=_ROUNDING, abs_tol=1e-6):
        return f"its last epoch has a mean lambda of {final:g}, run.json says {run.final_lambda:g}"
    return None


def learning_rates(train: Train, steps: list[int]) -> NDArray[np.float64]:
    """Return the learning rate of every iteration, from an array and not a call for each.

    Parameters
    ----------
    train : Train
        The schedule.
    steps : list of int
        Number of iterations of every epoch.
    """
    if train.schedule != "linear":
        rates = [learning_rate(train, epoch) for epoch in range(1, len(steps) + 1)]
        return np.repeat(np.asarray(rates, np.float64), steps)
    # a step has the rate of its end, as of `reproduce.schedules.piecewise_rate`
    over = np.concatenate([epoch + np.arange(1, of + 1) / of for epoch, of in enumerate(steps)])
    points = np.asarray(train.rates, np.float64)
    return np.asarray(np.interp(over, points[:, 0], points[:, 1]), np.float64)


def _steps(spec: TrainingSpec, run: RunInfo) -> list[int]:
    """Return the number of iterations of every epoch."""
    train = spec.train
    images = (spec.train_images or run.data.train) - train.holdout
    sizes = [phase.batch_size for phase in train.phases for _ in range(phase.epochs)]
    return [-(-images // size) for size in sizes or [train.batch_size] * train.epochs]
