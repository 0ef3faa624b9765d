"""The pieces of a run: each process that works on it adds a record of how it computed."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from reproduce.config import CompileMode
from reproduce.devices import describe
from reproduce.distributed import Group
from reproduce.provenance import provenance
from reproduce.training.state import RunState


def begin_piece(
    state: RunState, device: torch.device, group: Group, compile_mode: CompileMode | None
) -> Callable[[], None]:
    """Add the record of this piece of a run, and return what brings its seconds up to date.

    Parameters
    ----------
    state : RunState
        Gets the record.
    device : torch.device
        What this process computes on.
    group : Group
        The processes.
    compile_mode : str or None
        What the network is compiled for; None where it is not compiled.
    """
    began = time.monotonic()
    piece: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(device),
        "processes": group.count,
        "compiled": compile_mode,
        # of the code that computes this piece, not of what may lie here when it ends
        **provenance(),
    }
    state.pieces.append(piece)

    def update() -> None:
        piece["seconds"] = round(time.monotonic() - began, 3)

    return update


def machines(device: torch.device, group: Group) -> str:
    """Say what a run computes on, in words."""
    name = str(describe(device)["name"])
    return f"{group.count} x {name}" if group.count > 1 else name


def changes(
    before: Mapping[str, Any],
    device: torch.device,
    group: Group,
    compile_mode: CompileMode | None,
) -> Iterator[str]:
    """Say by what a run that goes on computes otherwise than it began."""
    if before["device"] != device.type:
        yield f"begun on {before['device']}; {device.type} draws other random numbers"
    if before.get("compiled") != compile_mode:
        words = [
            f"compiled ({mode})" if mode else "not compiled"
            for mode in (before.get("compiled"), compile_mode)
        ]
        yield f"begun {words[0]}, now {words[1]}: the last bits round otherwise from here on"
    if before["processes"] != group.count:
        yield (
            f"begun by {before['processes']} process(es), now {group.count}: each normalises and "
            "attacks its own part of a batch, so the run is another from here on"
        )
