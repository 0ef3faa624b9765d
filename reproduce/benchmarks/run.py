"""One benchmark of a machine: its measurements one after the other, in the time there is."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from reproduce.benchmarks.attacks import measure_attacks
from reproduce.benchmarks.autoattack import AutoAttackOf, measure_autoattack, open_attacked
from reproduce.benchmarks.budget import Budget
from reproduce.benchmarks.peak import measure_peaks
from reproduce.benchmarks.prediction import predict
from reproduce.benchmarks.result import Result
from reproduce.benchmarks.settings import Settings
from reproduce.benchmarks.steps import measure_scaling, measure_steps
from reproduce.benchmarks.together import measure_together
from reproduce.compute.device import claimed, describe
from reproduce.config.schema import Config
from reproduce.core.provenance import provenance
from reproduce.training.loop import stop_requests

# parts of the time that is left when each one's turn comes; the last two share the rest
_PEAKS, _STEPS, _ATTACKS = 0.15, 0.8, 0.4
_STEPS_BESIDE_SCALING = 0.5


def measure(
    config: Config,
    settings: Settings,
    autoattack: AutoAttackOf | None,
    say: Callable[[str], object],
) -> Result:
    """Measure a device and predict what the configuration's experiments take on it.

    Parameters
    ----------
    config : Config
        `machine` says on what; how each method trains and what is predicted come from it too.
    settings : Settings
        What to measure.
    autoattack : AutoAttackOf, optional
        A checkpoint to run standard AutoAttack on, in both ways.
    say : callable
        Told what comes next, a line each.

    Raises
    ------
    HarnessError
        If the device is not there, or the checkpoint cannot be attacked.
    """
    began, made = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    load = _load()
    # a first Ctrl-C ends the measuring, not the command: what was found is told
    with claimed(config.machine) as device, stop_requests(None) as stop:
        budget = Budget(60 * settings.minutes, stop=stop)
        hardware = describe(device)
        found = _measured(config, settings, autoattack, device, budget, say)
    unit = _unit(hardware, device)
    return Result(
        made=made,
        hardware=hardware,
        provenance=provenance(),
        preset=config.preset,
        settings=asdict(settings),
        seconds=time.monotonic() - began,
        load=[*load, *_load()],
        cores=os.cpu_count(),
        predictions=predict(config, found["steps"], found["attacks"], unit, budget),
        not_measured=budget.missing,
        **found,
    )


def _measured(
    config: Config,
    settings: Settings,
    autoattack: AutoAttackOf | None,
    device: torch.device,
    budget: Budget,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Measure one thing after the other; return them by their names in a result."""
    # what cannot be read is told before minutes are spent
    attacked = None if autoattack is None else open_attacked(config, autoattack, device)
    say("peaks")
    peaks = measure_peaks(settings.precisions, settings.architectures, device, budget.part(_PEAKS))
    share = budget.part(_STEPS_BESIDE_SCALING if settings.scaling else _STEPS)
    cases = settings.cases()
    found = {
        "peaks": peaks,
        "steps": measure_steps(config, cases, settings.pairs, peaks, device, share, say),
        "attacks": measure_attacks(
            config, settings.architectures, device, budget.part(_ATTACKS), say
        ),
        "together": measure_together(config, cases[0], settings.cells, device, budget, say),
        "scaling": measure_scaling(
            config, settings.scaling_cases(), settings.pairs, peaks, device, budget, say
        ),
        "autoattack": None,
    }
    if attacked is not None:
        say(f"AutoAttack on {len(attacked.batch.labels)} images, both ways")
        found["autoattack"] = measure_autoattack(config, attacked, settings.pairs, device, budget)
    return found


def _load() -> list[float]:
    """Return the load of the last minute, or nothing where the system does not tell."""
    try:
        return [os.getloadavg()[0]]
    except (AttributeError, OSError):
        return []


def _unit(hardware: dict[str, str | int], device: torch.device) -> str:
    """Say what predicted hours are of."""
    if device.type == "cuda":
        return f"GPU-hours of this machine ({hardware['name']})"
    threads = hardware["threads"]
    return f"processor-hours of this machine ({hardware['name']}, {threads} thread(s))"
