"""The trace of a run: a row an iteration, kept on the device until it is asked for."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from reproduce.cells import Cell
from reproduce.errors import HarnessError
from reproduce.files import write_atomically, write_text
from reproduce.saved import TRACE_COLUMNS
from reproduce.training.step import StepResult

COLUMNS = TRACE_COLUMNS

# rows fetched from the device at once: a transfer a step would leave a GPU waiting
_PENDING = 50


class NonFiniteLossError(Exception):
    """A loss became NaN or infinite, or a step made the weights so.

    Attributes
    ----------
    iteration : int
        The iteration, from 1.
    epoch : int
        Its epoch, from 1.
    """

    def __init__(self, iteration: int, epoch: int) -> None:
        super().__init__(
            f"the loss or the weights are NaN or infinite at iteration {iteration} (epoch {epoch})"
        )
        self.iteration = iteration
        self.epoch = epoch


class Trace:
    """Rows of `COLUMNS`, one an iteration.

    Parameters
    ----------
    rows : list of list of float
        Rows of an earlier piece of the run.
    """

    def __init__(self, rows: list[list[float]] | None = None) -> None:
        self.rows = rows or []
        self._pending: list[tuple[int, float, StepResult]] = []

    def add(self, epoch: int, rate: float, step: StepResult) -> None:
        """Add a row, and check the loss of what has been added every few iterations.

        Raises
        ------
        NonFiniteLossError
            Naming the first iteration whose terms are not finite.
        """
        self._pending.append((epoch, rate, step))
        if len(self._pending) >= _PENDING or step.natural.device.type == "cpu":
            self.flush()

    def flush(self) -> None:
        """Fetch all pending rows and check them.

        Raises
        ------
        NonFiniteLossError
            As `add`.
        """
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        steps = [torch.stack([value.double() for value in step]) for *_, step in pending]
        for (epoch, rate, _), (natural, robust, lipschitz, lam) in zip(
            pending, torch.stack(steps).tolist(), strict=True
        ):
            if not (math.isfinite(natural) and math.isfinite(robust)):
                raise NonFiniteLossError(len(self.rows) + 1, epoch)
            self.rows.append([epoch, natural, robust, lam, rate, lipschitz])

    def latest(self, column: str, count: int = 50) -> float:
        """Return the mean of a column over its last rows."""
        index = COLUMNS.index(column)
        rows = self.rows[-count:]
        return math.fsum(row[index] for row in rows) / len(rows) if rows else math.nan

    def of_epoch(self, column: str, epoch: int) -> list[float]:
        """Return the values of a column in one epoch."""
        index = COLUMNS.index(column)
        return [row[index] for row in self.rows if row[0] == epoch]

    def as_tensor(self) -> Tensor:
        """Return the rows as float64, shape (iterations, columns)."""
        return torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(COLUMNS))

    def write(self, path: Path) -> None:
        """Write the trace as Parquet, as `as_frame` has it."""
        frame = as_frame(self.rows)
        write_atomically(path, lambda part: frame.to_parquet(part, compression="zstd", index=False))


def as_frame(rows: Sequence[Sequence[float]] | NDArray[np.float64]) -> pd.DataFrame:
    """Return rows of a trace, with the iteration (from 1) as first column."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(COLUMNS, "float32") | {"epoch": "int32"})
    frame.insert(0, "iteration", pd.RangeIndex(1, len(frame) + 1).astype("int32"))
    return frame


def read_trace(path: Path, cell: Cell) -> pd.DataFrame:
    """Read the trace of a finished run, as `Trace.write` wrote it.

    Raises
    ------
    HarnessError
        If it is damaged, saying how it is made again.
    """
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise HarnessError(f"{path} is damaged; `reproduce train {cell}` makes it again") from error
    if missing := {*COLUMNS} - {*frame.columns}:
        raise HarnessError(f"{path} lacks {', '.join(sorted(missing))}; it is no trace of a run")
    return frame


def write_epochs(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the metrics after every epoch as CSV."""
    write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def read_epochs(path: Path, cell: Cell, epochs: int) -> pd.DataFrame:
    """Read the metrics of a finished run of so many epochs, as `write_epochs` wrote them.

    Raises
    ------
    HarnessError
        If the file is damaged, saying how it is made again.
    """
    try:
        frame = pd.read_csv(path).astype("float64")
        whole = frame["epoch"].tolist() == list(range(1, epochs + 1))
    except (OSError, ValueError, LookupError):
        whole = False
    if not whole:
        raise HarnessError(
            f"{path} is damaged or not of {epochs} epochs; delete it, and `reproduce train {cell}` "
            "makes it again"
        )
    return frame
