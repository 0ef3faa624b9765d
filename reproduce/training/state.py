"""The state of a run that has not ended: everything a later process needs to continue it."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor, nn

from reproduce.config.fields import Checkpoint
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_atomically
from reproduce.experiments.runs import (
    DAMAGED,
    checksum_of_rows,
    checksum_of_tensors,
    header,
    previous_file,
    read_progress,
)
from reproduce.training.trace import Trace


@dataclass
class Best:
    """The best checkpoint so far by one measure.

    Attributes
    ----------
    epoch : int
        Epoch after which it was taken, from 1.
    accuracy : float
        The measure, in percent: robust accuracy, or natural where nothing is attacked.
    weights : dict of str to Tensor
        A copy of the network's state, on the CPU.
    """

    epoch: int
    accuracy: float
    weights: dict[str, Tensor]


@dataclass
class RunState:
    """How far a run is.

    Attributes
    ----------
    epoch, step : int
        The current epoch, from 1, and the steps done in it.
    trace : Trace
        Rows of all iterations done.
    epochs : list of dict
        Metrics after every finished epoch that was measured.
    best : dict
        Best checkpoints by name.
    pieces : list of dict
        Seconds and hardware of every process that worked on the run.
    zeta : float or None
        The ratio that WAR steers to, the same for all pieces; None for other methods.
    last_is_good : bool
        Whether the file that the next save replaces may be kept beside it.
    """

    epoch: int = 1
    step: int = 0
    trace: Trace = field(default_factory=Trace)
    epochs: list[dict[str, float]] = field(default_factory=list)
    best: dict[Checkpoint, Best] = field(default_factory=dict)
    pieces: list[dict[str, Any]] = field(default_factory=list)
    zeta: float | None = None
    last_is_good: bool = True


def save_state(
    path: Path, state: RunState, model: nn.Module, optimizer: torch.optim.Optimizer, data: str
) -> None:
    """Write the whole state as one file, atomically, and keep the one before.

    Where the disk has no hard links there is none before it.

    Parameters
    ----------
    path : Path
        File to write.
    state : RunState
        Progress; its pending trace rows must have been flushed.
    model, optimizer
        Weights and momentum are taken from them.
    data : str
        Checksum of the data set the run trains on; behind a blank that of extra images.
    """
    tensors = {f"model/{key}": value for key, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    for choice, best in state.best.items():
        tensors |= {f"{choice}/{key}": value for key, value in best.weights.items()}
    tensors["trace"] = state.trace.as_tensor()
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    # safetensors.torch goes through ctypes, which keeps a type for every size of an array for
    # ever: the trace has a new one at every save
    arrays = {key: value.numpy() for key, value in plain.items()}
    progress = {
        "checksum": _checksum(plain),
        "epoch": state.epoch,
        "step": state.step,
        "epochs": state.epochs,
        "best": {
            choice: {"epoch": best.epoch, "accuracy": best.accuracy}
            for choice, best in state.best.items()
        },
        "pieces": state.pieces,
        "zeta": state.zeta,
        "data": data,
        "trace_checksum": checksum_of_rows(plain["trace"].numpy()),
    }

    write_atomically(
        path,
        lambda part: save_file(arrays, part, header(progress)),
        lambda: _keep(path) if state.last_is_good else None,
    )
    state.last_is_good = True


def _keep(path: Path) -> None:
    """Give a whole state, which is about to be replaced, a second name."""
    previous = previous_file(path)
    with suppress(OSError):
        previous.unlink(missing_ok=True)
        os.link(path, previous)


def remove_states(path: Path) -> None:
    """Remove the state of a run that is finished, and the one before it."""
    path.unlink(missing_ok=True)
    previous_file(path).unlink(missing_ok=True)


def load_last_good(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: str,
    say: Callable[[str], None],
) -> RunState:
    """Load the state, or where it is damaged the one saved before it.

    Parameters
    ----------
    path, model, optimizer, data
        As of `load_state`.
    say : callable
        Told that the earlier one is used.

    Raises
    ------
    HarnessError
        If neither can be used.
    """
    try:
        return load_state(path, model, optimizer, data)
    except DamagedStateError as damaged:
        previous = previous_file(path)
        if not previous.is_file():
            raise
        try:
            state = load_state(previous, model, optimizer, data)
        except DamagedStateError:
            raise damaged from None
    state.last_is_good = False
    say(f"the saved state {path} is damaged: continuing from {previous.name}, saved before it")
    return state


class DamagedStateError(HarnessError):
    """A saved state is not what was written."""


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, data: str
) -> RunState:
    """Put weights and momentum back and return the progress.

    Raises
    ------
    DamagedStateError
        If the file is not what was written.
    HarnessError
        If it was made with other data.
    """
    try:
        progress = _read_progress(path)
        tensors = load_file(path)
        if progress["checksum"] != _checksum(tensors):
            raise DamagedStateError(DAMAGED.format(path))
        model.load_state_dict(_part(tensors, "model"))
        for name, momentum in _part(tensors, "momentum").items():
            parameter = model.get_parameter(name)
            buffer = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = buffer
        best: dict[Checkpoint, Best] = {
            choice: Best(fields["epoch"], fields["accuracy"], _part(tensors, choice))
            for choice, fields in progress["best"].items()
        }
        state = RunState(
            progress["epoch"],
            progress["step"],
            Trace(tensors["trace"].tolist()),
            progress["epochs"],
            best,
            progress["pieces"],
            progress["zeta"],
        )
    except (
        SafetensorError,
        LookupError,
        RuntimeError,
        AttributeError,
        OSError,
        TypeError,
    ) as error:
        raise DamagedStateError(DAMAGED.format(path)) from error
    if progress["data"] != data:
        raise HarnessError(
            f"the saved state {path} was made with other {_differing(progress['data'], data)}; "
            "put the data back, or delete it to start this run again"
        )
    return state


def _read_progress(path: Path) -> dict[str, Any]:
    try:
        return read_progress(path)
    except HarnessError as error:
        raise DamagedStateError(str(error)) from error


def _differing(before: str, now: str) -> str:
    """Say which of a run's images changed: its data set's, the extra ones, or both."""
    pairs = zip(("images", "extra images"), before.split(), now.split(), strict=False)
    changed = [
        f"{name} (checksum {old[:12]}, now {new[:12]})" for name, old, new in pairs if old != new
    ]
    return " and ".join(changed)


def _checksum(tensors: dict[str, Tensor]) -> int:
    return checksum_of_tensors(tensors, lambda name: tensors[name].numpy())


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}/"
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
