"""The trace of a run: a row an iteration, kept on the device until it is asked for."""

import math

import torch
from torch import Tensor

from reproduce.saved import TRACE_COLUMNS
from reproduce.training.step import StepResult

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
    """Rows of `TRACE_COLUMNS`, one an iteration.

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
        index = TRACE_COLUMNS.index(column)
        rows = self.rows[-count:]
        return math.fsum(row[index] for row in rows) / len(rows) if rows else math.nan

    def of_epoch(self, column: str, epoch: int) -> list[float]:
        """Return the values of a column in one epoch."""
        index = TRACE_COLUMNS.index(column)
        return [row[index] for row in self.rows if row[0] == epoch]

    def as_tensor(self) -> Tensor:
        """Return the rows as float64, shape (iterations, columns)."""
        return torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(TRACE_COLUMNS))
