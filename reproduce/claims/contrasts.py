"""One verdict on many comparisons of cells (docs/claims.md, Statistics).

The mean of the comparisons decides, as one contrast of the cells' means; a single one that is
significantly the other way round contradicts it.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import Literal

from reproduce.claims.evidence import (
    SIGNIFICANCE,
    Effect,
    Evidence,
    Finding,
    Group,
    Key,
    Unit,
    conclude,
    missing_of,
    where,
)
from reproduce.claims.metrics import METRICS
from reproduce.results.statistics import (
    contrast,
    discordant_pairs,
    holm,
    image_contrast,
    mcnemar,
    paired_difference,
)

_SIDES = {"width": ("wider", "narrower"), "lambda": ("larger λ", "smaller λ")}
# what the sides of a comparison have in common, by what they differ in
_SHARED = {
    "width": ("dataset", "method", "lambda", "kind", "attack"),
    "lambda": ("dataset", "method", "kind", "width", "attack"),
    "method": ("dataset", "kind", "width", "attack"),
    "schedule": ("dataset", "lambda", "kind", "width", "attack"),
}

# two groups of networks; the claim says that the metric of the first is higher
Pair = tuple[Key, Key]


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

    def __call__(self, evidence: Evidence, experiment: str) -> Finding:
        """Judge the comparisons of a table or figure."""
        groups, rule = evidence.groups(experiment, self.metric), METRICS[self.metric]
        pairs, decisive = self._pairs(groups)
        if not pairs:
            text = f"the grid of experiments.{experiment} lacks one of the sides."
            return Finding(f"Not in this configuration: {text}")
        missing = missing_of(groups[key] for pair in pairs for key in pair)
        seed = _image_seed(pairs, groups)
        unit: Unit = "seeds" if seed is None else "images"
        found = {
            pair: self._effect([pair], groups, seed)
            for pair in dict.fromkeys([*pairs, *decisive])
            if groups[pair[0]].by_seed and groups[pair[1]].by_seed
        }
        effects = [found[pair] for pair in pairs if pair in found]
        ready = {
            (first, second): effect
            for (first, second), effect in found.items()
            if effect.seeds > 1 or seed in groups[first].images.keys() & groups[second].images
        }
        judged = [ready[pair] for pair in pairs if pair in ready]
        deciding = [pair for pair in decisive if pair in ready]
        sentences, verdicts = [], []
        if deciding:
            main = self._effect(deciding, groups, seed)
            effects = [main, *(effect for effect in effects if effect.what != main.what)]
            verdicts = [main.verdict] if len(deciding) == len(decisive) else []
            sentences.append(f"{rule.title}, {main}.")
        elif effects:
            sentences.append("A verdict needs two training seeds on each side.")
        if len(judged) > 1:
            count = sum(effect.value < self.threshold for effect in judged)
            sentences.append(f"{count} of {len(judged)} comparisons go the other way.")
        if contrary := self._contrary(judged):
            verdicts = ["fails"]
            sentences.append(f"Significantly against the claim: {', '.join(contrary)}.")
        return conclude(effects, verdicts, len(judged), len(pairs), missing, unit, *sentences)

    def _contrary(self, effects: Sequence[Effect]) -> list[str]:
        """Name the effects that are significantly against the claim."""
        tested = [effect for effect in effects if effect.p_value is not None]
        # one-sided: those on the claim's side count as tests and are never significant
        p_values = [(e.p_value or 0.0) / 2 if e.value < self.threshold else 1.0 for e in tested]
        said = holm(p_values, SIGNIFICANCE)
        return [effect.what for effect, one in zip(tested, said, strict=True) if one]

    def _pairs(self, groups: Mapping[Key, Group]) -> tuple[list[Pair], list[Pair]]:
        """Return the pairs of a table or figure, and those whose mean decides."""
        rows: dict[object, list[Key]] = {}
        for key in self._cells(groups):
            shared = tuple(key.titles[thing] for thing in _SHARED[self.along])
            rows.setdefault(shared, []).append(key)
        pairs: list[Pair] = []
        ends: list[Pair] = []
        for row in rows.values():
            if self.against:
                firsts = [key for key in row if key.method in self.methods]
                seconds = [key for key in row if key.method in self.against]
                pairs += product(firsts, seconds)
                continue
            scale = sorted(row, key=lambda key: (key.width, key.lam))
            steps = [(more, less) for less, more in pairwise(scale)]
            if self.pairs == "chosen" and steps:
                wanted = self.chosen.get(scale[0].method, self.chosen.get(""))
                larger = next((key for key in scale[1:] if key.lam == wanted), scale[1])
                steps = [(larger, scale[0])]
            pairs += steps[-1:] if self.pairs == "last" else steps
            if self.pairs == "ends" and steps:
                ends.append((scale[-1], scale[0]))
        if not self.rises:
            pairs, ends = ([(less, more) for more, less in some] for some in (pairs, ends))
        return pairs, ends or pairs

    def _cells(self, groups: Mapping[Key, Group]) -> list[Key]:
        """Return the cells of a table or figure that count."""
        cells = list(groups)
        if self.methods and not self.against:
            cells = [key for key in groups if key.method in self.methods]
        if self.only == "widest":
            rising = sorted(cells, key=lambda key: key.width)
            widest = {_kind(key): key.width for key in rising}
            cells = [key for key in cells if key.width == widest[_kind(key)]]
        elif self.only == "smallest lambda":
            least = {key.method: key.lam for key in sorted(cells, key=lambda key: -key.lam)}
            cells = [key for key in cells if key.lam == least[key.method]]
        return cells

    def _effect(
        self, pairs: Sequence[Pair], groups: Mapping[Key, Group], image_seed: int | None
    ) -> Effect:
        """Return the difference of a pair, or the mean of several as one contrast of groups."""
        # the middle of a scale cancels: it is in one pair first and in another second
        signs = Counter(first for first, _ in pairs)
        signs.subtract(Counter(second for _, second in pairs))
        used = [groups[key] for key, sign in signs.items() if sign]
        weights = [sign / len(pairs) for sign in signs.values() if sign]
        shared = [
            discordant_pairs(groups[first].images[seed], groups[second].images[seed])
            for first, second in pairs
            for seed in sorted(groups[first].images.keys() & groups[second].images)
            if image_seed in (None, seed)
        ]
        seeds, detail = 1, ""
        estimate = contrast([group.sample for group in used], weights)
        if image_seed is None:
            seeds = min(len(groups[key].by_seed) for pair in pairs for key in pair)
            if shared:
                small = sum(mcnemar(one) < SIGNIFICANCE for one in shared)
                detail = f"McNemar's p < {SIGNIFICANCE} in {small} of {len(shared)} pairs of seeds"
        elif len(pairs) > 1:
            estimate = image_contrast([group.images[image_seed] for group in used], weights)
        elif shared:
            estimate = paired_difference(shared[0])
            b, c, _ = shared[0]
            detail = f"{b} images for the first alone, {c} for the second"
        p_value = estimate.apart(self.threshold)
        if image_seed is not None and len(pairs) == len(shared) == 1 and not self.threshold:
            p_value = mcnemar(shared[0])
        return Effect(
            self._name(pairs, groups),
            *estimate[:3],
            METRICS[self.metric].unit,
            self.threshold,
            seeds,
            min((one.images for one in shared), default=0),
            detail,
            None if math.isnan(p_value) else p_value,
        )

    def _name(self, pairs: Sequence[Pair], groups: Mapping[Key, Group]) -> str:
        """Name a pair or the mean of several: where it is, and the two sides."""
        differ = "method" if self.along == "schedule" else self.along
        firsts, seconds = (
            " or ".join(dict.fromkeys(key.titles[differ] for key in side))
            for side in zip(*pairs, strict=True)
        )
        if len(pairs) == 1:
            return f"{where(pairs[0][0], groups, _SHARED[self.along])}: {firsts} − {seconds}"
        if self.along in _SIDES:
            firsts, seconds = _SIDES[self.along][:: 1 if self.rises else -1]
        return f"{firsts} − {seconds}, mean of {len(pairs)}"


def _kind(key: Key) -> tuple[str, str]:
    return key.titles["dataset"], key.titles["kind"]


def _image_seed(pairs: Sequence[Pair], groups: Mapping[Key, Group]) -> int | None:
    """Return the training seed whose images intervals are over; None if they are over seeds.

    They are over seeds where a pair has two on both sides.  Else it is the seed of most pairs,
    the smallest of several: networks of different seeds are no pair, and a mean over pairs
    must not mix them.
    """
    both = [(groups[first], groups[second]) for first, second in pairs]
    if any(min(len(one.by_seed), len(other.by_seed)) > 1 for one, other in both):
        return None
    counts = Counter(seed for one, other in both for seed in one.images.keys() & other.images)
    return min(counts, key=lambda seed: (-counts[seed], seed), default=None)
