"""The trace of a run: a row an iteration, kept on the device until it is asked for."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from reproduce.experiments.runs import TRACE_COLUMNS
from reproduce.training.step import StepResult

# rows sent for at once, and taken in when as many more are there: no step waits for one
_AT_ONCE = {"cpu": 1, "cuda": 50}


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


class _Coming:
    """Rows on their way from the device, which goes on computing meanwhile."""

    def __init__(self, pending: list[tuple[int, float, StepResult]]) -> None:
        self._places = [(epoch, rate) for epoch, rate, _ in pending]
        values = torch.stack([torch.stack([v.double() for v in step]) for *_, step in pending])
        self._arrived: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            # a copy into ordinary memory would wait for all the work that is queued
            there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values = there.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(values.device))
        else:
            self._values = values

    def rows(self) -> Iterator[tuple[int, float, list[float]]]:
        """Give epoch, learning rate and the values of each row, once they are here."""
        if self._arrived is not None:
            self._arrived.synchronize()
        for (epoch, rate), values in zip(self._places, self._values.tolist(), strict=True):
            yield epoch, rate, values


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
        self._coming: _Coming | None = None

    def add(self, epoch: int, rate: float, step: StepResult) -> None:
        """Add a row, and check the loss of what has been added every few iterations.

        Raises
        ------
        NonFiniteLossError
            Naming the first iteration whose terms are not finite.
        """
        self._pending.append((epoch, rate, step))
        at_once = _AT_ONCE[step.natural.device.type]
        if at_once == 1:
            self.flush()
        elif len(self._pending) >= at_once:
            self._receive()
            self._send()

    def flush(self) -> None:
        """Fetch all pending rows and check them.

        Raises
        ------
        NonFiniteLossError
            As `add`.
        """
        self._receive()
        self._send()
        self._receive()

    def _send(self) -> None:
        """Have the device copy the pending rows, after the work it has been given."""
        if self._pending:
            self._coming = _Coming(self._pending)
            self._pending = []

    def _receive(self) -> None:
        """Take in the rows that were sent for; they have mostly arrived long ago."""
        if self._coming is None:
            return
        coming, self._coming = self._coming, None
        for epoch, rate, (natural, robust, lipschitz, lam) in coming.rows():
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
