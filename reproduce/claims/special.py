"""Claims with a shape of their own: WAR's lambda and its cost, slopes over epochs, the identity."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd
from scipy import stats

from reproduce.cell import Cell
from reproduce.claims.contrasts import SIGNIFICANCE, verdict_of
from reproduce.claims.evidence import (
    Effect,
    Evidence,
    Finding,
    Group,
    Verdict,
    key_of,
    missing_of,
)
from reproduce.claims.metrics import FEWEST, Windows, after_drops, first_drop, slope
from reproduce.claims.wording import capitalised, counted, size, so_far, where_of
from reproduce.config.grids import Curves, TuningTable
from reproduce.core.errors import HarnessError
from reproduce.experiments.grids import curve_cells
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import zeta_source
from reproduce.registry import parse_architecture, width_label
from reproduce.results.frames import METRIC_COLUMNS
from reproduce.results.statistics import Estimate, contrast, holm, sample

# how often WAR is to be faster than the search: the paper finds about four times
FASTER = 3.0
# ratios of the two terms within a quarter of each other are roughly the same
ROUGHLY = 1.25
# images that a record may have against the identity, in percent
LIMIT = 0.1

_ABSENT = "Not in this configuration: "


# --- WAR: its lambda, its premise, its cost (Table 3)


def _equivalence(found: Sequence[tuple[Estimate, float]], planned: int) -> Verdict:
    """Judge numbers of which each must lie within a margin of zero.

    It holds if all intervals lie within; it fails if one number lies outside (Holm, 5 % for
    all together).
    """
    outside = [
        float(stats.t.sf((abs(one.value) - margin) / one.error, one.freedom))
        for one, margin in found
        if not math.isnan(one.error)
    ]
    if any(holm(outside, SIGNIFICANCE)):
        return "fails"
    inside = [-margin < one.low and one.high < margin for one, margin in found]
    return "holds" if all(inside) and len(inside) == planned else "too little data"


def war_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR's lambda lies within one step of the best of the search, on every network.

    The step is that of the search's grid beside the best lambda, the larger of two.
    """
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) < 2:
        return Finding("The search by hand has a single λ: no step to be near.")
    groups = evidence.groups(experiment, "final_lambda")
    robust = evidence.groups(experiment, "robust_accuracy")
    searched = {
        key.architecture: key.lam
        for key, found in robust.items()
        if key.method == "manual" and found.by_seed
    }
    near, effects, lines = [], [], []
    for key, group in groups.items():
        if key.method != "war" or not group.by_seed or key.architecture not in searched:
            continue
        best = searched[key.architecture]
        step = max(b - a for a, b in pairwise(sorted(grid.lambdas)) if best in (a, b))
        mean = contrast([group.sample], [1])
        found = mean._replace(value=mean.value - best, low=mean.low - best, high=mean.high - best)
        near.append((found, step))
        name = where_of(key, groups, "method")
        effects.append(
            Effect(
                f"{name}: λ of WAR − best λ of the search",
                *found[:3],
                "λ",
                step,
                len(group.by_seed),
                detail=f"best of the search {best:g}, WAR {mean.value:.2f}; must lie within "
                f"± {step:g}, a step of the search",
            )
        )
        interval = "no interval: needs two training seeds that differ"
        if not math.isnan(found.low):
            interval = f"95 % interval {found.low:+.2f} to {found.high:+.2f}"
        lines.append(f"{found.value:+.2f} for {name} ({interval}; allowed ± {step:g})")
    missing = missing_of(groups.values())
    if not lines:
        text = "WAR or a part of the search by hand has no results yet."
        return Finding(text, missing=missing)
    planned = len(grid.architectures)
    text = so_far(len(lines), planned, "network")
    text += f"λ of WAR minus the best of the search by hand: {'; '.join(lines)}."
    verdict = _equivalence(near, planned)
    return Finding(text.replace("-", "−"), verdict, effects=tuple(effects), missing=missing)


def terms_ratio(evidence: Evidence, experiment: str) -> Finding:
    """Test that natural risk over robust regularisation is roughly the same at the best lambdas.

    Of the last epoch, as WAR's zeta.  A test of equivalence: for every network the interval
    of its ratio over that of the thinnest must lie within a factor of `ROUGHLY`.
    """
    groups = evidence.groups(experiment, "ratio")
    robust = evidence.groups(experiment, "robust_accuracy")
    grid: TuningTable = evidence.grid(experiment)
    thin, *names = sorted(grid.architectures, key=lambda name: parse_architecture(name).width)
    if not names:
        return Finding(_ABSENT + "Table 3 has a single network.")
    best = {key.architecture: key for key in groups if key.method == "manual"}
    logs = {
        name: sample([math.log(value) for value in groups[key].by_seed.values()])
        for name, key in best.items()
    }
    near, effects, lines = [], [], []
    for name in names:
        if not (logs[thin].n and logs[name].n):
            continue
        found = contrast([logs[name], logs[thin]], [1, -1])
        effect = Effect(
            f"natural risk / robust regularisation, {width_label(name)} over {width_label(thin)}",
            math.exp(found.value),
            math.exp(found.low),
            math.exp(found.high),
            "times",
            ROUGHLY,
            min(logs[name].n, logs[thin].n),
            detail=f"λ={best[name].lam:g} over λ={best[thin].lam:g}, ratios "
            f"{math.exp(logs[name].mean):.3g} and {math.exp(logs[thin].mean):.3g}; must lie "
            f"within {1 / ROUGHLY:g} and {ROUGHLY:g}",
        )
        near.append((found, math.log(ROUGHLY)))
        effects.append(effect)
        lines.append(f"{size(effect)} on {width_label(name)}")
    missing = missing_of([*(groups[key] for key in best.values()), *robust.values()])
    if not lines:
        text = "The search by hand has no two networks with results and traces yet."
        return Finding(text, missing=missing)
    text = so_far(len(lines), len(names), "network")
    text += "the ratio of the two terms, at the best λ of each network, is that of "
    text += f"{width_label(thin)} {'; '.join(lines)}; {1 / ROUGHLY:g} to {ROUGHLY:g} is allowed."
    verdict = _equivalence(near, len(names))
    return Finding(capitalised(text), verdict, effects=tuple(effects), missing=missing)


def tuning_time(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR takes about a quarter of the search's time on the widest network.

    By the paper's accounting (docs/protocol.md): one run, and the tuning of the thin network,
    against a run for every lambda, seed by seed.  About a quarter is less than a third.
    """
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) <= FASTER:
        text = _ABSENT + f"a search over {len(grid.lambdas)} λ cannot take "
        return Finding(f"{text}{FASTER:g} times as long as one run and more.")
    groups = evidence.groups(experiment, "hours")
    widest = max(grid.architectures, key=lambda name: parse_architecture(name).width)
    war = next(key for key in groups if key.method == "war" and key.architecture == widest)
    search = [groups[war._replace(method="trades", lam=lam)] for lam in grid.lambdas]
    thin = zeta_source(evidence.config, Cell(*war[:4], grid.seeds[0]))
    tuned = Group({}) if thin is None else groups[key_of(thin)._replace(attack=war.attack)]
    missing = missing_of([groups[war], *search, tuned])
    thin_hours = 0.0 if thin is None else len(search) * tuned.sample.mean
    seeds = [s for s in groups[war].by_seed if all(s in one.by_seed for one in search)]
    if not seeds or math.isnan(thin_hours):
        text = "No seed has a run of WAR and of every λ, and the thin network, yet."
        return Finding(text, missing=missing)
    times = [
        math.fsum(one.by_seed[s] for one in search) / (groups[war].by_seed[s] + thin_hours)
        for s in seeds
    ]
    found = contrast([sample(times)], [1])
    effect = Effect(
        f"{width_label(widest)}: hours of the search / hours of WAR",
        *found[:3],
        "times",
        FASTER,
        len(seeds),
        detail=f"WAR's hours hold {thin_hours:.3g} of the thin network; the search has "
        f"{counted(len(search), 'run')}; must lie above {FASTER:g}",
    )
    verdict: Verdict = "too little data"
    if len(seeds) == len(grid.seeds):
        verdict = verdict_of(found.low, found.high, FASTER)
    text = f"The search takes {size(effect)} the hours of WAR on {width_label(widest)}."
    return Finding(text, verdict, effects=(effect,), missing=missing)


# --- slopes over epochs (Figure 3)

# what falls or rises by what, a weight for the slope of each metric in points an epoch
_STABILITY = ("fall of perturbation stability", {"perturbation_stability": -1})
_BEFORE_DROP = (
    _STABILITY,
    ("rise of robust accuracy", {"robust_accuracy": 1}),
    ("rise of natural accuracy", {"natural_accuracy": 1}),
)
_AFTER_DROP = (
    ("fall of robust accuracy", {"robust_accuracy": -1}),
    _STABILITY,
    (
        "fall of stability − fall of natural accuracy",
        {"natural_accuracy": 1, "perturbation_stability": -1},
    ),
)

# the epochs of finished runs by network
_Networks = Mapping[str, Sequence[pd.DataFrame]]


def stability_falls(evidence: Evidence, experiment: str) -> Finding:
    """Test that perturbation stability falls during training, and both accuracies rise.

    Slopes over the epochs measured before the first drop of the learning rate, over all
    measured where it never drops.
    """
    return _slopes(evidence, experiment, after=False)


def overfitting(evidence: Evidence, experiment: str) -> Finding:
    """Test that robust accuracy falls because of stability after the learning rate drops.

    Three slopes over the epochs after the first drop (`after_drops`): that of robust
    accuracy and of stability are below zero, and stability falls faster than natural
    accuracy does.  If robust accuracy rises, there is no over-fitting to explain, and the
    claim fails as it stands.
    """
    return _slopes(evidence, experiment, after=True)


def _slopes(evidence: Evidence, experiment: str, *, after: bool) -> Finding:
    """Judge slopes that must all be above zero, once every network has two seeds."""
    grid: Curves = evidence.grid(experiment)
    train = evidence.config.train_of(grid.method)
    drop = first_drop(train)
    before = [epoch for epoch in measured_epochs(train) if drop is None or epoch < drop]
    windows: Windows = after_drops(train) if after else [before]
    networks, missing = _finished(evidence, curve_cells(grid))
    stopped = None
    if sum(map(len, windows)) < FEWEST and not (after and drop is None):
        stopped = (
            f"Fewer than {FEWEST} measured epochs are left {'after' if after else 'before'} the "
            f"learning rate drops (epoch {drop or train.epochs + 1}), without those in which it "
            "does: too few for a slope."
        )
    elif not networks:
        stopped = "No run is finished with all its measurements."
    elif after and drop is None:
        stopped = "The schedule of these runs has no drop of the learning rate."
    if stopped is not None:
        return Finding(stopped, missing=missing)
    used = "epochs " + ", ".join(f"{window[0]} to {window[-1]}" for window in windows)
    runs = f"{counted(sum(map(len, networks.values())), 'run')} of "
    runs += counted(len(networks), "network")
    effects = [
        _slope_effect(what, weights, windows, networks, f"{used}; {runs}")
        for what, weights in (_AFTER_DROP if after else _BEFORE_DROP)
    ]

    def moves(effect: Effect, sign: int = 1) -> str:
        word = "falls" if sign * effect.value >= 0 else "rises"
        return f"{word} by {size(effect, rests_on=runs)}"

    judged = effects
    if after:
        robust, stable, faster = effects
        over = verdict_of(robust.low, robust.high, 0.0)
        text = f"After epoch {drop} robust accuracy {moves(robust)}"
        if over == "holds":
            text += f", perturbation stability {moves(stable)}; stability falls "
            text += "faster" if faster.value >= 0 else "slower"
            text += f" than natural accuracy, by {size(faster, rests_on=runs)}."
        else:
            judged = [robust]
            text += f": no over-fitting {'to explain' if over == 'fails' else 'shown'}."
    else:
        stable, robust, natural = effects
        text = (
            f"In {used} perturbation stability {moves(stable)}, robust accuracy "
            f"{moves(robust, sign=-1)}, natural accuracy {moves(natural, sign=-1)}."
        )
    planned = len({(cell.architecture, cell.lam) for cell in curve_cells(grid)})
    ready = sum(len(of_network) > 1 for of_network in networks.values())
    verdict: Verdict = "too little data"
    if ready == planned:
        verdicts = {verdict_of(effect.low, effect.high, 0.0) for effect in judged}
        verdict = "fails" if "fails" in verdicts else verdict
        verdict = "holds" if verdicts == {"holds"} else verdict
    elif ready:
        text = so_far(ready, planned, "network") + text[0].lower() + text[1:]
    return Finding(text, verdict, effects=tuple(effects), missing=missing)


def _finished(evidence: Evidence, cells: Sequence[Cell]) -> tuple[_Networks, tuple[str, ...]]:
    """Return the epochs of runs that measured everything, by network, and what is missing.

    Networks of one seed are left out where others have two.
    """
    networks: dict[str, list[pd.DataFrame]] = {}
    missing = []
    for cell in cells:
        try:
            epochs = evidence.history(cell, "epochs")
        except HarnessError as error:
            missing.append(str(error))
            continue
        gaps = int(epochs[METRIC_COLUMNS].isna().any(axis=1).sum())
        if gaps:
            lost = f"{gaps} of {counted(len(epochs), 'epoch')}"
            missing.append(f"{cell} has no measurement of all metrics in {lost}")
            continue
        networks.setdefault(f"{cell.architecture}, λ={cell.lam:g}", []).append(epochs)
    several = {name: runs for name, runs in networks.items() if len(runs) > 1}
    return several or networks, tuple(missing)


def _slope_effect(
    what: str, weights: Mapping[str, int], windows: Windows, networks: _Networks, behind: str
) -> Effect:
    """Return the mean of a sum of slopes over networks, all of equal weight, as one contrast."""
    samples = {
        name: sample(
            [
                sum(weight * slope(epochs, metric, windows) for metric, weight in weights.items())
                for epochs in runs
            ]
        )
        for name, runs in networks.items()
    }
    estimate = contrast(list(samples.values()), [1 / len(samples)] * len(samples))
    means = ", ".join(f"{name}: {group.mean:+.3f}" for name, group in samples.items())
    return Effect(
        what,
        *estimate[:3],
        "points an epoch",
        seeds=min(group.n for group in samples.values()),
        p_value=None if math.isnan(estimate.low) else estimate.apart(0.0),
        detail=f"{behind}: {means}",
    )


# --- the identity


def identity(evidence: Evidence, _: str) -> Finding:
    """Test that an image is robust exactly if it is right and stable (equation 3.1).

    Of the worst x' of a ball that is so by definition.  An attack only finds some x', and
    the identity breaks where it turned a wrong prediction into a right one.  Counted in
    every record of an attack that left no image alone.  The claim fails if a record has
    significantly more than `LIMIT` (Holm, 5 % for all records together): of a few hundred
    images a single one is more, and says nothing.
    """
    records, missing = evidence.full_records()
    if not records:
        text = "There is no record that can tell."
        return Finding(text, unit="images", missing=missing)
    shares = {name: 100 * one.recovered / one.images for name, one in records.items()}
    tests = [
        stats.binomtest(one.recovered, one.images, LIMIT / 100, alternative="greater").pvalue
        for one in records.values()
    ]
    verdict: Verdict = "holds" if max(shares.values()) <= LIMIT else "too little data"
    if any(holm([float(p) for p in tests], SIGNIFICANCE)):
        verdict = "fails"
    images = sum(one.images for one in records.values())
    broken = sum(one.recovered for one in records.values())
    worst = max(shares, key=shares.__getitem__)
    effect = Effect(
        "largest share of images against the identity in a record",
        shares[worst],
        unit="% of images",
        threshold=LIMIT,
        images=images,
        detail=f"{worst if broken else 'none has any'}; over all records {broken:,} of "
        f"{images:,} attacked images; must be {LIMIT} % or below",
    )
    text = f"It holds for {images - broken:,} of {images:,} attacked images in "
    text += f"{counted(len(records), 'record')}."
    if broken:
        text += f" Most exceptions: {shares[worst]:.2f} % ({worst}); {LIMIT} % are allowed."
    if missing:
        text += f" {counted(len(missing), 'planned record')} cannot be read yet."
    return Finding(text, verdict, "images", (effect,), missing)
