"""Our training step beside the reference formulation's, in pairs; and alone, over sizes."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from reproduce.benchmarks.budget import Budget, guarded
from reproduce.benchmarks.cases import (
    EPOCH_IMAGES,
    Step,
    our_passes,
    our_step,
    reference_passes,
    their_step,
)
from reproduce.benchmarks.measured import Case, Peaks, StepTime, spread
from reproduce.benchmarks.settings import DATASET
from reproduce.benchmarks.timing import ratios, seconds_of, timed_pairs
from reproduce.config.schema import Config
from reproduce.experiments.cost import forward_operations
from reproduce.registry import dataset_facts

_COMPILED_WARM_UP = 3
# a processor has nothing to choose or to compile that a few images would not make it choose
_FEW = 8
Say = Callable[[str], object]


def measure_steps(
    config: Config,
    cases: Sequence[Case],
    pairs: int,
    peaks: Peaks,
    device: torch.device,
    budget: Budget,
    say: Say,
) -> list[StepTime]:
    """Time our step and the reference's in pairs, for each case in its order.

    Every case may take its part of the time that is left; a pair that was begun is
    finished.  What does not fit in, or in memory, is noted in `budget`.

    Parameters
    ----------
    config : Config
        How each method trains.
    cases : sequence of Case
        What to time.
    pairs : int
        How many pairs of each, as far as there is time.
    peaks : Peaks
        What speeds are compared with.
    device : torch.device
        What to time on.
    budget : Budget
        The time there is.
    say : callable
        Told what comes next.
    """
    found = []
    for done, case in enumerate(cases):
        passes = our_passes(config, case) + reference_passes(config, case)
        if not budget.fits(str(case), _least_seconds(case, passes, peaks)):
            continue
        say(str(case))
        # a case may spend more than its part on its first pair, not on more of them
        part = budget.part(1 / (len(cases) - done))
        row = guarded(
            str(case), budget, partial(_in_pairs, config, case, pairs, peaks, device, part, budget)
        )
        found += [] if row is None else [row]
    return found


def measure_scaling(
    config: Config,
    cases: Sequence[Case],
    runs: int,
    peaks: Peaks,
    device: torch.device,
    budget: Budget,
    say: Say,
) -> list[StepTime]:
    """Time our step alone over widths and batches; parameters as in `measure_steps`."""
    found = []
    for case in cases:
        what = f"scaling: {case}"
        if not budget.fits(what, _least_seconds(case, our_passes(config, case), peaks)):
            continue
        say(what)
        row = guarded(what, budget, partial(_alone, config, case, runs, peaks, device, budget))
        found += [] if row is None else [row]
    return found


def _least_seconds(case: Case, passes: int, peaks: Peaks) -> float:
    """Return how long so many passes of a batch take at the peak; nothing takes less."""
    operations = passes * case.batch * forward_operations(case.architecture, dataset_facts(DATASET))
    return operations / (1e9 * (peaks.best(case.precision) or math.inf))


def _in_pairs(
    config: Config,
    case: Case,
    count: int,
    peaks: Peaks,
    device: torch.device,
    part: Budget,
    whole: Budget,
) -> StepTime | None:
    ours = our_step(config, case, device)
    first, memory = _warmed(ours, case, device, _steps_before(case))
    held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    theirs = their_step(config, case, device)
    other, both = _warmed(theirs, case, device, 1)
    # of the reference alone: what ours keeps is not its own
    their_memory = None if both is None else both - held
    once = (first + other) * case.batch / _first_batch(case, device)
    # what was compiled for a minute is timed at least once
    if "compiled" not in case.form and not whole.fits(str(case), once):
        return None
    pairs = timed_pairs(
        lambda: ours(case.batch),
        lambda: theirs(case.batch),
        device,
        count,
        go_on=lambda seconds: seconds <= min(part.left, whole.left),
    )
    if len(pairs) < count:
        whole.run_out(f"{case}: {count - len(pairs)} of {count} pairs")
    row = _row(config, case, [pair.first for pair in pairs], peaks, memory, first)
    return row.model_copy(
        update={
            "reference_seconds": spread([pair.second for pair in pairs]),
            "reference_memory_bytes": their_memory,
            "ratio": ratios(pairs),
            "counted_ratio": reference_passes(config, case) / row.passes,
        }
    )


def _alone(
    config: Config, case: Case, runs: int, peaks: Peaks, device: torch.device, budget: Budget
) -> StepTime | None:
    ours = our_step(config, case, device)
    first, memory = _warmed(ours, case, device, _steps_before(case))
    once = first * case.batch / _first_batch(case, device)
    if "compiled" not in case.form and not budget.fits(f"scaling: {case}", once):
        return None
    seconds: list[float] = []
    while len(seconds) < runs and (not seconds or seconds[-1] <= budget.left):
        seconds.append(seconds_of(lambda: ours(case.batch), device))
    return _row(config, case, seconds, peaks, memory, first)


def _first_batch(case: Case, device: torch.device) -> int:
    """Return how many images the first step is taken on."""
    whole = device.type == "cuda" or case.form != "eager"
    return case.batch if whole else min(case.batch, _FEW)


def _steps_before(case: Case) -> int:
    """Return how many steps a case of ours is warmed up with."""
    return _COMPILED_WARM_UP if "compiled" in case.form else 1


def _warmed(step: Step, case: Case, device: torch.device, count: int) -> tuple[float, int | None]:
    """Warm up; return the seconds of the first step and the most GPU memory that was taken."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds = seconds_of(lambda: step(_first_batch(case, device)), device)
    for _ in range(count - 1):
        step(_first_batch(case, device))
    if device.type == "cuda":
        return seconds, torch.cuda.max_memory_allocated(device)
    return seconds, None


def _row(
    config: Config, case: Case, seconds: list[float], peaks: Peaks, memory: int | None, first: float
) -> StepTime:
    """Turn the seconds of our steps into rates."""
    found, passes = spread(seconds), our_passes(config, case)
    operations = passes * forward_operations(case.architecture, dataset_facts(DATASET))
    rate = case.batch / found.median
    best = peaks.best(case.precision)
    gflops = rate * operations / 1e9
    return StepTime(
        case=case,
        seconds=found,
        reference_seconds=None,
        ratio=None,
        counted_ratio=None,
        passes=passes,
        images_per_second=rate,
        epoch_seconds=EPOCH_IMAGES / rate,
        gflops=gflops,
        of_peak=None if best is None else gflops / best,
        memory_bytes=memory,
        reference_memory_bytes=None,
        warm_up_seconds=first,
    )
