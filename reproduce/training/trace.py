"""The trace of a run: a row an iteration, fetched from the device without holding it up."""

import math

import torch
from torch import Tensor

from reproduce.experiments.runs import TRACE_COLUMNS
from reproduce.training.step import StepResult

# rows fetched together, and read when as many more are there: so no step waits for one
_FETCHED_TOGETHER = {"cpu": 1, "cuda": 50}


class NonFiniteLossError(Exception):
    """A loss became NaN or infinite, or a step made the weights so; both places from 1."""

    def __init__(self, iteration: int, epoch: int) -> None:
        super().__init__(
            f"the loss or the weights are NaN or infinite at iteration {iteration} (epoch {epoch})"
        )
        self.iteration = iteration
        self.epoch = epoch


class Trace:
    """Rows of `TRACE_COLUMNS`, one an iteration; it begins with those of earlier segments."""

    def __init__(self, rows: list[list[float]] | None = None) -> None:
        self.rows = rows or []
        # epoch, learning rate and result of steps whose values are still on the device
        self._pending: list[tuple[int, float, StepResult]] = []
        # epochs and rates of the rows that are on their way, and their values
        self._places: list[tuple[int, float]] = []
        self._values = torch.empty(0)
        self._arrived: torch.cuda.Event | None = None

    def add(self, epoch: int, rate: float, step: StepResult) -> None:
        """Add a row; every few iterations fetch them and refuse losses that are not finite."""
        self._pending.append((epoch, rate, step))
        count = _FETCHED_TOGETHER[step.natural.device.type]
        if count == 1:
            self.flush()
        elif len(self._pending) >= count:
            self._receive()
            self._send()

    def flush(self) -> None:
        """Fetch all pending rows and check them, as `add` does."""
        self._receive()
        self._send()
        self._receive()

    def _send(self) -> None:
        """Have the device copy the pending rows, after the work it has been given."""
        if not self._pending:
            return
        self._places = [(epoch, rate) for epoch, rate, _ in self._pending]
        steps = [torch.stack([value.double() for value in step]) for *_, step in self._pending]
        self._values, self._pending = torch.stack(steps), []
        if self._values.is_cuda:
            # a copy into ordinary memory would wait for all the work that is queued
            pinned = torch.empty(self._values.shape, dtype=torch.float64, pin_memory=True)
            self._arrived = torch.cuda.Event()
            device = self._values.device
            self._values = pinned.copy_(self._values, non_blocking=True)
            self._arrived.record(torch.cuda.current_stream(device))

    def _receive(self) -> None:
        """Take in the rows that were sent; they have mostly arrived long ago."""
        if not self._places:
            return
        if self._arrived is not None:
            self._arrived.synchronize()
        places, self._places = self._places, []
        for (epoch, rate), values in zip(places, self._values.tolist(), strict=True):
            natural, robust, lipschitz, lam = values
            if not (math.isfinite(natural) and math.isfinite(robust)):
                raise NonFiniteLossError(len(self.rows) + 1, epoch)
            self.rows.append([epoch, natural, robust, lam, rate, lipschitz])

    def latest(self, column: str, count: int = 50) -> float:
        """Return the mean of a column over its last rows."""
        index = TRACE_COLUMNS.index(column)
        rows = self.rows[-count:]
        return math.fsum(row[index] for row in rows) / len(rows) if rows else math.nan

    def as_tensor(self) -> Tensor:
        """Return the rows as float64, shape (iterations, columns)."""
        return torch.tensor(self.rows, dtype=torch.float64).reshape(-1, len(TRACE_COLUMNS))
