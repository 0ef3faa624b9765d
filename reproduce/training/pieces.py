"""The pieces of a run: each process that works on it adds a record of how it computed."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from reproduce.config import Precision
from reproduce.devices import describe
from reproduce.distributed import Group
from reproduce.provenance import differences, provenance
from reproduce.training.state import RunState


def describe_piece(
    device: torch.device,
    group: Group,
    precision: Precision,
    compiled: bool,
    graphs: bool,
    eval_batch: int,
) -> dict[str, Any]:
    """Say how this process computes, for run.json.

    Parameters
    ----------
    device : torch.device
        What it computes on.
    group : Group
        The processes.
    precision : str
        What it truly computes in, as `computed_in` says.
    compiled, graphs : bool
        Whether the network is compiled, and whether steps are recorded as CUDA graphs.
    eval_batch : int
        Images at once when the network is measured.
    """
    return {
        # for people: nothing is ordered or timed by it, so a clock that is set changes nothing
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe(device),
        "processes": group.count,
        "precision": precision,
        "compiled": compiled,
        "graphs": graphs,
        "eval_batch": eval_batch,
        # of the code that computes this piece, not of what may lie here when it ends
        **provenance(),
    }


def begin_piece(state: RunState, piece: dict[str, Any]) -> Callable[[], None]:
    """Add the record of this piece of a run, and return what brings its seconds up to date."""
    began = time.monotonic()
    state.pieces.append(piece)

    def update() -> None:
        piece["seconds"] = round(time.monotonic() - began, 3)

    return update


def machines(device: torch.device, group: Group) -> str:
    """Say what a run computes on, in words."""
    name = str(describe(device)["name"])
    return f"{group.count} x {name}" if group.count > 1 else name


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say by what a run that goes on computes otherwise than it did before.

    Parameters
    ----------
    before, now : mapping
        Its last piece, and the one that begins, as of `describe_piece`.
    """
    if before["device"] != now["device"]:
        yield f"begun on {before['device']}; {now['device']} draws other random numbers"
    if before["processes"] != now["processes"]:
        yield (
            f"begun by {before['processes']} process(es), now {now['processes']}: each normalises "
            "and attacks its own part of a batch, so the run is another from here on"
        )
    yield from differences(before, now)
