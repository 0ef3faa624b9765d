"""Claims with a shape of their own: best lambda, WAR's lambda and cost, slopes, the identity."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from reproduce.cell import Cell
from reproduce.claims.evidence import (
    SIGNIFICANCE,
    Effect,
    Evidence,
    Finding,
    Group,
    Key,
    Unit,
    Verdict,
    conclude,
    key_of,
    missing_of,
    where,
)
from reproduce.claims.metrics import METRICS
from reproduce.config.grids import AttackTable, TuningTable
from reproduce.core.rng import derive
from reproduce.experiments.spec import zeta_source
from reproduce.registry import width_label
from reproduce.results.statistics import Estimate, common_masks, contrast, holm, sample

# how often WAR is to be faster than the search: the paper finds about four times
FASTER = 3.0
# ratios of the two terms within a quarter of each other are roughly the same
ROUGHLY = 1.25
# images that a record may have against the identity, in percent
LIMIT = 0.1
# how often every cell's mean is drawn anew, and the percentage of draws that decides
DRAWS = 10_000
SURE = 95.0

_ABSENT = "Not in this configuration: "


# --- the best lambda by width (Tables 1 and 2)


def best_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that the best lambda, of those tried, increases from every width to the next.

    Every cell's mean is drawn anew, `DRAWS` times.  The claim holds if the best lambda increases
    in 95 % of draws for every scale (a method on networks of one kind), and fails if for one it
    falls or stays inside the grid in 95 %.  At an end of the grid the best may lie beyond.
    """
    grid = evidence.grid(experiment)
    groups = evidence.groups(experiment, "robust_accuracy")
    if isinstance(grid, AttackTable):
        groups = {key: group for key, group in groups.items() if key.attack == grid.attacks[0]}
    scales: dict[str, dict[Key, Group]] = {}
    for key, group in groups.items():
        scale = where(key, groups, ("dataset", "method", "kind"))
        scales.setdefault(scale, {})[key] = group
    scales = {
        title: cells
        for title, cells in scales.items()
        if min(len({key.width for key in cells}), len({key.lam for key in cells})) > 1
    }
    if not scales:
        return Finding(f"{_ABSENT}no method has two widths and two lambdas.")
    found = [_of_scale(title, cells) for title, cells in scales.items()]
    judged = [one for one in found if one is not None]
    effects = [effect for _, some in judged for effect in some]
    unit: Unit = "images" if all(effect.images for effect in effects) else "seeds"
    verdicts, missing = [verdict for verdict, _ in judged], missing_of(groups.values())
    return conclude(effects, verdicts, len(judged), len(scales), missing, unit)


def _draw(
    title: str, cells: Sequence[Group], shape: tuple[int, int]
) -> tuple[NDArray[np.intp], int] | None:
    """Draw which lambda is best, by its place, shape (DRAWS, widths); over how many images.

    Over training seeds, or over the images of one seed where no cell has two: then 0 images.
    None before every cell has what that takes.
    """
    stream = np.random.default_rng(derive(0, f"claims/best-lambda/{title}"))
    several = [cell.sample for cell in cells if len(cell.by_seed) > 1]
    seeds = set.intersection(*(set(cell.images) for cell in cells))
    if seeds and not several:
        masks = 100.0 * np.array(common_masks([cell.images[min(seeds)] for cell in cells]))
        spread = np.atleast_2d(np.cov(masks)) / masks.shape[1]
        drawn = stream.multivariate_normal(masks.mean(axis=1), spread, DRAWS, method="eigh")
        return drawn.reshape(DRAWS, *shape).argmax(axis=2), masks.shape[1]
    # the standard deviation of a run within its cell, of all cells together
    freedom = sum(one.n - 1 for one in several)
    std = math.sqrt(math.fsum(one.std**2 * (one.n - 1) for one in several) / max(freedom, 1))
    if len(several) < len(cells) or not std:
        return None
    means = np.reshape([one.mean for one in several], shape)
    counts = np.reshape([one.n for one in several], shape)
    scale = std * np.sqrt(freedom / stream.chisquare(freedom, (DRAWS, 1, 1)))
    drawn = means + scale * stream.standard_normal((DRAWS, *shape)) / np.sqrt(counts)
    return drawn.argmax(axis=2), 0


def _of_scale(title: str, groups: Mapping[Key, Group]) -> tuple[Verdict, list[Effect]] | None:
    """Judge one method on networks of one kind; None before all its cells are there."""
    keys = sorted(groups, key=lambda key: (key.width, key.lam))
    cells = [groups[key] for key in keys]
    widths = list(dict.fromkeys(key.architecture for key in keys))
    lams = sorted({key.lam for key in keys})
    shape = (len(widths), len(lams))
    found = _draw(title, cells, shape)
    if found is None:
        return None
    draws, images = found
    seeds = np.reshape([len(cell.by_seed) for cell in cells], shape).min(axis=1)
    best = np.reshape([cell.sample.mean for cell in cells], shape).argmax(axis=1)
    steps = np.diff(draws, axis=1)
    at_end = (draws[:, 1:] == 0) | (draws[:, 1:] == len(lams) - 1)
    rises = 100 * float((steps > 0).all(axis=1).mean())
    against = 100 * float(((steps < 0) | ((steps == 0) & ~at_end)).any(axis=1).mean())
    what = f"{title}: best λ {', '.join(f'{lams[place]:g}' for place in best)} rises with width"
    detail = f"it does not rise in {against:.1f} % of draws"
    end = int(seeds.min()), images, detail
    effects = [Effect(what, rises, math.nan, math.nan, "% of draws", SURE, *end)]
    for row, width in enumerate(widths):
        counts = Counter(draws[:, row].tolist()).most_common(3)
        detail = ", ".join(f"{lams[k]:g} in {100 * n / DRAWS:.0f} %" for k, n in counts)
        what, end = f"{title}, {width_label(width)}: best λ", (int(seeds[row]), images, detail)
        effects.append(Effect(what, lams[best[row]], math.nan, math.nan, "λ", None, *end))
    verdict: Verdict = "fails" if against >= SURE else "too little data"
    return "holds" if rises >= SURE else verdict, effects


# --- WAR: its lambda, its premise, its cost (Table 3)


def _equivalent(
    found: Sequence[tuple[Effect, Estimate, float]], planned: int, missing: tuple[str, ...]
) -> Finding:
    """Judge numbers that must lie within a margin of zero: all intervals; no number outside."""
    outside = [
        float(stats.t.sf((abs(one.value) - margin) / one.error, one.freedom))
        for _, one, margin in found
        if not math.isnan(one.error)
    ]
    inside = [-margin < one.low and one.high < margin for _, one, margin in found]
    verdicts: list[Verdict] = ["holds" if one else "too little data" for one in inside]
    if any(holm(outside, SIGNIFICANCE)):
        verdicts = ["fails"]
    return conclude([effect for effect, _, _ in found], verdicts, len(found), planned, missing)


def war_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR's lambda lies within one step of the best of the search, on every network."""
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) < 2:
        return Finding(f"{_ABSENT}the search by hand has a single λ.")
    groups = evidence.groups(experiment, "final_lambda")
    searched = {
        key.architecture: key.lam
        for key, group in groups.items()
        if key.method == "manual" and group.by_seed
    }
    found = []
    for key, group in groups.items():
        if key.method == "war" and group.by_seed and key.architecture in searched:
            best = searched[key.architecture]
            step = max(b - a for a, b in pairwise(sorted(grid.lambdas)) if best in (a, b))
            mean = contrast([group.sample], [1])
            low, high = mean.low - best, mean.high - best
            estimate = mean._replace(value=mean.value - best, low=low, high=high)
            what = f"{width_label(key.architecture)}: λ of WAR − best λ of the search"
            detail = f"{mean.value:.2f} − {best:g}, to lie within ± {step:g}"
            effect = Effect(what, *estimate[:3], "λ", step, len(group.by_seed), 0, detail)
            found.append((effect, estimate, step))
    return _equivalent(found, len(grid.architectures), missing_of(groups.values()))


def terms_ratio(evidence: Evidence, experiment: str) -> Finding:
    """Test that natural risk over robust regularisation is roughly the same at the best lambdas."""
    groups = evidence.groups(experiment, "log_ratio")
    thin, *others = sorted(
        (key for key in groups if key.method == "manual"), key=lambda key: key.width
    )
    if not others:
        return Finding(f"{_ABSENT}Table 3 has a single network.")
    found = []
    for key in others:
        pair = [groups[key].sample, groups[thin].sample]
        if min(one.n for one in pair):
            estimate = contrast(pair, [1, -1])
            labels = [width_label(one.architecture) for one in (key, thin)]
            what = f"natural risk / robust regularisation, {' over '.join(labels)}"
            detail = f"λ={key.lam:g} over λ={thin.lam:g}, "
            detail += f"to lie within {1 / ROUGHLY:g} and {ROUGHLY:g}"
            value, low, high = (math.exp(end) for end in estimate[:3])
            seeds = min(one.n for one in pair)
            effect = Effect(what, value, low, high, "times", ROUGHLY, seeds, 0, detail)
            found.append((effect, estimate, math.log(ROUGHLY)))
    return _equivalent(found, len(others), missing_of(groups.values()))


def tuning_time(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR takes about a quarter, less than a third, of the search's time when widest.

    One run, and the tuning of the thin network, against a run for every lambda, seed by seed.
    """
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) <= FASTER:
        text = f"a search over {len(grid.lambdas)} λ cannot take {FASTER:g} times as long as WAR."
        return Finding(_ABSENT + text)
    groups = evidence.groups(experiment, "hours")
    war = max((key for key in groups if key.method == "war"), key=lambda key: key.width)
    search = [groups[war._replace(method="trades", lam=lam)] for lam in grid.lambdas]
    thin = zeta_source(evidence.config, Cell(*war[:4], grid.seeds[0]))
    tuned = Group() if thin is None else groups[key_of(thin)[0]._replace(attack=war.attack)]
    thin_hours = 0.0 if thin is None else len(search) * tuned.sample.mean
    missing = missing_of([groups[war], *search, tuned])
    seeds = [s for s in groups[war].by_seed if all(s in one.by_seed for one in search)]
    if not seeds or math.isnan(thin_hours):
        return conclude([], [], 0, 1, missing)
    times = [
        math.fsum(one.by_seed[s] for one in search) / (groups[war].by_seed[s] + thin_hours)
        for s in seeds
    ]
    found = contrast([sample(times)], [1])
    what = f"{width_label(war.architecture)}: hours of the search / hours of WAR"
    detail = f"WAR's hours hold {thin_hours:.3g} of the thin network"
    effect = Effect(what, *found[:3], "times", FASTER, len(seeds), 0, detail)
    complete = len(seeds) == len(grid.seeds)
    return conclude([effect], [effect.verdict] * complete, len(seeds), len(grid.seeds), missing)


# --- slopes over epochs (Figure 3)


def trends(
    evidence: Evidence, experiment: str, metrics: Sequence[str], *, explained: bool = False
) -> Finding:
    """Test that slopes, means over networks of equal weight, are all above zero.

    Where the rest is to explain the first, the first alone counts until it holds.
    """
    effects = []
    for metric in metrics:
        groups = evidence.groups(experiment, metric)
        missing = missing_of(groups.values())
        samples = [group.sample for group in groups.values() if group.by_seed]
        ready = [one for one in samples if one.n > 1]
        used = ready or samples
        if not used:
            return conclude([], [], 0, 1, missing)
        estimate = contrast(used, [1 / len(used)] * len(used))
        rule, seeds = METRICS[metric], min(one.n for one in used)
        p = None if math.isnan(estimate.low) else estimate.apart(0.0)
        detail = f"mean of {len(used)} networks"
        effects.append(Effect(rule.title, *estimate[:3], rule.unit, 0.0, seeds, 0, detail, p))
    judged = effects[:1] if explained and effects[0].verdict != "holds" else effects
    verdicts = [effect.verdict for effect in judged if len(ready) == len(groups)]
    return conclude(effects, verdicts, len(ready), len(groups), missing)


# --- the identity


def identity(evidence: Evidence, _: str) -> Finding:
    """Test that an image is robust exactly if it is right and stable (equation 3.1).

    So it is of the worst x' of a ball; an attack may turn a wrong prediction into a right one.
    """
    records, missing = evidence.full_records()
    if not records:
        return Finding("There is no record that can tell.", unit="images", missing=missing)
    shares = {name: 100 * one.recovered / one.images for name, one in records.items()}
    tests = [
        float(stats.binomtest(one.recovered, one.images, LIMIT / 100, "greater").pvalue)
        for one in records.values()
    ]
    verdict: Verdict = "holds" if max(shares.values()) <= LIMIT else "too little data"
    if any(holm(tests, SIGNIFICANCE)):
        verdict = "fails"
    images = sum(one.images for one in records.values())
    broken = sum(one.recovered for one in records.values())
    worst = max(shares, key=shares.__getitem__)
    what = "largest share of images against the identity in a record"
    detail = f"in {worst}" if broken else ""
    nothing = math.nan, math.nan
    effect = Effect(what, shares[worst], *nothing, "% of images", LIMIT, 0, images, detail)
    text = f"It holds for {images - broken:,} of {images:,} attacked images; {effect}."
    return Finding(text, verdict, "images", (effect,), missing)
