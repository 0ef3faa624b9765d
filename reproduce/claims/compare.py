"""One verdict on many comparisons.

A statement such as "a wider network is less stable" is about many pairs of cells.  Its
verdict is that of the mean over the pairs, one linear contrast of the cells' means, so
a cell in two pairs counts as it should; and "always" is contradicted by any single
pair that is significantly the other way round (Holm, 5 % for all pairs together).
Nothing holds before every pair that is planned can be judged.

Intervals are over training seeds wherever both sides of a pair have two or more.  Where
no pair has them, they are over images: then they speak of the networks at hand alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reproduce.claims.claim import Effect, Unit, Verdict, verdict_of
from reproduce.claims.comparison import (
    SIGNIFICANCE,
    Comparison,
    basis_of,
    contrary,
    effect_of,
    mean_of,
)


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
    against : int
        How many of those judged point the other way, significantly or not.
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
    against: int
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
        Any of them can contradict the claim, and all must be there for it to hold.
    what : str
        What their mean is, in words.
    ends : sequence of Comparison, optional
        Those whose mean decides, where it is not of all: the ends of a scale.
    missing : sequence of str, optional
        What is not there, beside what the groups say.
    """
    basis = basis_of(comparisons)
    groups = [group for pair in comparisons for group in (pair.first, pair.second)]
    lines = [*missing, *(line for group in groups for line in group.missing)]
    decisive = comparisons if ends is None else ends
    usable = [pair for pair in comparisons if basis.can_judge(pair)]
    deciding = [pair for pair in decisive if basis.can_judge(pair)]
    main = mean_of(deciding, basis, what) if deciding else None
    against = contrary(usable, basis)
    verdict: Verdict = "fails" if against else "too little data"
    if not against and main is not None and len(deciding) == len(decisive):
        verdict = _verdict_of_mean(main, every=len(usable) == len(comparisons))
    return Judgement(
        verdict=verdict,
        unit=basis.unit,
        main=main,
        singles=tuple(effect_of(pair, basis) for pair in comparisons if pair.there),
        judged=len(usable),
        planned=len(comparisons),
        averaged=len(deciding),
        against=sum(basis.estimate(pair).value < pair.threshold for pair in usable),
        contrary=against,
        missing=tuple(dict.fromkeys(lines)),
    )


def _verdict_of_mean(main: Effect, *, every: bool) -> Verdict:
    """Judge the mean of all that decides; it cannot hold before every comparison is there."""
    # of images McNemar's exact test may be less sure than the interval
    if main.p_value is not None and main.p_value >= SIGNIFICANCE:
        return "too little data"
    verdict = verdict_of(main.low, main.high, main.threshold or 0.0)
    return "too little data" if verdict == "holds" and not every else verdict
