"""Claims on how the three metrics move over epochs (Figure 3).

They are judged by slopes, in points an epoch, and not by the best epoch minus the last:
the best epoch is chosen by the numbers that would be judged, so even noise falls after it.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from reproduce.analysis.claims.claim import Effect, Finding, Verdict, verdict_of
from reproduce.analysis.claims.evidence import Evidence, Runs, finished_runs
from reproduce.analysis.claims.words import size
from reproduce.analysis.statistics import contrast, sample
from reproduce.cells import Cell
from reproduce.config import Curves, Train
from reproduce.training.schedules import learning_rate

_UNIT = "points an epoch"
_METRICS = {
    "robust_accuracy": "robust accuracy",
    "natural_accuracy": "natural accuracy",
    "perturbation_stability": "perturbation stability",
}


def overfitting(evidence: Evidence) -> Finding:
    """Test that robust accuracy falls because of stability after the learning rate drops.

    Three slopes over the epochs after the first drop, the epoch of the drop itself left
    out where two others remain: that of robust accuracy and of stability are below zero,
    and stability falls faster than natural accuracy does.  If robust accuracy rises,
    there is no over-fitting to explain, and the claim fails as it stands.
    """
    runs, drop, last = _runs(evidence)
    if drop is None:
        return Finding("too little data", _NO_DROP, missing=runs.missing)
    first = drop + 1 if last - drop > 1 else drop

    def fall(metric: str, epochs: pd.DataFrame) -> float:
        return -_slope(epochs[epochs["epoch"] >= first], metric)

    def gap(epochs: pd.DataFrame) -> float:
        return fall("perturbation_stability", epochs) - fall("natural_accuracy", epochs)

    robust = _effect(runs, "fall of robust accuracy", lambda e: fall("robust_accuracy", e))
    stable = _effect(
        runs, "fall of perturbation stability", lambda e: fall("perturbation_stability", e)
    )
    natural = _effect(runs, "fall of stability − fall of natural accuracy", gap)
    effects = (robust, stable, natural)
    if math.isnan(robust.value):
        return Finding("too little data", _NO_RUNS, missing=runs.missing)
    after = f"After epoch {first - 1} robust accuracy {_moves(robust)}"
    verdicts = [verdict_of(effect.low, effect.high, 0.0) for effect in effects]
    if verdicts[0] == "holds":
        verdict = _all(verdicts)
        text = f"{after}, perturbation stability {_moves(stable)}; {_attributed(natural)}."
    else:
        verdict = verdicts[0]
        text = f"{after}: no over-fitting {'shown' if verdict != 'fails' else 'to explain'}."
    return Finding(verdict, text, effects=effects, missing=runs.missing)


def stability_falls(evidence: Evidence) -> Finding:
    """Test that perturbation stability falls during training, unlike the two accuracies.

    Slopes over the epochs before the first drop of the learning rate, over all where it
    never drops.
    """
    runs, drop, last = _runs(evidence)
    before = last if drop is None else drop - 1
    if before < 2:
        return Finding("too little data", "The learning rate drops before the third epoch.")

    def slope(metric: str) -> Callable[[pd.DataFrame], float]:
        return lambda epochs: _slope(epochs[epochs["epoch"] <= before], metric)

    fall = _effect(
        runs, "fall of perturbation stability", lambda e: -slope("perturbation_stability")(e)
    )
    rises = [
        _effect(runs, f"rise of {_METRICS[metric]}", slope(metric), judged=False)
        for metric in ("robust_accuracy", "natural_accuracy")
    ]
    if math.isnan(fall.value):
        return Finding("too little data", _NO_RUNS, missing=runs.missing)
    text = f"In epochs 1 to {before} perturbation stability {_moves(fall)}."
    verdict = verdict_of(fall.low, fall.high, 0.0)
    return Finding(verdict, text, effects=(fall, *rises), missing=runs.missing)


_NO_DROP = "The schedule of these runs has no drop of the learning rate."
_NO_RUNS = "No run is finished and measured every epoch."


def first_drop(train: Train) -> int | None:
    """Return the first epoch of a lower learning rate, None where a schedule falls all along."""
    if train.schedule in ("linear", "cosine"):
        return None
    rates = [learning_rate(train, epoch) for epoch in range(1, train.epochs + 1)]
    return next((e for e in range(2, train.epochs + 1) if rates[e - 1] < rates[e - 2]), None)


def _runs(evidence: Evidence) -> tuple[Runs, int | None, int]:
    """Return the runs of Figure 3, the epoch of the first drop, and the last epoch."""
    grid: Curves = evidence.grid("figure3")
    train = evidence.config.train_of(grid.method)
    return finished_runs(evidence, grid), first_drop(train), train.epochs


def _slope(epochs: pd.DataFrame, metric: str) -> float:
    """Return the slope of a metric by least squares, in points an epoch."""
    return float(np.polyfit(epochs["epoch"], epochs[metric], 1)[0])


def _effect(
    runs: Runs, what: str, number: Callable[[pd.DataFrame], float], *, judged: bool = True
) -> Effect:
    """Return the mean of a number of each run, with its interval over all runs."""
    numbers: dict[Cell, float] = {
        cell: number(epochs)
        for cell, epochs in runs.epochs.items()
        if epochs[list(_METRICS)].notna().all(axis=None)
    }
    found = sample(list(numbers.values()))
    estimate = contrast([found], [1])
    by_width: dict[str, list[float]] = {}
    for cell, value in numbers.items():
        by_width.setdefault(cell.architecture, []).append(value)
    means = ", ".join(f"{name} {np.mean(values):+.3f}" for name, values in by_width.items())
    p_value = None if math.isnan(estimate.low) else estimate.apart(0.0)
    threshold = 0.0 if judged else None
    detail = f"{len(numbers)} runs of {len(by_width)} widths; by width {means}"
    seeds = len({cell.seed for cell in numbers})
    return Effect(what, *estimate[:3], _UNIT, threshold, seeds, p_value=p_value, detail=detail)


def _moves(effect: Effect) -> str:
    """Say how fast something falls, or rises."""
    return f"{'falls' if effect.value >= 0 else 'rises'} by {size(effect)}"


def _attributed(gap: Effect) -> str:
    word = "faster" if gap.value >= 0 else "slower"
    return f"stability falls {word} than natural accuracy, by {size(gap)}"


def _all(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict on several parts that must all hold."""
    if "fails" in verdicts:
        return "fails"
    return "holds" if set(verdicts) == {"holds"} else "too little data"
