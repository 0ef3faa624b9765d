"""The claim that the best lambda increases with width, and what a grid can decide of it."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from reproduce.cell import Cell
from reproduce.claims.contrasts import (
    OVER_IMAGES,
    SIGNIFICANCE,
    counted,
    listed,
    size,
    so_far,
    verdict_of,
    where_of,
)
from reproduce.claims.evidence import (
    Effect,
    Evidence,
    Finding,
    Group,
    Key,
    Unit,
    Verdict,
    best_searched,
    key_of,
    missing_of,
)
from reproduce.claims.slopes import FEWEST, Windows, after_drops, first_drop, slope
from reproduce.config.grids import AttackTable, Curves, TuningTable
from reproduce.config.schema import Train
from reproduce.core.rng import derive
from reproduce.experiments.grids import curve_cells
from reproduce.experiments.schedules import measured_epochs
from reproduce.experiments.spec import zeta_source
from reproduce.registry import parse_architecture, width_label
from reproduce.results.frames import METRIC_COLUMNS
from reproduce.results.statistics import Estimate, contrast, holm, sample, shared_flags

DRAWS = 10_000
_SURE = 95.0
_SHARE = "% of draws"


@dataclass(frozen=True)
class _Scale:
    """One method on networks of one kind: widths and lambdas in order, and their cells."""

    title: str
    widths: list[str]
    lams: list[float]
    cells: list[list[Group]]

    @property
    def flat(self) -> list[Group]:
        """Every cell."""
        return [cell for row in self.cells for cell in row]

    @property
    def unit(self) -> Unit:
        """What its draws speak of: seeds where a cell has two."""
        several = any(len(cell.by_seed) > 1 for cell in self.flat)
        return "seeds" if several or not self.seeds else "images"

    @property
    def seeds(self) -> set[int]:
        """Training seeds that every cell has images of."""
        return set.intersection(*(set(cell.images) for cell in self.flat))

    @property
    def ready(self) -> int:
        """Cells that have what draws take."""
        if self.unit == "images":
            return len(self.flat)
        return sum(len(cell.by_seed) > 1 for cell in self.flat) * (self.std > 0)

    @property
    def freedom(self) -> int:
        """Degrees of freedom of the standard deviation within cells."""
        return sum(max(0, len(cell.by_seed) - 1) for cell in self.flat)

    @property
    def std(self) -> float:
        """Standard deviation of a run within its cell, of all cells together."""
        groups = [cell.sample for cell in self.flat if len(cell.by_seed) > 1]
        squares = math.fsum(g.std**2 * (g.n - 1) for g in groups)
        return math.sqrt(squares / self.freedom) if groups else 0.0

    @property
    def best(self) -> list[float]:
        """The lambda of the highest mean for each width."""
        return [self.lams[int(np.argmax([c.sample.mean for c in row]))] for row in self.cells]

    def draw(self) -> NDArray[np.intp]:
        """Draw which lambda is best, by its place, shape (DRAWS, widths)."""
        stream = np.random.default_rng(derive(0, f"claims/best-lambda/{self.title}"))
        shape = (len(self.widths), len(self.lams))
        if self.unit == "images":
            seed = min(self.seeds)
            flags = 100.0 * np.array(shared_flags([cell.images[seed] for cell in self.flat]))
            spread = np.atleast_2d(np.cov(flags)) / flags.shape[1]
            drawn = stream.multivariate_normal(flags.mean(axis=1), spread, DRAWS, method="eigh")
            return np.asarray(drawn.reshape(DRAWS, *shape).argmax(axis=2))
        means = np.array([[cell.sample.mean for cell in row] for row in self.cells])
        counts = np.array([[cell.sample.n for cell in row] for row in self.cells])
        std = self.std * np.sqrt(self.freedom / stream.chisquare(self.freedom, (DRAWS, 1, 1)))
        drawn = means + std * stream.standard_normal((DRAWS, *shape)) / np.sqrt(counts)
        return np.asarray(drawn.argmax(axis=2))


def best_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that the best lambda increases from every width to the next.

    Best is the lambda of the highest mean robust accuracy of those tried, under the first
    attack of the table.  Seeds, or images, differ by chance, and so may the best lambda:
    `DRAWS` times every cell's mean is drawn anew, and it is counted in which draws the best
    lambda increases over all widths, and in which it does not: it falls between two
    neighbours, or is the same inside the grid.  Two that are the same at an end of the grid
    tell nothing: the best may lie beyond.  The claim holds if the first share is 95 % or
    more for every scale (a method on networks of one kind), and fails if the second is 95 %
    for one.
    """
    grid = evidence.grid(experiment)
    groups = evidence.groups(experiment, "robust_accuracy")
    if isinstance(grid, AttackTable):
        groups = {key: group for key, group in groups.items() if key.attack == grid.attacks[0]}
    scales = _scales(groups)
    if not scales:
        text = "Not in this configuration: no method has two widths and two lambdas."
        return Finding("too little data", text)
    effects: list[Effect] = []
    verdicts: list[Verdict] = []
    found: list[str] = []
    judged = [scale for scale in scales if scale.ready == len(scale.flat)]
    for scale in judged:
        best = scale.draw()
        steps = np.diff(best, axis=1)
        at_end = (best[:, 1:] == 0) | (best[:, 1:] == len(scale.lams) - 1)
        rises = 100 * float((steps > 0).all(axis=1).mean())
        contradicted = ((steps < 0) | ((steps == 0) & ~at_end)).any(axis=1)
        against = 100 * float(contradicted.mean())
        verdicts.append(
            "holds" if rises >= _SURE else "fails" if against >= _SURE else "too little data"
        )
        effects += _of_scale(scale, best, rises, against)
        found.append(
            f"{scale.title}: λ = {listed([f'{lam:g}' for lam in scale.best])} on "
            f"{listed([width_label(width) for width in scale.widths])}, increasing in "
            f"{rises:.1f} % of draws, not increasing in {against:.1f} %{_left_open(scale)}"
        )
    waiting = "".join(
        f" {scale.title} has two seeds that differ in {scale.ready} of "
        f"{counted(len(scale.flat), 'cell')}."
        for scale in scales
        if scale not in judged
    )
    missing = missing_of(groups.values())
    if not judged:
        return Finding("too little data", f"No verdict yet:{waiting}", missing=missing)
    verdict: Verdict = "fails" if "fails" in verdicts else "too little data"
    if set(verdicts) == {"holds"} and not waiting:
        verdict = "holds"
    text = so_far(len(judged), len(scales), "scale") + f"best λ by width: {'; '.join(found)}."
    unit: Unit = "seeds" if any(scale.unit == "seeds" for scale in judged) else "images"
    waiting += OVER_IMAGES * (unit == "images")
    return Finding(verdict, text[0].upper() + text[1:] + waiting, unit, tuple(effects), missing)


def _scales(groups: Mapping[Key, Group]) -> list[_Scale]:
    """Return every method and kind of network that has several lambdas and several widths."""
    rows: dict[str, dict[Key, Group]] = {}
    for key, group in groups.items():
        rows.setdefault(where_of(key, groups, "scale"), {})[key] = group
    scales = []
    for title, row in rows.items():
        lams = sorted({key.lam for key in row})
        widths = sorted(
            {key.architecture for key in row}, key=lambda name: parse_architecture(name).width
        )
        if len(lams) > 1 and len(widths) > 1:
            by_place = {(key.architecture, key.lam): group for key, group in row.items()}
            cells = [[by_place[width, lam] for lam in lams] for width in widths]
            scales.append(_Scale(title, widths, lams, cells))
    return scales


def _of_scale(scale: _Scale, best: NDArray[np.intp], rises: float, against: float) -> list[Effect]:
    fewest = min(len(cell.by_seed) for cell in scale.flat)
    images = 0
    spread = f"standard deviation within cells {scale.std:.2f} points"
    if scale.unit == "images":
        images = min(len(cell.images[min(scale.seeds)].true) for cell in scale.flat)
        spread = "over images"
    effects = [
        Effect(
            f"{scale.title}: best λ increases with width",
            rises,
            unit=_SHARE,
            threshold=_SURE,
            seeds=fewest,
            images=images,
            detail=f"{DRAWS:,} draws, {spread}; it fails where it does not increase in "
            f"{_SURE:g} %, here in {against:.1f} %",
        )
    ]
    for place, width in enumerate(scale.widths):
        counts = Counter(best[:, place].tolist()).most_common(3)
        often = ", ".join(f"{scale.lams[k]:g} in {100 * n / DRAWS:.0f} %" for k, n in counts)
        effects.append(
            Effect(
                f"{scale.title}, {width_label(width)}: best λ",
                scale.best[place],
                unit="λ",
                threshold=None,
                seeds=min(len(cell.by_seed) for cell in scale.cells[place]),
                images=images,
                detail=f"best in draws: {often}",
            )
        )
    return effects


def _left_open(scale: _Scale) -> str:
    """Say what the grid cannot decide."""
    same = [one for one, other in pairwise(scale.best) if one == other]
    if any(lam in (scale.lams[0], scale.lams[-1]) for lam in same):
        return " (two widths share an end of the grid: the order beyond it is not known)"
    if same:
        return " (two widths share a λ: an increase of less than a step of the grid is not seen)"
    if scale.best[-1] == scale.lams[-1]:
        return " (the last is the largest λ tried: a larger one may be better still)"
    return ""


# how often WAR is to be faster than the search: the paper finds about four times
FASTER = 3.0
# ratios of the two terms within a quarter of each other are roughly the same
ROUGHLY = 1.25
# images that a record may have against the identity, in percent
LIMIT = 0.1

_ABSENT = "Not in this configuration: "


# --- WAR: its lambda, its premise, its cost (Table 3)


@dataclass
class _Near:
    """A test of equivalence for several numbers: each is to lie within a margin of nothing."""

    planned: int
    effects: list[Effect] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)

    def add(self, found: Estimate, margin: float, effect: Effect) -> None:
        """Judge a number by its interval, and by a one-sided test that it lies outside."""
        self.effects.append(effect)
        self.inside.append(-margin < found.low and found.high < margin)
        beyond = (abs(found.value) - margin) / found.error
        self.outside.append(float(stats.t.sf(beyond, found.freedom)))

    @property
    def verdict(self) -> Verdict:
        """Holds if all lie within; fails if one lies outside (Holm, 5 % for all together)."""
        if any(holm([p for p in self.outside if not math.isnan(p)], SIGNIFICANCE)):
            return "fails"
        done = all(self.inside) and len(self.inside) == self.planned
        return "holds" if done and self.planned else "too little data"


def war_lambda(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR's lambda lies within one step of the best of the search, on every network.

    The step is that of the search's grid beside the best lambda, the larger of two.
    """
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) < 2:
        return Finding("too little data", "The search by hand has a single λ: no step to be near.")
    groups = evidence.groups(experiment, "final_lambda")
    robust = evidence.groups(experiment, "robust_accuracy")
    near, lines = _Near(len(grid.architectures)), []
    for key, group in groups.items():
        if key.method != "war" or not group.by_seed:
            continue
        best = best_searched(robust, grid, key)
        if best is None:
            continue
        lams = sorted(grid.lambdas)
        step = max(more - less for less, more in pairwise(lams) if best.lam in (less, more))
        mean = contrast([group.sample], [1])
        found = mean._replace(
            value=mean.value - best.lam, low=mean.low - best.lam, high=mean.high - best.lam
        )
        name = where_of(key, groups, "method")
        effect = Effect(
            f"{name}: λ of WAR − best λ of the search",
            *found[:3],
            "λ",
            step,
            len(group.by_seed),
            detail=f"best of the search {best.lam:g}, WAR {mean.value:.2f}; must lie within "
            f"± {step:g}, a step of the search",
        )
        near.add(found, step, effect)
        lines.append(f"{found.value:+.2f} for {name} ({_interval(effect)}; allowed ± {step:g})")
    missing = missing_of(groups.values())
    if not lines:
        text = "WAR or a part of the search by hand has no results yet."
        return Finding("too little data", text, missing=missing)
    text = so_far(len(lines), near.planned, "network")
    text += f"λ of WAR minus the best of the search by hand: {'; '.join(lines)}."
    return Finding(
        near.verdict, text.replace("-", "−"), effects=tuple(near.effects), missing=missing
    )


def _interval(effect: Effect) -> str:
    if math.isnan(effect.low):
        return "no interval: needs two training seeds that differ"
    return f"95 % interval {effect.low:+.2f} to {effect.high:+.2f}"


def terms_ratio(evidence: Evidence, experiment: str) -> Finding:
    """Test that natural risk over robust regularisation is roughly the same at the best lambdas.

    Of the last epoch, as WAR's zeta.  A test of equivalence: for every network the interval
    of its ratio over that of the thinnest must lie within a factor of `ROUGHLY`.
    """
    groups = evidence.groups(experiment, "ratio")
    robust = evidence.groups(experiment, "robust_accuracy")
    grid: TuningTable = evidence.grid(experiment)
    names = sorted(grid.architectures, key=lambda name: parse_architecture(name).width)
    if len(names) < 2:
        return Finding("too little data", _ABSENT + "Table 3 has a single network.")
    best = {key.architecture: key for key in groups if key.method == "manual"}
    near, lines, thin = _Near(len(names) - 1), [], names[0]
    logs = {
        name: sample([math.log(value) for value in groups[key].by_seed.values()])
        for name, key in best.items()
    }
    for name in names[1:]:
        if not (thin in logs and name in logs and logs[thin].n and logs[name].n):
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
        near.add(found, math.log(ROUGHLY), effect)
        lines.append(f"{size(effect)} on {width_label(name)}")
    missing = missing_of([*(groups[key] for key in best.values()), *robust.values()])
    if not lines:
        text = "The search by hand has no two networks with results and traces yet."
        return Finding("too little data", text, missing=missing)
    text = so_far(len(lines), near.planned, "network")
    text += "the ratio of the two terms, at the best λ of each network, is that of "
    text += f"{width_label(thin)} {'; '.join(lines)}; {1 / ROUGHLY:g} to {ROUGHLY:g} is allowed."
    text = text[0].upper() + text[1:]
    return Finding(near.verdict, text, effects=tuple(near.effects), missing=missing)


def tuning_time(evidence: Evidence, experiment: str) -> Finding:
    """Test that WAR takes about a quarter of the search's time on the widest network.

    By the paper's accounting (docs/protocol.md): one run, and the tuning of the thin network,
    against a run for every lambda, seed by seed.  About a quarter is less than a third.
    """
    grid: TuningTable = evidence.grid(experiment)
    if len(grid.lambdas) <= FASTER:
        text = _ABSENT + f"a search over {len(grid.lambdas)} λ cannot take "
        return Finding("too little data", f"{text}{FASTER:g} times as long as one run and more.")
    groups = evidence.groups(experiment, "hours")
    widest = max(grid.architectures, key=lambda name: parse_architecture(name).width)
    war = next(key for key in groups if key.method == "war" and key.architecture == widest)
    search = [groups[war._replace(method="trades", lam=lam)] for lam in grid.lambdas]
    thin = zeta_source(evidence.config, Cell(*war[:4], grid.seeds[0]))
    tuned = Group({}) if thin is None else groups[key_of(thin, war.attack)]
    missing = missing_of([groups[war], *search, tuned])
    thin_hours = 0.0 if thin is None else len(search) * tuned.sample.mean
    seeds = [s for s in groups[war].by_seed if all(s in one.by_seed for one in search)]
    if not seeds or math.isnan(thin_hours):
        text = "No seed has a run of WAR and of every λ, and the thin network, yet."
        return Finding("too little data", text, missing=missing)
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
    verdict = (
        verdict_of(found.low, found.high, FASTER)
        if len(seeds) == len(grid.seeds)
        else "too little data"
    )
    text = f"The search takes {size(effect)} the hours of WAR on {width_label(widest)}."
    return Finding(verdict, text, effects=(effect,), missing=missing)


# --- slopes over epochs (Figure 3)

_UNIT = "points an epoch"
_STABILITY = "perturbation_stability"

Slope = Callable[[pd.DataFrame], float]


@dataclass(frozen=True)
class _Followed:
    """The finished runs of a figure that measured everything, by network."""

    networks: dict[str, dict[Cell, pd.DataFrame]]
    planned: int
    missing: tuple[str, ...]

    @classmethod
    def of(cls, evidence: Evidence, cells: Sequence[Cell]) -> "_Followed":
        """Read the epochs of runs; networks of one seed are left out where others have two."""
        networks: dict[str, dict[Cell, pd.DataFrame]] = {}
        missing = []
        for cell in cells:
            epochs = evidence.history(cell, "epochs")
            if isinstance(epochs, str):
                missing.append(epochs)
                continue
            gaps = int(epochs[METRIC_COLUMNS].isna().any(axis=1).sum())
            if gaps:
                lost = f"{gaps} of {counted(len(epochs), 'epoch')}"
                missing.append(f"{cell} has no measurement of all metrics in {lost}")
                continue
            networks.setdefault(f"{cell.architecture}, λ={cell.lam:g}", {})[cell] = epochs
        several = {name: runs for name, runs in networks.items() if len(runs) > 1}
        planned = len({(cell.architecture, cell.lam) for cell in cells})
        return cls(several or networks, planned, tuple(missing))

    @property
    def judged(self) -> int:
        """How many networks have the two seeds that an interval takes."""
        return sum(len(runs) > 1 for runs in self.networks.values())

    @property
    def count(self) -> str:
        """What the numbers rest on, in words."""
        runs = sum(map(len, self.networks.values()))
        return f"{counted(runs, 'run')} of {counted(len(self.networks), 'network')}"

    def effect(self, what: str, slope_of: Slope, used: str) -> Effect:
        """Return the mean of a slope over networks, all of equal weight, as one contrast."""
        samples = {
            name: sample([slope_of(epochs) for epochs in runs.values()])
            for name, runs in self.networks.items()
        }
        estimate = contrast(list(samples.values()), [1 / len(samples)] * len(samples))
        means = ", ".join(f"{name}: {group.mean:+.3f}" for name, group in samples.items())
        return Effect(
            what,
            *estimate[:3],
            _UNIT,
            seeds=min(group.n for group in samples.values()),
            p_value=None if math.isnan(estimate.low) else estimate.apart(0.0),
            detail=f"{used}; {self.count}: {means}",
        )

    def finding(self, text: str, effects: Sequence[Effect], judged: Sequence[Effect]) -> Finding:
        """Judge effects that must all be above zero, once every network has its seeds."""
        verdicts = {verdict_of(effect.low, effect.high, 0.0) for effect in judged}
        verdict: Verdict = "too little data"
        if self.judged == self.planned:
            verdict = "fails" if "fails" in verdicts else verdict
            verdict = "holds" if verdicts == {"holds"} else verdict
        elif self.judged:
            text = so_far(self.judged, self.planned, "network") + text[0].lower() + text[1:]
        return Finding(verdict, text, effects=tuple(effects), missing=self.missing)

    def moves(self, effect: Effect, sign: int = 1) -> str:
        """Say how fast something falls, or rises; with sign -1 of an effect that is a rise."""
        word = "falls" if sign * effect.value >= 0 else "rises"
        return f"{word} by {size(effect, rests_on=self.count)}"


def overfitting(evidence: Evidence, experiment: str) -> Finding:
    """Test that robust accuracy falls because of stability after the learning rate drops.

    Three slopes over the epochs after the first drop (`after_drops`): that of robust
    accuracy and of stability are below zero, and stability falls faster than natural
    accuracy does.  If robust accuracy rises, there is no over-fitting to explain, and the
    claim fails as it stands.
    """
    found, train = _follow(evidence, experiment)
    drop, windows = first_drop(train), after_drops(train)
    stopped = _stopped(found, windows, "after", drop)
    if drop is None or stopped is not None:
        return stopped or Finding(
            "too little data", "The schedule of these runs has no drop of the learning rate."
        )
    used = "epochs " + ", ".join(f"{window[0]} to {window[-1]}" for window in windows)
    robust, stable, faster = effects = (
        found.effect("fall of robust accuracy", _slope("robust_accuracy", windows, -1), used),
        found.effect("fall of perturbation stability", _slope(_STABILITY, windows, -1), used),
        found.effect(
            "fall of stability − fall of natural accuracy",
            lambda epochs: (
                slope(epochs, "natural_accuracy", windows) - slope(epochs, _STABILITY, windows)
            ),
            used,
        ),
    )
    over = verdict_of(robust.low, robust.high, 0.0)
    text = f"After epoch {drop} robust accuracy {found.moves(robust)}"
    if over == "holds":
        word = "faster" if faster.value >= 0 else "slower"
        by = size(faster, rests_on=found.count)
        text += f", perturbation stability {found.moves(stable)}; "
        text += f"stability falls {word} than natural accuracy, by {by}."
    else:
        text += f": no over-fitting {'to explain' if over == 'fails' else 'shown'}."
    return found.finding(text, effects, effects if over == "holds" else (robust,))


def stability_falls(evidence: Evidence, experiment: str) -> Finding:
    """Test that perturbation stability falls during training, and both accuracies rise.

    Slopes over the epochs measured before the first drop of the learning rate, over all
    measured where it never drops.
    """
    found, train = _follow(evidence, experiment)
    drop = first_drop(train)
    window = [epoch for epoch in measured_epochs(train) if drop is None or epoch < drop]
    stopped = _stopped(found, [window], "before", drop or train.epochs + 1)
    if stopped is not None:
        return stopped
    used = f"epochs {window[0]} to {window[-1]}"
    stable, robust, natural = effects = (
        found.effect("fall of perturbation stability", _slope(_STABILITY, [window], -1), used),
        found.effect("rise of robust accuracy", _slope("robust_accuracy", [window], 1), used),
        found.effect("rise of natural accuracy", _slope("natural_accuracy", [window], 1), used),
    )
    text = (
        f"In {used} perturbation stability {found.moves(stable)}, robust accuracy "
        f"{found.moves(robust, sign=-1)}, natural accuracy {found.moves(natural, sign=-1)}."
    )
    return found.finding(text, effects, effects)


def _slope(metric: str, windows: Windows, sign: int) -> Slope:
    return lambda epochs: sign * slope(epochs, metric, windows)


def _follow(evidence: Evidence, experiment: str) -> tuple[_Followed, Train]:
    grid: Curves = evidence.grid(experiment)
    return _Followed.of(evidence, curve_cells(grid)), evidence.config.train_of(grid.method)


def _stopped(found: _Followed, windows: Windows, where: str, drop: int | None) -> Finding | None:
    """Return why there is no slope; None if there can be one."""
    if drop is not None and sum(map(len, windows)) < FEWEST:
        text = (
            f"Fewer than {FEWEST} measured epochs are left {where} the learning rate drops "
            f"(epoch {drop}), without those in which it does: too few for a slope."
        )
    elif not found.networks:
        text = "No run is finished with all its measurements."
    else:
        return None
    return Finding("too little data", text, missing=found.missing)


# --- the identity


def identity(evidence: Evidence, _: str) -> Finding:
    """Test that an image is robust exactly if it is right and stable (equation 3.1).

    Of the worst x' of a ball that is so by definition.  An attack only finds some x', and
    the identity breaks where it turned a wrong prediction into a right one.  Counted in
    every record of an attack that left no image alone.  The claim fails if a record has
    significantly more than `LIMIT` (Holm, 5 % for all records together): of a few hundred
    images a single one is more, and says nothing.
    """
    found = evidence.every_record()
    missing = tuple(reason for reason in found.values() if isinstance(reason, str))
    records = {name: one[0] for name, one in found.items() if not isinstance(one, str) and one[1]}
    if not records:
        text = "There is no record that can tell."
        return Finding("too little data", text, "images", (), missing)
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
    return Finding(verdict, text, "images", (effect,), missing)
