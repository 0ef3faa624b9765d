"""Timing: in pairs, because the speed of a shared machine drifts; with the device waited for."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from reproduce.benchmarks.measured import Spread, spread

Call = Callable[[], object]


class Pair(NamedTuple):
    """Seconds of two calls that were timed one right after the other."""

    first: float
    second: float


def seconds_of(call: Call, device: torch.device) -> float:
    """Return the wall seconds of a call, until the device has done all of it."""
    _wait(device)
    began = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - began


def timed_pairs(
    first: Call, second: Call, device: torch.device, count: int, go_on: Callable[[float], bool]
) -> list[Pair]:
    """Time two calls in turn: A B A B.

    Parameters
    ----------
    first, second : callable
        Warmed up already.
    device : torch.device
        What they compute on.
    count : int
        Pairs, at least 1.
    go_on : callable
        Told how many seconds the last pair took, says whether there is time for another.
    """
    pairs: list[Pair] = []
    while len(pairs) < count:
        pairs.append(Pair(seconds_of(first, device), seconds_of(second, device)))
        if not go_on(sum(pairs[-1])):
            break
    return pairs


def ratios(pairs: list[Pair]) -> Spread:
    """Return second over first, pair by pair: drift that both share cancels."""
    return spread([pair.second / pair.first for pair in pairs])


def rate(call: Call, amount: float, device: torch.device, runs: int, seconds: float) -> Spread:
    """Return how much of something a call does in a second.

    Parameters
    ----------
    call : callable
        Does `amount` of it.
    amount : float
        In any unit.
    device : torch.device
        What it computes on.
    runs : int
        How often it is timed.
    seconds : float
        About how long a run takes: the call is repeated, so that waiting for the device
        and the clock's resolution do not count.
    """
    call()
    repeats = max(1, round(seconds / max(seconds_of(call, device), 1e-9)))

    def run() -> None:
        for _ in range(repeats):
            call()

    return spread([repeats * amount / seconds_of(run, device) for _ in range(runs)])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
