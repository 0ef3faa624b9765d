"""How runs went: their traces and their epochs, finished or not."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from reproduce import paths
from reproduce.cells import Cell
from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.files import sha256_of_file
from reproduce.runs import RunInfo, problem_with, read_run
from reproduce.saved import read_rows, state_file
from reproduce.specs import TrainingSpec, training_spec
from reproduce.traces import as_frame, read_epochs, read_trace

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
        Columns `EPOCH_COLUMNS`: a row an epoch, percent of the test images.
    missing : tuple of str
        What is not there: runs not begun or not finished, files damaged or lost.
    """

    traces: pd.DataFrame
    epochs: pd.DataFrame
    missing: tuple[str, ...]


class _Run(NamedTuple):
    """One run: what of it can be read, and what cannot."""

    trace: pd.DataFrame | None
    epochs: pd.DataFrame | None
    missing: list[str]


def read_histories(config: Config, cells: Iterable[Cell]) -> Histories:
    """Read traces and epochs of runs; what is missing or damaged is named and left out.

    Of a run that is not finished it is what its saved state holds.
    """
    traces, epochs, missing = [], [], []
    for cell in dict.fromkeys(cells):
        run = _read(config, cell)
        missing += [paths.shortened(config, line) for line in run.missing]
        if run.trace is not None:
            traces.append(_of(cell, run.trace, TRACE_COLUMNS))
        if run.epochs is not None:
            epochs.append(_of(cell, run.epochs, EPOCH_COLUMNS))
    return Histories(_joined(traces, TRACE_COLUMNS), _joined(epochs, EPOCH_COLUMNS), tuple(missing))


def _read(config: Config, cell: Cell) -> _Run:
    folder, spec = paths.cell_folder(config, cell), training_spec(config, cell)
    try:
        run = read_run(folder)
        problem = problem_with(config, spec, run)
        if run is not None and problem is None:
            return _finished(config, cell, spec, run)
        state = state_file(folder, spec.digest)
        if not state.is_file():
            return _Run(None, None, [f"{cell} {problem}"])
        done = read_rows(state)
    except HarnessError as error:
        return _Run(None, None, [str(error)])
    note = f"{cell} is in epoch {done.progress['epoch']} of {spec.train.epochs}"
    return _Run(as_frame(done.rows), pd.DataFrame(done.progress["epochs"]), [note])


def _finished(config: Config, cell: Cell, spec: TrainingSpec, run: RunInfo) -> _Run:
    """Read the files of a finished run, each for itself: one may be damaged."""
    folder = paths.cell_folder(config, cell)

    def trace() -> pd.DataFrame:
        path = paths.trace_file(folder)
        frame = read_trace(path, cell)
        if sha256_of_file(path) != run.trace:
            raise HarnessError(
                f"{path} is not the one of run.json; `reproduce train {cell}` makes it again"
            )
        return frame

    def epochs() -> pd.DataFrame:
        return read_epochs(paths.epochs_file(folder), cell, spec.train.epochs)

    missing: list[str] = []

    def attempt(read: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
        try:
            return read()
        except HarnessError as error:
            missing.append(str(error))
            return None

    return _Run(attempt(trace), attempt(epochs), missing)


def _of(cell: Cell, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Name the run in front of its rows; metrics that it never measured are NaN."""
    frame = frame.rename(columns={"lambda": "lambda_t"})
    frame = frame.rename(columns={f"test_{name}": name for name in METRIC_COLUMNS})
    values: list[Any] = [cell.dataset, cell.architecture, cell.method, cell.lam, cell.seed]
    return frame.assign(**dict(zip(_RUN, values, strict=True))).reindex(columns=columns)


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns)
