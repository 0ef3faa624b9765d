"""One verdict on many comparisons of cells, and how it is worded.

A statement such as "a wider network is less stable" is about many pairs of cells.  Its
verdict is that of the mean over the pairs, one linear contrast of the cells' means, so
a cell in two pairs counts as it should; and it is contradicted by any single pair that is
significantly the other way round (Holm, 5 % for all pairs together).  Nothing holds
before every pair that is planned can be judged.

Intervals are over training seeds wherever both sides of a pair have two or more.  Where
no pair has them, they are over images: then they speak of the networks at hand alone.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

from reproduce.claims.evidence import (
    Effect,
    Evidence,
    Finding,
    Group,
    Key,
    Unit,
    Verdict,
    missing_of,
)
from reproduce.claims.wording import (
    OVER_IMAGES,
    capitalised,
    counted,
    kind_of,
    number,
    side_of,
    size,
    so_far,
    span,
    where_of,
    width_of,
)
from reproduce.results.statistics import (
    contrast,
    discordant_pairs,
    holm,
    image_contrast,
    mcnemar,
    paired_difference,
)

SIGNIFICANCE = 0.05

_TITLES = {
    "top5_natural_accuracy": "top-5 natural accuracy",
    "robust_regularization": "robust regularisation",
    "lipschitz": "the local Lipschitz estimate",
    "best_robust_accuracy": "robust accuracy at the best epoch",
    "late_fall": "the fall of robust accuracy long after the rate drops",
}
_UNITS = {
    "robust_regularization": "nats",
    "natural_risk": "nats",
    "lipschitz": "nats per unit of epsilon",
    "late_fall": "points an epoch",
}


@dataclass(frozen=True)
class Contrast:
    """What cells are compared, and which side the paper says is higher.

    The sides of a comparison differ along one thing and in nothing else.  Methods have lambdas
    of their own, schedules (methods by their settings) have them in common.
    """

    metric: str
    along: Literal["width", "lambda", "method", "schedule"]
    # whether the metric is said to rise with width or lambda
    rises: bool = True
    # which pairs along them: neighbours, where the mean of the ends may decide; the last two;
    # the smallest lambda with the one chosen
    pairs: Literal["neighbours", "ends", "last", "chosen"] = "neighbours"
    # the lambda to choose, by method, "" for all; where a grid has it not, the second smallest
    chosen: Mapping[str, float] = field(default_factory=dict)
    # which cells: the widest network of each kind, or each method's smallest lambda
    only: Literal["all", "widest", "smallest lambda"] = "all"
    # what the difference is said to exceed
    threshold: float = 0.0
    # methods of the first and of the second side; without `against` those that count
    methods: tuple[str, ...] = ()
    against: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The metric in words."""
        return _TITLES.get(self.metric, self.metric.replace("_", " "))

    @property
    def unit(self) -> str:
        """The unit of the metric."""
        return _UNITS.get(self.metric, "points")


class Pair(NamedTuple):
    """Two groups of networks; the claim says that the metric of the first is higher."""

    first: Key
    second: Key
    sides: tuple[str, str]
    what: str


def _pairs(rule: Contrast, groups: Mapping[Key, Group]) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of a table or figure, and those whose mean decides."""
    rows: dict[Key, list[Key]] = {}
    for key in _cells(rule, groups):
        rows.setdefault(_alike(key, rule.along), []).append(key)
    pairs, ends = [], []
    for row in rows.values():
        if rule.against:
            firsts = [key for key in row if key.method in rule.methods]
            seconds = [key for key in row if key.method in rule.against]
            pairs += [(more, less) for more in firsts for less in seconds]
            continue
        scale = sorted(row, key=lambda key: (width_of(key), key.lam))
        steps = [(more, less) for less, more in pairwise(scale)]
        if rule.pairs == "chosen" and steps:
            wanted = rule.chosen.get(scale[0].method, rule.chosen.get(""))
            there = [step for step in scale[1:] if step.lam == wanted] or [scale[1]]
            pairs += [(more, scale[0]) for more in there]
        elif rule.pairs != "chosen":
            pairs += steps[-1:] if rule.pairs == "last" else steps
        if rule.pairs == "ends" and steps:
            ends.append((scale[-1], scale[0]))
    named = [_pair(rule, groups, *pair) for pair in pairs]
    return named, [_pair(rule, groups, *pair) for pair in ends] or named


def _pair(rule: Contrast, groups: Mapping[Key, Group], more: Key, less: Key) -> Pair:
    """Name a pair of cells, of which the first has more of what they differ in."""
    first, second = (more, less) if rule.rises else (less, more)
    sides = (side_of(first, rule.along), side_of(second, rule.along))
    where = where_of(more, groups, rule.along)
    return Pair(first, second, sides, f"{where}: {sides[0]} − {sides[1]}")


def _cells(rule: Contrast, groups: Mapping[Key, Group]) -> list[Key]:
    """Return the cells of a table or figure that count."""
    cells = list(groups)
    if rule.methods and not rule.against:
        cells = [key for key in groups if key.method in rule.methods]
    if rule.only == "all":
        return cells
    rows: dict[object, list[Key]] = {}
    for key in cells:
        kind = (key.dataset, kind_of(key)) if rule.only == "widest" else key.method
        rows.setdefault(kind, []).append(key)
    if rule.only == "widest":
        return [k for row in rows.values() for k in row if width_of(k) == max(map(width_of, row))]
    return [k for row in rows.values() for k in row if k.lam == min(other.lam for other in row)]


def _alike(key: Key, along: str) -> Key:
    """Return what a key shares with those that it is compared with."""
    if along == "width":
        return key._replace(architecture=kind_of(key))
    if along == "schedule":
        return key._replace(method="")
    return key._replace(lam=0.0, method="" if along == "method" else key.method)


class Compared(NamedTuple):
    """The effect of a pair, whether an interval can judge it, and the p that it is below."""

    effect: Effect
    judged: bool
    below: float


def _image_seed(pairs: Sequence[Pair], groups: Mapping[Key, Group]) -> int | None:
    """Return the training seed whose images intervals are over; None if they are over seeds.

    They are over seeds where a pair has two on both sides.  Else it is the seed of most pairs,
    the smallest of several: networks of different seeds are no pair, and a mean over pairs
    must not mix them.
    """
    both = [(groups[pair.first], groups[pair.second]) for pair in pairs]
    if any(min(len(one.by_seed), len(other.by_seed)) > 1 for one, other in both):
        return None
    counts = Counter(seed for one, other in both for seed in one.images.keys() & other.images)
    return min(counts, key=lambda seed: (-counts[seed], seed), default=None)


def _compare(
    rule: Contrast, pair: Pair, groups: Mapping[Key, Group], image_seed: int | None
) -> Compared | None:
    """Compare the sides of a pair; None if one has no number yet."""
    first, second = groups[pair.first], groups[pair.second]
    if not first.by_seed or not second.by_seed:
        return None
    shared = {
        seed: discordant_pairs(first.images[seed], second.images[seed])
        for seed in sorted(first.images.keys() & second.images)
    }
    seeds = min(len(first.by_seed), len(second.by_seed)) if image_seed is None else 1
    images = min((one.images for one in shared.values()), default=0)
    detail = [f"must lie above {number(rule.threshold, 'points')} points"] * bool(rule.threshold)
    estimate = contrast([first.sample, second.sample], [1, -1])
    if image_seed in shared:
        one = shared[image_seed]
        estimate, images = paired_difference(one), one.images
        only = zip(pair.sides, one[:2], strict=True)
        detail.append(", ".join(f"{count} images for {side} alone" for side, count in only))
    elif image_seed is None and shared:
        found = [mcnemar(one) for one in shared.values()]
        small = sum(p < SIGNIFICANCE for p in found)
        test = f"McNemar's p < {SIGNIFICANCE} in {small} of {len(found)} pairs of equal seeds"
        detail.append(f"{test}, median p {statistics.median(found):.2g}")
    p_value, below = estimate.apart(rule.threshold), estimate.below(rule.threshold)
    if image_seed in shared and rule.threshold == 0:
        p_value, below = mcnemar(one), mcnemar(one, "less")
    effect = Effect(
        pair.what,
        *estimate[:3],
        rule.unit,
        rule.threshold,
        seeds,
        images,
        None if math.isnan(p_value) else p_value,
        "; ".join(detail),
    )
    return Compared(effect, image_seed in shared or seeds > 1, below)


def _mean(
    rule: Contrast,
    compared: Mapping[Pair, Compared],
    groups: Mapping[Key, Group],
    image_seed: int | None,
    what: str,
) -> Effect:
    """Return the mean of pairs that can be judged, as one contrast of their groups."""
    single = [one.effect for one in compared.values()]
    if len(single) == 1:
        return single[0]
    signs: Counter[Key] = Counter()
    for pair in compared:
        signs[pair.first] += 1
        signs[pair.second] -= 1
    # the middle of a scale cancels: it is in one pair first and in another second
    weights = {key: sign / len(single) for key, sign in signs.items() if sign}
    used = [groups[key] for key in weights]
    if image_seed is None:
        estimate = contrast([group.sample for group in used], list(weights.values()))
    else:
        masks = [group.images[image_seed] for group in used]
        estimate = image_contrast(masks, list(weights.values()))
    p_value = estimate.apart(rule.threshold)
    return Effect(
        f"{what}, mean of {len(single)}",
        *estimate[:3],
        rule.unit,
        rule.threshold,
        min(effect.seeds for effect in single),
        min(effect.images for effect in single),
        None if math.isnan(p_value) else p_value,
        f"single ones from {span(single)}",
    )


def judge(rule: Contrast, evidence: Evidence, experiment: str) -> Finding:
    """Judge the comparisons of one statement."""
    groups = evidence.groups(experiment, rule.metric)
    pairs, decisive = _pairs(rule, groups)
    if not pairs:
        return Finding(
            "Not in this configuration: nothing to compare "
            f"in experiments.{experiment}, whose grid lacks one of the sides.",
        )
    seed = _image_seed(pairs, groups)
    unit: Unit = "seeds" if seed is None else "images"
    compared = {pair: _compare(rule, pair, groups, seed) for pair in [*pairs, *decisive]}
    there = {pair: one for pair, one in compared.items() if one is not None}
    judged = [there[pair] for pair in pairs if pair in there and there[pair].judged]
    deciding = {pair: there[pair] for pair in decisive if pair in there and there[pair].judged}
    effects = [there[pair].effect for pair in pairs if pair in there]
    missing = missing_of(groups[key] for pair in pairs for key in (pair.first, pair.second))
    if not judged and not deciding:
        planned = counted(len(pairs), "comparison")
        if not effects:
            text = f"No results yet; {planned} to make."
            return Finding(text, missing=missing)
        text = (
            "Needs two training seeds on each side. So far there are differences for "
            f"{len(effects)} of {planned}, {span(effects)}, without intervals."
        )
        return Finding(text, "too little data", unit, tuple(effects), missing)
    tested = [one for one in judged if not math.isnan(one.below)]
    significant = holm([one.below for one in tested], SIGNIFICANCE)
    contrary = [one.effect.what for one, said in zip(tested, significant, strict=True) if said]
    verdict: Verdict = "fails" if contrary else "too little data"
    text = "of what decides, the ends of the scale, there are no two seeds yet"
    difference = _difference(rule, pairs)
    if deciding:
        main = _mean(rule, deciding, groups, seed, difference)
        if not contrary and len(deciding) == len(decisive):
            verdict = _verdict(main, every=len(judged) == len(pairs))
        effects = [main, *(effect for effect in effects if effect.what != main.what)]
        text = f"{rule.title} is {size(main, _higher(rule, main.value, pairs))}"
        if len(deciding) > 1:
            text = f"on average over {len(deciding)} comparisons {text}"
    text = capitalised(so_far(len(judged), len(pairs), "comparison") + f"{text}.")
    if rule.threshold:
        least = number(rule.threshold, "points")
        text += f" The claim holds if the difference ({difference}) is above {least}."
    against = sum(one.effect.value < rule.threshold for one in judged)
    text += _against(against, len(judged), contrary, fails=verdict == "fails")
    text += OVER_IMAGES if unit == "images" else ""
    return Finding(text, verdict, unit, tuple(effects), missing)


def verdict_of(low: float, high: float, threshold: float) -> Verdict:
    """Judge a number that is said to lie above a threshold by its interval, NaN for none."""
    if low > threshold:
        return "holds"
    return "fails" if high < threshold else "too little data"


def _verdict(main: Effect, *, every: bool) -> Verdict:
    """Judge the mean of all that decides; it cannot hold before every comparison is there."""
    # of images McNemar's exact test may be less sure than the interval
    if main.p_value is not None and main.p_value >= SIGNIFICANCE:
        return "too little data"
    verdict = verdict_of(main.low, main.high, main.threshold or 0.0)
    return "too little data" if verdict == "holds" and not every else verdict


def _higher(rule: Contrast, value: float, pairs: Sequence[Pair]) -> str:
    """Say where the metric is higher or lower, by the sign of a difference."""
    word = "higher" if (value >= 0) == rule.rises else "lower"
    sides = {pair.sides if rule.rises else pair.sides[::-1] for pair in pairs}
    if len(sides) == 1 and (rule.pairs == "chosen" or rule.against):
        at = "with" if rule.against else "at"
        return f"{word} {at} " + f" than {at} ".join(sides.pop())
    if rule.against:
        return f"{word} with {pairs[0].sides[0]}"
    if rule.along == "lambda":
        return f"{word} at the larger λ"
    if rule.pairs == "ends":
        return f"{word} on the widest network than on the thinnest"
    return f"{word} on the wider network"


def _difference(rule: Contrast, pairs: Sequence[Pair]) -> str:
    """Say what is subtracted from what."""
    if rule.against:
        seconds = dict.fromkeys(pair.sides[1] for pair in pairs)
        return f"{rule.title}, {pairs[0].sides[0]} − {' or '.join(seconds)}"
    names = ("larger", "smaller λ")
    if rule.along == "width":
        names = ("widest", "thinnest") if rule.pairs == "ends" else ("wider", "thinner")
    return f"{rule.title}, " + " − ".join(names if rule.rises else names[::-1])


def _against(against: int, judged: int, contrary: Sequence[str], *, fails: bool) -> str:
    """Say how many single comparisons are not as the claim says."""
    if judged < 2 and not contrary:
        return ""
    if not against:
        return f" None of the {judged} points the other way."
    text = f" {against} of {judged} {'points' if against == 1 else 'point'} the other way"
    if contrary:
        return f"{text}. Significantly against the claim: {', '.join(contrary)}."
    return f"{text}, none significantly" + " by itself" * fails + "."
