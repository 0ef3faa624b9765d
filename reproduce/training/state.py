"""The state of a run that has not ended: everything a later process needs to continue it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from reproduce.config.fields import Checkpoint
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically
from reproduce.experiments.runs import DAMAGED, PROGRESS
from reproduce.training.trace import Trace


@dataclass
class Best:
    """The best checkpoint so far by one measure, with a copy of its weights on the CPU."""

    epoch: int
    accuracy: float
    weights: dict[str, Tensor]


@dataclass
class RunState:
    """How far a run is: the current epoch, from 1, the steps done in it, and what came before."""

    epoch: int = 1
    step: int = 0
    trace: Trace = field(default_factory=Trace)
    epochs: list[dict[str, float]] = field(default_factory=list)
    """Metrics after every finished epoch that was measured."""
    best: dict[Checkpoint, Best] = field(default_factory=dict)
    segments: list[dict[str, Any]] = field(default_factory=list)
    """Seconds, hardware and software of every process that worked on the run."""
    zeta: float | None = None
    """The ratio that WAR steers to, the same in all segments; None for other methods."""


def save_state(
    path: Path, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer, data: str
) -> None:
    """Write the whole state as one file, atomically; pending trace rows must have been flushed.

    `data` is the checksum of the run's data set, and after a blank that of extra images.
    """
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    for choice, best in state.best.items():
        tensors |= {f"{choice}/{key}": value for key, value in best.weights.items()}
    tensors["trace"] = state.trace.as_tensor()
    # not safetensors.torch: through ctypes it keeps a type for every length of the trace for ever
    arrays = {key: value.detach().cpu().contiguous().numpy() for key, value in tensors.items()}
    progress = {
        "epoch": state.epoch,
        "step": state.step,
        "epochs": state.epochs,
        "best": {
            choice: {"epoch": best.epoch, "accuracy": best.accuracy}
            for choice, best in state.best.items()
        },
        "pieces": state.segments,
        "zeta": state.zeta,
        "data": data,
    }
    write_atomically(path, lambda part: save_file(arrays, part, {PROGRESS: json.dumps(progress)}))


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, data: str
) -> RunState:
    """Put weights and momentum back and return the progress.

    Raises
    ------
    HarnessError
        If the file is damaged or was made with other data, saying how to start over.
    """
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()[PROGRESS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model.load_state_dict(_part(tensors, "model"))
        for name, momentum in _part(tensors, "momentum").items():
            parameter = model.get_parameter(name)
            buffer = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = buffer
        state = RunState(
            progress["epoch"],
            progress["step"],
            Trace(tensors["trace"].tolist()),
            progress["epochs"],
            {
                choice: Best(best["epoch"], best["accuracy"], _part(tensors, choice))
                for choice, best in progress["best"].items()
            },
            progress["pieces"],
            progress["zeta"],
        )
        before = progress["data"].split()
    except Exception as error:  # of a damaged file the readers raise many kinds
        raise HarnessError(DAMAGED.format(path)) from error
    changed = [
        f"{name} (checksum {old[:12]}, now {new[:12]})"
        for name, old, new in zip(("images", "extra images"), before, data.split(), strict=False)
        if old != new
    ]
    if changed:
        raise HarnessError(
            f"the saved state {path} was made with other {' and '.join(changed)}; "
            "put the data back, or delete it to start this run again"
        )
    return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
