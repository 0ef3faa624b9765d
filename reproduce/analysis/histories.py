"""How runs went: their traces and their epochs, finished or not."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reproduce import paths
from reproduce.analysis.usable import UsableRun, usable_run
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.specs import training_spec

_RUN = ["dataset", "architecture", "method", "lambda", "seed"]
_TRACE = ["natural_risk", "robust_regularization", "lambda_t", "learning_rate", "lipschitz"]
TRACE_COLUMNS = [*_RUN, "iteration", "epoch", *_TRACE]
METRIC_COLUMNS = ["robust_accuracy", "natural_accuracy", "perturbation_stability"]
EPOCH_COLUMNS = [*_RUN, "epoch", *METRIC_COLUMNS]


@dataclass(frozen=True)
class Histories:
    """How several runs went.

    Attributes
    ----------
    traces : pandas.DataFrame
        Columns `TRACE_COLUMNS`: a row an iteration.  `lambda` is the one that names the
        run, `lambda_t` the one of the step.
    epochs : pandas.DataFrame
        Columns `EPOCH_COLUMNS`: a row an epoch that was measured, percent of the test images.
    missing : tuple of str
        What is not there: runs not begun or not finished, files damaged or lost.
    """

    traces: pd.DataFrame
    epochs: pd.DataFrame
    missing: tuple[str, ...]


def read_histories(config: Config, cells: Iterable[Cell]) -> Histories:
    """Read traces and epochs of runs; what is missing or damaged is named and left out.

    Of a run that is not finished it is what its saved state holds.
    """
    traces: list[pd.DataFrame] = []
    epochs: list[pd.DataFrame] = []
    missing: list[str] = []
    for cell in dict.fromkeys(cells):
        run = usable_run(config, cell)
        if run.problem is not None:
            missing.append(run.problem)
            continue
        if run.finished is None:
            missing.append(_unfinished(config, run))
        for read, frames, columns in (
            (run.trace, traces, TRACE_COLUMNS),
            (run.epochs, epochs, EPOCH_COLUMNS),
        ):
            try:
                frames.append(_of(cell, read(), columns))
            except HarnessError as error:
                missing.append(str(error))
    return Histories(
        _joined(traces, TRACE_COLUMNS),
        _joined(epochs, EPOCH_COLUMNS),
        tuple(paths.shortened(config, line) for line in missing),
    )


def _unfinished(config: Config, run: UsableRun) -> str:
    """Say how far a run is that its saved state stands for."""
    saved = run.found.saved
    epoch = "?" if saved is None else saved.progress["epoch"]
    return f"{run.cell} is in epoch {epoch} of {training_spec(config, run.cell).train.epochs}"


def _of(cell: Cell, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Name the run in front of its rows; metrics that it never measured are NaN."""
    frame = frame.rename(columns={"lambda": "lambda_t"})
    frame = frame.rename(columns={f"test_{name}": name for name in METRIC_COLUMNS})
    values: list[Any] = [cell.dataset, cell.architecture, cell.method, cell.lam, cell.seed]
    return frame.assign(**dict(zip(_RUN, values, strict=True))).reindex(columns=columns)


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)
