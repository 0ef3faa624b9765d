"""Claims on how the three metrics move over epochs (Figure 3).

They are judged by slopes, in points an epoch, and not by the best epoch minus the last:
the best epoch is chosen by the numbers that would be judged, so even noise falls after it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import pandas as pd

from reproduce.analysis.histories import METRIC_COLUMNS
from reproduce.analysis.statistics import contrast
from reproduce.cells import Cell
from reproduce.claims.claim import Effect, Finding, Verdict, verdict_of
from reproduce.claims.evidence import Evidence, finished_runs, grouped
from reproduce.claims.words import counted, size, so_far
from reproduce.config import Curves, Train
from reproduce.schedules import learning_rate, measured_epochs

# epochs that a slope takes: a line through two leaves nothing to doubt it by
FEWEST = 3

_UNIT = "points an epoch"
_STABILITY = "perturbation_stability"
_NO_DROP = "The schedule of these runs has no drop of the learning rate."
_NO_RUNS = "No run is finished with all its measurements."

Windows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class _Followed:
    """The runs of Figure 3.

    Attributes
    ----------
    runs : dict
        The epochs of each finished run that measured all three metrics.
    missing : tuple of str
        Runs that are not there, files that cannot be read, epochs not measured.
    planned : int
        Networks, each of one width and one lambda.
    train : Train
        How they are trained.
    """

    runs: dict[Cell, pd.DataFrame]
    missing: tuple[str, ...]
    planned: int
    train: Train

    @property
    def networks(self) -> dict[tuple[str, float], list[Cell]]:
        """The runs by network: those with two seeds, or all where none has them."""
        found: dict[tuple[str, float], list[Cell]] = {}
        for cell in self.runs:
            found.setdefault((cell.architecture, cell.lam), []).append(cell)
        return {key: cells for key, cells in found.items() if len(cells) > 1} or found

    @property
    def judged(self) -> int:
        """How many networks have the two seeds that an interval takes."""
        return sum(len(cells) > 1 for cells in self.networks.values())

    @property
    def count(self) -> str:
        """What the numbers rest on, in words."""
        runs = sum(len(cells) for cells in self.networks.values())
        return f"{counted(runs, 'run')} of {counted(len(self.networks), 'network')}"


def overfitting(evidence: Evidence) -> Finding:
    """Test that robust accuracy falls because of stability after the learning rate drops.

    Three slopes over the epochs after the first drop (`after_drops`): that of robust
    accuracy and of stability are below zero, and stability falls faster than natural
    accuracy does.  If robust accuracy rises, there is no over-fitting to explain, and the
    claim fails as it stands.
    """
    found = _follow(evidence)
    drop, windows = first_drop(found.train), after_drops(found.train)
    if drop is None:
        return Finding("too little data", _NO_DROP, missing=found.missing)
    if sum(map(len, windows)) < FEWEST:
        return Finding("too little data", _too_short("after", drop), missing=found.missing)
    if not found.runs:
        return Finding("too little data", _NO_RUNS, missing=found.missing)

    def fall(metric: str, epochs: pd.DataFrame) -> float:
        return -slope(epochs, metric, windows)

    def gap(epochs: pd.DataFrame) -> float:
        return fall(_STABILITY, epochs) - fall("natural_accuracy", epochs)

    used = "epochs " + ", ".join(f"{window[0]} to {window[-1]}" for window in windows)
    robust, stable, faster = effects = (
        _effect(found, "fall of robust accuracy", partial(fall, "robust_accuracy"), used),
        _effect(found, "fall of perturbation stability", partial(fall, _STABILITY), used),
        _effect(found, "fall of stability − fall of natural accuracy", gap, used),
    )
    over = verdict_of(robust.low, robust.high, 0.0)
    text = f"After epoch {drop} robust accuracy {_moves(robust, found)}"
    if over == "holds":
        word = "faster" if faster.value >= 0 else "slower"
        by = size(faster, rests_on=found.count)
        text += f", perturbation stability {_moves(stable, found)}; "
        text += f"stability falls {word} than natural accuracy, by {by}."
    else:
        text += f": no over-fitting {'to explain' if over == 'fails' else 'shown'}."
    return _finding(found, text, effects, effects if over == "holds" else (robust,))


def stability_falls(evidence: Evidence) -> Finding:
    """Test that perturbation stability falls during training, and both accuracies rise.

    Slopes over the epochs measured before the first drop of the learning rate, over all
    measured where it never drops.
    """
    found = _follow(evidence)
    drop = first_drop(found.train)
    measured = measured_epochs(found.train)
    window = [epoch for epoch in measured if drop is None or epoch < drop]
    if len(window) < FEWEST:
        where = _too_short("before", drop or found.train.epochs + 1)
        return Finding("too little data", where, missing=found.missing)
    if not found.runs:
        return Finding("too little data", _NO_RUNS, missing=found.missing)

    def rise(metric: str, epochs: pd.DataFrame) -> float:
        return slope(epochs, metric, [window])

    def fall(epochs: pd.DataFrame) -> float:
        return -rise(_STABILITY, epochs)

    used = f"epochs {window[0]} to {window[-1]}"
    stable, robust, natural = effects = (
        _effect(found, "fall of perturbation stability", fall, used),
        _effect(found, "rise of robust accuracy", partial(rise, "robust_accuracy"), used),
        _effect(found, "rise of natural accuracy", partial(rise, "natural_accuracy"), used),
    )
    text = (
        f"In {used} perturbation stability {_moves(stable, found)}, robust accuracy "
        f"{_moves(robust, found, sign=-1)}, natural accuracy {_moves(natural, found, sign=-1)}."
    )
    return _finding(found, text, effects, effects)


def first_drop(train: Train) -> int | None:
    """Return the first epoch of a lower learning rate, None where a schedule falls all along."""
    found = _phases(train)
    return found[1][0] if len(found) > 1 else None


def after_drops(train: Train) -> list[list[int]]:
    """Return the epochs measured after the first drop, those of one learning rate together.

    The first epoch of each is left out where two others remain: the metrics jump in it,
    which is no trend.  Where a rate holds for a single epoch, nothing is left to compare.
    """
    found = [phase[1:] if len(phase) > 2 else phase for phase in _phases(train)[1:]]
    measured = measured_epochs(train)
    seen = [[epoch for epoch in phase if epoch in measured] for phase in found]
    return [phase for phase in seen if len(phase) > 1]


def slope(epochs: pd.DataFrame, metric: str, windows: Windows) -> float:
    """Return the slope of a metric by least squares, in points an epoch.

    It is one slope in all windows, each with a level of its own, so what happens between
    two of them plays no part.  NaN of fewer than `FEWEST` epochs.

    Parameters
    ----------
    epochs : pandas.DataFrame
        Columns epoch and the metric, in percent.
    metric : str
        Which.
    windows : sequence of sequence of int
        Epochs, those that share a level together.
    """
    parts = [epochs[epochs["epoch"].isin(window)] for window in windows]
    if sum(map(len, parts)) < FEWEST:
        return math.nan
    x = np.concatenate([part["epoch"] - part["epoch"].mean() for part in parts])
    y = np.concatenate([part[metric] - part[metric].mean() for part in parts])
    squares = float(x @ x)
    return float(x @ y) / squares if squares else math.nan


def _phases(train: Train) -> list[list[int]]:
    """Return the epochs of equal learning rate; all in one where a schedule falls all along."""
    epochs = range(1, train.epochs + 1)
    if train.schedule in ("linear", "cosine"):
        return [list(epochs)]
    return [list(phase) for _, phase in groupby(epochs, lambda epoch: learning_rate(train, epoch))]


def _follow(evidence: Evidence) -> _Followed:
    grid: Curves = evidence.grid("figure3")
    found = finished_runs(evidence, grid)
    measured, missing = {}, list(found.missing)
    for cell, epochs in found.epochs.items():
        gaps = epochs[METRIC_COLUMNS].isna().any(axis=1)
        if gaps.any():
            lost = f"{int(gaps.sum())} of {counted(len(epochs), 'epoch')}"
            missing.append(f"{cell} has no measurement of all metrics in {lost}")
        else:
            measured[cell] = epochs
    planned = len(grid.architectures) * len(grid.lambdas)
    return _Followed(measured, tuple(missing), planned, evidence.config.train_of(grid.method))


def _too_short(where: str, drop: int) -> str:
    return (
        f"Fewer than {FEWEST} measured epochs are left {where} the learning rate drops (epoch "
        f"{drop}), without those in which it does: too few for a slope."
    )


def _effect(
    found: _Followed, what: str, number: Callable[[pd.DataFrame], float], used: str
) -> Effect:
    """Return the mean of a number over networks, all of equal weight, as one contrast."""
    numbers = {c: number(found.runs[c]) for cells in found.networks.values() for c in cells}
    groups = grouped(numbers, what)
    samples = [group.sample for group in groups.values()]
    estimate = contrast(samples, [1 / len(samples)] * len(samples))
    means = ", ".join(f"{group.name}: {group.sample.mean:+.3f}" for group in groups.values())
    return Effect(
        what,
        *estimate[:3],
        _UNIT,
        seeds=min(one.n for one in samples),
        p_value=None if math.isnan(estimate.low) else estimate.apart(0.0),
        detail=f"{used}; {found.count}: {means}",
    )


def _finding(
    found: _Followed, text: str, effects: tuple[Effect, ...], judged: Sequence[Effect]
) -> Finding:
    """Judge several effects that must all be above zero, once every network has its seeds."""
    verdicts = {verdict_of(effect.low, effect.high, 0.0) for effect in judged}
    verdict: Verdict = "too little data"
    if found.judged == found.planned:
        verdict = "fails" if "fails" in verdicts else verdict
        verdict = "holds" if verdicts == {"holds"} else verdict
    elif found.judged:
        text = so_far(found.judged, found.planned, "network") + text[0].lower() + text[1:]
    return Finding(verdict, text, effects=effects, missing=found.missing)


def _moves(effect: Effect, found: _Followed, sign: int = 1) -> str:
    """Say how fast something falls, or rises; with sign -1 of an effect that is a rise."""
    word = "falls" if sign * effect.value >= 0 else "rises"
    return f"{word} by {size(effect, rests_on=found.count)}"
