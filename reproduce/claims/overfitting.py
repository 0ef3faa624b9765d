"""Claims on how the three metrics move over epochs (Figure 3).

They are judged by slopes, in points an epoch, and not by the best epoch minus the last:
the best epoch is chosen by the numbers that would be judged, so even noise falls after it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from reproduce.analysis.histories import METRIC_COLUMNS
from reproduce.analysis.statistics import contrast, sample
from reproduce.cells import Cell
from reproduce.claims.claim import Effect, Finding, Verdict, verdict_of
from reproduce.claims.evidence import Evidence, finished_runs
from reproduce.claims.words import counted, size
from reproduce.config import Curves, Train
from reproduce.schedules import learning_rate

_UNIT = "points an epoch"
_ACCURACIES = {
    "robust_accuracy": "robust accuracy",
    "natural_accuracy": "natural accuracy",
}


@dataclass(frozen=True)
class _Followed:
    """The runs of Figure 3.

    Attributes
    ----------
    runs : dict
        The epochs of each finished run that measured all three metrics.
    missing : tuple of str
        Runs that are not there, files that cannot be read.
    drop : int or None
        The epoch of the first drop of the learning rate.
    last : int
        The last epoch.
    """

    runs: dict[Cell, pd.DataFrame]
    missing: tuple[str, ...]
    drop: int | None
    last: int

    @property
    def count(self) -> str:
        """How many runs there are, in words."""
        return counted(len(self.runs), "run")


def overfitting(evidence: Evidence) -> Finding:
    """Test that robust accuracy falls because of stability after the learning rate drops.

    Three slopes over the epochs after the first drop, the epoch of the drop itself left
    out where two others remain: that of robust accuracy and of stability are below zero,
    and stability falls faster than natural accuracy does.  If robust accuracy rises,
    there is no over-fitting to explain, and the claim fails as it stands.
    """
    found = _follow(evidence)
    if found.drop is None:
        return Finding("too little data", _NO_DROP, missing=found.missing)
    if not found.runs:
        return Finding("too little data", _NO_RUNS, missing=found.missing)
    first = found.drop + 1 if found.last - found.drop > 1 else found.drop

    def fall(metric: str, epochs: pd.DataFrame) -> float:
        return -_slope(epochs[epochs["epoch"] >= first], metric)

    def gap(epochs: pd.DataFrame) -> float:
        return fall("perturbation_stability", epochs) - fall("natural_accuracy", epochs)

    effects = (
        _effect(found, "fall of robust accuracy", partial(fall, "robust_accuracy")),
        _effect(found, "fall of perturbation stability", partial(fall, "perturbation_stability")),
        _effect(found, "fall of stability − fall of natural accuracy", gap),
    )
    robust, stable, faster = effects
    verdicts = [verdict_of(effect.low, effect.high, 0.0) for effect in effects]
    text = f"After epoch {first - 1} robust accuracy {_moves(robust, found)}"
    if verdicts[0] == "holds":
        word = "faster" if faster.value >= 0 else "slower"
        by = size(faster, rests_on=found.count)
        text += f", perturbation stability {_moves(stable, found)}; "
        text += f"stability falls {word} than natural accuracy, by {by}."
        verdict = _all(verdicts)
    else:
        text += f": no over-fitting {'to explain' if verdicts[0] == 'fails' else 'shown'}."
        verdict = verdicts[0]
    return Finding(verdict, text, effects=effects, missing=found.missing)


def stability_falls(evidence: Evidence) -> Finding:
    """Test that perturbation stability falls during training, unlike the two accuracies.

    Slopes over the epochs before the first drop of the learning rate, over all where it
    never drops.
    """
    found = _follow(evidence)
    before = found.last if found.drop is None else found.drop - 1
    if before < 2:
        return Finding("too little data", "The learning rate drops before the third epoch.")
    if not found.runs:
        return Finding("too little data", _NO_RUNS, missing=found.missing)

    def rise(metric: str, epochs: pd.DataFrame) -> float:
        return _slope(epochs[epochs["epoch"] <= before], metric)

    fall = _effect(
        found,
        "fall of perturbation stability",
        lambda epochs: -rise("perturbation_stability", epochs),
    )
    shown = [
        _effect(found, f"rise of {name}", partial(rise, metric), judged=False)
        for metric, name in _ACCURACIES.items()
    ]
    text = f"In epochs 1 to {before} perturbation stability {_moves(fall, found)}."
    verdict = verdict_of(fall.low, fall.high, 0.0)
    return Finding(verdict, text, effects=(fall, *shown), missing=found.missing)


_NO_DROP = "The schedule of these runs has no drop of the learning rate."
_NO_RUNS = "No run is finished that measured every epoch."


def first_drop(train: Train) -> int | None:
    """Return the first epoch of a lower learning rate, None where a schedule falls all along."""
    if train.schedule in ("linear", "cosine"):
        return None
    rates = [learning_rate(train, epoch) for epoch in range(1, train.epochs + 1)]
    return next((e for e in range(2, train.epochs + 1) if rates[e - 1] < rates[e - 2]), None)


def _follow(evidence: Evidence) -> _Followed:
    grid: Curves = evidence.grid("figure3")
    train = evidence.config.train_of(grid.method)
    found = finished_runs(evidence, grid)
    measured = {
        cell: epochs
        for cell, epochs in found.epochs.items()
        if epochs[METRIC_COLUMNS].notna().all(axis=None)
    }
    return _Followed(measured, found.missing, first_drop(train), train.epochs)


def _slope(epochs: pd.DataFrame, metric: str) -> float:
    """Return the slope of a metric by least squares, in points an epoch."""
    return float(np.polyfit(epochs["epoch"], epochs[metric], 1)[0])


def _effect(
    found: _Followed, what: str, number: Callable[[pd.DataFrame], float], *, judged: bool = True
) -> Effect:
    """Return the mean of a number of each run, with Student's interval over all runs."""
    numbers = {cell: number(epochs) for cell, epochs in found.runs.items()}
    estimate = contrast([sample(list(numbers.values()))], [1])
    by_width: dict[str, list[float]] = {}
    for cell, value in numbers.items():
        by_width.setdefault(cell.architecture, []).append(value)
    means = ", ".join(f"{name} {np.mean(values):+.3f}" for name, values in by_width.items())
    return Effect(
        what,
        *estimate[:3],
        _UNIT,
        0.0 if judged else None,
        seeds=len({cell.seed for cell in numbers}),
        p_value=None if math.isnan(estimate.low) else estimate.apart(0.0),
        detail=f"{found.count} of {counted(len(by_width), 'width')}: {means}",
    )


def _moves(effect: Effect, found: _Followed) -> str:
    """Say how fast something falls, or rises."""
    word = "falls" if effect.value >= 0 else "rises"
    return f"{word} by {size(effect, rests_on=found.count)}"


def _all(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict on several parts that must all hold."""
    if "fails" in verdicts:
        return "fails"
    return "holds" if set(verdicts) == {"holds"} else "too little data"
