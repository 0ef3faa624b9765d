"""One verdict on many comparisons of cells.

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
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

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
from reproduce.registry import METHODS, dataset_facts, parse_architecture, width_label
from reproduce.results.statistics import (
    Estimate,
    contrast,
    discordant,
    holm,
    image_contrast,
    mcnemar,
    mcnemar_below,
    paired_difference,
)

SIGNIFICANCE = 0.05

OVER_IMAGES = (
    " This is over images: it speaks of these very networks, not of another training seed."
)

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
_STRATEGIES = {"manual": "search by hand", "untuned": "untuned λ"}


@dataclass(frozen=True)
class Contrast:
    """What cells are compared, and which side the paper says is higher.

    Attributes
    ----------
    metric : str
        A metric of `Evidence.groups`.
    along : {"width", "lambda", "method", "schedule"}
        In what the two sides of a comparison differ, and in nothing else.  Methods have
        lambdas of their own, schedules (methods by their settings) have them in common.
    rises : bool
        Whether the metric is said to rise with it; of methods, from the second to the first.
    pairs : str
        Which pairs along it: all "neighbours"; neighbours, where the mean of the "ends"
        decides; the "last" two; of lambda also the smallest with the one `chosen`.
    only : {"all", "widest", "smallest lambda"}
        Which cells: all, the widest network of each kind, or each method's smallest lambda.
    threshold : float
        What the difference is said to exceed.
    chosen : mapping
        Lambda to hold against the smallest, by method; "" for every method.  The next
        above the smallest where a grid has it not.
    methods : pair of tuple of str
        The methods of the first side, and of the second; along anything else those that
        count, all if none is named.
    """

    metric: str
    along: Literal["width", "lambda", "method", "schedule"]
    rises: bool = True
    pairs: Literal["neighbours", "ends", "last", "chosen"] = "neighbours"
    only: Literal["all", "widest", "smallest lambda"] = "all"
    threshold: float = 0.0
    chosen: Mapping[str, float] | None = None
    methods: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def title(self) -> str:
        """The metric in words."""
        return _TITLES.get(self.metric, self.metric.replace("_", " "))

    def comparisons(
        self, groups: Mapping[Key, Group]
    ) -> "tuple[list[Comparison], list[Comparison]]":
        """Return the comparisons of a table or figure, and those whose mean decides."""
        rows: dict[Key, list[Key]] = {}
        for key in self._cells(groups):
            rows.setdefault(_alike(key, self.along), []).append(key)
        every, ends = [], []
        for row in rows.values():
            if self.methods[1]:
                every += [
                    (more, less)
                    for more in row
                    if more.method in self.methods[0]
                    for less in row
                    if less.method in self.methods[1]
                ]
                continue
            scale = sorted(row, key=lambda key: (_width(key), key.lam))
            if self.pairs == "chosen":
                every += [(more, scale[0]) for more in scale[1:] if more.lam == self._larger(scale)]
                continue
            steps = [(more, less) for less, more in pairwise(scale)]
            every += steps[-1:] if self.pairs == "last" else steps
            ends += [(scale[-1], scale[0])] if self.pairs == "ends" and steps else []
        made = [self._compare(groups, *pair) for pair in every]
        return made, [self._compare(groups, *pair) for pair in ends] or made

    def _cells(self, groups: Mapping[Key, Group]) -> list[Key]:
        kinds: dict[object, list[Key]] = {}
        wanted = () if self.methods[1] else self.methods[0]
        cells = [key for key in groups if not wanted or key.method in wanted]
        for key in cells:
            kind = key.method if self.only == "smallest lambda" else _alike(key, "width")[:2]
            kinds.setdefault(kind, []).append(key)
        if self.only == "smallest lambda":
            return [k for row in kinds.values() for k in row if k.lam == min(o.lam for o in row)]
        if self.only == "widest":
            return [k for row in kinds.values() for k in row if _width(k) == max(map(_width, row))]
        return cells

    def _larger(self, scale: Sequence[Key]) -> float:
        chosen = self.chosen or {}
        wanted = chosen.get(scale[0].method, chosen.get("", math.nan))
        return wanted if wanted in [key.lam for key in scale[1:]] else scale[1].lam

    def _compare(self, groups: Mapping[Key, Group], more: Key, less: Key) -> "Comparison":
        first, second = (more, less) if self.rises else (less, more)
        detail = (
            f"must lie above {number(self.threshold, 'points')} points" if self.threshold else ""
        )
        return Comparison(
            where_of(more, groups, self.along),
            (_side(first, self.along), _side(second, self.along)),
            first,
            second,
            groups[first],
            groups[second],
            self.threshold,
            _UNITS.get(self.metric, "points"),
            detail,
        )

    def word(self, value: float, comparisons: "Sequence[Comparison]") -> str:
        """Say where the metric is higher or lower, by the sign of a difference."""
        word = "higher" if (value >= 0) == self.rises else "lower"
        sides = {pair.sides if self.rises else pair.sides[::-1] for pair in comparisons}
        if len(sides) == 1 and (self.pairs == "chosen" or self.methods[1]):
            at = "with" if self.methods[1] else "at"
            return f"{word} {at} " + f" than {at} ".join(sides.pop())
        if self.methods[1]:
            return f"{word} with {comparisons[0].sides[0]}"
        if self.along == "lambda":
            return f"{word} at the larger λ"
        if self.pairs == "ends":
            return f"{word} on the widest network than on the thinnest"
        return f"{word} on the wider network"

    def difference(self, comparisons: "Sequence[Comparison]") -> str:
        """Say what is subtracted from what."""
        if self.methods[1]:
            seconds = dict.fromkeys(pair.sides[1] for pair in comparisons)
            return f"{self.title}, {comparisons[0].sides[0]} − {' or '.join(seconds)}"
        names = {
            "width": ("widest", "thinnest") if self.pairs == "ends" else ("wider", "thinner"),
            "lambda": ("larger", "smaller λ"),
        }[self.along]
        return f"{self.title}, " + " − ".join(names if self.rises else names[::-1])


@dataclass(frozen=True)
class Comparison:
    """Two groups, of which the claim says that the first is higher, by more than a threshold.

    `where` names what they share, `sides` how they differ.
    """

    where: str
    sides: tuple[str, str]
    first_key: Key
    second_key: Key
    first: Group
    second: Group
    threshold: float = 0.0
    unit: str = "points"
    detail: str = ""

    @property
    def what(self) -> str:
        """The difference, in words."""
        return f"{self.where}: {self.sides[0]} − {self.sides[1]}"

    @property
    def by_seeds(self) -> bool:
        """Whether both sides have the two seeds that an interval takes."""
        return min(len(self.first.by_seed), len(self.second.by_seed)) > 1

    @property
    def seeds(self) -> list[int]:
        """The training seeds that both sides have images of."""
        return sorted(self.first.images.keys() & self.second.images.keys())


@dataclass(frozen=True)
class Basis:
    """What intervals speak of: other training seeds, or other images for networks of one seed."""

    unit: Unit
    seed: int | None = None

    @classmethod
    def of(cls, comparisons: Sequence[Comparison]) -> "Basis":
        """Choose seeds where a comparison has two on both sides, else images of one seed.

        It is the seed that most comparisons have, the smallest of several: networks of
        different seeds are no pair, and a mean over comparisons must not mix them.
        """
        counts = Counter(seed for pair in comparisons for seed in pair.seeds)
        if any(pair.by_seeds for pair in comparisons) or not counts:
            return cls("seeds")
        return cls("images", min(counts, key=lambda seed: (-counts[seed], seed)))

    def can_judge(self, pair: Comparison) -> bool:
        """Whether a comparison has what an interval takes."""
        return pair.by_seeds if self.unit == "seeds" else self.seed in pair.seeds

    def estimate(self, pair: Comparison) -> Estimate:
        """Estimate the difference of a comparison that is there."""
        if self.seed is not None and self.can_judge(pair):
            images = (pair.first.images[self.seed], pair.second.images[self.seed])
            return paired_difference(discordant(*images))
        return contrast([pair.first.sample, pair.second.sample], [1, -1])


def judge(rule: Contrast, evidence: Evidence, experiment: str) -> Finding:
    """Judge the comparisons of one statement."""
    groups = evidence.groups(experiment, rule.metric)
    every, decisive = rule.comparisons(groups)
    if not every:
        return Finding(
            "too little data",
            "Not in this configuration: nothing to compare "
            f"in experiments.{experiment}, whose grid lacks one of the sides.",
        )
    missing = missing_of(group for pair in every for group in (pair.first, pair.second))
    basis = Basis.of(every)
    judged = [pair for pair in every if basis.can_judge(pair)]
    deciding = [pair for pair in decisive if basis.can_judge(pair)]
    singles = [_effect(p, basis) for p in every if p.first.by_seed and p.second.by_seed]
    main = _mean(deciding, basis, rule.difference(every)) if deciding else None
    contrary = _contrary(judged, basis)
    verdict: Verdict = "fails" if contrary else "too little data"
    if not contrary and main is not None and len(deciding) == len(decisive):
        verdict = _verdict(main, every=len(judged) == len(every))
    against = sum(basis.estimate(pair).value < pair.threshold for pair in judged)
    effects = [
        *([] if main is None else [main]),
        *(e for e in singles if main is None or e.what != main.what),
    ]
    if main is not None:
        text = f"{rule.title} is {size(main, rule.word(main.value, every))}"
        if len(deciding) > 1:
            text = f"on average over {len(deciding)} comparisons {text}"
    elif judged:
        text = "of what decides, the ends of the scale, there are no two seeds yet"
    elif singles:
        text = (
            "Needs two training seeds on each side. So far there are differences for "
            f"{len(singles)} of {counted(len(every), 'comparison')}, {_span(singles)}, "
            "without intervals."
        )
        return Finding(verdict, text, basis.unit, tuple(effects), missing)
    else:
        text = f"No results yet; {counted(len(every), 'comparison')} to make."
        return Finding(verdict, text, missing=missing)
    text = so_far(len(judged), len(every), "comparison") + f"{text}."
    text = text[0].upper() + text[1:]
    if rule.threshold:
        least = number(rule.threshold, "points")
        text += f" The claim holds if the difference ({rule.difference(every)}) is above {least}."
    text += _single_ones(against, len(judged), contrary, fails=verdict == "fails")
    text += OVER_IMAGES if basis.unit == "images" else ""
    return Finding(verdict, text, basis.unit, tuple(effects), missing)


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


def _effect(pair: Comparison, basis: Basis) -> Effect:
    """Return the effect of one comparison that is there."""
    estimate = basis.estimate(pair)
    counts = {s: discordant(pair.first.images[s], pair.second.images[s]) for s in pair.seeds}
    detail = [pair.detail] * bool(pair.detail)
    p_value = None if math.isnan(estimate.low) else estimate.apart(pair.threshold)
    images = min((one.images for one in counts.values()), default=0)
    if basis.seed in counts:
        one = counts[basis.seed]
        images = one.images
        p_value = mcnemar(one) if pair.threshold == 0 else p_value
        only = zip(pair.sides, one[:2], strict=True)
        detail.append(", ".join(f"{count} images for {side} alone" for side, count in only))
    elif basis.unit == "seeds" and counts:
        found = [mcnemar(one) for one in counts.values()]
        small = sum(p < SIGNIFICANCE for p in found)
        test = f"McNemar's p < {SIGNIFICANCE} in {small} of {len(found)} pairs of equal seeds"
        detail.append(f"{test}, median p {statistics.median(found):.2g}")
    return Effect(
        pair.what,
        *estimate[:3],
        pair.unit,
        pair.threshold,
        min(len(pair.first.by_seed), len(pair.second.by_seed)) if basis.unit == "seeds" else 1,
        images,
        p_value,
        "; ".join(detail),
    )


def _mean(pairs: Sequence[Comparison], basis: Basis, what: str) -> Effect:
    """Return the mean of comparisons that can be judged, as one contrast of their groups."""
    single = [_effect(pair, basis) for pair in pairs]
    if len(pairs) == 1:
        return single[0]
    weights: Counter[Key] = Counter()
    groups: dict[Key, Group] = {}
    for pair in pairs:
        groups |= {pair.first_key: pair.first, pair.second_key: pair.second}
        weights[pair.first_key] += 1
        weights[pair.second_key] -= 1
    # the middle of a scale cancels: it is in one pair first and in another second
    used = {key: weight / len(pairs) for key, weight in weights.items() if weight}
    shares = list(used.values())
    if basis.seed is not None:
        estimate = image_contrast([groups[key].images[basis.seed] for key in used], shares)
    else:
        estimate = contrast([groups[key].sample for key in used], shares)
    return Effect(
        f"{what}, mean of {len(pairs)}",
        *estimate[:3],
        pairs[0].unit,
        pairs[0].threshold,
        min(effect.seeds for effect in single),
        min(effect.images for effect in single),
        None if math.isnan(estimate.low) else estimate.apart(pairs[0].threshold),
        f"single ones from {_span(single)}",
    )


def _span(effects: Sequence[Effect]) -> str:
    """Write from where to where effects of one unit reach."""
    values = [effect.value for effect in effects]
    ends = dict.fromkeys(f"{value:.3g}" for value in (min(values), max(values)))
    return " to ".join(ends).replace("-", "−") + f" {effects[0].unit}"


def _contrary(pairs: Sequence[Comparison], basis: Basis) -> list[str]:
    """Name the comparisons that are significantly the other way round."""
    known: dict[str, float] = {}
    for pair in pairs:
        if basis.seed is not None and pair.threshold == 0:
            images = (pair.first.images[basis.seed], pair.second.images[basis.seed])
            known[pair.what] = mcnemar_below(discordant(*images))
        else:
            known[pair.what] = basis.estimate(pair).below(pair.threshold)
    known = {what: p for what, p in known.items() if not math.isnan(p)}
    significant = holm(list(known.values()), SIGNIFICANCE)
    return [what for what, said in zip(known, significant, strict=True) if said]


def _single_ones(against: int, judged: int, contrary: Sequence[str], *, fails: bool) -> str:
    """Say how many single comparisons are not as the claim says."""
    if judged < 2 and not contrary:
        return ""
    if not against:
        return f" None of the {judged} points the other way."
    text = f" {against} of {judged} {'points' if against == 1 else 'point'} the other way"
    if contrary:
        return f"{text}. Significantly against the claim: {', '.join(contrary)}."
    return f"{text}, none significantly" + " by itself" * fails + "."


def _width(key: Key) -> float:
    # a published network may be of a kind that cells have no name for
    return parse_architecture(key.architecture).width if key.architecture else 0.0


def _kind(key: Key) -> str:
    return parse_architecture(key.architecture).model if key.architecture else ""


def _alike(key: Key, along: str) -> Key:
    """Return what a key shares with those that it is compared with."""
    if along == "width":
        return key._replace(architecture=_kind(key))
    if along == "schedule":
        return key._replace(method="")
    return key._replace(lam=0.0, method="" if along == "method" else key.method)


def where_of(key: Key, groups: Mapping[Key, Group], along: str) -> str:
    """Name what the sides of a comparison share, as far as others have it otherwise."""
    method = METHODS[key.method].title if key.method in METHODS else key.method
    kind = parse_architecture(key.architecture).title
    parts = {
        dataset_facts(key.dataset).title: len({k.dataset for k in groups}) > 1,
        method: along not in ("method", "schedule"),
        f"λ={key.lam:g}": along in ("width", "schedule") and bool(key.lam),
        kind: len(set(map(_kind, groups)) - {""}) > 1,
        width_label(key.architecture): along in ("lambda", "method", "schedule"),
        key.attack: len({k.attack for k in groups}) > 1,
    }
    return ", ".join(part for part, said in parts.items() if said)


def _side(key: Key, along: str) -> str:
    if along == "width":
        return width_label(key.architecture)
    if along == "lambda":
        return f"λ={key.lam:g}"
    return (
        METHODS[key.method].title
        if key.method in METHODS
        else _STRATEGIES.get(key.method, key.method)
    )


def so_far(judged: int, planned: int, what: str) -> str:
    """Begin a sentence on a part of what is planned; of all of it there is nothing to say."""
    if judged == planned:
        return ""
    return f"So far, judged on {judged:,} of {counted(planned, what)}: "


def size(effect: Effect, where: str = "", rests_on: str | None = None) -> str:
    """Write how large an effect is, its interval turned the same way, and what it rests on.

    `where` stands between the number and the brackets; it rests on seeds and images
    unless that is said.
    """
    low, high = effect.low, effect.high
    if effect.value < 0:
        low, high = -high, -low
    interval = "no interval"
    if not math.isnan(low):
        interval = f"95 % interval {number(low, effect.unit)} to {number(high, effect.unit)}"
    counts = ((effect.seeds, "training seed"), (effect.images, "image"))
    behind = ", ".join(counted(count, word) for count, word in counts if count)
    text = f"{number(abs(effect.value), effect.unit)} {effect.unit} {where}".strip()
    return f"{text} ({', '.join(filter(None, (interval, rests_on or behind)))})"


def number(value: float, unit: str) -> str:
    """Write a number: points to two decimals, others to three digits."""
    text = f"{value:.2f}" if unit == "points" else f"{value:.3g}"
    return text.replace("-", "−")


def counted(count: int, word: str) -> str:
    """Write how many there are of something."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Join words: a, b and c."""
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)
