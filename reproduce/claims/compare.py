"""Comparisons of groups of networks, and one verdict on many of them.

A statement such as "a wider network is less stable" is about many pairs of cells.  Its
verdict is that of the mean over the pairs, one linear contrast of the cells' means, so
a cell in two pairs counts as it should; and "always" is contradicted by any single
pair that is significantly the other way round (Holm, 5 % for all pairs together).

Intervals are over training seeds wherever both sides of a pair have two or more.  Where
no pair has them, they are over images: then they speak of the networks at hand alone.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.analysis.paired import (
    discordant,
    image_contrast,
    mcnemar,
    mcnemar_below,
    paired_difference,
)
from reproduce.analysis.statistics import Estimate, contrast, holm
from reproduce.claims.claim import Effect, Unit, Verdict, verdict_of
from reproduce.claims.evidence import Group

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two groups, of which the claim says that the first is higher, by more than a threshold.

    Attributes
    ----------
    where : str
        Row, width or attack that both sides share.
    sides : tuple of str
        What the first and the second are called.
    first, second : Group
        The groups.
    threshold : float
        What their difference is said to exceed.
    unit : str
        Of the numbers.
    detail : str
        What else there is to say of it.
    """

    where: str
    sides: tuple[str, str]
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
    def there(self) -> bool:
        """Whether both sides have a number."""
        return bool(self.first.values and self.second.values)

    @property
    def by_seeds(self) -> bool:
        """Whether both sides have the two seeds that an interval takes."""
        return min(len(self.first.values), len(self.second.values)) > 1

    @property
    def pairs(self) -> list[int]:
        """The training seeds that both sides have images of."""
        return sorted(self.first.images.keys() & self.second.images.keys())


@dataclass(frozen=True)
class Judgement:
    """One verdict on several comparisons.

    Attributes
    ----------
    verdict : str
        As of a `Finding`.
    unit : str
        What the intervals speak of.
    main : Effect or None
        The effect that decides; None where nothing is there.
    singles : tuple of Effect
        The effect of every comparison that is there.
    judged, planned, averaged : int
        How many comparisons can be judged, how many there are to be, and of how many the
        effect that decides is the mean.
    contrary : tuple of str
        Comparisons that are significantly the other way round.
    missing : tuple of str
        What is not there, or cannot be used.
    """

    verdict: Verdict
    unit: Unit
    main: Effect | None
    singles: tuple[Effect, ...]
    judged: int
    planned: int
    averaged: int
    contrary: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def effects(self) -> tuple[Effect, ...]:
        """Every effect once, the one that decides first."""
        main = () if self.main is None else (self.main,)
        return (
            *main,
            *(effect for effect in self.singles if effect.what not in {e.what for e in main}),
        )


def judge(
    comparisons: Sequence[Comparison],
    what: str,
    ends: Sequence[Comparison] | None = None,
    missing: Sequence[str] = (),
) -> Judgement:
    """Judge comparisons that make one claim.

    Parameters
    ----------
    comparisons : sequence of Comparison
        Any of them can contradict the claim.
    what : str
        What their mean is, in words.
    ends : sequence of Comparison, optional
        Those whose mean decides, where it is not of all: the ends of a scale.
    missing : sequence of str, optional
        What is not there, beside what the groups say.
    """
    groups = [group for pair in comparisons for group in (pair.first, pair.second)]
    lines = [*missing, *(line for group in groups for line in group.missing)]
    unit = _unit(comparisons)
    usable = [pair for pair in comparisons if _usable(pair, unit)]
    deciding = [pair for pair in (comparisons if ends is None else ends) if _usable(pair, unit)]
    singles = [_effect(pair, unit) for pair in comparisons if pair.there]
    main = _mean(deciding, unit, what) if deciding else None
    contrary = _contrary(usable, unit)
    if main is None:
        verdict: Verdict = "too little data"
    else:
        verdict = verdict_of(main.low, main.high, main.threshold or 0.0)
        # of images McNemar's exact test may be less sure than the interval
        if main.p_value is not None and main.p_value >= SIGNIFICANCE:
            verdict = "too little data"
    if contrary:
        verdict = "fails"
    return Judgement(
        verdict,
        unit,
        main,
        tuple(singles),
        len(usable),
        len(comparisons),
        len(deciding),
        contrary,
        tuple(dict.fromkeys(lines)),
    )


def _unit(comparisons: Sequence[Comparison]) -> Unit:
    if any(pair.by_seeds for pair in comparisons):
        return "seeds"
    return "images" if any(pair.pairs for pair in comparisons) else "seeds"


def _usable(pair: Comparison, unit: Unit) -> bool:
    return pair.by_seeds if unit == "seeds" else bool(pair.pairs)


def _estimate(pair: Comparison, unit: Unit) -> Estimate:
    """Estimate the difference of one comparison that is there."""
    if unit == "images" and pair.pairs:
        seed = pair.pairs[0]
        return paired_difference(discordant(pair.first.images[seed], pair.second.images[seed]))
    return contrast([pair.first.sample, pair.second.sample], [1, -1])


def _effect(pair: Comparison, unit: Unit) -> Effect:
    estimate = _estimate(pair, unit)
    counts = {s: discordant(pair.first.images[s], pair.second.images[s]) for s in pair.pairs}
    detail = [pair.detail] * bool(pair.detail)
    p_value = None if math.isnan(estimate.low) else estimate.apart(pair.threshold)
    if unit == "images" and counts:
        one = counts[pair.pairs[0]]
        p_value = mcnemar(one) if pair.threshold == 0 else p_value
        only = zip(pair.sides, one[:2], strict=True)
        detail.append(", ".join(f"{count} images for {side} alone" for side, count in only))
    elif counts:
        found = [mcnemar(one) for one in counts.values()]
        small = sum(p < SIGNIFICANCE for p in found)
        test = f"McNemar's p < {SIGNIFICANCE} in {small} of {len(found)} pairs of equal seeds"
        detail.append(f"{test}, median p {statistics.median(found):.2g}")
    return Effect(
        pair.what,
        *estimate[:3],
        pair.unit,
        pair.threshold,
        min(len(pair.first.values), len(pair.second.values)) if unit == "seeds" else 1,
        min((one.images for one in counts.values()), default=0),
        p_value,
        "; ".join(detail),
    )


def _mean(pairs: Sequence[Comparison], unit: Unit, what: str) -> Effect:
    """Return the mean of comparisons, as one contrast of their groups."""
    if len(pairs) == 1:
        return _effect(pairs[0], unit)
    weights: Counter[str] = Counter()
    groups: dict[str, Group] = {}
    for pair in pairs:
        groups |= {pair.first.name: pair.first, pair.second.name: pair.second}
        weights[pair.first.name] += 1
        weights[pair.second.name] -= 1
    # the middle of a scale cancels: it is in one pair first and in another second
    used = {name: weight / len(pairs) for name, weight in weights.items() if weight}
    shares = list(used.values())
    if unit == "images":
        flags = [groups[name].images[min(groups[name].images)] for name in used]
        estimate = image_contrast(flags, shares)
    else:
        estimate = contrast([groups[name].sample for name in used], shares)
    p_value = None if math.isnan(estimate.low) else estimate.apart(pairs[0].threshold)
    single = [_effect(pair, unit) for pair in pairs]
    return Effect(
        f"{what}, mean of {len(pairs)}",
        *estimate[:3],
        pairs[0].unit,
        pairs[0].threshold,
        min(effect.seeds for effect in single),
        min(effect.images for effect in single),
        p_value,
        f"single ones from {span(single)}",
    )


def span(effects: Sequence[Effect]) -> str:
    """Write from where to where effects of one unit reach."""
    values = [effect.value for effect in effects]
    return f"{min(values):.3g} to {max(values):.3g} {effects[0].unit}"


def _contrary(pairs: Sequence[Comparison], unit: Unit) -> tuple[str, ...]:
    """Name the comparisons that are significantly the other way round."""
    found = [(pair.what, _p_contrary(pair, unit)) for pair in pairs]
    known = [(what, p) for what, p in found if not math.isnan(p)]
    significant = holm([p for _, p in known], SIGNIFICANCE)
    return tuple(what for (what, _), said in zip(known, significant, strict=True) if said)


def _p_contrary(pair: Comparison, unit: Unit) -> float:
    if unit == "images" and pair.threshold == 0:
        seed = pair.pairs[0]
        return mcnemar_below(discordant(pair.first.images[seed], pair.second.images[seed]))
    return _estimate(pair, unit).below(pair.threshold)
