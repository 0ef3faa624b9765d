"""Comparisons of groups of networks, and what is estimated of them."""

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
from reproduce.claims.claim import Effect, Unit
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
class Basis:
    """What the intervals of several comparisons speak of.

    Attributes
    ----------
    unit : {"seeds", "images"}
        Other training seeds, or other images for the networks at hand.
    seed : int or None
        Of images: the training seed of all the networks, None where there are none.
    """

    unit: Unit
    seed: int | None = None

    def can_judge(self, pair: Comparison) -> bool:
        """Whether a comparison has what an interval takes."""
        return pair.by_seeds if self.unit == "seeds" else self.seed in pair.pairs

    def estimate(self, pair: Comparison) -> Estimate:
        """Estimate the difference of a comparison that is there."""
        if self.seed is not None and self.can_judge(pair):
            images = (pair.first.images[self.seed], pair.second.images[self.seed])
            return paired_difference(discordant(*images))
        return contrast([pair.first.sample, pair.second.sample], [1, -1])


def basis_of(comparisons: Sequence[Comparison]) -> Basis:
    """Choose seeds where a comparison has two on both sides, else images of one seed.

    It is the seed that most comparisons have, the smallest of several: networks of
    different seeds are no pair, and a mean over comparisons must not mix them.
    """
    if any(pair.by_seeds for pair in comparisons):
        return Basis("seeds")
    counts = Counter(seed for pair in comparisons for seed in pair.pairs)
    if not counts:
        return Basis("seeds")
    return Basis("images", min(counts, key=lambda seed: (-counts[seed], seed)))


def effect_of(pair: Comparison, basis: Basis) -> Effect:
    """Return the effect of one comparison that is there."""
    estimate = basis.estimate(pair)
    counts = {s: discordant(pair.first.images[s], pair.second.images[s]) for s in pair.pairs}
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
    seeds = min(len(pair.first.values), len(pair.second.values))
    return Effect(
        pair.what,
        *estimate[:3],
        pair.unit,
        pair.threshold,
        seeds if basis.unit == "seeds" else 1,
        images,
        p_value,
        "; ".join(detail),
    )


def mean_of(pairs: Sequence[Comparison], basis: Basis, what: str) -> Effect:
    """Return the mean of comparisons that can be judged, as one contrast of their groups."""
    if len(pairs) == 1:
        return effect_of(pairs[0], basis)
    weights: Counter[str] = Counter()
    groups: dict[str, Group] = {}
    for pair in pairs:
        groups |= {pair.first.name: pair.first, pair.second.name: pair.second}
        weights[pair.first.name] += 1
        weights[pair.second.name] -= 1
    # the middle of a scale cancels: it is in one pair first and in another second
    used = {name: weight / len(pairs) for name, weight in weights.items() if weight}
    shares = list(used.values())
    if basis.seed is not None:
        estimate = image_contrast([groups[name].images[basis.seed] for name in used], shares)
    else:
        estimate = contrast([groups[name].sample for name in used], shares)
    p_value = None if math.isnan(estimate.low) else estimate.apart(pairs[0].threshold)
    single = [effect_of(pair, basis) for pair in pairs]
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


def contrary(pairs: Sequence[Comparison], basis: Basis) -> tuple[str, ...]:
    """Name the comparisons that are significantly the other way round."""
    found = [(pair.what, _p_contrary(pair, basis)) for pair in pairs]
    known = [(what, p) for what, p in found if not math.isnan(p)]
    significant = holm([p for _, p in known], SIGNIFICANCE)
    return tuple(what for (what, _), said in zip(known, significant, strict=True) if said)


def _p_contrary(pair: Comparison, basis: Basis) -> float:
    if basis.seed is not None and pair.threshold == 0:
        images = (pair.first.images[basis.seed], pair.second.images[basis.seed])
        return mcnemar_below(discordant(*images))
    return basis.estimate(pair).below(pair.threshold)
