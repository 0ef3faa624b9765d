"""The state of a run that has not ended: everything a later process needs to continue it."""

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from reproduce.config.fields import Checkpoint
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically
from reproduce.experiments.runs import DAMAGED, PROGRESS, TRACE_COLUMNS
from reproduce.training.step import StepResult

# rows of the trace fetched together: a GPU would be waited for at every step
_FETCHED_TOGETHER = {"cpu": 1, "cuda": 50}


class Trace:
    """Rows of `TRACE_COLUMNS`, one an iteration; it begins with those of earlier segments."""

    def __init__(self, rows: list[list[float]] | None = None) -> None:
        self.rows = rows or []
        # epoch, learning rate and result of steps whose values are still on the device
        self._pending: list[tuple[int, float, StepResult]] = []

    def add(self, epoch: int, rate: float, step: StepResult) -> None:
        """Add a row; every few iterations fetch them."""
        self._pending.append((epoch, rate, step))
        if len(self._pending) >= _FETCHED_TOGETHER[step.natural.device.type]:
            self.flush()

    def flush(self) -> None:
        """Fetch all pending rows; HarnessError if a loss is NaN or infinite."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        values = torch.stack([torch.stack(list(step)).double() for *_, step in pending]).tolist()
        for (epoch, rate, _), value in zip(pending, values, strict=True):
            natural, robust, lipschitz, lam = value
            if not (math.isfinite(natural) and math.isfinite(robust)):
                raise not_finite(len(self.rows) + 1, epoch)
            self.rows.append([epoch, natural, robust, lam, rate, lipschitz])

    def latest(self, column: str, count: int = 50) -> float:
        """Return the mean of a column over its last rows."""
        index = TRACE_COLUMNS.index(column)
        rows = self.rows[-count:]
        return math.fsum(row[index] for row in rows) / len(rows)


def not_finite(iteration: int, epoch: int) -> HarnessError:
    """Return the error of a loss or weights that are NaN or infinite; both places from 1."""
    return HarnessError(
        f"the loss or the weights are NaN or infinite at iteration {iteration} (epoch {epoch})"
    )


class Best(BaseModel):
    """The best checkpoint so far by one measure."""

    epoch: int
    accuracy: float


class RunState(BaseModel):
    """How far a run is: the current epoch, from 1, the steps done in it, and what came before."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True)

    epoch: int = 1
    step: int = 0
    epochs: list[dict[str, Any]] = []
    """Metrics after every finished epoch that was measured."""
    best: dict[Checkpoint, Best] = {}
    segments: list[dict[str, Any]] = Field([], alias="pieces")
    """Seconds, hardware and software of every process that worked on the run."""
    zeta: float | None = None
    """The ratio that WAR steers to, the same in all segments; None for other methods."""
    data: str
    """Checksum of the run's data set, and after a blank that of extra images."""
    trace: Trace = Field(default_factory=Trace, exclude=True)
    weights: dict[Checkpoint, dict[str, Tensor]] = Field({}, exclude=True)
    """Of the best checkpoints, on the CPU."""


def save_state(
    path: Path, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write the whole state as one file, atomically; pending trace rows must have been flushed."""
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    for choice, weights in state.weights.items():
        tensors |= {f"{choice}/{key}": value for key, value in weights.items()}
    rows = torch.tensor(state.trace.rows, dtype=torch.float64)
    tensors["trace"] = rows.reshape(-1, len(TRACE_COLUMNS))
    # not safetensors.torch: through ctypes it keeps a type for every length of the trace for ever
    arrays = {key: value.detach().cpu().contiguous().numpy() for key, value in tensors.items()}
    progress = {PROGRESS: state.model_dump_json(by_alias=True)}
    write_atomically(path, lambda part: save_file(arrays, part, progress))


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, data: str
) -> RunState:
    """Put weights and momentum back and return the progress."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}}
    try:
        with safe_open(path, framework="pt") as file:
            state = RunState.model_validate_json(file.metadata()[PROGRESS])
            state.trace = Trace(file.get_tensor("trace").tolist())
            for name in file.keys():  # noqa: SIM118
                part, _, key = name.partition("/")
                parts.setdefault(part, {})[key] = file.get_tensor(name)
        model.load_state_dict(parts["model"])
        for name, momentum in parts["momentum"].items():
            parameter = model.get_parameter(name)
            buffer = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = buffer
        state.weights = {choice: parts[choice] for choice in state.best}
    except Exception as error:  # of a damaged file the readers raise many kinds
        raise HarnessError(DAMAGED.format(path)) from error
    for name, old, new in zip(
        ("images", "extra images"), state.data.split(), data.split(), strict=False
    ):
        if old != new:
            raise HarnessError(
                f"the saved state {path} was made with other {name} (checksum {old[:12]}, now "
                f"{new[:12]}); put the data back, or delete it to start this run again"
            )
    return state
